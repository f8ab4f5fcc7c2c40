//! A greenlet never changes its thread: the self-test of what everything rests on.
//!
//! Greenlets of every hub and OS threads wake each other in all the ways there are, more than a
//! million switches in all, and compare their thread after each. Were an upgrade of `may` to move
//! one stack, this would say so.

use std::cell::Cell;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{
    Event, Hub, Queue, Semaphore, current_id, idle, sleep, spawn_local, with_timeout,
};

use crate::support::{case, child_with_hubs, deadline_of, spawn_on};

const SWITCHES: usize = if cfg!(debug_assertions) {
    1_000_000
} else {
    1_500_000
};

static DONE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Written by every greenlet of the hub: a compiler that keeps its address over a switch shows here.
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// The thread as the kernel names it, which no compiler caches.
fn thread() -> i32 {
    // SAFETY: takes nothing.
    unsafe { libc::gettid() }
}

/// Where a greenlet is at home.
struct Pin {
    thread: i32,
    hub: usize,
    id: u64,
}

impl Pin {
    fn here() -> Pin {
        Pin {
            thread: thread(),
            hub: Hub::current().unwrap(),
            id: current_id().unwrap(),
        }
    }

    /// Counts a switch and asserts that it has led back.
    #[track_caller]
    fn check(&self) {
        assert_eq!(thread(), self.thread);
        assert_eq!(Hub::current(), Some(self.hub));
        assert_eq!(current_id(), Some(self.id));
        LAST.set(self.id);
        assert_eq!(LAST.get(), self.id);
        DONE.fetch_add(1, Ordering::Relaxed);
    }
}

struct World {
    over: AtomicBool,
    forth: Queue<usize>,
    back: Queue<usize>,
    semaphore: Semaphore,
    bell: Event,
    listener: TcpListener,
}

impl World {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

/// Waits that nobody else has to end, time-outs among them.
fn waits_alone(world: &World, round: usize) {
    match round % 6 {
        0 => sleep(Duration::ZERO),
        1 => idle(),
        2 => sleep(Duration::from_micros(30)),
        3 => {
            world.bell.wait_timeout(Duration::from_micros(20));
        }
        4 => assert!(with_timeout(Duration::from_micros(10), || sleep(Duration::MAX)).is_err()),
        _ => drop(spawn_local(|| sleep(Duration::ZERO)).join()),
    }
}

fn loner(world: &World) {
    let pin = Pin::here();
    for round in 0.. {
        if !world.goes_on() {
            return;
        }
        waits_alone(world, round);
        pin.check();
    }
}

fn asker(world: &World) {
    let pin = Pin::here();
    while world.goes_on() {
        world.forth.put(1).unwrap();
        pin.check();
        let _ = world.back.get_timeout(Duration::from_millis(1));
        pin.check();
    }
}

fn answerer(world: &World) {
    let pin = Pin::here();
    while world.goes_on() {
        if let Ok(item) = world.forth.get_timeout(Duration::from_millis(1)) {
            world.back.put_nowait(item).ok();
        }
        pin.check();
    }
}

fn sharer(world: &World) {
    let pin = Pin::here();
    while world.goes_on() {
        if world.semaphore.acquire_timeout(Duration::from_millis(1)) {
            pin.check();
            sleep(Duration::ZERO);
            world.semaphore.release();
        }
        pin.check();
        world.bell.set();
        world.bell.clear();
    }
}

fn client(world: &World) {
    let pin = Pin::here();
    let mut stream = TcpStream::connect(world.listener.local_addr().unwrap()).unwrap();
    pin.check();
    let mut buffer = [0; 64];
    while world.goes_on() {
        stream.write_all(&buffer).unwrap();
        stream.read_exact(&mut buffer).unwrap();
        pin.check();
    }
}

fn server(world: &World, hubs: usize) {
    let pin = Pin::here();
    let mut at = 0;
    while let Ok(accepted) = with_timeout(Duration::from_millis(5), || world.listener.accept()) {
        let (mut stream, _) = accepted.unwrap();
        pin.check();
        at += 1;
        // The socket was accepted on this hub and is used on the next.
        drop(spawn_on(at % hubs, move || {
            let pin = Pin::here();
            let mut buffer = [0; 64];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                pin.check();
                if stream.write_all(&buffer[..n]).is_err() {
                    return;
                }
            }
        }));
    }
}

fn killer(world: &World, hubs: usize) {
    let pin = Pin::here();
    for round in 0.. {
        if !world.goes_on() {
            return;
        }
        let victim = spawn_on(round % hubs, move || {
            let pin = Pin::here();
            loop {
                sleep(Duration::from_micros(5));
                pin.check();
            }
        });
        for _ in 0..round % 3 {
            sleep(Duration::from_micros(10));
        }
        victim.kill();
        pin.check();
    }
}

fn play(hubs: usize) {
    Hub::config().hubs(hubs).start().unwrap();
    let world = Arc::new(World {
        over: AtomicBool::new(false),
        forth: Queue::new(8),
        back: Queue::new(0),
        semaphore: Semaphore::new(1),
        bell: Event::new(),
        listener: TcpListener::bind("127.0.0.1:0").unwrap(),
    });
    let mut greenlets = Vec::new();
    let theirs = Arc::clone(&world);
    let accepting = spawn_on(0, move || {
        while theirs.goes_on() {
            server(&theirs, hubs);
        }
    });
    for hub in 0..hubs {
        for role in [loner as fn(&World), asker, answerer, sharer, client] {
            for _ in 0..2 {
                let world = Arc::clone(&world);
                greenlets.push(spawn_on(hub, move || role(&world)));
            }
        }
        let theirs = Arc::clone(&world);
        greenlets.push(spawn_on(hub, move || killer(&theirs, hubs)));
    }
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let world = Arc::clone(&world);
            std::thread::spawn(move || {
                let me = thread();
                for round in 0.. {
                    if !world.goes_on() {
                        return;
                    }
                    let _ = world.forth.put_timeout(round, Duration::from_millis(1));
                    let _ = world.back.get_timeout(Duration::from_micros(100));
                    world.bell.set();
                    if world.semaphore.acquire_timeout(Duration::from_micros(100)) {
                        world.semaphore.release();
                    }
                    let killed = spawn_on(round % hubs, || sleep(Duration::MAX));
                    killed.kill();
                    assert_eq!(thread(), me);
                }
            })
        })
        .collect();
    while DONE.load(Ordering::Relaxed) < SWITCHES {
        sleep(Duration::from_millis(5));
        assert!(
            greenlets.iter().all(|greenlet| !greenlet.ready()),
            "one has failed"
        );
    }
    world.over.store(true, Ordering::Relaxed);
    // Whoever waits without an end is let go.
    while !greenlets.iter().all(|greenlet| greenlet.ready()) {
        let _ = world.forth.get_timeout(Duration::from_millis(1));
    }
    for greenlet in greenlets.into_iter().chain([accepting]) {
        greenlet.join().unwrap();
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_million_switches_lead_back_to_their_threads() {
    let _deadline = deadline_of(Duration::from_secs(300));
    if let Some(hubs) = case() {
        return play(hubs.parse().unwrap());
    }
    for hubs in [1, 2, 4] {
        let end = child_with_hubs(
            "pinning::a_million_switches_lead_back_to_their_threads",
            &hubs.to_string(),
            hubs,
        );
        end.passed();
    }
}
