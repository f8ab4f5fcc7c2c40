//! Settings of the hubs, right and wrong. Each part runs in a process of its own, as hubs start
//! once.

use std::time::Duration;

use greenwood_runtime::{Builder, DEFAULT_STACK_SIZE, Hub, StartError, StreamServer, spawn};

use crate::support::{case, child, deadline_of};

const LIMIT: Duration = Duration::from_secs(120);

fn refused(result: Result<(), StartError>, text: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(text), "{error}");
}

fn play(part: &str) {
    match part {
        "settings" => {
            Hub::config().hubs(3).stack_size(100_000).start().unwrap();
            assert_eq!(Hub::count(), 3);
            assert_eq!(Hub::limits().stack_size, 102_400);
            // The same again, or no wish at all, is no contradiction.
            Hub::config().hubs(3).stack_size(100_000).start().unwrap();
            Hub::config().start().unwrap();
            refused(Hub::config().hubs(2).start(), "run already (3 of them");
            refused(
                Hub::config().stack_size(1 << 20).start(),
                "stacks of 102400 bytes",
            );
            assert_eq!(spawn(Hub::count).join().unwrap(), 3);
        }
        "out of range" => {
            refused(Hub::config().hubs(0).start(), "0 hubs: it must be 1 to 128");
            refused(Hub::config().hubs(129).start(), "129 hubs");
            for size in [0, 1, 12 * 1024, (1 << 30) + 1, usize::MAX] {
                let text = format!("a stack of {size} bytes: it must be from 16 KiB to 1 GiB");
                refused(Hub::config().stack_size(size).start(), &text);
            }
            // What was refused is not kept for later.
            assert_eq!(spawn(Hub::count).join().unwrap(), Hub::count());
            assert_eq!(Hub::limits().stack_size, DEFAULT_STACK_SIZE);
        }
        "environment" => {
            assert_eq!(Hub::count(), 2);
            assert_eq!(Hub::limits().stack_size, 128 * 1024);
        }
        "settings go before the environment" => {
            Hub::config().hubs(1).stack_size(1 << 20).start().unwrap();
            assert_eq!(Hub::count(), 1);
            assert_eq!(Hub::limits().stack_size, 1 << 20);
        }
        "bad environment" => {
            let error = Hub::config().start().unwrap_err().to_string();
            let panic = std::panic::catch_unwind(|| spawn(|| ())).unwrap_err();
            assert_eq!(*panic.downcast::<String>().unwrap(), error);
            eprintln!("refused: {error}");
        }
        "while unwinding" => {
            // The first greenlet of the process comes from a destructor of a thread that panics.
            let thread = std::thread::spawn(|| {
                let _spawns = crate::support::OnDrop(|| drop(spawn(|| ())));
                panic!("the first");
            });
            assert!(thread.join().is_err());
            assert_eq!(spawn(|| 5).join().unwrap(), 5);
        }
        "many hubs" => {
            Hub::config().hubs(128).start().unwrap();
            let greenlets: Vec<_> = (0..1_000)
                .map(|i| crate::support::spawn_on(i % 128, || 1))
                .collect();
            let sum: i32 = greenlets
                .into_iter()
                .map(|greenlet| greenlet.join().unwrap())
                .sum();
            assert_eq!(sum, 1_000);
        }
        part => panic!("no part {part:?}"),
    }
}

fn run(part: &str, environment: &[(&str, &str)]) -> crate::support::Child {
    let clean = [("GREENWOOD_HUBS", "2"), ("GREENWOOD_STACK_SIZE", "262144")];
    let environment: Vec<_> = clean.iter().chain(environment).copied().collect();
    let end = child("config::hubs_start_with_their_settings", part, &environment);
    end.passed();
    end
}

#[test]
fn hubs_start_with_their_settings() {
    let _deadline = deadline_of(LIMIT);
    if let Some(part) = case() {
        return play(&part);
    }
    run("settings", &[]);
    run("out of range", &[]);
    run("environment", &[("GREENWOOD_STACK_SIZE", "131072")]);
    run(
        "settings go before the environment",
        &[("GREENWOOD_HUBS", "7")],
    );
    run(
        "settings go before the environment",
        &[("GREENWOOD_HUBS", "seven")],
    );
    run("while unwinding", &[]);
    run("many hubs", &[]);
    for (name, value, text) in [
        (
            "GREENWOOD_HUBS",
            "two",
            "the environment variable GREENWOOD_HUBS is \"two\", which is no number",
        ),
        ("GREENWOOD_HUBS", "-1", "GREENWOOD_HUBS is \"-1\""),
        ("GREENWOOD_HUBS", "", "GREENWOOD_HUBS is \"\""),
        ("GREENWOOD_HUBS", "0", "0 hubs: it must be 1 to 128"),
        (
            "GREENWOOD_STACK_SIZE",
            "256K",
            "GREENWOOD_STACK_SIZE is \"256K\"",
        ),
        (
            "GREENWOOD_STACK_SIZE",
            "4096",
            "a stack of 4096 bytes: it must be from 16 KiB",
        ),
    ] {
        let end = run("bad environment", &[(name, value)]);
        end.said("refused: ");
        end.said(text);
    }
}

/// Who spawns first learns why the hubs can't start, and may go on without them.
#[test]
fn first_greenlet_of_hubs_that_cannot_start_is_refused() {
    let _deadline = deadline_of(LIMIT);
    if case().is_some() {
        let server = StreamServer::new("127.0.0.1:0", |_, _| ()).unwrap();
        let refused = [
            Builder::new().spawn(|| ()).unwrap_err().to_string(),
            Builder::new()
                .spawn_later(LIMIT, || ())
                .unwrap_err()
                .to_string(),
            server.start().unwrap_err().to_string(),
            server.serve_forever().unwrap_err().to_string(),
        ];
        for error in refused {
            assert!(error.contains("GREENWOOD_HUBS is \"x\""), "{error}");
        }
        assert_eq!(Hub::greenlets(), 0);
        Hub::config().hubs(2).start().unwrap();
        server.start().unwrap();
        assert_eq!(Builder::new().spawn(|| 1).unwrap().join().unwrap(), 1);
        return;
    }
    child(
        "config::first_greenlet_of_hubs_that_cannot_start_is_refused",
        "x",
        &[("GREENWOOD_HUBS", "x")],
    )
    .passed();
}

/// A variable that is not even text is refused like any other that is no number.
#[test]
fn variable_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let _deadline = deadline_of(LIMIT);
    if case().is_some() {
        let error = Hub::config().start().unwrap_err();
        assert!(error.to_string().contains("GREENWOOD_HUBS is "), "{error}");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let end = std::process::Command::new(program)
        .args(["--exact", "config::variable_that_is_no_text_is_refused"])
        .env("GREENWOOD_TEST_CASE", "x")
        .env("GREENWOOD_HUBS", std::ffi::OsStr::from_bytes(b"2\xff"))
        .output()
        .unwrap();
    assert!(
        end.status.success(),
        "{}",
        String::from_utf8_lossy(&end.stdout)
    );
}
