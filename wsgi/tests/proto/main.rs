//! The sans-IO protocol, driven by bytes: whole, byte by byte, and at random cuts.

mod cuts;
mod framing;
mod head;
mod response;
mod smuggling;
