//! A lap: a little of everything, of which nothing is left at its end.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::panic::catch_unwind;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use greenwood_runtime::net::{
    TcpListener, TcpStream, UdpSocket, UnixStream, create_connection, getaddrinfo, select,
};
use greenwood_runtime::signal::{SIGWINCH, signal_handler};
use greenwood_runtime::subprocess::{Popen, run as run_process};
use greenwood_runtime::{
    AsyncResult, Builder, Channel, Condvar, CountDownLatch, DatagramServer, Event, FileObject,
    Greenlet, Group, Hub, Mutex, OnceCell, Pool, PriorityQueue, Queue, RLock, RwLock, Semaphore,
    StreamServer, ThreadPool, Timeout, iwait, joinall, killall, local, scope, sleep, spawn,
    spawn_later, threadpool, with_timeout, with_timeout_or,
};

use crate::LIMIT;

const LONG: Duration = Duration::from_secs(3_600);
const BRIEF: Duration = Duration::from_micros(200);
const LOCALHOST: &str = "127.0.0.1:0";

/// Most are run each time, and those that take long now and then.
pub(crate) fn run(number: usize) {
    greenlets(number);
    time_outs();
    queues(number);
    locks();
    pools();
    waiting();
    streams(number);
    match number % 8 {
        0 => processes(),
        1 => threads(),
        2 => servers(),
        3 => datagrams(),
        4 => connecting(),
        5 => files(),
        6 => signals(),
        _ => tls(number),
    }
}

fn on(number: usize) -> Builder {
    Builder::new().hub(number % Hub::count())
}

local! {
    static SEEN: RefCell<Vec<u8>> = RefCell::new(vec![0; 300]);
}

/// Ends and kills of all kinds, links and locals among them.
fn greenlets(number: usize) {
    let (told, count) = (Arc::new(Queue::new(0)), 24);
    let greenlets: Vec<Greenlet<usize>> = (0..count)
        .map(|i| {
            let told = Arc::clone(&told);
            let greenlet = on(number + i).name(format!("lap {number}")).spawn(move || {
                SEEN.with(|seen| seen.borrow_mut().push(1));
                match i % 4 {
                    0 => i,
                    1 => {
                        sleep(LONG);
                        i
                    }
                    2 => {
                        sleep(BRIEF);
                        i
                    }
                    // Seldom, as it is printed.
                    _ if number.is_multiple_of(400) => panic!("as planned"),
                    _ => i,
                }
            });
            let greenlet = greenlet.expect("there is room");
            greenlet.link(move |_| told.put(()).expect("it is open"));
            greenlet
        })
        .collect();
    let later: Vec<_> = (0..4).map(|_| spawn_later(LONG, || ())).collect();
    for victim in greenlets.iter().skip(1).step_by(4) {
        victim.kill_nowait();
    }
    assert!(joinall(&greenlets, Some(LIMIT)));
    assert!(killall(&later, Some(LIMIT)));
    for _ in 0..count {
        told.get_timeout(LIMIT).expect("each has a link");
    }
    // One that is never started, and one whose handle nobody keeps.
    drop(Builder::new().unstarted(|| 1));
    drop(spawn(|| sleep(BRIEF)));
    let sum = scope(|s| {
        let parts = [1, 2, 3].map(|i| s.spawn(move || i));
        parts
            .into_iter()
            .map(|part| part.join().unwrap_or(0))
            .sum::<i32>()
    });
    assert_eq!(sum, 6);
}

fn time_outs() {
    assert!(with_timeout(BRIEF, || sleep(LONG)).is_err());
    assert_eq!(
        with_timeout(LONG, || with_timeout_or(BRIEF, 3, || {
            sleep(LONG);
            4
        })),
        Ok(3)
    );
    let own = Timeout::raising(BRIEF, || "too late");
    own.start();
    assert!(catch_unwind(|| sleep(LONG)).is_err());
    own.cancel();
    drop(Timeout::start_new(LONG));
}

fn queues(number: usize) {
    let (queue, channel) = (Arc::new(Queue::new(3)), Arc::new(Channel::new()));
    let (theirs, passed) = (Arc::clone(&queue), Arc::clone(&channel));
    let worker = on(number).spawn(move || {
        for item in &*theirs {
            theirs.task_done();
            if passed.put_timeout(item, LIMIT).is_err() {
                return;
            }
        }
    });
    let worker = worker.expect("there is room");
    for i in 0..20 {
        queue.put(vec![i; 40]).expect("it is open");
        channel.get_timeout(LIMIT).expect("the worker passes it on");
    }
    assert!(queue.join_timeout(LIMIT));
    assert!(queue.get_timeout(BRIEF).is_err());
    let theirs = Arc::clone(&queue);
    let victim = on(number + 1)
        .spawn(move || theirs.get())
        .expect("there is room");
    victim.kill();
    queue.shutdown(true);
    assert!(worker.join_timeout(LIMIT));
    let ordered = PriorityQueue::with_items(0, [3, 1, 2]);
    assert_eq!((ordered.get(), ordered.peek()), (Ok(1), Ok(2)));
}

