//! What a panic of a greenlet says, and that it ends nothing else.

use std::time::Duration;

use greenwood_runtime::{Builder, sleep, spawn};

use crate::support::{any_hub, case, child, child_with_hubs, deadline_of};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn message_names_the_greenlet() {
    let _deadline = deadline_of(LIMIT);
    if case().is_some() {
        let neighbour = spawn(|| {
            sleep(Duration::from_millis(20));
            5
        });
        let doomed = Builder::new().name("doomed").hub(any_hub(1)).spawn(|| {
            sleep(Duration::from_millis(1));
            panic!("no more {}", "eggs");
        });
        let error = doomed.unwrap().join().unwrap_err();
        assert_eq!(
            error.to_string(),
            "greenlet 'doomed' panicked: no more eggs"
        );
        assert!(spawn(|| panic!("nameless")).join().unwrap_err().is_panic());
        // Kills and time-outs are no panics and say nothing.
        let killed = Builder::new()
            .name("quiet")
            .spawn(|| sleep(Duration::MAX))
            .unwrap();
        killed.kill();
        let expired =
            spawn(|| greenwood_runtime::with_timeout(Duration::ZERO, || sleep(Duration::MAX)));
        assert!(expired.join().unwrap().is_err());
        assert_eq!(neighbour.join().unwrap(), 5);
        return;
    }
    for hubs in [1, 2] {
        let end = child_with_hubs("panics::message_names_the_greenlet", "x", hubs);
        end.passed();
        end.said("greenlet 'doomed' (id ");
        end.said("no more eggs");
        end.said("panics.rs");
        end.said("greenlet 'greenlet-");
        end.said("nameless");
        end.did_not_say("quiet");
        assert_eq!(end.stderr.matches("panicked:").count(), 2, "{}", end.stderr);
    }
}

/// A log reader that went away must not take the server with it.
#[test]
fn panic_survives_a_broken_stderr() {
    let _deadline = deadline_of(LIMIT);
    if case().is_some() {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors; nobody else uses stderr in this process. Rust ignores
        // SIGPIPE.
        unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            assert_eq!(
                libc::dup2(ends[1], libc::STDERR_FILENO),
                libc::STDERR_FILENO
            );
            libc::close(ends[0]);
        }
        assert!(spawn(|| panic!("unheard")).join().unwrap_err().is_panic());
        assert_eq!(spawn(|| 5).join().unwrap(), 5);
        return;
    }
    child("panics::panic_survives_a_broken_stderr", "x", &[]).passed();
}
