//! No greenlet keeps its hub for itself: I/O and timers get their turn.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{
    AsyncResult, Builder, Channel, CountDownLatch, Event, Greenlet, Hub, LifoQueue, Mutex,
    PriorityQueue, Queue, RLock, RwLock, Semaphore, SimpleQueue, idle, scope, sleep, spawn,
    spawn_local, wait,
};

use crate::others::spin;
use crate::support::{deadline, spawn_on};

/// Runs `busy` for ever on each hub, until I/O and timers of the same hub have had their turns.
pub(crate) fn check(busy: fn(&Arc<AtomicBool>) -> Vec<Greenlet<()>>) {
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        let over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&over);
        let running = spawn_on(hub, move || {
            for greenlet in busy(&theirs) {
                greenlet.join().unwrap();
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = spawn_on(hub, move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4];
            for _ in 0..20 {
                stream.read_exact(&mut buffer).unwrap();
                stream.write_all(&buffer).unwrap();
            }
        });
        let mut stream = TcpStream::connect(address).unwrap();
        for _ in 0..20 {
            stream.write_all(b"ping").unwrap();
            stream.read_exact(&mut [0; 4]).unwrap();
        }
        served.join().unwrap();
        let timed = spawn_on(hub, || {
            for _ in 0..10 {
                sleep(Duration::from_micros(200));
            }
        });
        timed.join().unwrap();
        let later = Builder::new()
            .hub(hub)
            .spawn_later(Duration::from_millis(1), || ());
        later.unwrap().join().unwrap();
        assert!(!running.ready());
        over.store(true, Ordering::SeqCst);
        running.join().unwrap();
    }
}

/// Greenlets of the caller's hub that call `f` until `over`.
pub(crate) fn loops(over: &Arc<AtomicBool>, count: usize, f: fn()) -> Vec<Greenlet<()>> {
    (0..count)
        .map(|_| {
            let over = Arc::clone(over);
            spawn_local(move || {
                while !over.load(Ordering::SeqCst) {
                    f();
                }
            })
        })
        .collect()
}

#[test]
fn sleeps_of_zero_do_not_starve_the_hub() {
    check(|over| loops(over, 1, || sleep(Duration::ZERO)));
    check(|over| loops(over, 50, || sleep(Duration::ZERO)));
}

#[test]
fn idle_loops_do_not_starve_the_hub() {
    check(|over| loops(over, 3, idle));
}

#[test]
fn spawning_for_ever_does_not_starve_the_hub() {
    check(|over| {
        loops(over, 2, || {
            spawn_local(|| ()).join().unwrap();
        })
    });
    // Each starts the next, and ends.
    fn chain(over: Arc<AtomicBool>, done: Arc<Event>) {
        if over.load(Ordering::SeqCst) {
            done.set();
        } else {
            spawn_local(move || chain(over, done));
        }
    }
    check(|over| {
        let done = Arc::new(Event::new());
        chain(Arc::clone(over), Arc::clone(&done));
        vec![spawn_local(move || assert!(done.wait()))]
    });
}

/// What is ready at once counts too.
#[test]
fn waits_for_what_is_ready_do_not_starve_the_hub() {
    static SET: Event = Event::new();
    static RESULT: AsyncResult<u8, ()> = AsyncResult::new();
    SET.set();
    RESULT.set(1).ok();
    check(|over| loops(over, 2, || assert!(SET.wait())));
    check(|over| loops(over, 2, || assert!(RESULT.get().is_ok())));
    check(|over| {
        loops(over, 2, || {
            assert_eq!(wait(&[&SET, &RESULT], None, None).len(), 2)
        })
    });
    check(|over| {
        let over = Arc::clone(over);
        vec![spawn_local(move || {
            let ended = spawn_local(|| 1);
            let latch = CountDownLatch::new(0);
            while !over.load(Ordering::SeqCst) {
                assert!(ended.join_timeout(Duration::ZERO) && ended.get().is_ok());
                assert!(latch.wait());
            }
        })]
    });
    check(|over| loops(over, 2, || scope(|s| s.spawn_local(|| ()).join().unwrap())));
}

