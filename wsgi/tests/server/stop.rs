//! Starting and stopping.

use std::{
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use greenwood_runtime::{Event, net::TcpStream, sleep, with_timeout};
use greenwood_wsgi::{
    Application, Body, Environ, Exchange, Handler, Result, ServerHandle, StartResponse, WsgiServer,
};

use crate::client::{DEADLINE, get, hello, serve, serve_handler, serve_with};

/// Far more than any test may take: a stop that waits for it fails.
const NEVER: Duration = Duration::from_secs(600);

/// An application that tells when it is called and then waits.
fn waiting() -> (impl Application, mpsc::Receiver<Arc<Event>>) {
    let (called, calls) = mpsc::channel();
    let app = move |_: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
        let event = Arc::new(Event::new());
        called.send(Arc::clone(&event)).unwrap();
        event.wait();
        start_response("200 OK", &[])?;
        Ok("done".into())
    };
    (app, calls)
}

#[test]
fn stop_closes_idle_connections_at_once() {
    let server = serve(hello);
    let mut fresh = server.connect();
    let mut idle = server.connect();
    idle.send(get("/", ""));
    idle.response();
    let began = Instant::now();
    server.server.stop(NEVER);
    assert!(began.elapsed() < DEADLINE);
    assert!(idle.has_ended() && fresh.has_ended());
}

#[test]
fn stop_frees_the_port() {
    let server = serve(hello);
    let address = server.address;
    server.server.stop(NEVER);
    let next = WsgiServer::new(address, hello);
    assert_eq!(next.local_addr().unwrap(), address);
    assert!(server.server.start().is_err());
}

/// Serves a request when the server is being stopped, not before.
struct AtTheStop(mpsc::Sender<()>);

impl Handler for AtTheStop {
    fn handle(&self, exchange: &mut Exchange<'_>, app: &dyn Application) -> Result<()> {
        let stopping = Arc::new(Event::new());
        let told = Arc::clone(&stopping);
        let _guard = exchange.on_stop(move || told.set());
        self.0.send(()).unwrap();
        stopping.wait();
        exchange.run(app)
    }
}

#[test]
fn stop_lets_running_requests_finish() {
    let (called, calls) = mpsc::channel();
    let server = serve_handler(AtTheStop(called), hello);
    let mut client = server.connect();
    client.send(get("/", ""));
    calls.recv_timeout(DEADLINE).unwrap();
    server.server.stop(NEVER);
    let response = client.response();
    assert_eq!(
        (response.text(), response.header("connection")),
        ("GET /", Some("close"))
    );
    assert!(client.has_ended());
}

#[test]
fn stop_kills_what_does_not_finish() {
    let (app, calls) = waiting();
    let server = serve(app);
    let mut client = server.connect();
    client.send(get("/", ""));
    let _event = calls.recv_timeout(DEADLINE).unwrap();
    server.server.stop(Duration::from_millis(50));
    let response = client.response();
    assert_eq!(
        (response.status, response.header("connection")),
        (500, Some("close"))
    );
    assert!(client.has_ended());
}

/// Who stops second must not return, and end the process, before the requests have had their time.
#[test]
fn second_stop_waits_for_the_first() {
    let (app, calls) = waiting();
    let server = Arc::new(serve(app));
    let mut client = server.connect();
    client.send(get("/", ""));
    let event = calls.recv_timeout(DEADLINE).unwrap();
    let stops: Vec<_> = (0..3)
        .map(|_| {
            let server = Arc::clone(&server);
            thread::spawn(move || server.server.stop(NEVER))
        })
        .collect();
    sleep(Duration::from_millis(50));
    assert!(stops.iter().all(|stop| !stop.is_finished()));
    assert_eq!(server.server.handle().connections(), 1);
    event.set();
    for stop in stops {
        stop.join().unwrap();
    }
    assert_eq!(client.response().text(), "done");
}

