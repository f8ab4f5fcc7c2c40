//! Resources and applications: which serves what, and the callbacks of one connection.
#![cfg(feature = "io")]

mod io_support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use greenwood_runtime as runtime;
use greenwood_websocket::{
    BaseProtocol, Captures, Client, Clients, CloseCode, Coupled, Disconnect, Message, Protocol,
    Resource, Route, WebSocketApplication, WebSocketConfig, WebSocketEnviron, WebSocketServer,
};
use greenwood_wsgi::{Application, Body, Environ, Result, ServerHandle, StartResponse};
use io_support::{
    CLOSE, DEADLINE, NEVER, News, Peer, TEXT, Watchdog, close, handshake, news, text, watchdog,
};

/// A server that stops when its test ends.
struct Served {
    server: WebSocketServer,
    _watchdog: Watchdog,
}

fn serve_configured(
    app: impl Application,
    set: impl FnOnce(WebSocketServer) -> WebSocketServer,
) -> Served {
    let watchdog = watchdog();
    let server = set(WebSocketServer::new("127.0.0.1:0", app));
    server.start().unwrap();
    Served {
        server,
        _watchdog: watchdog,
    }
}

fn serve<const N: usize>(routes: [(&str, Route); N]) -> Served {
    serve_configured(Resource::new(routes).unwrap(), |server| server)
}

impl Served {
    fn connect(&self) -> Peer {
        #[expect(
            clippy::disallowed_types,
            reason = "the peer is the foreign side, on a plain thread"
        )]
        let stream = std::net::TcpStream::connect(self.server.local_addr().unwrap());
        Peer::new(stream.unwrap())
    }

    fn open(&self, path: &str) -> Peer {
        let mut peer = self.connect();
        peer.write(handshake("").replacen("/ws", path, 1));
        peer.accepted();
        peer
    }

    fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    fn clients(&self) -> Clients {
        self.server.clients()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.stop(Duration::from_millis(100));
    }
}

/// What an application was told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Open,
    Message(String),
    Close(Disconnect),
}

type Act = Arc<dyn Fn(&Client, &str) -> Result<()> + Send + Sync>;

/// Tells what it was told, and does what the test says.
struct Telling {
    news: mpsc::Sender<Told>,
    act: Act,
}

impl WebSocketApplication for Telling {
    fn on_open(&mut self, client: &Client) -> Result<()> {
        self.news.send(Told::Open).ok();
        (self.act)(client, "open")
    }

    fn on_message(&mut self, client: &Client, message: Message) -> Result<()> {
        let text = message.to_string();
        self.news.send(Told::Message(text.clone())).ok();
        (self.act)(client, &text)
    }

    fn on_close(&mut self, client: &Client, reason: &Disconnect) {
        self.news.send(Told::Close(reason.clone())).ok();
        // Whatever it does there concerns nobody else.
        (self.act)(client, "close").ok();
    }
}

/// A server of one application, and what that is told.
fn telling_with(
    act: impl Fn(&Client, &str) -> Result<()> + Send + Sync + 'static,
    set: impl FnOnce(WebSocketServer) -> WebSocketServer,
) -> (Served, News<Told>) {
    let (sender, told) = news();
    let sender = std::sync::Mutex::new(sender);
    let act: Act = Arc::new(act);
    let route = Route::websocket(move |_| Telling {
        news: sender.lock().unwrap().clone(),
        act: Arc::clone(&act),
    });
    let resource = Resource::new([("/", route)]).unwrap();
    (serve_configured(resource, set), told)
}

fn telling(
    act: impl Fn(&Client, &str) -> Result<()> + Send + Sync + 'static,
) -> (Served, News<Told>) {
    telling_with(act, |server| server)
}

fn local(code: u16) -> Disconnect {
    Disconnect::LocalClosed(greenwood_websocket::CloseFrame::new(
        CloseCode::from(code),
        "",
    ))
}

fn peer_closed(code: u16) -> Disconnect {
    let frame = greenwood_websocket::CloseFrame::new(CloseCode::from(code), "");
    Disconnect::PeerClosed(Some(frame))
}

struct Echo;

impl WebSocketApplication for Echo {}

