//! A group that is killed by one who has been killed himself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::{Event, Group, is_kill, killall, sleep, spawn};

use crate::support::{deadline, until_waits};

/// Who catches its kill, to end what it has begun in order, meets the kill again in the next call
/// that waits; but what that call does before it waits is done.
#[test]
fn group_is_killed_by_one_who_has_been_killed() {
    let _deadline = deadline();
    let (group, others) = (Group::new(), Group::new());
    for _ in 0..3 {
        group.spawn(|| Event::new().wait());
    }
    let listed: Vec<_> = (0..3)
        .map(|_| others.spawn(|| Event::new().wait()))
        .collect();
    let done = Arc::new(Event::new());
    let (its, theirs) = (group.clone(), Arc::clone(&done));
    let killed = spawn(move || {
        let caught = catch_unwind(|| sleep(Duration::MAX)).unwrap_err();
        assert!(is_kill(&*caught));
        let again = catch_unwind(AssertUnwindSafe(|| its.kill())).unwrap_err();
        assert!(is_kill(&*again));
        let again = catch_unwind(AssertUnwindSafe(|| killall(&listed, None))).unwrap_err();
        assert!(is_kill(&*again));
        theirs.set();
    });
    until_waits(killed.id());
    killed.kill();
    assert!(done.wait_timeout(Duration::from_secs(30)));
    assert!(group.join(Some(Duration::from_secs(30))));
    assert!(others.join(Some(Duration::from_secs(30))));
}