#[test]
fn ping_pong_does_not_starve_the_hub() {
    check(|over| {
        let (forth, back) = (Arc::new(Queue::new(1)), Arc::new(Queue::new(1)));
        let mut greenlets = Vec::new();
        for (from, to) in [(Arc::clone(&forth), Arc::clone(&back)), (back, forth)] {
            let over = Arc::clone(over);
            if greenlets.is_empty() {
                to.put(0).unwrap();
            }
            greenlets.push(spawn_local(move || {
                while !over.load(Ordering::SeqCst) {
                    let item: u32 = from.get().unwrap();
                    to.put(item.wrapping_add(1)).unwrap();
                }
                // The other one may wait for an answer.
                to.put_nowait(0).ok();
            }));
        }
        greenlets
    });
    check(|over| {
        let turns = [Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(0))];
        (0..2)
            .map(|i| {
                let (mine, other) = (Arc::clone(&turns[i]), Arc::clone(&turns[1 - i]));
                let over = Arc::clone(over);
                spawn_local(move || {
                    while !over.load(Ordering::SeqCst) {
                        assert!(mine.acquire());
                        other.release();
                    }
                    other.release();
                })
            })
            .collect()
    });
}

#[test]
fn connection_that_is_always_ready_does_not_starve_the_hub() {
    check(|over| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sends = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receives, _) = listener.accept().unwrap();
        // Fed by a thread, so that it is never empty for long.
        let stop = Arc::clone(over);
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) && sends.write_all(&[0; 65_536]).is_ok() {}
        });
        let over = Arc::clone(over);
        vec![spawn_local(move || {
            let mut buffer = [0; 512];
            while !over.load(Ordering::SeqCst) {
                if receives.read(&mut buffer).unwrap() == 0 {
                    return;
                }
            }
        })]
    });
}

#[test]
fn connection_that_always_takes_does_not_starve_the_hub() {
    check(|over| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sends = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receives, _) = listener.accept().unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while matches!(receives.read(&mut buffer), Ok(1..)) {}
        });
        let over = Arc::clone(over);
        vec![spawn_local(move || {
            while !over.load(Ordering::SeqCst) {
                sends.write_all(b"x").unwrap();
            }
        })]
    });
}

#[test]
fn queues_that_are_never_empty_do_not_starve_the_hub() {
    check(|over| {
        static QUEUE: Queue<u8> = Queue::new(0);
        loops(over, 1, || {
            QUEUE.put(1).unwrap();
            assert_eq!(QUEUE.get(), Ok(1));
        })
    });
    check(|over| {
        static QUEUE: LifoQueue<u8> = LifoQueue::new(1);
        loops(over, 1, || {
            QUEUE.put_nowait(1).unwrap();
            assert_eq!(QUEUE.get_timeout(Duration::from_secs(60)), Ok(1));
        })
    });
    check(|over| {
        static QUEUE: PriorityQueue<u8> = PriorityQueue::new(0);
        loops(over, 1, || {
            QUEUE.put(1).unwrap();
            assert_eq!(QUEUE.get_nowait(), Ok(1));
        })
    });
}

#[test]
fn looking_at_what_is_there_does_not_starve_the_hub() {
    check(|over| {
        static QUEUE: SimpleQueue<u8> = SimpleQueue::new(0);
        loops(over, 1, || {
            if QUEUE.is_empty() {
                QUEUE.put(1).unwrap();
            }
            assert_eq!(QUEUE.peek(), Ok(1));
        })
    });
    check(|over| {
        static QUEUE: Queue<u8> = Queue::new(0);
        loops(over, 1, || assert!(QUEUE.join()))
    });
    check(|over| {
        static EVENT: Event = Event::new();
        loops(over, 1, || {
            EVENT.set();
            assert!(EVENT.wait());
            assert_eq!(wait(&[&EVENT], None, None), [0]);
        })
    });
}

