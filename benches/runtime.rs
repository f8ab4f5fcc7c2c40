//! What the runtime's parts cost: spawning, switching, handing over, waiting for sockets.
//!
//! Everything measured runs inside greenlets, on two hubs. A result is the time of one operation as
//! its name says, where a round trip is two hand-overs; with a thousand greenlets it is the time of
//! a thousand operations, which the rate divides.
//!
//! ```text
//! cargo bench --bench runtime
//! cargo bench --bench runtime -- queue
//! ```

use std::cell::Cell;
use std::hint::black_box;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, Throughput};
use greenwood::runtime::net::{TcpListener, TcpStream};
use greenwood::runtime::{Channel, Mutex, PriorityQueue, RLock, RwLock};
use greenwood::{
    Builder, Event, Greenlet, Hub, Queue, Semaphore, sleep, spawn, spawn_local, with_timeout,
};

const HUBS: usize = 2;

/// Enough of them to leave the caches, and to need a queue that is not empty.
const MANY: usize = 1000;

/// A time-out that never expires here.
const LONG: Duration = Duration::from_secs(3600);

/// The size of an echoed piece of data in bytes.
const PIECE: usize = 64;

fn main() {
    if let Err(error) = Hub::config().hubs(HUBS).start() {
        panic!("{error}");
    }
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1200))
        .configure_from_args();
    spawning(&mut criterion);
    switching(&mut criterion);
    queues(&mut criterion);
    semaphores(&mut criterion);
    locks(&mut criterion);
    events(&mut criterion);
    timeouts(&mut criterion);
    sockets(&mut criterion);
    criterion.final_summary();
}

fn spawning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spawn and join");
    group.bench_function("one by one", |bencher| {
        repeat(bencher, || join(spawn(|| ())));
    });
    group.throughput(Throughput::Elements(MANY as u64));
    group.bench_function("1000, then join all", |bencher| {
        repeat(bencher, || {
            let greenlets: Vec<_> = (0..MANY).map(|_| spawn(|| ())).collect();
            greenlets.into_iter().for_each(join);
        });
    });
    group.finish();
}

fn switching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sleep(0)");
    group.bench_function("alone", |bencher| {
        repeat(bencher, || sleep(Duration::ZERO));
    });
    group.throughput(Throughput::Elements(MANY as u64));
    group.bench_function("1000 greenlets", |bencher| {
        bencher.iter_custom(|iterations| on_hub(0, move || turns(MANY, iterations)));
    });
    group.finish();
}

/// How long so many greenlets take for `turns` switches each, without their starts and ends.
fn turns(greenlets: usize, turns: u64) -> Duration {
    let start = Rc::new(Event::new());
    let left = Rc::new(Cell::new(greenlets));
    let end = Rc::new(Cell::new(None));
    let greenlets: Vec<_> = (0..greenlets)
        .map(|_| {
            let (start, left, end) = (Rc::clone(&start), Rc::clone(&left), Rc::clone(&end));
            spawn_local(move || {
                start.wait();
                for _ in 0..turns {
                    sleep(Duration::ZERO);
                }
                left.set(left.get() - 1);
                if left.get() == 0 {
                    end.set(Some(Instant::now()));
                }
            })
        })
        .collect();
    // They all come to wait for the start.
    sleep(Duration::ZERO);
    let began = Instant::now();
    start.set();
    greenlets.into_iter().for_each(join);
    end.get().expect("the last one sets it") - began
}

fn queues(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.bench_function("put and get, uncontended", |bencher| {
        let queue = Arc::new(Queue::new(0));
        repeat(bencher, move || {
            queue.put_nowait(black_box(1_u64)).ok();
            black_box(queue.get()).ok();
        });
    });
    group.bench_function("put and get, by priority, of 1000", |bencher| {
        let queue = Arc::new(PriorityQueue::with_items(0, 0..MANY as u64));
        repeat(bencher, move || {
            let smallest = queue.get_nowait().unwrap_or_default();
            queue.put_nowait(black_box(smallest + MANY as u64)).ok();
        });
    });
    group.bench_function("round trip by channels, one hub", |bencher| {
        bencher.iter_custom(|iterations| on_hub(0, move || channel_round_trips(iterations)));
    });
    for (name, hub) in [("round trip, one hub", 0), ("round trip, two hubs", 1)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                on_hub(0, move || queue_round_trips(hub, iterations, Queue::get))
            });
        });
    }
    group.finish();
}

