//! The numbers that a measurement of a server gives: their names in the JSON file.

use std::time::Duration;

use crate::histogram::Histogram;
pub(crate) use crate::report::sample::Sample;
use crate::report::system::Cpu;

/// How many messages (or handshakes) were counted.
pub(crate) const COUNT: &str = "count";
pub(crate) const PER_SECOND: &str = "per_second";
/// The server's processor time per message, or handshake.
pub(crate) const CPU_US: &str = "server_cpu_us";
/// Messages per second of processor time of the server's busiest thread: what it could do if it had
/// its cores for itself.
pub(crate) const CAPACITY: &str = "capacity_per_second";
/// How busy the server was, in percent of one core.
pub(crate) const SERVER_PERCENT: &str = "server_percent";
/// How busy the generator was.
pub(crate) const GENERATOR_PERCENT: &str = "generator_percent";
/// How much of the time the server or the generator had to wait for their cores.
pub(crate) const WAITED_PERCENT: &str = "waited_percent";
pub(crate) const P50_US: &str = "p50_us";
pub(crate) const P99_US: &str = "p99_us";
pub(crate) const P999_US: &str = "p999_us";
/// How late the generator itself was, when it paces.
pub(crate) const LATE_P99_US: &str = "late_p99_us";
/// How many connections were open.
pub(crate) const CONNECTIONS: &str = "connections";
/// Resident memory per connection: after the handshake, after a small message, after one of 64 KiB.
pub(crate) const BYTES: &str = "bytes_per_connection";
pub(crate) const BYTES_SMALL: &str = "bytes_per_connection_after_64_b";
pub(crate) const BYTES_LARGE: &str = "bytes_per_connection_after_64_kib";
/// Processor time of a process whose connections say nothing, in percent of one core.
pub(crate) const IDLE_PERCENT: &str = "idle_percent";

/// Of messages, or handshakes: as many as there are latencies.
pub(crate) fn of_traffic(
    elapsed: Duration,
    latencies: &Histogram,
    server: &Cpu,
    generator: &Cpu,
) -> Sample {
    let count = latencies.total() as f64;
    let percent = |duration: Duration| duration.as_secs_f64() / elapsed.as_secs_f64() * 100.0;
    Sample::default()
        .with(COUNT, count)
        .with(PER_SECOND, count / elapsed.as_secs_f64())
        // Not a number if there was none; the table shows it so.
        .with(CPU_US, micros(server.busy()) / count)
        .with(CAPACITY, count / server.busiest().as_secs_f64())
        .with(SERVER_PERCENT, percent(server.busy()))
        .with(GENERATOR_PERCENT, percent(generator.busy()))
        .with(WAITED_PERCENT, percent(server.waited + generator.waited))
        .with(P50_US, micros(latencies.quantile(0.5)))
        .with(P99_US, micros(latencies.quantile(0.99)))
        .with(P999_US, micros(latencies.quantile(0.999)))
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
