//! Of the package `websocket`.

use crate::sync::atomic;

#[path = "../../websocket/src/connection/reception.rs"]
pub(crate) mod reception;