/// Its wait is ended: so is the time of those who are served, and whoever waits goes on.
#[test]
fn stop_that_is_interrupted_is_a_stop_all_the_same() {
    let (app, calls) = waiting();
    let server = Arc::new(serve(app));
    let mut client = server.connect();
    client.send(get("/", ""));
    let _event = calls.recv_timeout(DEADLINE).unwrap();
    let (told, heard) = mpsc::channel();
    let joining = {
        let (handle, told) = (server.server.handle(), told.clone());
        thread::spawn(move || told.send(handle.join().is_ok()))
    };
    let interrupted = with_timeout(Duration::from_millis(20), || server.server.stop(NEVER));
    assert!(interrupted.is_err());
    let stopping = {
        let handle = server.server.handle();
        thread::spawn(move || {
            handle.stop(NEVER);
            told.send(handle.join().is_ok())
        })
    };
    for _ in 0..2 {
        assert!(heard.recv_timeout(DEADLINE).expect("it waits for ever"));
    }
    for thread in [joining, stopping] {
        thread.join().unwrap().unwrap();
    }
    assert_eq!(client.response().status, 500);
}

#[test]
fn serve_forever_ends_with_the_stop() {
    let server = WsgiServer::new("127.0.0.1:0", hello);
    let handle = server.handle();
    let serving = thread::spawn(move || server.serve_forever());
    handle.stop(NEVER);
    // Stopped before or after it started: it ends, and it says which.
    if let Err(error) = serving.join().unwrap() {
        assert!(error.to_string().contains("stopped"), "{error}");
    }
    handle.join().unwrap();
    handle.stop(NEVER);
}

/// A wait that is ended frees the port if it was the server's own, and else changes nothing.
#[test]
fn ended_wait_of_serve_forever_frees_the_port() {
    let server = serve(hello);
    let handle = server.server.handle();
    let short = Duration::from_millis(20);
    assert!(with_timeout(short, || handle.join()).is_err());
    let mut client = server.connect();
    client.send(get("/", ""));
    client.response();
    assert!(with_timeout(short, || server.server.serve_forever()).is_err());
    // Soon: who unwinds can't wait for it.
    let began = Instant::now();
    while let Err(error) = WsgiServer::new(server.address, hello).local_addr() {
        assert!(began.elapsed() < DEADLINE, "{error}");
        sleep(Duration::from_millis(1));
    }
    // Who is connected is served on.
    client.send(get("/", ""));
    assert_eq!(client.response().text(), "GET /");
    server.server.stop(NEVER);
    handle.join().unwrap();
}

/// A listener that breaks must not leave the main thread waiting for ever for a server that takes
/// nobody any more.
#[test]
fn listener_that_breaks_ends_serve_forever_with_the_error() {
    use nix::sys::socket::{Shutdown, SockaddrIn, getsockname, shutdown};

    let server = WsgiServer::new("127.0.0.1:0", hello);
    let address = server.local_addr().unwrap();
    let handle = server.handle();
    let early = thread::spawn({
        let handle = handle.clone();
        move || handle.join()
    });
    let serving = thread::spawn(move || server.serve_forever());
    drop(TcpStream::connect(address).unwrap());
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let Ok(fd) = entry.unwrap().file_name().to_str().unwrap().parse() else {
            continue;
        };
        let is_ours =
            getsockname::<SockaddrIn>(fd).is_ok_and(|name| name.to_string() == address.to_string());
        if is_ours && TcpStream::connect(address).is_ok() {
            shutdown(fd, Shutdown::Read).ok();
        }
    }
    for waiting in [early, serving] {
        let error = waiting.join().unwrap().unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
    }
    handle.stop(NEVER);
    assert!(handle.join().is_ok());
}

#[test]
fn address_that_is_taken_is_an_error_that_names_it() {
    let server = serve(hello);
    let second = WsgiServer::new(server.address, hello);
    for error in [
        second.local_addr().unwrap_err(),
        second.start().unwrap_err(),
        second.serve_forever().unwrap_err(),
    ] {
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        assert!(
            error.to_string().contains(&server.address.to_string()),
            "{error}"
        );
    }
}