/// Sends numbers to a greenlet of `hub`, which returns each, and waits for them with `get`.
fn queue_round_trips<E: std::fmt::Debug>(
    hub: usize,
    iterations: u64,
    get: impl Fn(&Queue<u64>) -> Result<u64, E>,
) -> Duration {
    let (there, back) = (Arc::new(Queue::new(0)), Arc::new(Queue::new(0)));
    let (their_there, their_back) = (Arc::clone(&there), Arc::clone(&back));
    let other = start(hub, move || {
        for _ in 0..=iterations {
            let number = their_there.get().expect("this greenlet is not unwinding");
            their_back.put(number).ok();
        }
    });
    let round_trip = |number| {
        there.put(number).ok();
        let returned = get(&back);
        assert_eq!(returned.expect("it comes"), number);
    };
    // The other has run once before the time counts.
    round_trip(u64::MAX);
    let began = Instant::now();
    for number in 0..iterations {
        round_trip(number);
    }
    let elapsed = began.elapsed();
    join(other);
    elapsed
}

/// Sends numbers to a greenlet of this hub from hand to hand, and waits for each to come back.
fn channel_round_trips(iterations: u64) -> Duration {
    let (there, back) = (Rc::new(Channel::new()), Rc::new(Channel::new()));
    let (their_there, their_back) = (Rc::clone(&there), Rc::clone(&back));
    let other = spawn_local(move || {
        for number in &*their_there {
            their_back.put(number).ok();
        }
    });
    let round_trip = |number| {
        there.put(number).ok();
        assert_eq!(back.get(), Ok(number));
    };
    round_trip(u64::MAX);
    let began = Instant::now();
    for number in 0..iterations {
        round_trip(number);
    }
    let elapsed = began.elapsed();
    there.shutdown();
    join(other);
    elapsed
}

fn semaphores(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("semaphore");
    group.bench_function("acquire and release, uncontended", |bencher| {
        let semaphore = Arc::new(Semaphore::new(1));
        repeat(bencher, move || {
            assert!(semaphore.acquire());
            semaphore.release();
        });
    });
    for (name, hub) in [("round trip, one hub", 0), ("round trip, two hubs", 1)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                on_hub(0, move || semaphore_round_trips(hub, iterations))
            });
        });
    }
    group.finish();
}

/// Hands a permit to a greenlet of `hub`, and waits for it to come back.
fn semaphore_round_trips(hub: usize, iterations: u64) -> Duration {
    let (there, back) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (their_there, their_back) = (Arc::clone(&there), Arc::clone(&back));
    let other = start(hub, move || {
        for _ in 0..=iterations {
            assert!(their_there.acquire());
            their_back.release();
        }
    });
    let round_trip = || {
        there.release();
        assert!(back.acquire());
    };
    round_trip();
    let began = Instant::now();
    for _ in 0..iterations {
        round_trip();
    }
    let elapsed = began.elapsed();
    join(other);
    elapsed
}

fn locks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lock");
    group.bench_function("mutex, uncontended", |bencher| {
        let mutex = Arc::new(Mutex::new(0_u64));
        repeat(bencher, move || {
            if let Ok(mut number) = mutex.lock() {
                *number += 1;
            }
        });
    });
    group.bench_function("rwlock, reading, uncontended", |bencher| {
        let lock = Arc::new(RwLock::new(0_u64));
        repeat(bencher, move || {
            lock.read().map(|number| black_box(*number))
        });
    });
    group.bench_function("rlock, uncontended", |bencher| {
        let lock = Arc::new(RLock::new());
        repeat(bencher, move || lock.lock().is_ok());
    });
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("event");
    group.bench_function("set, wait and clear, uncontended", |bencher| {
        let event = Arc::new(Event::new());
        repeat(bencher, move || {
            event.set();
            assert!(event.wait());
            event.clear();
        });
    });
    group.bench_function("round trip, one hub", |bencher| {
        bencher.iter_custom(|iterations| on_hub(0, move || event_round_trips(iterations)));
    });
    group.finish();
}