fn locks() {
    let shared = Arc::new((
        Mutex::new(0),
        Condvar::new(),
        RwLock::new(0),
        Semaphore::new(2),
    ));
    let adders: Vec<_> = (0..6)
        .map(|i| {
            let shared = Arc::clone(&shared);
            let adder = on(i).spawn(move || {
                let (mutex, changed, rw, semaphore) = &*shared;
                let _permit = semaphore.permit().expect("it does not unwind");
                *rw.write().expect("it does not unwind") += 1;
                sleep(Duration::ZERO);
                *mutex.lock().expect("it does not unwind") += rw.read().map_or(0, |_| 1);
                changed.notify_all();
            });
            adder.expect("there is room")
        })
        .collect();
    let (mutex, changed, rw, semaphore) = &*shared;
    let guard = mutex.lock().expect("it does not unwind");
    let (guard, all) = changed.wait_timeout_while(guard, LIMIT, |count| *count < 6);
    assert!(all);
    drop(guard);
    assert!(joinall(&adders, Some(LIMIT)));
    assert_eq!(
        (*rw.read().expect("nobody has it"), semaphore.counter()),
        (6, 2)
    );
    assert!(RLock::new().lock().is_ok());
    assert_eq!(OnceCell::new().get_or_init(|| 1), Ok(&1));
}

fn pools() {
    let pool = Pool::new(4);
    assert_eq!(pool.map(|i| i * 2, 0..12).expect("none panics").len(), 12);
    let mut some = pool.imap(|i| vec![i; 30], 0..9, 2);
    assert!(matches!(some.next(), Some(Ok(_))));
    drop(some);
    pool.spawn(|| sleep(LONG));
    pool.kill();
    assert!(pool.join(Some(LIMIT)));
    let group = Group::new();
    group.spawn(|| sleep(BRIEF));
    assert!(group.join(Some(LIMIT)));
}

fn waiting() {
    let (event, latch) = (Arc::new(Event::new()), Arc::new(CountDownLatch::new(2)));
    let result = Arc::new(AsyncResult::<Vec<u8>>::new());
    let (sets, counts, gives) = (Arc::clone(&event), Arc::clone(&latch), Arc::clone(&result));
    let other = spawn(move || {
        counts.count_down();
        gives.set(vec![0; 100]).ok();
        sets.set();
        counts.count_down();
    });
    let ready = iwait(&[&*event, &*latch, &*result, &other], Some(LIMIT)).count();
    assert_eq!(ready, 4);
    let never = Event::new();
    assert!(!never.wait_timeout(BRIEF));
}

/// Connections of which one is killed in the middle, and a pair of Unix sockets.
fn streams(number: usize) {
    let listener = TcpListener::bind(LOCALHOST).expect("there is a port");
    let address = listener.local_addr().expect("it has one");
    let server = on(number).spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("they come");
            drop(spawn(move || {
                let mut buffer = [0; 512];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..n]).ok();
                }
            }));
        }
    });
    let server = server.expect("there is room");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let mut other = TcpStream::connect(address).expect("it listens");
    assert!(server.join_timeout(LIMIT));
    let mut buffer = [0; 300];
    for _ in 0..4 {
        stream.write_all(&[1; 300]).expect("it is open");
        stream.read_exact(&mut buffer).expect("it is an echo");
    }
    let reading = on(number + 1).spawn(move || other.read(&mut [0; 9]).is_ok());
    let reading = reading.expect("there is room");
    reading.kill();
    stream
        .set_read_timeout(Some(BRIEF))
        .expect("it is not zero");
    assert!(stream.read(&mut buffer).is_err());
    let (mut here, there) = UnixStream::pair().expect("there are descriptors");
    here.write_all(b"x").expect("it is open");
    assert!(there.wait_readable_timeout(Some(LIMIT)).is_ok());
}

fn datagrams() {
    let server = DatagramServer::new(LOCALHOST, |socket, bytes, peer| {
        socket.sendto(&bytes, &peer).ok();
    });
    let server = server.expect("there is a port");
    server.start().expect("it has not begun");
    let socket = UdpSocket::bind(LOCALHOST).expect("there is a port");
    socket.set_timeout(Some(LIMIT)).expect("it is not zero");
    for _ in 0..5 {
        socket
            .send_to(b"text", server.local_addr())
            .expect("it is there");
        assert_eq!(socket.recv_from(&mut [0; 9]).expect("it answers").0, 4);
    }
    server.stop(LIMIT);
}

