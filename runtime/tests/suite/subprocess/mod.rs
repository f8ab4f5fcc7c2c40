//! Child processes, with real ones: `sh`, `cat`, `sleep`, `true`.

mod communicate;
mod ends;
mod pipes;
mod start;

use std::process::{Command, Stdio};
use std::time::Duration;

use greenwood_runtime::subprocess::Popen;

const LONG: Duration = Duration::from_secs(40);
const SHORT: Duration = Duration::from_millis(20);

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn piped(script: &str) -> Popen {
    Popen::new(
        sh(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )
    .unwrap()
}

/// The states of this process's children that have ended and nobody has waited for.
fn zombies() -> usize {
    let me = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter(|stat| {
            // "pid (name) state ppid ..."; the name may have spaces.
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            let mut fields = rest.split_whitespace();
            fields.next() == Some("Z") && fields.next() == Some(&me)
        })
        .count()
}