/// Wakes a greenlet of the same hub, which wakes this one.
fn event_round_trips(iterations: u64) -> Duration {
    let (there, back) = (Rc::new(Event::new()), Rc::new(Event::new()));
    let (their_there, their_back) = (Rc::clone(&there), Rc::clone(&back));
    let other = spawn_local(move || {
        for _ in 0..=iterations {
            assert!(their_there.wait());
            their_there.clear();
            their_back.set();
        }
    });
    let round_trip = || {
        there.set();
        assert!(back.wait());
        back.clear();
    };
    round_trip();
    let began = Instant::now();
    for _ in 0..iterations {
        round_trip();
    }
    let elapsed = began.elapsed();
    join(other);
    elapsed
}

fn timeouts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("with_timeout");
    group.bench_function("around nothing", |bencher| {
        repeat(bencher, || with_timeout(LONG, || black_box(())).is_ok());
    });
    group.bench_function("around sleep(0)", |bencher| {
        repeat(bencher, || {
            with_timeout(LONG, || sleep(Duration::ZERO)).is_ok()
        });
    });
    // To be compared with the queue's own round trip: the difference is a timer set and taken back.
    group.bench_function("around a get, in a queue's round trip", |bencher| {
        bencher.iter_custom(|iterations| {
            on_hub(0, move || {
                queue_round_trips(0, iterations, |queue| {
                    with_timeout(LONG, || {
                        queue.get().expect("this greenlet is not unwinding")
                    })
                })
            })
        });
    });
    group.finish();
}

fn sockets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("TCP");
    group.bench_function("64 B round trip, one hub", |bencher| {
        bencher.iter_custom(|iterations| on_hub(0, move || socket_round_trips(iterations)));
    });
    group.finish();
}

/// Echoes over loopback, both ends on this hub.
fn socket_round_trips(iterations: u64) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let other = spawn_local(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        stream.set_nodelay(true).expect("it is a TCP socket");
        let mut piece = [0; PIECE];
        while stream.read_exact(&mut piece).is_ok() {
            stream.write_all(&piece).expect("the other end is open");
        }
    });
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("it is a TCP socket");
    let mut piece = [7; PIECE];
    let mut round_trip = || {
        stream.write_all(&piece).expect("the other end is open");
        stream
            .read_exact(&mut piece)
            .expect("the other end is open");
    };
    round_trip();
    let began = Instant::now();
    for _ in 0..iterations {
        round_trip();
    }
    let elapsed = began.elapsed();
    drop(stream);
    join(other);
    elapsed
}

/// Measures `f`, called again and again by one greenlet of hub 0.
fn repeat<T>(bencher: &mut Bencher<'_>, f: impl Fn() -> T + Clone + Send + 'static) {
    bencher.iter_custom(|iterations| {
        let f = f.clone();
        on_hub(0, move || {
            let began = Instant::now();
            for _ in 0..iterations {
                black_box(f());
            }
            began.elapsed()
        })
    });
}

/// What `f` returns, run by a greenlet of that hub.
fn on_hub<T: Send + 'static>(hub: usize, f: impl FnOnce() -> T + Send + 'static) -> T {
    match start(hub, f).join() {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

fn start<T: Send + 'static>(hub: usize, f: impl FnOnce() -> T + Send + 'static) -> Greenlet<T> {
    match Builder::new().hub(hub).spawn(f) {
        Ok(greenlet) => greenlet,
        Err(error) => panic!("{error}"),
    }
}

fn join(greenlet: Greenlet<()>) {
    if let Err(error) = greenlet.join() {
        panic!("{error}");
    }
}
