//! What can be measured.

/// One of the cases that the head comment of the program describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Echo(Echo),
    FanOut(FanOut),
    Idle,
}

/// Echoes in a closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Echo {
    name: &'static str,
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

/// How many connections say nothing.
pub(crate) const IDLE_CONNECTIONS: usize = 5000;

/// How many connections get what one of them says.
pub(crate) const FAN_OUT_CONNECTIONS: usize = 5000;

pub(crate) const ALL: [Case; 7] = [
    Case::Echo(Echo {
        name: "64",
        connections: 100,
        size: 64,
        depth: 1,
    }),
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
    Case::Idle,
];

impl Case {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Case::Echo(echo) => echo.name,
            Case::FanOut(fan_out) => fan_out.name,
            Case::Idle => "idle",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Case> {
        ALL.into_iter().find(|case| case.name() == name)
    }

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
            Case::Idle => format!("idle: {IDLE_CONNECTIONS} connections"),
        }
    }
}
