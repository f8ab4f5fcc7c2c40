//! What is logged of an application's end. In a binary of its own: the subscriber is the process's.
#![cfg(feature = "io")]

mod io_support;

use std::io;
use std::sync::{Arc, Mutex};

use io_support::{DEADLINE, close, serve, text};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn only_the_applications_own_failures_are_logged() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .init();
    let server = serve(|ws| {
        let kind = ws.receive()?.expect("a message");
        match kind.as_text() {
            Some("error") => Err("its own error".into()),
            Some("panic") => panic!("its own panic"),
            _ => {
                while ws.receive()?.is_some() {}
                // Too late: the application passes that on, out of habit.
                ws.send("late")?;
                Ok(())
            }
        }
    });
    for way in ["gone", "reset", "garbage", "closed", "error", "panic"] {
        let mut peer = server.open();
        peer.write(text(way));
        match way {
            "gone" => drop(peer),
            "reset" => peer.reset(),
            "garbage" => {
                peer.write([0xff; 20]);
                assert_eq!(peer.close_code(), 1002);
            }
            "closed" => {
                peer.write(close(1000));
                assert_eq!(peer.close_code(), 1000);
            }
            _ => assert_eq!(peer.close_code(), 1011),
        }
    }
    server.server.stop(DEADLINE);
    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let failures: Vec<_> = lines
        .lines()
        .filter(|line| line.contains("ERROR") || line.contains("WARN"))
        .collect();
    assert_eq!(failures.len(), 2, "{lines}");
    for cause in ["its own error", "its own panic"] {
        assert!(
            failures.iter().any(|line| line.contains(cause)),
            "{failures:?}"
        );
    }
    assert_eq!(lines.matches("\" 101 ").count(), 6, "{lines}");
}
