//! What can be measured.

use crate::report::results::{Kind, Measurable};

/// One of the cases that the head comment of the program describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Echo(Echo),
    FanOut(FanOut),
    /// Echoes in an open loop, at half of the highest rate.
    Half,
    Handshake,
    Idle(Idle),
}

/// Echoes in a closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Echo {
    pub(crate) name: &'static str,
    pub(crate) connections: usize,
    /// Payload of a message in bytes.
    pub(crate) size: usize,
    /// How many messages each connection has outstanding.
    pub(crate) depth: usize,
}

/// One message at a time to all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FanOut {
    name: &'static str,
    /// Payload of a message in bytes.
    pub(crate) size: usize,
}

/// Connections that say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Idle {
    name: &'static str,
    /// How many there are, if the limit on descriptors allows it.
    pub(crate) connections: usize,
}

/// The case whose highest rate [`Case::Half`] halves, and which it is like in all else.
pub(crate) const HALF: Echo = Echo {
    name: "64",
    connections: 100,
    size: 64,
    depth: 1,
};

/// How many connections come and go at the same time.
pub(crate) const HANDSHAKES_AT_ONCE: usize = 100;

/// How many connections get what one of them says.
pub(crate) const FAN_OUT_CONNECTIONS: usize = 5000;

pub(crate) const ALL: [Case; 10] = [
    Case::Echo(HALF),
    Case::Echo(Echo {
        name: "pipe",
        connections: 100,
        size: 64,
        depth: 16,
    }),
    Case::Echo(Echo {
        name: "16k",
        connections: 100,
        size: 16 << 10,
        depth: 1,
    }),
    Case::Echo(Echo {
        name: "1m",
        connections: 8,
        size: 1 << 20,
        depth: 1,
    }),
    Case::FanOut(FanOut {
        name: "fanout",
        size: 64,
    }),
    Case::FanOut(FanOut {
        name: "fanout1k",
        size: 1 << 10,
    }),
    Case::Half,
    Case::Handshake,
    Case::Idle(Idle {
        name: "idle",
        connections: 5000,
    }),
    Case::Idle(Idle {
        name: "idle20k",
        connections: 20_000,
    }),
];

impl Measurable for Case {
    const ALL: &[Case] = &ALL;
    const BASE: Kind = Kind::Peer;

    fn name(self) -> &'static str {
        match self {
            Case::Echo(echo) => echo.name,
            Case::FanOut(fan_out) => fan_out.name,
            Case::Half => "half",
            Case::Handshake => "handshake",
            Case::Idle(idle) => idle.name,
        }
    }
}

impl Case {
    /// What it is, in a line.
    pub(crate) fn describe(self) -> String {
        match self {
            Case::Echo(Echo {
                name,
                connections,
                size,
                depth,
            }) => format!("{name}: {connections} connections, {size} B, {depth} outstanding each"),
            Case::FanOut(FanOut { name, size }) => {
                format!("{name}: {size} B to {FAN_OUT_CONNECTIONS} connections, one at a time")
            }
            Case::Half => {
                let Echo {
                    connections, size, ..
                } = HALF;
                format!("half: {connections} connections, {size} B, half of the highest rate")
            }
            Case::Handshake => {
                format!("handshake: connect, upgrade, close; {HANDSHAKES_AT_ONCE} at a time")
            }
            Case::Idle(Idle { name, connections }) => {
                format!("{name}: {connections} connections that say nothing")
            }
        }
    }

    /// The same for a plot.
    pub(crate) fn label(self) -> String {
        match self {
            Case::Echo(Echo {
                connections,
                size,
                depth,
                ..
            }) => format!("{connections} × {}, depth {depth}", human(size)),
            Case::FanOut(FanOut { size, .. }) => {
                format!(
                    "{} to {} connections",
                    human(size),
                    thousands(FAN_OUT_CONNECTIONS)
                )
            }
            Case::Half => "half of the highest rate".to_owned(),
            Case::Handshake => "connect, upgrade, close".to_owned(),
            Case::Idle(Idle { connections, .. }) => format!("{} open", thousands(connections)),
        }
    }
}

/// A number of bytes.
fn human(size: usize) -> String {
    match size {
        0x10_0000.. => format!("{} MiB", size >> 20),
        0x400.. => format!("{} KiB", size >> 10),
        _ => format!("{size} B"),
    }
}

fn thousands(number: usize) -> String {
    match number {
        1000.. => format!("{},{:03}", number / 1000, number % 1000),
        _ => number.to_string(),
    }
}