/// Says its name once.
struct Named(String);

impl WebSocketApplication for Named {
    fn on_open(&mut self, client: &Client) -> Result<()> {
        client.send(&self.0)?;
        Ok(())
    }
}

fn named(name: &'static str) -> Route {
    Route::websocket(move |_| Named(name.to_owned()))
}

fn page(name: &'static str) -> Route {
    Route::application(
        move |_: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
            start_response("200 OK", &[])?;
            Ok(name.into())
        },
    )
}

/// Waits until the server has no clients.
fn nobody_is_left(served: &Served) {
    let began = Instant::now();
    while !served.clients().is_empty() {
        assert!(began.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
}

fn get(served: &Served, path: &str) -> (String, String) {
    let mut peer = served.connect();
    peer.write(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    peer.response()
}

#[test]
fn default_application_echoes() {
    let served = serve([("/", Route::websocket(|_| Echo))]);
    let mut peer = served.open("/any/path");
    peer.write(text("hello"));
    peer.expect(TEXT, "hello");
    peer.close();
}

#[test]
fn first_matching_pattern_of_the_right_kind_serves() {
    let served = serve([
        ("/chat/.+", named("rooms")),
        ("/chat", page("the page of the chat")),
        ("/chat", named("the chat")),
        ("/c", named("never seen for /chat")),
        ("/$", page("root")),
    ]);
    for (path, name) in [
        ("/chat/room", "rooms"),
        ("/chat", "the chat"),
        // Anchored at the start only, as re.match.
        ("/chatter", "the chat"),
        ("/cc", "never seen for /chat"),
    ] {
        let mut peer = served.open(path);
        peer.expect(TEXT, name);
        peer.close();
    }
    for (path, body) in [
        ("/chat/room", "the page of the chat"),
        ("/chat", "the page of the chat"),
        ("/", "root"),
    ] {
        assert_eq!(get(&served, path).1, body, "{path}");
    }
}

#[test]
fn path_without_a_route_is_not_found() {
    let served = serve([
        ("/page$", page("page")),
        ("/ws$", Route::websocket(|_| Echo)),
        ("b", page("found only at the start of a path")),
    ]);
    for path in ["/nothing", "/ws", "/a/page", "/b"] {
        assert!(get(&served, path).0.starts_with("HTTP/1.1 404 "), "{path}");
    }
    for path in ["/page", "/", "/ws/"] {
        let mut peer = served.connect();
        peer.write(handshake("").replacen("/ws", path, 1));
        let (head, _) = peer.response();
        assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
        // It is an answer like any other: the connection can be used on.
        peer.write("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(peer.response().1, "page");
    }
}

#[test]
fn bad_handshake_is_refused_before_the_path_is_looked_at() {
    let served = serve([("/ws$", Route::websocket(|_| Echo))]);
    let mut peer = served.connect();
    peer.write(handshake("").replacen("Version: 13", "Version: 7", 1));
    assert!(peer.response().0.starts_with("HTTP/1.1 426 "));
}

#[test]
fn captures_and_request_reach_the_factory() {
    let route = Route::websocket(|opening| {
        let room = opening.name("room").unwrap_or("none");
        let second = opening.group(2).unwrap_or("none");
        let query = opening.environ().query_string();
        assert_eq!(opening.group(3), None);
        assert_eq!(opening.name("other"), None);
        Named(format!(
            "{room} {second} {query} {}",
            opening.group(0).unwrap()
        ))
    });
    let captured = Route::application(
        |environ: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
            start_response("200 OK", &[])?;
            let captures = environ.extension::<Captures>().unwrap();
            Ok(captures.group(1).unwrap().to_owned().into())
        },
    );
    let served = serve([
        (r"/(?<room>[^-/]+)(?:-(\d+))?", route),
        ("/(.*)x", captured),
    ]);
    let mut peer = served.open("/caf%C3%A9-12?a=b");
    peer.expect(TEXT, "café 12 a=b /café-12");
    peer.close();
    let mut peer = served.open("/r");
    peer.expect(TEXT, "r none  /r");
    peer.close();
    assert_eq!(get(&served, "/abcxyz").1, "abc");
}

#[test]
fn invalid_pattern_is_named_at_construction() {
    let error = Resource::new([("/ok", page("")), ("/(unclosed", page(""))]).unwrap_err();
    assert!(error.to_string().contains("/(unclosed"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn subprotocol_is_the_application_s_of_the_path() {
    struct Chat;
    impl WebSocketApplication for Chat {
        fn protocol_name() -> &'static str {
            "chat"
        }
    }
    let resource = Resource::new([
        ("/chat", Route::websocket(|_| Chat)),
        (
            "/many",
            Route::websocket(|_| Chat).subprotocols(["v2", "v1"]),
        ),
        ("/none", Route::websocket(|_| Echo)),
    ])
    .unwrap();
    let served = serve_configured(resource, |server| {
        server.websockets(|handler| handler.subprotocols(["general"]))
    });
    let offered = "Sec-WebSocket-Protocol: chatter, v1, chat, v2, general\r\n";
    for (path, agreed) in [
        ("/chat", Some("chat")),
        ("/many", Some("v1")),
        ("/none", Some("general")),
    ] {
        let mut peer = served.connect();
        peer.write(handshake(offered).replacen("/ws", path, 1));
        let head = peer.accepted();
        let answer = agreed.map(|name| format!("\r\nSec-WebSocket-Protocol: {name}\r\n"));
        assert!(head.contains(&answer.unwrap()), "{head}");
    }
    let mut peer = served.connect();
    peer.write(handshake("Sec-WebSocket-Protocol: chatter\r\n").replacen("/ws", "/chat", 1));
    assert!(!peer.accepted().contains("Sec-WebSocket-Protocol"));
}

#[test]
fn callbacks_come_in_order_and_close_last() {
    let (served, told) = telling(|_, _| Ok(()));
    let mut peer = served.open("/");
    let count = 2_000;
    let mut wire: Vec<u8> = Vec::new();
    for i in 0..count {
        wire.extend(text(i.to_string()));
    }
    wire.extend(close(4000));
    peer.write(wire);
    assert_eq!(told.next(), Told::Open);
    for i in 0..count {
        assert_eq!(told.next(), Told::Message(i.to_string()));
    }
    assert_eq!(told.next(), Told::Close(peer_closed(4000)));
    assert_eq!(peer.close_code(), 4000);
    peer.expect_end();
    assert!(told.is_empty());
}

#[test]
fn messages_behind_the_handshake_are_not_forgotten() {
    let (served, told) = telling(|client, message| match message {
        "one" | "two" => Ok(client.send(message)?),
        _ => Ok(()),
    });
    let mut peer = served.connect();
    let mut wire = handshake("").into_bytes();
    wire.extend(text("one"));
    wire.extend(text("two"));
    peer.write(wire);
    peer.accepted();
    peer.expect(TEXT, "one");
    peer.expect(TEXT, "two");
    peer.close();
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Message("one".into()));
    assert_eq!(told.next(), Told::Message("two".into()));
    assert_eq!(told.next(), Told::Close(peer_closed(1000)));
}

#[test]
fn transport_loss_is_told_as_such() {
    let (served, told) = telling(|_, _| Ok(()));
    let peer = served.open("/");
    assert_eq!(told.next(), Told::Open);
    drop(peer);
    assert_eq!(told.next(), Told::Close(Disconnect::TransportEnd));
    let peer = served.open("/");
    assert_eq!(told.next(), Told::Open);
    peer.reset();
    assert_eq!(told.next(), Told::Close(Disconnect::TransportError));
}

#[test]
fn half_closed_peer_still_gets_the_answers() {
    let (served, told) = telling(|client, message| match message {
        "open" | "close" => Ok(()),
        _ => Ok(client.send(message)?),
    });
    let mut peer = served.open("/");
    let mut wire = Vec::new();
    for i in 0..500 {
        wire.extend(text(i.to_string()));
    }
    peer.write(wire);
    peer.end_sending();
    for i in 0..500 {
        peer.expect(TEXT, i.to_string());
    }
    peer.expect_end();
    assert_eq!(told.next(), Told::Open);
    for i in 0..500 {
        assert_eq!(told.next(), Told::Message(i.to_string()));
    }
    assert_eq!(told.next(), Told::Close(Disconnect::TransportEnd));
}

#[test]
fn protocol_error_of_the_peer_is_told() {
    let (served, told) = telling(|_, _| Ok(()));
    let mut peer = served.open("/");
    peer.write([0x81, 0x01, b'x']);
    assert_eq!(peer.close_code(), 1002);
    assert_eq!(told.next(), Told::Open);
    match told.next() {
        Told::Close(Disconnect::ProtocolError(_)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn failing_callback_closes_with_1011() {
    let (served, told) = telling(|_, message| match message {
        "error" => Err("on purpose".into()),
        "panic" => panic!("on purpose"),
        _ => Ok(()),
    });
    for way in ["error", "panic"] {
        let mut peer = served.open("/");
        peer.write(text(way));
        assert_eq!(peer.close_code(), 1011);
        peer.write(close(1011));
        peer.expect_end();
        assert_eq!(told.next(), Told::Open);
        assert_eq!(told.next(), Told::Message(way.into()));
        assert_eq!(told.next(), Told::Close(Disconnect::ApplicationError));
    }
    assert!(told.is_empty());
}

#[test]
fn failing_on_open_closes_with_1011_and_is_told_of_the_end() {
    let (served, told) = telling(|_, message| match message {
        "open" => Err("on purpose".into()),
        _ => Ok(()),
    });
    let mut peer = served.open("/");
    assert_eq!(peer.close_code(), 1011);
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Close(Disconnect::ApplicationError));
}

#[test]
fn panicking_factory_closes_with_1011() {
    let factory = |_: &greenwood_websocket::Opening<'_>| -> Echo { panic!("on purpose") };
    let served = serve([("/", Route::websocket(factory))]);
    let mut peer = served.open("/");
    assert_eq!(peer.close_code(), 1011);
    peer.write(close(1011));
    peer.expect_end();
    nobody_is_left(&served);
}

#[test]
fn panic_in_on_close_harms_nobody() {
    let (served, told) = telling(|_, message| match message {
        "close" => panic!("on purpose"),
        _ => Ok(()),
    });
    for _ in 0..2 {
        let peer = served.open("/");
        peer.close();
        assert_eq!(told.next(), Told::Open);
        assert_eq!(told.next(), Told::Close(peer_closed(1000)));
    }
}

#[test]
fn send_to_a_connection_that_has_gone_is_no_failure() {
    let (served, told) = telling(|client, message| match message {
        "first" => {
            client.ws().close_nowait(CloseCode::from(4001), "")?;
            client.send("too late")?;
            Ok(())
        }
        _ => Ok(()),
    });
    let mut peer = served.open("/");
    peer.write(text("first"));
    assert_eq!(peer.close_code(), 4001);
    peer.write(close(4001));
    peer.expect_end();
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Message("first".into()));
    assert_eq!(told.next(), Told::Close(local(4001)));
}

#[test]
fn close_inside_a_callback_waits_for_the_peer() {
    let (served, told) = telling(|client, message| match message {
        "bye" => {
            client.ws().close(CloseCode::from(4002), "")?;
            assert!(client.ws().disconnect().is_some());
            Ok(())
        }
        _ => Ok(()),
    });
    let mut peer = served.open("/");
    peer.write(text("bye"));
    assert_eq!(peer.close_code(), 4002);
    peer.write(close(4002));
    peer.expect_end();
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Message("bye".into()));
    assert_eq!(told.next(), Told::Close(local(4002)));
}

#[test]
fn close_from_elsewhere_wakes_a_parked_connection() {
    let (served, told) = telling(|_, _| Ok(()));
    for _ in 0..20 {
        let mut peer = served.open("/");
        assert_eq!(told.next(), Told::Open);
        let client = served.clients().iter().next().unwrap();
        let closer = std::thread::spawn(move || client.ws().close(CloseCode::from(4003), ""));
        assert_eq!(peer.close_code(), 4003);
        peer.write(close(4003));
        peer.expect_end();
        closer.join().unwrap().unwrap();
        assert_eq!(told.next(), Told::Close(local(4003)));
    }
}

#[test]
fn close_from_elsewhere_during_a_callback_comes_to_its_end() {
    let go_on = Arc::new(runtime::Event::new());
    let theirs = Arc::clone(&go_on);
    let (served, told) = telling(move |_, message| {
        if message == "wait" {
            assert!(theirs.wait_timeout(DEADLINE));
            theirs.clear();
        }
        Ok(())
    });
    for round in 0..40 {
        let mut peer = served.open("/");
        peer.write(text("wait"));
        assert_eq!(told.next(), Told::Open);
        assert_eq!(told.next(), Told::Message("wait".into()));
        let client = served.clients().iter().next().unwrap();
        let close_it = move || client.ws().close(CloseCode::from(4003), "");
        let closer = std::thread::spawn(move || match round % 2 {
            0 => close_it(),
            _ => runtime::spawn(close_it).join().unwrap(),
        });
        assert_eq!(peer.close_code(), 4003);
        // The one who closes and the one who receives then come in any order.
        if round % 4 < 2 {
            go_on.set();
            peer.write(close(4003));
        } else {
            peer.write(close(4003));
            go_on.set();
        }
        peer.expect_end();
        closer.join().unwrap().unwrap();
        assert_eq!(told.next(), Told::Close(local(4003)));
    }
}

#[test]
fn unanswered_close_is_cut_in_time() {
    let config = WebSocketConfig::default().close_timeout(Duration::from_millis(50));
    let (served, told) = telling_with(
        |client, message| match message {
            "bye" => Ok(client.ws().close_nowait(CloseCode::from(4004), "")?),
            _ => Ok(()),
        },
        |server| server.config(config),
    );
    let mut peer = served.open("/");
    peer.write(text("bye"));
    assert_eq!(peer.close_code(), 4004);
    peer.expect_cut();
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Message("bye".into()));
    assert_eq!(told.next(), Told::Close(Disconnect::CloseTimeout));
}

#[test]
fn clients_are_those_who_are_connected() {
    let (served, told) = telling(|client, message| {
        if message == "close" {
            assert!(client.clients().get(&client.address()).is_none());
        } else {
            assert!(client.clients().get(&client.address()).unwrap() == *client);
        }
        Ok(())
    });
    assert!(served.clients().is_empty());
    let peers: Vec<Peer> = (0..5).map(|_| served.open("/")).collect();
    for _ in 0..5 {
        assert_eq!(told.next(), Told::Open);
    }
    let clients = served.clients();
    assert_eq!(clients.len(), 5);
    for peer in &peers {
        let address = peer.stream.local_addr().unwrap();
        assert_eq!(clients.get(&address).unwrap().address(), address);
    }
    // The list may change while somebody goes through it.
    let mut closing = peers.into_iter();
    for client in &clients {
        closing.next().unwrap().close();
        assert_eq!(told.next(), Told::Close(peer_closed(1000)));
        client.send("may have gone").ok();
    }
    assert!(clients.is_empty());
}

#[test]
fn broadcast_reaches_everybody() {
    let (served, told) = telling(|client, message| {
        if message == "all" {
            let delivery = client.clients().broadcast("to all");
            assert_eq!(delivery.sent, 10);
        }
        Ok(())
    });
    let mut peers: Vec<Peer> = (0..10).map(|_| served.open("/")).collect();
    for _ in 0..10 {
        assert_eq!(told.next(), Told::Open);
    }
    peers[3].write(text("all"));
    for peer in &mut peers {
        peer.expect(TEXT, "to all");
    }
    for peer in peers {
        peer.close();
    }
}

#[test]
fn blocking_application_has_its_client_too() {
    let app = |environ: &mut Environ, _: StartResponse<'_>| -> Result<Body> {
        let client = environ.active_client().unwrap();
        assert_eq!(client.clients().len(), 1);
        let ws = environ.websocket().unwrap();
        while let Some(message) = ws.receive()? {
            client.send(message)?;
        }
        Ok(Body::empty())
    };
    let served = serve([("/", Route::blocking(app))]);
    let mut peer = served.open("/");
    peer.write(text("x"));
    peer.expect(TEXT, "x");
    peer.close();
    nobody_is_left(&served);
}

#[test]
fn wrapped_resource_serves_in_the_blocking_style() {
    let (sender, told) = news();
    let sender = std::sync::Mutex::new(sender);
    let route = Route::websocket(move |_| Telling {
        news: sender.lock().unwrap().clone(),
        act: Arc::new(|client: &Client, message: &str| match message {
            "echo" => Ok(client.send("echo")?),
            "error" => Err("on purpose".into()),
            _ => Ok(()),
        }),
    });
    let resource = Resource::new([("/ws", route)]).unwrap();
    let wrapped = move |environ: &mut Environ, start_response: StartResponse<'_>| {
        resource.call(environ, start_response)
    };
    let served = serve_configured(wrapped, |server| server);
    let mut peer = served.open("/ws");
    peer.write(text("echo"));
    peer.expect(TEXT, "echo");
    peer.write(text("error"));
    assert_eq!(peer.close_code(), 1011);
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Message("echo".into()));
    assert_eq!(told.next(), Told::Message("error".into()));
    assert_eq!(told.next(), Told::Close(Disconnect::ApplicationError));
    let mut peer = served.open("/other");
    assert_eq!(peer.close_code(), 1008);
}

