//! WebSockets (RFC 6455) for Greenwood.
//!
//! [`proto`] is the protocol alone: bytes in, events and bytes out. It is all that is built without the
//! `io` feature, and may be driven by any other I/O.
#![forbid(unsafe_code)]

pub mod proto;
