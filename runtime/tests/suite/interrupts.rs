//! Every blocking call can be ended by a kill, by `with_timeout` and by its own time-out, from
//! wherever they come.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenwood_runtime::net::{
    Poll, PollEvents, TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream,
    create_connection, select,
};
use greenwood_runtime::{
    AsyncResult, CountDownLatch, DatagramServer, Event, FileObject, Greenlet, JoinAll, Queue,
    Semaphore, StreamServer, idle, iwait, joinall, killall, scope, sleep, spawn, wait,
    with_timeout,
};

use crate::support::{EVERYWHERE, From, OnDrop, deadline_of, eventually, fill, spawn_on, waiting};

const LIMIT: Duration = Duration::from_secs(120);
const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(3);

/// What the calls block on: nothing of it is ever ready.
struct Scene {
    event: Event,
    empty: Queue<u8>,
    full: Queue<u8>,
    semaphore: Semaphore,
    endless: Arc<Greenlet<()>>,
    result: AsyncResult<u8, ()>,
    latch: CountDownLatch,
    listener: TcpListener,
    server: StreamServer,
    /// Nobody writes to it, and its send buffer is full.
    stream: TcpStream,
    _peer: TcpStream,
    /// Its backlog is full: connecting to it takes for ever.
    deaf: TcpListener,
    _waiting: Vec<socket2::Socket>,
    udp: UdpSocket,
    unix: UnixListener,
    /// As `stream`; the queue between two sockets of datagrams is full too.
    unix_stream: UnixStream,
    _unix_peer: UnixStream,
    datagrams: (UnixDatagram, UnixDatagram),
    /// One pipe is empty, the other is full.
    pipe: (FileObject, FileObject),
    full_pipe: (FileObject, FileObject),
    datagram_server: DatagramServer,
}