#[test]
fn stop_closes_with_1001_and_waits_for_the_answer() {
    let (served, told) = telling(|_, _| Ok(()));
    let mut peers: Vec<Peer> = (0..20).map(|_| served.open("/")).collect();
    for _ in 0..20 {
        assert_eq!(told.next(), Told::Open);
    }
    let handle = served.handle();
    assert_eq!(handle.connections(), 20);
    let joined = {
        let handle = handle.clone();
        std::thread::spawn(move || handle.join())
    };
    let stopper = {
        let handle = handle.clone();
        std::thread::spawn(move || handle.stop(NEVER))
    };
    for peer in &mut peers {
        assert_eq!(peer.close_code(), 1001);
    }
    let last = peers.pop().unwrap();
    for mut peer in peers {
        peer.write(close(1001));
        peer.expect_end();
        assert_eq!(told.next(), Told::Close(local(1001)));
    }
    assert_eq!(handle.connections(), 1);
    assert!(!stopper.is_finished() && !joined.is_finished());
    let mut last = last;
    last.write(close(1001));
    last.expect_end();
    stopper.join().unwrap();
    joined.join().unwrap().unwrap();
    assert_eq!(told.next(), Told::Close(local(1001)));
    assert_eq!(handle.connections(), 0);
    assert!(served.clients().is_empty());
}

