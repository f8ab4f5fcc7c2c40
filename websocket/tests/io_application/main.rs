//! Resources and applications: which serves what, and the callbacks of one connection.
#![cfg(feature = "io")]

#[path = "../io_support/mod.rs"]
mod io_support;
mod support;

mod callbacks;
mod resource;
mod server;
