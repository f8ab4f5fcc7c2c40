//! Parked connections, without a protocol: bytes are counted and sent back.

#![expect(
    clippy::disallowed_types,
    reason = "the peer is the foreign side, on a plain thread"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream as StdStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use greenwood_runtime::net::parking::{Burst, Parked, Place, Then};
use greenwood_runtime::net::{TcpListener, TcpStream, UnixStream};
use greenwood_runtime::{Builder, Detached, Event, Hub, Seat, StreamServer, Timeout, sleep};

use crate::support::{deadline, eventually, spawn_on};

const DEADLINE: Duration = Duration::from_secs(30);

/// Sends back what comes; does something before that.
struct Echo {
    stream: TcpStream,
    place: Arc<Place>,
    seat: Mutex<Option<Seat>>,
    running: AtomicUsize,
    act: fn(&Echo, &[u8]),
}

/// What is parked of it: the server has it too.
struct Called(Arc<Echo>);

impl Parked for Called {
    fn ready(&mut self, burst: &Burst) -> Then {
        self.0.ready(burst)
    }
}

impl Echo {
    fn ready(&self, burst: &Burst) -> Then {
        assert_eq!(self.running.fetch_add(1, Ordering::SeqCst), 0);
        assert_eq!(Hub::current(), Some(self.place_hub()));
        assert!(self.place.is_current());
        let mut buffer = [0; 64];
        let then = loop {
            match self.stream.try_read(&mut buffer) {
                Ok(n) if n > 0 => {
                    let act = || {
                        (self.act)(self, &buffer[..n]);
                        (&self.stream).write_all(&buffer[..n]).ok();
                    };
                    if catch_unwind(AssertUnwindSafe(act)).is_err() {
                        break self.end();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Then::Wait,
                _ => break self.end(),
            }
            if !burst.may_go_on() {
                break Then::Again;
            }
        };
        assert_eq!(self.running.fetch_sub(1, Ordering::SeqCst), 1);
        then
    }

    fn end(&self) -> Then {
        self.place.leave();
        drop(self.seat.lock().unwrap().take());
        Then::Wait
    }

    fn place_hub(&self) -> usize {
        use std::os::fd::AsRawFd;
        self.stream.as_raw_fd() as usize % Hub::count()
    }
}

impl Detached for Echo {
    fn kill(&self) {
        self.stream.shutdown(std::net::Shutdown::Both).ok();
        self.place.kill();
    }

    fn is_current(&self) -> bool {
        self.place.is_current()
    }
}

fn serve(act: fn(&Echo, &[u8])) -> StreamServer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = StreamServer::with_seats(listener, move |stream, _, seat| {
        let stream = stream.unregistered();
        let place = Arc::new(Place::reserve(&stream).unwrap());
        let echo = Arc::new(Echo {
            stream,
            place: Arc::clone(&place),
            seat: Mutex::default(),
            running: AtomicUsize::new(0),
            act,
        });
        seat.detach(Arc::clone(&echo) as Arc<_>);
        *echo.seat.lock().unwrap() = Some(seat);
        place.park(Box::new(Called(echo))).unwrap();
    })
    .unwrap();
    server.start().unwrap();
    server
}

fn connect(server: &StreamServer) -> StdStream {
    let stream = StdStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn round_trip(stream: &mut StdStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, bytes);
}

#[track_caller]
fn wait_until(what: impl Fn() -> bool) {
    eventually("it comes to that", what);
}

#[test]
fn parked_connections_are_called_when_something_arrives() {
    let server = serve(|_, _| {});
    let mut streams: Vec<_> = (0..40).map(|_| connect(&server)).collect();
    for round in 0..50 {
        for stream in &mut streams {
            round_trip(stream, format!("{round}").as_bytes());
        }
    }
    // More than one read, and more than one burst.
    let long = vec![7; 60_000];
    for stream in &mut streams {
        round_trip(stream, &long);
    }
    assert_eq!(server.connections(), 40);
    streams.truncate(10);
    wait_until(|| server.connections() == 10);
    drop(streams);
    wait_until(|| server.connections() == 0);
    server.stop(DEADLINE);
}

#[test]
fn call_that_blocks_holds_up_no_other() {
    static GO_ON: Event = Event::new();
    let server = serve(|_, bytes| {
        if bytes == b"wait" {
            GO_ON.wait();
        }
    });
    let mut waiting: Vec<_> = (0..10).map(|_| connect(&server)).collect();
    for stream in &mut waiting {
        stream.write_all(b"wait").unwrap();
    }
    let mut others: Vec<_> = (0..10).map(|_| connect(&server)).collect();
    for _ in 0..100 {
        for stream in &mut others {
            round_trip(stream, b"x");
        }
    }
    GO_ON.set();
    for stream in &mut waiting {
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        round_trip(stream, b"again");
    }
    drop((waiting, others));
    wait_until(|| server.connections() == 0);
    server.stop(DEADLINE);
}

#[test]
fn time_limit_that_a_call_leaves_behind_hits_no_other() {
    static LEAKED: AtomicUsize = AtomicUsize::new(0);
    let server = serve(|_, bytes| match bytes {
        b"leak" => {
            let limit = Timeout::start_new(Duration::from_millis(20));
            #[expect(clippy::mem_forget, reason = "it is what the test is about")]
            std::mem::forget(limit);
            LEAKED.fetch_add(1, Ordering::SeqCst);
        }
        b"sleep" => sleep(Duration::from_millis(100)),
        _ => {}
    });
    let mut leaking: Vec<_> = (0..8).map(|_| connect(&server)).collect();
    let mut others: Vec<_> = (0..8).map(|_| connect(&server)).collect();
    // They don't switch, so on each hub it is in the greenlet that leads.
    for stream in &mut leaking {
        stream.write_all(b"leak").unwrap();
    }
    wait_until(|| LEAKED.load(Ordering::SeqCst) == leaking.len());
    for stream in &mut others {
        stream.write_all(b"sleep").unwrap();
    }
    for stream in &mut others {
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        round_trip(stream, b"x");
    }
    drop((leaking, others));
    wait_until(|| server.connections() == 0);
    server.stop(DEADLINE);
}

#[test]
fn connection_that_is_woken_before_it_is_parked_is_called() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    struct Counting;
    impl Parked for Counting {
        fn ready(&mut self, _: &Burst) -> Then {
            CALLS.fetch_add(1, Ordering::SeqCst);
            Then::Wait
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let place = Place::reserve(&stream).unwrap();
    place.wake().unwrap();
    place.park(Box::new(Counting)).unwrap();
    wait_until(|| CALLS.load(Ordering::SeqCst) > 0);
    place.leave();
    drop(peer);
}

/// What is parked is dropped in the greenlet that calls it, and may block there as a call may.
#[test]
fn destructor_that_blocks_holds_up_no_other() {
    static GO_ON: Event = Event::new();
    static DROPPED: Event = Event::new();
    struct Leaving {
        place: Arc<Place>,
    }
    impl Parked for Leaving {
        fn ready(&mut self, _: &Burst) -> Then {
            self.place.leave();
            Then::Wait
        }
    }
    impl Drop for Leaving {
        fn drop(&mut self) {
            GO_ON.wait();
            DROPPED.set();
        }
    }
    let server = serve(|_, _| {});
    let mut others: Vec<_> = (0..8).map(|_| connect(&server)).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let place = Arc::new(Place::reserve(&stream).unwrap());
    let leaving = Leaving {
        place: Arc::clone(&place),
    };
    place.park(Box::new(leaving)).unwrap();
    drop(peer);
    for _ in 0..20 {
        for other in &mut others {
            round_trip(other, b"x");
        }
    }
    assert!(!DROPPED.is_set());
    GO_ON.set();
    assert!(DROPPED.wait_timeout(DEADLINE));
    drop(others);
    wait_until(|| server.connections() == 0);
    server.stop(DEADLINE);
}

#[test]
fn stop_kills_a_call_that_goes_on_blocking() {
    let server = serve(|_, _| sleep(Duration::from_secs(600)));
    let mut streams: Vec<_> = (0..4).map(|_| connect(&server)).collect();
    for stream in &mut streams {
        stream.write_all(b"x").unwrap();
    }
    let idle: Vec<_> = (0..4).map(|_| connect(&server)).collect();
    wait_until(|| server.connections() == 8);
    let _deadline = deadline();
    server.stop(Duration::from_millis(20));
    assert_eq!(server.connections(), 0);
    drop((streams, idle));
}

#[test]
fn wake_calls_a_connection_of_which_nothing_is_heard() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static PLACE: OnceLock<Arc<Place>> = OnceLock::new();
    struct Counting;
    impl Parked for Counting {
        fn ready(&mut self, _: &Burst) -> Then {
            CALLS.fetch_add(1, Ordering::SeqCst);
            Then::Wait
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let place = PLACE.get_or_init(|| Arc::new(Place::reserve(&stream).unwrap()));
    place.park(Box::new(Counting)).unwrap();
    for calls in 1..20 {
        let hub = calls % Hub::count();
        let wake = || PLACE.get().unwrap().wake().unwrap();
        match calls % 2 {
            0 => wake(),
            _ => Builder::new().hub(hub).spawn(wake).unwrap().join().unwrap(),
        }
        wait_until(|| CALLS.load(Ordering::SeqCst) == calls);
    }
    place.leave();
    place.wake().unwrap();
    drop(peer);
    place.leave();
    assert!(place.park(Box::new(Counting)).is_err());
}

/// What arrives for a connection, or wakes it, while it comes again anyway gives it no further turn.
#[test]
fn who_always_comes_again_has_one_turn_in_each_round() {
    const ROUNDS: usize = 100;
    #[derive(Default)]
    struct Calls {
        flooded: AtomicUsize,
        other: AtomicUsize,
    }
    impl Calls {
        fn then(&self) -> Then {
            match self.other.load(Ordering::SeqCst) {
                ..ROUNDS => Then::Again,
                _ => Then::Wait,
            }
        }
    }
    struct Flooded {
        calls: Arc<Calls>,
        stream: UnixStream,
        peer: UnixStream,
        place: Arc<Place>,
    }
    impl Parked for Flooded {
        fn ready(&mut self, _: &Burst) -> Then {
            self.calls.flooded.fetch_add(1, Ordering::SeqCst);
            self.place.wake().unwrap();
            // What is still there at the next look at the set is an event in it.
            self.stream.try_read(&mut [0; 1]).ok();
            assert_eq!(self.peer.try_write(b"x").unwrap(), 1);
            self.calls.then()
        }
    }
    struct Other(Arc<Calls>, Arc<Event>);
    impl Parked for Other {
        fn ready(&mut self, _: &Burst) -> Then {
            self.0.other.fetch_add(1, Ordering::SeqCst);
            if self.0.then() == Then::Wait {
                self.1.set();
            }
            self.0.then()
        }
    }
    let _deadline = deadline();
    for hub in 0..Hub::count() {
        let flooded = spawn_on(hub, || {
            let (calls, over) = (Arc::new(Calls::default()), Arc::new(Event::new()));
            let (stream, peer) = UnixStream::pair().unwrap();
            let place = Arc::new(Place::reserve(&stream).unwrap());
            let flooded = Flooded {
                calls: Arc::clone(&calls),
                stream,
                peer,
                place: Arc::clone(&place),
            };
            let (quiet, _its_peer) = UnixStream::pair().unwrap();
            let other = Place::reserve(&quiet).unwrap();
            place.wake().unwrap();
            place.park(Box::new(flooded)).unwrap();
            other.wake().unwrap();
            let its = Other(Arc::clone(&calls), Arc::clone(&over));
            other.park(Box::new(its)).unwrap();
            over.wait();
            place.leave();
            calls.flooded.load(Ordering::SeqCst)
        });
        let flooded = flooded.join().unwrap();
        assert!(flooded <= ROUNDS + 2, "{flooded} turns");
    }
}

/// Who looks for the end is told of it until it is found, however many calls that takes.
#[test]
fn the_end_is_told_again_to_who_has_not_come_to_it() {
    struct Slow {
        stream: TcpStream,
        told: Arc<Mutex<Vec<(usize, bool)>>>,
        over: Arc<Event>,
    }
    impl Parked for Slow {
        fn ready(&mut self, burst: &Burst) -> Then {
            let read = self.stream.try_read(&mut [0; 1]).unwrap();
            self.told.lock().unwrap().push((read, burst.is_closed()));
            if read == 0 {
                self.over.set();
                return Then::Wait;
            }
            Then::Again
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    peer.write_all(b"abc").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    let (told, over) = (Arc::default(), Arc::new(Event::new()));
    let slow = Slow {
        stream: stream.clone(),
        told: Arc::clone(&told),
        over: Arc::clone(&over),
    };
    let place = Place::reserve(&stream).unwrap();
    place.park(Box::new(slow)).unwrap();
    assert!(over.wait_timeout(DEADLINE));
    place.leave();
    let told = told.lock().unwrap().clone();
    let ends: Vec<bool> = told.iter().map(|(_, closed)| *closed).collect();
    // The end may come with the first bytes or behind them; from then on it is known.
    let known = ends.iter().position(|closed| *closed).unwrap();
    assert!(ends[known..].iter().all(|closed| *closed), "{told:?}");
    assert_eq!(told.last(), Some(&(0, true)));
}