#[test]
fn stop_cuts_those_who_do_not_answer() {
    let (served, told) = telling(|_, _| Ok(()));
    let mut peers: Vec<Peer> = (0..20).map(|_| served.open("/")).collect();
    served.handle().stop(Duration::from_millis(50));
    assert_eq!(served.handle().connections(), 0);
    for peer in &mut peers {
        assert_eq!(peer.close_code(), 1001);
        peer.expect_cut();
    }
    let mut closes = 0;
    while closes < 20 {
        match told.next() {
            Told::Close(reason) => {
                assert!(!reason.is_clean(), "{reason:?}");
                closes += 1;
            }
            other => assert_eq!(other, Told::Open),
        }
    }
    assert!(told.is_empty());
}

#[test]
fn stop_kills_a_callback_that_goes_on_blocking() {
    let (served, told) = telling(|_, message| {
        if message == "block" {
            runtime::sleep(NEVER);
        }
        Ok(())
    });
    let mut peer = served.open("/");
    peer.write(text("block"));
    assert_eq!(told.next(), Told::Open);
    assert_eq!(told.next(), Told::Message("block".into()));
    served.handle().stop(Duration::from_millis(50));
    match told.next() {
        Told::Close(reason) => assert!(!reason.is_clean(), "{reason:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(served.handle().connections(), 0);
    peer.expect_cut();
}

#[test]
fn callback_may_stop_its_own_server() {
    let handle: Arc<std::sync::OnceLock<ServerHandle>> = Arc::default();
    let theirs = Arc::clone(&handle);
    let (served, told) = telling(move |client, message| {
        if message == "stop" {
            theirs.get().unwrap().stop(Duration::from_millis(10));
            client.ws().close_nowait(CloseCode::from(4005), "")?;
        }
        Ok(())
    });
    assert!(handle.set(served.handle()).is_ok());
    let mut other = served.open("/");
    let mut peer = served.open("/");
    peer.write(text("stop"));
    assert_eq!(peer.close_code(), 1001);
    peer.write(close(1001));
    peer.expect_end();
    assert_eq!(other.close_code(), 1001);
    let mut told: Vec<Told> = (0..5).map(|_| told.next()).collect();
    told.retain(|told| *told == Told::Close(local(1001)));
    assert_eq!(told.len(), 1);
}

#[test]
fn max_connections_counts_the_parked_ones() {
    let (served, told) = telling_with(|_, _| Ok(()), |server| server.max_connections(2));
    let first = served.open("/");
    let _second = served.open("/");
    let mut third = served.connect();
    third.write(handshake(""));
    assert!(third.is_silent(Duration::from_millis(100)));
    assert_eq!(served.handle().connections(), 2);
    first.close();
    third.accepted();
    for _ in 0..2 {
        assert_eq!(told.next(), Told::Open);
    }
}

#[test]
fn protocol_stands_between_connection_and_application() {
    /// Lines of JSON-like `{"add":[1,2]}` would need a parser; a calculator in words does not.
    struct Calculator;
    trait Sums: Send + 'static {
        fn sum(&mut self, numbers: &[i64]) -> i64;
    }
    impl<A: Sums> Protocol<A> for Calculator {
        const PROTOCOL_NAME: &'static str = "sums.v1";
        fn on_open(&mut self, _: &mut A, client: &Client) -> Result<()> {
            client.send("ready")?;
            Ok(())
        }
        fn on_message(&mut self, app: &mut A, client: &Client, message: Message) -> Result<()> {
            let text = message.as_text().unwrap_or_default();
            let numbers: std::result::Result<Vec<i64>, _> =
                text.split_whitespace().map(str::parse).collect();
            match numbers {
                Ok(numbers) => client.send(app.sum(&numbers).to_string())?,
                Err(_) => client.ws().close_nowait(CloseCode::UNSUPPORTED_DATA, "")?,
            }
            Ok(())
        }
    }
    struct Running(i64);
    impl Sums for Running {
        fn sum(&mut self, numbers: &[i64]) -> i64 {
            self.0 += numbers.iter().sum::<i64>();
            self.0
        }
    }
    let served = serve([
        (
            "/sums",
            Route::websocket(|_| Coupled::new(Calculator, Running(0))),
        ),
        (
            "/base",
            Route::websocket(|_| Coupled::new(BaseProtocol, Echo)),
        ),
    ]);
    let mut peer = served.connect();
    let offer = "Sec-WebSocket-Protocol: sums.v1\r\n";
    peer.write(handshake(offer).replacen("/ws", "/sums", 1));
    assert!(peer.accepted().contains("Sec-WebSocket-Protocol: sums.v1"));
    peer.expect(TEXT, "ready");
    peer.write(text("1 2 3"));
    peer.expect(TEXT, "6");
    peer.write(text("-10"));
    peer.expect(TEXT, "-4");
    peer.write(text("x"));
    assert_eq!(peer.frame().opcode, CLOSE);
    let mut peer = served.open("/base");
    peer.write(text("same"));
    peer.expect(TEXT, "same");
    peer.close();
}

#[test]
fn callbacks_of_one_connection_never_overlap() {
    let inside = AtomicUsize::new(0);
    let (served, told) = telling(move |_, message| {
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
        if message != "open" {
            runtime::sleep(Duration::from_millis(1));
        }
        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
        Ok(())
    });
    let mut peer = served.open("/");
    for i in 0..50 {
        peer.write(text(i.to_string()));
    }
    peer.write(close(1000));
    assert_eq!(told.next(), Told::Open);
    for i in 0..50 {
        assert_eq!(told.next(), Told::Message(i.to_string()));
    }
    assert_eq!(told.next(), Told::Close(peer_closed(1000)));
}
