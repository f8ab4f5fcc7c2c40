//! The runtime's behaviour, as a user of the crate sees it.
//!
//! The tests hold with any number of hubs: run them with `GREENWOOD_HUBS` at 1, 2 and 4. What looks
//! at the whole process (open descriptors, limits, how it ends) runs in a child process: the test
//! starts its own binary again.

mod connect;
mod datagram_server;
mod lock;
mod lookup_limits;
mod matrix;
mod others;
mod select;
mod server_kinds;
mod server_pools;
mod signal;
mod subprocess;
mod support;

mod async_result;
mod backdoor;
mod config;
mod event;
mod fairness;
mod fairness_at_once;
mod fileobject;
mod footprint;
mod gevent_cases;
mod gevent_issues;
mod greenlets;
mod group_kills;
mod hooks;
mod imap_limits;
mod interrupts;
mod kills;
mod life;
mod life_fire;
mod limits;
mod links;
mod local;
mod memory;
mod monitor;
mod monitor_setting;
mod net;
mod no_memory;
mod overflow;
mod panics;
mod parking;
mod pinning;
mod pool;
mod pool_fire;
mod pool_maps;
mod printing;
mod queue;
mod reentrance;
mod refusals;
mod resolve;
mod run_info;
mod scopes;
mod server;
mod sharing;
mod threadpool;
mod threads;
mod timeouts;
#[cfg(feature = "tls")]
mod tls;
mod turns;
mod udp;
mod unix;
mod unix_rights;
mod wait;
mod waits_for;