fn servers() {
    let server = StreamServer::new(LOCALHOST, |mut stream, _| {
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..n]).ok();
        }
    });
    let server = server.expect("there is a port");
    server.start().expect("it has not begun");
    let mut clients: Vec<_> = (0..6)
        .map(|_| TcpStream::connect(server.local_addr()).expect("it listens"))
        .collect();
    for client in &mut clients {
        client.write_all(b"abc").expect("it is open");
        client.read_exact(&mut [0; 3]).expect("it is an echo");
    }
    // Half of them are gone, and the others are killed.
    clients.truncate(3);
    server.stop(BRIEF);
    assert_eq!(server.connections(), 0);
}

fn connecting() {
    // At an address at which nobody else listens, at the same port, when it is closed.
    let listener = TcpListener::bind("127.0.0.2:0").expect("there is a port");
    let address = listener.local_addr().expect("it has one");
    assert!(create_connection(&[address; 2][..], Some(LIMIT), None).is_ok());
    assert!(getaddrinfo("localhost", 1, Some(LIMIT)).is_ok());
    listener.close();
    assert!(TcpStream::connect_timeout(&address, LIMIT).is_err());
}

fn files() {
    let (reader, writer) = std::io::pipe().expect("there are descriptors");
    let reader = FileObject::new(reader).expect("it is a pipe");
    let writer = FileObject::new(writer).expect("it is a pipe");
    let found = select(&[reader.as_raw_fd()], &[], &[], Some(BRIEF));
    assert!(found.expect("it is open").read.is_empty());
    { &writer }.write_all(b"x").expect("it is open");
    assert_eq!({ &reader }.read(&mut [0; 9]).expect("it is there"), 1);
    let file = std::fs::File::open("/proc/self/stat").expect("/proc is mounted");
    let mut text = String::new();
    let file = FileObject::new(file).expect("it is a file");
    { &file }.read_to_string(&mut text).expect("it can be read");
}

fn processes() {
    let mut command = Command::new("cat");
    let done = run_process(command.stdout(Stdio::piped()), Some(b"text"), Some(LIMIT));
    assert_eq!(done.expect("there is cat").stdout, b"text");
    let process = Popen::new(Command::new("sleep").arg("1000")).expect("there is sleep");
    assert!(process.wait_timeout(BRIEF).expect("it lives").is_none());
    process.kill().expect("it lives");
    assert!(process.wait_timeout(LIMIT).expect("it is ours").is_some());
}

fn threads() {
    assert_eq!(threadpool().apply(|| 3).expect("there are threads"), 3);
    let pool = ThreadPool::new(2);
    assert_eq!(
        pool.map(|i| vec![i; 50], 0..6).expect("none panics").len(),
        6
    );
    let (end, ended) = mpsc::channel::<()>();
    assert!(with_timeout(BRIEF, || pool.apply(move || ended.recv().is_ok())).is_err());
    drop(end);
    assert!(pool.join(Some(LIMIT)));
    assert!(pool.kill_timeout(LIMIT));
}

fn signals() {
    let handler = signal_handler(SIGWINCH, || ()).expect("it can be handled");
    greenwood_runtime::signal::raise(SIGWINCH).expect("it is a signal");
    handler.cancel();
}

#[cfg(not(feature = "tls"))]
fn tls(_: usize) {}

/// A handshake, a few bytes and the end, and a handshake that is killed.
#[cfg(feature = "tls")]
fn tls(number: usize) {
    use std::sync::OnceLock;

    use greenwood_runtime::net::{ClientTls, Identity, ServerTls, TlsStream};

    static SETTINGS: OnceLock<(ClientTls, ServerTls)> = OnceLock::new();
    let (client, server) = SETTINGS.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a name is a name");
        let identity = Identity::pem(made.cert.pem(), made.signing_key.serialize_pem());
        let client = ClientTls::builder()
            .system_roots(false)
            .ca_certs_pem(made.cert.pem());
        let server = ServerTls::builder(identity).build();
        (
            client.build().expect("it is a certificate"),
            server.expect("they fit"),
        )
    });
    let pair = || {
        let listener = TcpListener::bind(LOCALHOST).expect("there is a port");
        let address = listener.local_addr().expect("it has one");
        let here = TcpStream::connect(address).expect("it listens");
        (here, listener.accept().expect("it has come").0)
    };
    let (here, there) = pair();
    let accepting = on(number).spawn(move || {
        let mut stream = TlsStream::accept(there, server).expect("both can");
        let mut buffer = [0; 2_000];
        stream.read_exact(&mut buffer).expect("it is sent");
        stream.write_all(&buffer).expect("it is read");
    });
    let accepting = accepting.expect("there is room");
    let mut stream = TlsStream::connect(here, "localhost", client).expect("both can");
    stream.write_all(&[1; 2_000]).expect("it is read");
    stream.read_exact(&mut [0; 2_000]).expect("it is an echo");
    assert!(accepting.join_timeout(LIMIT));
    let (_here, there) = pair();
    let accepting = on(number + 1).spawn(move || TlsStream::accept(there, server).is_ok());
    accepting.expect("there is room").kill();
}
