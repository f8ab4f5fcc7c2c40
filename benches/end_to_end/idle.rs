//! Connections that say nothing: what they cost.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use greenwood::websocket::proto::{OpCode, encode_frame};

use crate::Result;
use crate::case::Idle;
use crate::connection;
use crate::options::Options;
use crate::report::process::pause;
use crate::report::results::Kind;
use crate::report::system::{self, Cores};
use crate::sample::{self, Sample};
use crate::server::{Server, ServerCommand};

/// What the server is given to put itself in order: one may give memory back only after a while.
const SETTLE: Duration = Duration::from_secs(2);

/// Below this, the time of a process that does little can't be told from chance.
const SHORTEST: Duration = Duration::from_secs(1);

/// The payloads of the messages that all connections say once.
const SMALL: usize = 64;
const LARGE: usize = 64 << 10;

const KEY: [u8; 4] = [1, 2, 3, 4];

pub(crate) fn measure(
    command: &ServerCommand,
    case: &Idle,
    cores: &Cores,
    options: &Options,
) -> Result<Sample> {
    let server = Server::start(command, cores)?;
    // The first connection pays for what happens once.
    let mut first = connection::open(server.port)?;
    for size in [SMALL, LARGE] {
        echo(&mut first, size, server.kind)?;
    }
    drop(first);
    pause(SETTLE);
    let before = system::resident(server.process())?;

    let mut streams = (0..system::connections(case.connections))
        .map(|_| connection::open(server.port))
        .collect::<Result<Vec<_>>>()?;
    let connections = streams.len() as f64;
    let per_connection = || -> Result<f64> {
        let resident = system::resident(server.process())?;
        Ok(resident.saturating_sub(before) as f64 / connections)
    };
    pause(SETTLE);
    let opened = per_connection()?;

    let cpu_before = server.cpu()?;
    let began = Instant::now();
    pause(options.common.duration.max(SHORTEST));
    let busy = server.cpu()?.since(&cpu_before).busy();
    let elapsed = began.elapsed();

    let mut touched = |size| -> Result<f64> {
        for stream in &mut streams {
            echo(stream, size, server.kind)?;
        }
        pause(SETTLE);
        per_connection()
    };
    Ok(Sample::default()
        .with(sample::CONNECTIONS, connections)
        .with(sample::BYTES, opened)
        .with(sample::BYTES_SMALL, touched(SMALL)?)
        .with(sample::BYTES_LARGE, touched(LARGE)?)
        .with(
            sample::IDLE_PERCENT,
            busy.as_secs_f64() / elapsed.as_secs_f64() * 100.0,
        ))
}

/// One message there and back.
fn echo(stream: &mut (impl Read + Write), size: usize, kind: Kind) -> Result<()> {
    let payload = vec![b'x'; size];
    let mut frame = Vec::new();
    encode_frame(&mut frame, true, OpCode::Binary, &payload, Some(KEY));
    stream.write_all(&frame)?;
    let mut expected = Vec::new();
    let key = (kind == Kind::Floor).then_some(KEY);
    encode_frame(&mut expected, true, OpCode::Binary, &payload, key);
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received)?;
    if received != expected {
        return Err("the server sends something else than it was sent".into());
    }
    Ok(())
}
