//! Each kind of wait is told by its name.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net;
use std::sync::Arc;
use std::time::Duration;

use greenwood_runtime::net::{UnixListener, UnixStream};
use greenwood_runtime::{
    AsyncResult, Builder, Channel, Condvar, CountDownLatch, Event, Greenlet, Group, Mutex, Once,
    Pool, Queue, RLock, RwLock, Semaphore, ThreadPool, WaitsFor, idle, run_info, sleep, spawn,
    wait,
};

use crate::support::{deadline, eventually, spawn_on, until_waits_for};

const LONG: Duration = Duration::from_secs(3_600);

/// Waits until it waits for that, and ends it.
#[track_caller]
fn check<T: Send + 'static>(expected: WaitsFor, call: impl FnOnce() -> T + Send + 'static) {
    let waiting = Builder::new().name(expected.as_str()).spawn(call).unwrap();
    until_waits_for(waiting.id(), expected);
    let (begin, line) = (
        format!("{} ", waiting.id()),
        format!(", waits for {expected} "),
    );
    eventually(&line, || {
        let text = run_info().to_string();
        let mut lines = text.lines().map(str::trim_start);
        lines.any(|it| it.starts_with(&begin) && it.contains(&line))
    });
    waiting.kill();
}

#[test]
fn every_wait_has_its_name() {
    let _deadline = deadline();
    check(WaitsFor::Sleep, || sleep(LONG));
    check(WaitsFor::Event, || Event::new().wait());
    check(WaitsFor::Queue, || Queue::<()>::new(0).get().is_ok());
    check(WaitsFor::Queue, || Channel::new().put(1).is_ok());
    check(WaitsFor::Result, || AsyncResult::<()>::new().wait());
    check(WaitsFor::Semaphore, || Semaphore::new(0).acquire());
    let latch = CountDownLatch::new(1);
    check(WaitsFor::Event, move || latch.wait());
    let other: Greenlet<()> = spawn(|| sleep(LONG));
    let theirs = Arc::new(other);
    let joined = Arc::clone(&theirs);
    check(WaitsFor::Greenlet, move || joined.join_timeout(LONG));
    let watched = Arc::clone(&theirs);
    check(WaitsFor::Several, move || {
        wait(&[&*watched], None, None).len()
    });
    let group = Group::new();
    group.add(&theirs).unwrap();
    check(WaitsFor::Pool, move || group.join(None));
    let pool = Pool::new(1);
    pool.add(&theirs).unwrap();
    let (full, looked_at) = (pool.clone(), pool);
    check(WaitsFor::Pool, move || full.spawn(|| ()));
    check(WaitsFor::Pool, move || looked_at.wait_available(None));
    theirs.kill();
}

#[test]
fn every_lock_has_its_name() {
    let _deadline = deadline();
    let mutex = Arc::new(Mutex::new(()));
    let held = mutex.lock().unwrap();
    let theirs = Arc::clone(&mutex);
    check(WaitsFor::Semaphore, move || drop(theirs.lock()));
    drop(held);
    check(WaitsFor::Condvar, move || {
        let guard = mutex.lock().unwrap();
        drop(Condvar::new().wait(guard));
    });
    let rlock = Arc::new(RLock::new());
    let held = rlock.lock().unwrap();
    let theirs = Arc::clone(&rlock);
    check(WaitsFor::Semaphore, move || drop(theirs.lock()));
    drop(held);
    let rwlock = Arc::new(RwLock::new(()));
    let held = rwlock.write().unwrap();
    let theirs = Arc::clone(&rwlock);
    check(WaitsFor::Lock, move || drop(theirs.read()));
    let theirs = Arc::clone(&rwlock);
    check(WaitsFor::Lock, move || drop(theirs.write()));
    drop(held);
    let once = Arc::new(Once::new());
    let (theirs, go) = (Arc::clone(&once), Arc::new(Event::new()));
    let waits = Arc::clone(&go);
    let first = spawn(move || theirs.call_once(|| assert!(waits.wait())));
    until_waits_for(first.id(), WaitsFor::Event);
    check(WaitsFor::Semaphore, move || once.call_once(|| ()));
    go.set();
    first.join().unwrap();
}

#[test]
fn every_wait_for_threads_has_its_name() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    let (begun, go) = (Arc::new(Event::new()), Arc::new(Event::new()));
    let (begins, waits) = (Arc::clone(&begun), Arc::clone(&go));
    let _busy = pool.spawn(move || {
        begins.set();
        waits.wait()
    });
    begun.wait();
    let theirs = pool.clone();
    check(WaitsFor::Thread, move || theirs.apply(|| ()));
    // One job waits for the thread.
    let _waiting = pool.spawn(|| ());
    let (full, joined, killed) = (pool.clone(), pool.clone(), pool);
    check(WaitsFor::Thread, move || drop(full.spawn(|| ())));
    check(WaitsFor::Thread, move || joined.join(None));
    check(WaitsFor::Thread, move || killed.kill());
    go.set();
}

#[test]
fn every_wait_for_a_socket_has_its_name() {
    let _deadline = deadline();
    let (mut here, there) = UnixStream::pair().unwrap();
    check(WaitsFor::Read, {
        let there = there.clone();
        move || there.peek(&mut [0])
    });
    check(WaitsFor::Write, move || {
        use std::io::Write;
        here.write_all(&vec![0; 10_000_000])
    });
    drop(there);
    // A backlog that is full: the kernel has no event for that.
    let name = format!("greenwood-waits-{}", std::process::id());
    let name = net::SocketAddr::from_abstract_name(name).unwrap();
    let _listener = UnixListener::bind_addr(&name).unwrap();
    check(WaitsFor::Write, move || {
        let mut all = Vec::new();
        while let Ok(stream) = UnixStream::connect_addr(&name, None) {
            all.push(stream);
        }
    });
}

#[test]
fn who_lets_others_run_waits_for_its_turn() {
    let _deadline = deadline();
    let turns = spawn_on(0, || {
        loop {
            idle();
        }
    });
    until_waits_for(turns.id(), WaitsFor::Turn);
    turns.kill();
}
