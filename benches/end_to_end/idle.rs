//! Connections that say nothing: what they cost.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use greenwood::websocket::proto::{OpCode, encode_frame};

use crate::Result;
use crate::case::IDLE_CONNECTIONS;
use crate::connection;
use crate::options::Options;
use crate::report::{IdleSample, Sample};
use crate::server::{Server, ServerCommand, pause};
use crate::system::{self, Cores};

/// What the server is given to put itself in order: one may give memory back only after a while.
const SETTLE: Duration = Duration::from_secs(2);

/// Below this, the time of a process that does little can't be told from chance.
const SHORTEST: Duration = Duration::from_secs(1);

/// Descriptors that this process has besides connections.
const OTHERS: usize = 64;

pub(crate) fn measure(command: &ServerCommand, cores: &Cores, options: &Options) -> Result<Sample> {
    let server = Server::start(command, cores)?;
    // The first connection pays for what happens once.
    echo(&mut connection::open(server.port)?)?;
    pause(SETTLE);
    let before = system::resident(server.process())?;

    let count = IDLE_CONNECTIONS.min(system::descriptors().saturating_sub(OTHERS));
    let mut streams = (0..count)
        .map(|_| connection::open(server.port))
        .collect::<Result<Vec<_>>>()?;
    pause(SETTLE);
    let opened = system::resident(server.process())?;

    let cpu_before = server.cpu()?;
    let began = Instant::now();
    pause(options.duration.max(SHORTEST));
    let busy = server.cpu()?.since(cpu_before).busy;
    let elapsed = began.elapsed();

    for stream in &mut streams {
        echo(stream)?;
    }
    pause(SETTLE);
    let touched = system::resident(server.process())?;
    let per_connection =
        |resident: u64| resident.saturating_sub(before) as f64 / streams.len() as f64;
    Ok(Sample::Idle(IdleSample {
        connections: streams.len(),
        bytes: per_connection(opened),
        bytes_touched: per_connection(touched),
        cpu_percent: busy.as_secs_f64() / elapsed.as_secs_f64() * 100.0,
    }))
}

/// One message there and back.
fn echo(stream: &mut (impl Read + Write)) -> Result<()> {
    const PAYLOAD: [u8; 64] = [b'x'; 64];
    let mut frame = Vec::new();
    encode_frame(
        &mut frame,
        true,
        OpCode::Binary,
        &PAYLOAD,
        Some([1, 2, 3, 4]),
    );
    stream.write_all(&frame)?;
    let mut expected = Vec::new();
    encode_frame(&mut expected, true, OpCode::Binary, &PAYLOAD, None);
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received)?;
    if received != expected {
        return Err("the server sends something else than it was sent".into());
    }
    Ok(())
}
