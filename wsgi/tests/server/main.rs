//! The server, over real sockets, with a foreign client.

#[path = "../client/mod.rs"]
mod client;

mod bodies;
mod environ;
mod errors;
mod persistence;
mod refusals;
mod stop;
mod timeouts;
mod unix;
mod upgrade;