/// Registers a callback for the stop, and keeps it only on `/keep`.
struct Listening(mpsc::Sender<&'static str>);

impl Handler for Listening {
    fn handle(&self, exchange: &mut Exchange<'_>, app: &dyn Application) -> Result<()> {
        let told = self.0.clone();
        let path = if exchange.environ().path() == "/keep" {
            "/keep"
        } else {
            "/drop"
        };
        let guard = exchange.on_stop(move || told.send(path).unwrap());
        if path == "/drop" {
            drop(guard);
            return exchange.run(app);
        }
        let stopping = Arc::new(Event::new());
        let set = Arc::clone(&stopping);
        let _other = exchange.on_stop(move || set.set());
        self.0.send("registered").unwrap();
        stopping.wait();
        assert!(exchange.is_stopping());
        // Late ones are told at once.
        let told = self.0.clone();
        drop(exchange.on_stop(move || told.send("late").unwrap()));
        exchange.run(app)
    }
}

#[test]
fn stop_tells_who_asked_for_it() {
    let (told, news) = mpsc::channel();
    let server = serve_handler(Listening(told), hello);
    assert_eq!(server.get("/drop", "").status, 200);
    let mut client = server.connect();
    client.send(get("/keep", ""));
    assert_eq!(news.recv_timeout(DEADLINE).unwrap(), "registered");
    server.server.stop(NEVER);
    assert_eq!(client.response().text(), "GET /keep");
    let mut rest: Vec<_> = news.try_iter().collect();
    rest.sort();
    assert_eq!(rest, ["/keep", "late"]);
}

/// Panics when it is told of the stop.
struct Fragile(mpsc::Sender<()>);

impl Handler for Fragile {
    fn handle(&self, exchange: &mut Exchange<'_>, app: &dyn Application) -> Result<()> {
        let _guard = exchange.on_stop(|| panic!("on purpose"));
        let stopping = Arc::new(Event::new());
        let told = Arc::clone(&stopping);
        let _other = exchange.on_stop(move || told.set());
        self.0.send(()).unwrap();
        stopping.wait();
        exchange.run(app)
    }
}

#[test]
fn callback_that_panics_does_not_keep_the_server_from_stopping() {
    let (called, calls) = mpsc::channel();
    let server = serve_handler(Fragile(called), hello);
    let mut clients = [server.connect(), server.connect()];
    for client in &mut clients {
        client.send(get("/", ""));
        calls.recv_timeout(DEADLINE).unwrap();
    }
    server.server.stop(NEVER);
    for client in &mut clients {
        assert_eq!(client.response().text(), "GET /");
    }
}

#[test]
fn connections_over_the_limit_wait() {
    let server = serve_with(hello, |server| server.max_connections(1).backlog(10));
    let mut first = server.connect();
    first.send(get("/first", ""));
    assert_eq!(first.response().text(), "GET /first");
    let mut second = server.connect();
    second.send(get("/second", ""));
    assert!(second.is_silent(Duration::from_millis(50)));
    drop(first);
    assert_eq!(second.response().text(), "GET /second");
}

#[test]
fn application_may_stop_its_own_server() {
    let handle = Arc::new(OnceLock::<ServerHandle>::new());
    let own = Arc::clone(&handle);
    let app = move |environ: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
        own.get().unwrap().stop(NEVER);
        hello(environ, start_response)
    };
    let server = serve(app);
    handle.set(server.server.handle()).unwrap();
    let mut idle = server.connect();
    let response = server.get("/stop", "");
    assert_eq!(
        (response.text(), response.header("connection")),
        ("GET /stop", Some("close"))
    );
    server.server.handle().join().unwrap();
    assert!(idle.has_ended());
}

#[test]
fn servers_may_share_a_pool() {
    let pool = greenwood_runtime::Pool::new(1);
    let one = serve_with(hello, |server| server.spawn(&pool));
    let other = serve_with(hello, |server| server.spawn(&pool));
    let mut first = one.connect();
    first.send(get("/1", ""));
    assert_eq!(first.response().text(), "GET /1");
    // The first is idle, and is served still.
    let mut second = other.connect();
    second.send(get("/2", ""));
    assert_eq!((pool.len(), other.server.handle().connections()), (1, 0));
    drop(first);
    assert_eq!(second.response().text(), "GET /2");
}