#[test]
fn channel_ping_pong_does_not_starve_the_hub() {
    check(|over| {
        let (forth, back) = (Arc::new(Channel::new()), Arc::new(Channel::new()));
        [(Arc::clone(&forth), Arc::clone(&back)), (back, forth)]
            .into_iter()
            .enumerate()
            .map(|(i, (from, to))| {
                let over = Arc::clone(over);
                spawn_local(move || {
                    if i == 0 {
                        to.put(0).unwrap();
                    }
                    for item in &*from {
                        if over.load(Ordering::SeqCst) || to.put(item + 1_u64).is_err() {
                            break;
                        }
                    }
                    to.shutdown();
                })
            })
            .collect()
    });
}

#[test]
fn locks_that_are_free_do_not_starve_the_hub() {
    check(|over| {
        static LOCK: Mutex<u64> = Mutex::new(0);
        loops(over, 1, || *LOCK.lock().unwrap() += 1)
    });
    check(|over| {
        static LOCK: RwLock<u64> = RwLock::new(0);
        loops(over, 1, || assert_eq!(*LOCK.read().unwrap(), 0))
    });
    check(|over| {
        static LOCK: RLock = RLock::new();
        loops(over, 1, || drop(LOCK.lock().unwrap()))
    });
}

#[test]
fn permits_that_are_there_do_not_starve_the_hub() {
    check(|over| {
        static SEMAPHORE: Semaphore = Semaphore::new(1);
        loops(over, 1, || drop(SEMAPHORE.permit().unwrap()))
    });
    // Two that always find it taken, and hand it on.
    check(|over| {
        static LOCK: Mutex<u64> = Mutex::new(0);
        loops(over, 3, || {
            let _guard = LOCK.lock().unwrap();
            sleep(Duration::ZERO);
        })
    });
}

#[test]
fn calls_that_are_far_between_do_not_starve_the_hub() {
    check(|over| {
        static QUEUE: Queue<u8> = Queue::new(0);
        loops(over, 1, || {
            // Work.
            spin(Duration::from_micros(500));
            QUEUE.put(1).unwrap();
            assert_eq!(QUEUE.get(), Ok(1));
        })
    });
}

/// The time of a sleep runs from the call on, also when the others have their turn first.
#[test]
fn sleep_that_lets_others_go_first_is_no_longer_for_that() {
    let _deadline = deadline();
    // With one of these the others have their turn at the sleep itself.
    for calls in 0..4 {
        // A slow machine may hold it up behind the others: it gets more time.
        let times = [20, 20, 20, 100, 500, 2_000].map(Duration::from_millis);
        assert!(
            times.into_iter().any(|time| {
                spawn_on(0, move || is_over_with_the_turn(time, calls))
                    .join()
                    .unwrap()
            }),
            "after {calls} calls"
        );
    }
}

/// Whether a sleep, after so many calls, is over as soon as the turn of another, which is longer.
fn is_over_with_the_turn(time: Duration, calls: usize) -> bool {
    let set = Event::new();
    set.set();
    // From then on each call counts, and the time since the hub's last look at its I/O is noted.
    for _ in 0..3 {
        idle();
        spin(LONG);
        set.wait();
    }
    let holder = spawn(move || {
        spin(2 * time);
        Instant::now()
    });
    for _ in 0..calls {
        spin(LONG);
        set.wait();
    }
    spin(LONG);
    if holder.ready() {
        // The others have had their turn at one of the calls.
        return true;
    }
    sleep(time);
    let over = Instant::now();
    over.duration_since(holder.join().unwrap()) < time
}

/// More than a hub goes on without a look at its I/O.
const LONG: Duration = Duration::from_millis(12);