impl Scene {
    fn new() -> Scene {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        fill(&stream);
        let deaf = TcpListener::bind_with_backlog("127.0.0.1:0", 0).unwrap();
        let waiting = (0..4)
            .map(|_| {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
                let socket = socket.unwrap();
                socket.set_nonblocking(true).unwrap();
                socket.connect(&deaf.local_addr().unwrap().into()).ok();
                socket
            })
            .collect();
        let (unix_stream, unix_peer) = UnixStream::pair().unwrap();
        while unix_stream.try_write(&[0; 65_536]).is_ok() {}
        let datagrams = UnixDatagram::pair().unwrap();
        datagrams.0.set_write_timeout(Some(SHORT)).unwrap();
        while datagrams.0.send(b"x").is_ok() {}
        datagrams.0.set_write_timeout(None).unwrap();
        let pipe = || {
            let (reader, writer) = io::pipe().unwrap();
            (
                FileObject::new(reader).unwrap(),
                FileObject::new(writer).unwrap(),
            )
        };
        let full_pipe = pipe();
        full_pipe.1.set_write_timeout(Some(SHORT)).unwrap();
        while (&full_pipe.1).write(&[0; 65_536]).is_ok() {}
        full_pipe.1.set_write_timeout(None).unwrap();
        let unnamed = std::os::unix::net::SocketAddr::from_abstract_name(format!(
            "greenwood-interrupts-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let full = Queue::new(1);
        full.put(0).unwrap();
        Scene {
            event: Event::new(),
            empty: Queue::new(0),
            full,
            semaphore: Semaphore::new(0),
            endless: Arc::new(spawn(|| sleep(LONG))),
            result: AsyncResult::new(),
            latch: CountDownLatch::new(1),
            listener,
            server: StreamServer::new("127.0.0.1:0", |_, _| ()).unwrap(),
            stream,
            _peer: peer,
            deaf,
            _waiting: waiting,
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            unix: UnixListener::bind_addr(&unnamed.unwrap()).unwrap(),
            unix_stream,
            _unix_peer: unix_peer,
            datagrams,
            pipe: pipe(),
            full_pipe,
            datagram_server: DatagramServer::new("127.0.0.1:0", |_, _, _| ()).unwrap(),
        }
    }

    fn end(&self) {
        self.endless.kill();
        // Whoever was interrupted has left nothing behind that would take what comes now.
        assert_eq!(waiting(&self.event), 0);
        assert_eq!(waiting(&self.result), 0);
        assert_eq!(waiting(&self.latch), 0);
        self.semaphore.release();
        assert!(self.semaphore.try_acquire());
        self.empty.put(1).unwrap();
        assert_eq!(self.empty.len(), 1);
        assert_eq!(self.full.get(), Ok(0));
        assert!(self.full.is_empty());
    }
}

/// The calls that block without end, or nearly.
const CALLS: [&str; 54] = [
    "sleep",
    "sleep in turns",
    "idle in turns",
    "join",
    "kill",
    "joinall",
    "killall",
    "event",
    "get",
    "put",
    "acquire",
    "accept",
    "read",
    "write",
    "wait_readable",
    "wait_writable",
    "connect",
    "serve_forever",
    "server join",
    "stop",
    "with_timeout",
    "wait_timeout",
    "get_timeout",
    "put_timeout",
    "acquire_timeout",
    "connect_timeout",
    "wait_readable_timeout",
    "wait_writable_timeout",
    "kill_timeout",
    "greenlet get",
    "greenlet get_timeout",
    "kill_with",
    "JoinAll",
    "result get",
    "result get_timeout",
    "result wait",
    "latch",
    "wait",
    "iwait",
    "scope",
    "race",
    "race_timeout",
    "recv_from",
    "unix accept",
    "unix read",
    "unix write",
    "unix recv",
    "unix send",
    "file read",
    "file write",
    "select",
    "poll",
    "datagram join",
    "datagram stop",
];

/// Writes on: the kernel may find room now and then, long after a socket was full.
fn write_until_refused(mut stream: &TcpStream) -> io::Result<()> {
    loop {
        stream.write_all(&[0; 65_536])?;
    }
}

fn wait_until_refused(
    stream: &TcpStream,
    wait: impl Fn(&TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        wait(stream)?;
        stream.try_write(&[0; 65_536]).ok();
    }
}

/// A call that must not come back has done so.
fn returned(result: impl Debug) {
    panic!("it returned {result:?}");
}

fn call(name: &str, scene: &Scene) {
    match name {
        "sleep" => sleep(LONG),
        "sleep in turns" => loop {
            sleep(Duration::ZERO);
        },
        "idle in turns" => loop {
            idle();
        },
        "join" => assert!(scene.endless.join_timeout(LONG)),
        "kill" => stubborn(|greenlet| greenlet.kill()),
        "joinall" => assert!(joinall([&*scene.endless], None)),
        "killall" => stubborn(|greenlet| assert!(killall([greenlet], None))),
        "event" => assert!(scene.event.wait()),
        "get" => returned(scene.empty.get()),
        "put" => returned(scene.full.put(9)),
        "acquire" => assert!(scene.semaphore.acquire()),
        "accept" => returned(scene.listener.accept()),
        "read" => returned((&scene.stream).read(&mut [0; 9])),
        "write" => returned(write_until_refused(&scene.stream)),
        "wait_readable" => returned(scene.stream.wait_readable()),
        "wait_writable" => returned(wait_until_refused(&scene.stream, TcpStream::wait_writable)),
        "connect" => returned(TcpStream::connect(scene.deaf.local_addr().unwrap())),
        "serve_forever" => {
            let server = StreamServer::new("127.0.0.1:0", |_, _| ()).unwrap();
            returned(server.serve_forever());
        }
        "server join" => returned(scene.server.join()),
        "stop" => {
            let inside = Arc::new(Event::new());
            let theirs = Arc::clone(&inside);
            let server = StreamServer::new("127.0.0.1:0", move |_, _| {
                theirs.set();
                sleep(LONG);
            });
            let server = server.unwrap();
            server.start().unwrap();
            let _client = TcpStream::connect(server.local_addr()).unwrap();
            // Who has a seat and is not yet in the handler would not be served any more.
            inside.wait();
            server.stop(LONG);
            returned(());
        }
        "with_timeout" => returned(with_timeout(LONG, || sleep(LONG))),
        "wait_timeout" => returned(scene.event.wait_timeout(LONG)),
        "get_timeout" => returned(scene.empty.get_timeout(LONG)),
        "put_timeout" => returned(scene.full.put_timeout(9, LONG)),
        "acquire_timeout" => returned(scene.semaphore.acquire_timeout(LONG)),
        "connect_timeout" => {
            let address = scene.deaf.local_addr().unwrap();
            returned(TcpStream::connect_timeout(&address, LONG));
        }
        "wait_readable_timeout" => returned(scene.stream.wait_readable_timeout(Some(LONG))),
        "wait_writable_timeout" => returned(wait_until_refused(&scene.stream, |stream| {
            stream.wait_writable_timeout(Some(LONG))
        })),
        "kill_timeout" => stubborn(|greenlet| returned(greenlet.kill_timeout(LONG))),
        "greenlet get" => returned(scene.endless.get()),
        "greenlet get_timeout" => returned(scene.endless.get_timeout(LONG)),
        "kill_with" => stubborn(|greenlet| greenlet.kill_with(1)),
        "JoinAll" => returned(JoinAll::new([&*scene.endless]).timeout(LONG).wait().len()),
        "result get" => returned(scene.result.get()),
        "result get_timeout" => returned(scene.result.get_timeout(LONG)),
        "result wait" => returned(scene.result.wait()),
        "latch" => returned(scene.latch.wait()),
        "wait" => returned(wait(&[&scene.event, &*scene.endless], None, None)),
        "iwait" => returned(iwait(&[&scene.result, &scene.latch], Some(LONG)).next()),
        "scope" => scope(|s| returned(s.spawn(|| scene.event.wait()).join())),
        "race" | "race_timeout" => {
            let deaf = [scene.deaf.local_addr().unwrap(); 3];
            let timeout = (name == "race_timeout").then_some(LONG);
            returned(create_connection(&deaf[..], timeout, None));
        }
        "recv_from" => returned(scene.udp.recv_from(&mut [0; 9])),
        "unix accept" => returned(scene.unix.accept()),
        "unix read" => returned((&scene.unix_stream).read(&mut [0; 9])),
        "unix write" => returned((&scene.unix_stream).write(&[0; 9])),
        "unix recv" => returned(scene.datagrams.0.recv(&mut [0; 9])),
        "unix send" => returned(scene.datagrams.0.send(b"x")),
        "file read" => returned((&scene.pipe.0).read(&mut [0; 9])),
        "file write" => returned((&scene.full_pipe.1).write(&[0; 9])),
        "select" => {
            let read = [scene.pipe.0.as_raw_fd(), scene.udp.as_raw_fd()];
            returned(select(&read, &[scene.full_pipe.1.as_raw_fd()], &[], None));
        }
        "poll" => {
            let poll = Poll::new();
            poll.register(&scene.pipe.0, PollEvents::IN);
            returned(poll.poll(Some(LONG)));
        }
        "datagram join" => returned(scene.datagram_server.join()),
        "datagram stop" => {
            let inside = Arc::new(Event::new());
            let theirs = Arc::clone(&inside);
            let server = DatagramServer::new("127.0.0.1:0", move |_, _, _| {
                theirs.set();
                sleep(LONG);
            });
            let server = server.unwrap();
            server.start().unwrap();
            scene.udp.send_to(b"x", server.local_addr()).unwrap();
            inside.wait();
            server.stop(LONG);
            returned(());
        }
        _ => panic!("no call {name:?}"),
    }
}

/// Gives `f` a greenlet that catches each kill and goes on, until `f` is over.
fn stubborn(f: impl FnOnce(&Greenlet<()>)) {
    let stop = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&stop);
    let _stop = OnDrop(|| stop.store(true, Ordering::SeqCst));
    let started = Arc::new(Event::new());
    let ready = Arc::clone(&started);
    let greenlet = spawn(move || {
        ready.set();
        while !theirs.load(Ordering::SeqCst) {
            drop(catch_unwind(|| sleep(Duration::from_millis(1))));
        }
    });
    // Else a kill would end it before it has begun.
    started.wait();
    f(&greenlet);
}

/// Runs `call` on hub 0 and has it killed by `killer`, after `turns` turns of the scheduler.
fn check_kill(name: &'static str, scene: &Arc<Scene>, killer: From, turns: usize) {
    let unwound = Arc::new(AtomicUsize::new(0));
    let started = Arc::new(Event::new());
    let (count, ready, theirs) = (
        Arc::clone(&unwound),
        Arc::clone(&started),
        Arc::clone(scene),
    );
    let victim = spawn_on(0, move || {
        ready.set();
        let _count = OnDrop(|| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        call(name, &theirs);
    });
    started.wait();
    let victim = killer.run(move || {
        for _ in 0..turns {
            sleep(Duration::from_micros(200));
        }
        victim.kill();
        victim
    });
    assert!(victim.ready());
    let error = victim.join().unwrap_err();
    assert!(error.is_killed(), "{name}: {error}");
    assert_eq!(unwound.load(Ordering::SeqCst), 1, "{name}");
}

#[test]
fn kill_reaches_every_blocking_call() {
    let _deadline = deadline_of(LIMIT);
    for name in CALLS {
        let scene = Arc::new(Scene::new());
        for killer in EVERYWHERE {
            for turns in [0, 1, 3] {
                check_kill(name, &scene, killer, turns);
            }
        }
        scene.end();
    }
}

#[test]
fn with_timeout_reaches_every_blocking_call() {
    let _deadline = deadline_of(LIMIT);
    for name in CALLS {
        let scene = Arc::new(Scene::new());
        for caller in EVERYWHERE {
            for limit in [Duration::ZERO, Duration::from_micros(100), SHORT] {
                let theirs = Arc::clone(&scene);
                caller.run(move || {
                    let start = Instant::now();
                    let unwound = AtomicUsize::new(0);
                    let result = with_timeout(limit, || {
                        let _count = OnDrop(|| {
                            unwound.fetch_add(1, Ordering::SeqCst);
                        });
                        call(name, &theirs);
                    });
                    assert!(result.is_err(), "{name}");
                    assert!(start.elapsed() >= limit, "{name}");
                    assert_eq!(unwound.load(Ordering::SeqCst), 1);
                });
            }
        }
        scene.end();
    }
}

/// Whether the call says that its own time is up.
fn timed_call(name: &str, scene: &Scene, limit: Duration) -> bool {
    let out_of_time = |result: io::Result<()>| matches!(result, Err(error) if error.kind() == ErrorKind::TimedOut);
    let mut stream = &scene.stream;
    match name {
        "join" => !scene.endless.join_timeout(limit),
        "joinall" => !joinall([&*scene.endless], Some(limit)),
        "kill" => {
            let mut ended = true;
            stubborn(|greenlet| ended = greenlet.kill_timeout(limit));
            !ended
        }
        "killall" => {
            let mut ended = true;
            stubborn(|greenlet| ended = killall([greenlet], Some(limit)));
            !ended
        }
        "event" => !scene.event.wait_timeout(limit),
        "greenlet get_timeout" => scene.endless.get_timeout(limit).is_err(),
        "JoinAll" => (JoinAll::new([&*scene.endless]).timeout(limit).wait()).is_empty(),
        "result get_timeout" => scene.result.get_timeout(limit).is_err(),
        "latch" => !scene.latch.wait_timeout(limit),
        "wait" => wait(&[&scene.latch, &*scene.endless], Some(limit), None).is_empty(),
        "get" => scene.empty.get_timeout(limit).is_err(),
        "put" => scene.full.put_timeout(1, limit).is_err(),
        "acquire" => !scene.semaphore.acquire_timeout(limit),
        "read" => out_of_time(stream.read(&mut [0]).map(drop)),
        "write" => out_of_time(write_until_refused(stream)),
        "wait_readable" => out_of_time(stream.wait_readable()),
        "wait_writable" => out_of_time(wait_until_refused(stream, TcpStream::wait_writable)),
        "wait_readable_timeout" => out_of_time(stream.wait_readable_timeout(Some(limit))),
        "wait_writable_timeout" => out_of_time(wait_until_refused(stream, |stream| {
            stream.wait_writable_timeout(Some(limit))
        })),
        "connect" => {
            let address = scene.deaf.local_addr().unwrap();
            out_of_time(TcpStream::connect_timeout(&address, limit).map(drop))
        }
        "race" => {
            let deaf = [scene.deaf.local_addr().unwrap(); 3];
            out_of_time(create_connection(&deaf[..], Some(limit), None).map(drop))
        }
        "unix accept" => out_of_time(scene.unix.accept_timeout(limit).map(drop)),
        "recv_from" => {
            scene.udp.set_timeout(Some(limit)).unwrap();
            out_of_time(scene.udp.recv_from(&mut [0]).map(drop))
        }
        "unix send" => {
            scene.datagrams.0.set_timeout(Some(limit)).unwrap();
            out_of_time(scene.datagrams.0.send(b"x").map(drop))
        }
        "file read" => {
            scene.pipe.0.set_read_timeout(Some(limit)).unwrap();
            out_of_time((&scene.pipe.0).read(&mut [0]).map(drop))
        }
        "file write" => {
            scene.full_pipe.1.set_write_timeout(Some(limit)).unwrap();
            out_of_time((&scene.full_pipe.1).write(&[0]).map(drop))
        }
        "select" => {
            let read = [scene.pipe.0.as_raw_fd()];
            let found = select(&read, &[], &[], Some(limit)).unwrap();
            found.read.is_empty()
        }
        _ => panic!("no call {name:?}"),
    }
}

#[test]
fn every_call_with_a_time_out_of_its_own_keeps_it() {
    let _deadline = deadline_of(LIMIT);
    for name in [
        "join",
        "joinall",
        "kill",
        "killall",
        "event",
        "greenlet get_timeout",
        "JoinAll",
        "result get_timeout",
        "latch",
        "wait",
        "get",
        "put",
        "acquire",
        "read",
        "write",
        "wait_readable",
        "wait_writable",
        "wait_readable_timeout",
        "wait_writable_timeout",
        "connect",
        "race",
        "unix accept",
        "recv_from",
        "unix send",
        "file read",
        "file write",
        "select",
    ] {
        let scene = Arc::new(Scene::new());
        scene.stream.set_read_timeout(Some(SHORT)).unwrap();
        scene.stream.set_write_timeout(Some(SHORT)).unwrap();
        for caller in EVERYWHERE {
            let theirs = Arc::clone(&scene);
            caller.run(move || {
                let start = Instant::now();
                assert!(timed_call(name, &theirs, SHORT), "{name}");
                assert!(start.elapsed() >= SHORT, "{name}: {:?}", start.elapsed());
                // Under an outer limit that is longer it is still its own; a shorter one goes
                // before.
                let own = with_timeout(LONG, || timed_call(name, &theirs, SHORT));
                assert_eq!(own, Ok(true), "{name}");
                let outer = with_timeout(Duration::ZERO, || timed_call(name, &theirs, SHORT));
                assert!(outer.is_err(), "{name}");
            });
        }
        scene.end();
    }
}

/// A killed greenlet takes nobody else's wake-up along: of many that wait for one thing, only the
/// killed ones end.
#[test]
fn kill_wakes_nobody_else() {
    let _deadline = deadline_of(LIMIT);
    for name in ["event", "get", "acquire", "join", "sleep"] {
        let scene = Arc::new(Scene::new());
        let ended = Arc::new(AtomicUsize::new(0));
        let started = Arc::new(AtomicUsize::new(0));
        let greenlets: Vec<_> = (0..20)
            .map(|i| {
                let (scene, ended) = (Arc::clone(&scene), Arc::clone(&ended));
                let started = Arc::clone(&started);
                spawn_on(crate::support::any_hub(i), move || {
                    let _count = OnDrop(|| {
                        ended.fetch_add(1, Ordering::SeqCst);
                    });
                    started.fetch_add(1, Ordering::SeqCst);
                    call(name, &scene);
                })
            })
            .collect();
        eventually("all have started", || started.load(Ordering::SeqCst) == 20);
        for victim in greenlets.iter().step_by(4) {
            victim.kill();
        }
        sleep(SHORT);
        assert_eq!(ended.load(Ordering::SeqCst), 5, "{name}");
        assert!(killall(&greenlets, None));
        assert_eq!(ended.load(Ordering::SeqCst), 20, "{name}");
        scene.end();
    }
}

/// Who catches every kill spins, but not at the cost of the others of its hub.
#[test]
fn greenlet_that_swallows_kills_does_not_stop_its_hub() {
    let _deadline = deadline_of(LIMIT);
    spawn_on(0, || {
        stubborn(|greenlet| {
            greenlet.kill_nowait();
            for _ in 0..3 {
                sleep(Duration::from_millis(2));
            }
        });
    })
    .join()
    .unwrap();
}
