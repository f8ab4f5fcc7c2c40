//! Parked connections: nobody is held up, nothing is lost, and nothing is left. In a binary of its
//! own, one test at a time: greenlets and descriptors are the process's.
#![cfg(feature = "io")]

mod io_support;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenwood_runtime::{self as runtime, Hub};
use greenwood_websocket::{
    Client, Clients, CloseCode, Disconnect, Message, Resource, Route, SlowConsumer,
    WebSocketApplication, WebSocketConfig, WebSocketServer,
};
use greenwood_wsgi::{Application, Environ, Result, StartResponse};
use io_support::{
    BINARY, CLOSE, DEADLINE, LIMITS, NEVER, PING, PONG, Peer, TEXT, Watchdog, binary, close,
    descriptors, frame, handshake, news, pattern, ping, settle, text, watchdog,
};

static ALONE: Mutex<()> = Mutex::new(());

struct Served {
    server: WebSocketServer,
    greenlets: usize,
    fds: usize,
    _alone: MutexGuard<'static, ()>,
    _watchdog: Watchdog,
}

type OnMessage = dyn Fn(&Client, Message) -> Result<()> + Send + Sync;
type OnClose = dyn Fn(&Disconnect) + Send + Sync;

struct App {
    on_message: Arc<OnMessage>,
    on_close: Arc<OnClose>,
}

impl WebSocketApplication for App {
    fn on_message(&mut self, client: &Client, message: Message) -> Result<()> {
        (self.on_message)(client, message)
    }

    fn on_close(&mut self, _: &Client, reason: &Disconnect) {
        (self.on_close)(reason);
    }
}

fn serve_told(
    config: WebSocketConfig,
    on_message: impl Fn(&Client, Message) -> Result<()> + Send + Sync + 'static,
    on_close: impl Fn(&Disconnect) + Send + Sync + 'static,
) -> Served {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The first use starts the hubs.
    runtime::spawn(|| {}).join().unwrap();
    settle(0, usize::MAX);
    let (greenlets, fds) = (Hub::greenlets(), descriptors());
    let (on_message, on_close): (Arc<OnMessage>, Arc<OnClose>) =
        (Arc::new(on_message), Arc::new(on_close));
    let route = Route::websocket(move |_| App {
        on_message: Arc::clone(&on_message),
        on_close: Arc::clone(&on_close),
    });
    let resource = Resource::new([("/", route)]).unwrap();
    let server = WebSocketServer::new("127.0.0.1:0", resource).config(config);
    server.start().unwrap();
    Served {
        server,
        greenlets,
        fds,
        _alone: alone,
        _watchdog: watchdog(),
    }
}

fn serve_with(
    config: WebSocketConfig,
    on_message: impl Fn(&Client, Message) -> Result<()> + Send + Sync + 'static,
) -> Served {
    serve_told(config, on_message, |_| {})
}

fn serve(on_message: impl Fn(&Client, Message) -> Result<()> + Send + Sync + 'static) -> Served {
    serve_with(WebSocketConfig::default(), on_message)
}

fn echo(client: &Client, message: Message) -> Result<()> {
    Ok(client.send(message)?)
}

impl Served {
    fn open(&self) -> Peer {
        self.open_at(&self.server)
    }

    fn open_at(&self, server: &WebSocketServer) -> Peer {
        #[expect(
            clippy::disallowed_types,
            reason = "the peer is the foreign side, on a plain thread"
        )]
        let stream = std::net::TcpStream::connect(server.local_addr().unwrap());
        let mut peer = Peer::new(stream.unwrap());
        peer.write(handshake(""));
        peer.accepted();
        peer
    }

    fn clients(&self) -> Clients {
        self.server.clients()
    }

    /// Waits until so many have been entered: a peer learns that it is accepted a moment before.
    fn all_clients(&self, count: usize) -> Vec<Client> {
        let began = Instant::now();
        while self.clients().len() < count {
            assert!(began.elapsed() < DEADLINE);
            std::thread::yield_now();
        }
        self.clients().iter().collect()
    }

    /// Stops, and checks that nothing is left; the test's own ends are closed between.
    fn end<T>(self, peers: T) {
        self.server.stop(Duration::from_millis(200));
        drop(peers);
        assert_eq!(self.server.handle().connections(), 0);
        assert!(self.clients().is_empty());
        settle(self.greenlets, self.fds);
    }
}

impl Drop for Served {
    /// A test that fails is the only one to fail.
    fn drop(&mut self) {
        self.server.stop(Duration::ZERO);
    }
}

#[test]
fn parked_connections_hold_no_greenlet() {
    let served = serve(echo);
    let mut peers: Vec<Peer> = (0..200).map(|_| served.open()).collect();
    for peer in &mut peers {
        peer.write(text("x"));
        peer.expect(TEXT, "x");
    }
    // The acceptor, and who leads on each hub.
    settle(served.greenlets + 1 + Hub::count(), usize::MAX);
    assert_eq!(served.server.handle().connections(), 200);
    for peer in peers {
        peer.close();
    }
    settle(served.greenlets + 1, usize::MAX);
    served.end(());
}

#[test]
fn blocking_callback_holds_nobody_up() {
    let go_on = Arc::new(runtime::Event::new());
    let theirs = Arc::clone(&go_on);
    let served = serve(move |client, message| {
        if message.as_text() == Some("wait") {
            theirs.wait();
        }
        echo(client, message)
    });
    let mut waiting: Vec<Peer> = (0..20).map(|_| served.open()).collect();
    let mut others: Vec<Peer> = (0..20).map(|_| served.open()).collect();
    for peer in &mut waiting {
        peer.write(text("wait"));
        // It waits its turn, with its like.
        peer.write(text("behind"));
    }
    for round in 0..50 {
        for peer in &mut others {
            peer.write(text(round.to_string()));
        }
        for peer in &mut others {
            peer.expect(TEXT, round.to_string());
        }
    }
    go_on.set();
    for peer in &mut waiting {
        peer.expect(TEXT, "wait");
        peer.expect(TEXT, "behind");
        peer.write(text("and on"));
        peer.expect(TEXT, "and on");
    }
    served.end((waiting, others));
}

#[test]
fn flood_of_one_does_not_starve_the_others() {
    let received = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&received);
    let served = serve(move |client, message| {
        if message.as_text() == Some("flood") {
            theirs.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        echo(client, message)
    });
    let mut flooding = served.open();
    let mut other = served.open();
    let over = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&over);
    let flooder = std::thread::spawn(move || {
        let many = text("flood").repeat(1_000);
        let mut sent = 0;
        while sent < 100_000 || !theirs.load(Ordering::Relaxed) {
            flooding.write(&many);
            sent += 1_000;
        }
        (flooding, sent)
    });
    for round in 0..100 {
        other.write(text(round.to_string()));
        other.expect(TEXT, round.to_string());
    }
    over.store(true, Ordering::Relaxed);
    let (flooding, sent) = flooder.join().unwrap();
    flooding.close();
    assert_eq!(received.load(Ordering::Relaxed), sent);
    served.end(other);
}

#[test]
fn flood_of_pings_and_of_fragments_does_not_starve_the_others() {
    let config = WebSocketConfig::default().max_message_size(256 << 20);
    let served = serve_with(config, echo);
    let mut other = served.open();
    for wire in [
        frame(true, PONG, "unasked").repeat(1_000),
        frame(false, 0, [0; 1000]).repeat(50),
        frame(false, 0, vec![0; 1 << 20]),
    ] {
        let mut flooding = served.open();
        flooding.write(frame(false, BINARY, ""));
        let over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&over);
        let flooder = std::thread::spawn(move || {
            let mut sent = 0;
            while !theirs.load(Ordering::Relaxed) && sent < 128 << 20 {
                flooding.write(&wire);
                sent += wire.len();
            }
            flooding
        });
        for round in 0..30 {
            other.write(text(round.to_string()));
            other.expect(TEXT, round.to_string());
        }
        over.store(true, Ordering::Relaxed);
        drop(flooder.join().unwrap());
    }
    served.end(other);
}

#[test]
fn killing_the_leading_greenlet_loses_nobody() {
    let (sender, leaders) = news();
    let sender = Mutex::new(sender);
    let served = serve(move |client, message| {
        let current = runtime::getcurrent().unwrap();
        sender.lock().unwrap().send(current).unwrap();
        echo(client, message)
    });
    let mut peers: Vec<Peer> = (0..8).map(|_| served.open()).collect();
    for _ in 0..10 {
        for peer in &mut peers {
            peer.write(text("x"));
            peer.expect(TEXT, "x");
            let leader = leaders.next();
            // It waits for the next message by now, or is about to.
            leader.kill_nowait();
            let began = Instant::now();
            while !leader.ready() {
                assert!(began.elapsed() < DEADLINE);
                std::thread::yield_now();
            }
        }
    }
    assert_eq!(served.server.handle().connections(), 8);
    for peer in peers {
        peer.close();
    }
    served.end(());
}

#[test]
fn callback_that_kills_its_greenlet_ends_its_connection_only() {
    let (sender, told) = news();
    let sender = Mutex::new(sender);
    let served = serve_told(
        WebSocketConfig::default(),
        |client, message| {
            if message.as_text() == Some("kill") {
                runtime::getcurrent().unwrap().kill_nowait();
            }
            echo(client, message)
        },
        move |reason| sender.lock().unwrap().send(reason.clone()).unwrap(),
    );
    let mut others: Vec<Peer> = (0..4).map(|_| served.open()).collect();
    for _ in 0..4 {
        let mut peer = served.open();
        peer.write(text("kill"));
        assert_eq!(peer.close_code(), 1001);
        peer.expect_cut();
        assert!(!told.next().is_clean());
        for other in &mut others {
            other.write(text("x"));
            other.expect(TEXT, "x");
        }
    }
    assert!(told.is_empty());
    served.end(others);
}

#[test]
fn timeout_that_nobody_caught_ends_its_connection_only() {
    let served = serve(|client, message| {
        if message.as_text() == Some("late") {
            let timeout = runtime::Timeout::start_new(Duration::from_millis(5));
            runtime::sleep(NEVER);
            drop(timeout);
        }
        echo(client, message)
    });
    let mut other = served.open();
    let mut peer = served.open();
    peer.write(text("late"));
    assert_eq!(peer.close_code(), 1011);
    peer.write(close(1011));
    peer.expect_end();
    other.write(text("x"));
    other.expect(TEXT, "x");
    served.end((peer, other));
}

#[test]
fn replies_of_one_burst_leave_together() {
    let served = serve(echo);
    let mut peer = served.open();
    let wire = text("hello").repeat(50);
    peer.write(wire);
    let before = peer.reads;
    for _ in 0..50 {
        peer.expect(TEXT, "hello");
    }
    assert!(peer.reads - before <= 5, "{} reads", peer.reads - before);
    peer.close();
    served.end(());
}

#[test]
fn pings_are_answered_and_fragments_joined() {
    let served = serve(echo);
    let mut peer = served.open();
    peer.write(ping("are you there"));
    peer.expect(PONG, "are you there");
    for (i, byte) in frame(false, TEXT, "one, ").into_iter().enumerate() {
        peer.write([byte]);
        if i == 3 {
            // In the middle of a frame the connection is parked, too.
            assert!(peer.is_silent(Duration::from_millis(5)));
        }
    }
    peer.write(ping("between"));
    peer.expect(PONG, "between");
    peer.write(frame(true, 0, "two"));
    peer.expect(TEXT, "one, two");
    peer.close();
    served.end(());
}

#[test]
fn large_messages_come_back_whole() {
    let config = WebSocketConfig::default().max_message_size(8 << 20);
    let served = serve_with(config, echo);
    let mut peers: Vec<Peer> = (0..4).map(|_| served.open()).collect();
    let payloads: Vec<Vec<u8>> = [1 << 16, 300_000, 1 << 20, 4 << 20]
        .into_iter()
        .map(pattern)
        .collect();
    for _ in 0..3 {
        for (peer, payload) in peers.iter_mut().zip(&payloads) {
            peer.write(binary(payload));
        }
        for (peer, payload) in peers.iter_mut().zip(&payloads) {
            peer.expect(BINARY, payload);
        }
    }
    for peer in peers {
        peer.close();
    }
    served.end(());
}

#[test]
fn keep_alive_pings_see_the_pongs_of_a_parked_connection() {
    let pinging = |limit| WebSocketConfig::default().ping(Duration::from_millis(30), limit);
    let lives_on = LIMITS.into_iter().any(|limit| {
        let served = serve_with(pinging(limit), echo);
        let mut peer = served.open();
        let mut began = None;
        // For longer than the limit.
        while began.is_none_or(|it: Instant| it.elapsed() < 2 * limit) {
            match peer.try_frame() {
                Ok(Some(ping)) if ping.opcode == PING => {
                    peer.try_write(frame(true, PONG, ping.payload)).ok();
                    began.get_or_insert_with(Instant::now);
                }
                _ => return false,
            }
        }
        let Some(client) = served.clients().iter().next() else {
            return false;
        };
        let measured = client.ws().rtt().is_some();
        drop(client);
        let lives_on = peer.closes_well();
        drop(peer);
        served.end(());
        measured && lives_on
    });
    assert!(lives_on);
    // One that does not answer is cut.
    let served = serve_with(pinging(LIMITS[0]), echo);
    let mut silent = served.open();
    while let Ok(Some(frame)) = silent.try_frame() {
        assert!(matches!(frame.opcode, PING | CLOSE));
    }
    served.end(silent);
}

#[test]
fn idle_parked_connection_is_closed() {
    let (sender, told) = news();
    let sender = Mutex::new(sender);
    let served = serve_told(
        WebSocketConfig::default().idle_timeout(Duration::from_millis(100)),
        echo,
        move |reason| sender.lock().unwrap().send(reason.clone()).unwrap(),
    );
    let mut peer = served.open();
    assert_eq!(peer.close_code(), 1001);
    peer.write(close(1001));
    peer.expect_end();
    assert_eq!(told.next(), Disconnect::IdleTimeout);
    served.end(peer);
}

#[test]
fn peer_that_does_not_read_holds_up_its_own_callbacks_only() {
    let config = WebSocketConfig::default()
        .write_timeout(Duration::from_millis(300))
        .high_water(1 << 16);
    let (sender, told) = news();
    let sender = Mutex::new(sender);
    let served = serve_told(
        config,
        |client, message| {
            if message.as_text() == Some("flood") {
                for _ in 0..1_000 {
                    client.send(vec![0; 1 << 16])?;
                }
            }
            echo(client, message)
        },
        move |reason| sender.lock().unwrap().send(reason.clone()).unwrap(),
    );
    let mut slow = served.open();
    let mut other = served.open();
    slow.write(text("flood"));
    for round in 0..200 {
        other.write(text(round.to_string()));
        other.expect(TEXT, round.to_string());
    }
    assert_eq!(told.next(), Disconnect::SlowConsumer);
    slow.expect_cut();
    other.close();
    served.end(slow);
}

#[test]
fn slow_consumer_may_be_closed_at_once() {
    let config = WebSocketConfig::default()
        .slow_consumer(SlowConsumer::Close)
        .close_timeout(Duration::from_millis(200));
    let served = serve_with(config, |client, _| {
        loop {
            client.send(vec![0; 1 << 16])?;
        }
    });
    let mut slow = served.open();
    slow.write(text("flood"));
    slow.stream_pause();
    slow.expect_cut();
    served.end(slow);
}

#[test]
fn anybody_may_send_to_a_parked_connection() {
    let served = serve(echo);
    let mut peers: Vec<Peer> = (0..10).map(|_| served.open()).collect();
    let clients = served.all_clients(10);
    let senders: Vec<_> = (0..4)
        .map(|i| {
            let clients = clients.clone();
            let send = move || {
                for client in &clients {
                    for _ in 0..25 {
                        client.send("news").unwrap();
                    }
                }
            };
            std::thread::spawn(move || match i % 2 {
                0 => send(),
                _ => runtime::spawn(send).join().unwrap(),
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    drop(clients);
    for peer in &mut peers {
        for _ in 0..100 {
            peer.expect(TEXT, "news");
        }
    }
    served.end(peers);
}

#[test]
fn every_way_to_end_leaves_nothing() {
    let config = WebSocketConfig::default()
        .close_timeout(Duration::from_millis(200))
        .write_timeout(Duration::from_millis(200));
    let closes = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&closes);
    let served = serve_told(
        config,
        |client, message| {
            match message.as_text() {
                Some("error") => return Err("on purpose".into()),
                Some("panic") => panic!("on purpose"),
                Some("sleep") => runtime::sleep(NEVER),
                Some("yield") => runtime::sleep(Duration::ZERO),
                Some("close") => client.ws().close(1000.into(), "")?,
                Some("nowait") => client.ws().close_nowait(1000.into(), "")?,
                Some("flood") => client.send(vec![0; 16 << 20])?,
                _ => {}
            }
            echo(client, message)
        },
        move |_| {
            theirs.fetch_add(1, Ordering::Relaxed);
        },
    );
    let ways = [
        "error", "panic", "sleep", "yield", "close", "nowait", "flood", "echo",
    ];
    let mut peers = Vec::new();
    let mut opened = 0;
    for (i, way) in ways.iter().cycle().take(ways.len() * 6).enumerate() {
        let mut peer = served.open();
        opened += 1;
        peer.write(text(way));
        match i / ways.len() {
            0 | 1 => peers.push(peer),
            2 => drop(peer),
            3 => peer.reset(),
            4 => {
                peer.try_write(close(1000)).ok();
                peers.push(peer);
            }
            _ => {
                peer.try_write([0xff; 30]).ok();
                peers.push(peer);
            }
        }
    }
    served.server.stop(Duration::from_millis(300));
    assert_eq!(closes.load(Ordering::Relaxed), opened);
    for mut peer in peers {
        peer.expect_cut();
    }
    served.end(());
}

#[test]
fn stop_ends_an_on_close_that_begins_by_its_kill_and_blocks() {
    let served = serve_told(WebSocketConfig::default(), echo, |_| runtime::sleep(NEVER));
    let mut peer = served.open();
    peer.write(text("x"));
    peer.expect(TEXT, "x");
    // The peer does not answer the close frame, so nothing runs when the time to finish is over.
    served.end(peer);
}

/// As in the blocking style: the close frame was never answered, and the transport is what ended.
#[test]
fn on_close_is_told_the_same_of_a_kill_in_both_styles() {
    for keeps_greenlet in [false, true] {
        let (sender, told) = news();
        let sender = Mutex::new(sender);
        let on_close: Arc<OnClose> =
            Arc::new(move |reason| sender.lock().unwrap().send(reason.clone()).unwrap());
        let route = Route::websocket(move |_| App {
            on_message: Arc::new(|client, message| {
                echo(client, message)?;
                runtime::sleep(NEVER);
                Ok(())
            }),
            on_close: Arc::clone(&on_close),
        });
        let resource = Resource::new([("/", route)]).unwrap();
        let served = serve(echo);
        let server = if keeps_greenlet {
            let wrapped = move |environ: &mut Environ, start_response: StartResponse<'_>| {
                resource.call(environ, start_response)
            };
            WebSocketServer::new("127.0.0.1:0", wrapped)
        } else {
            WebSocketServer::new("127.0.0.1:0", resource)
        };
        server.start().unwrap();
        let mut peers = [served.open_at(&server), served.open_at(&server)];
        // One is killed in a callback, the other between two.
        peers[0].write(text("x"));
        peers[0].expect(TEXT, "x");
        server.stop(Duration::from_millis(100));
        for _ in &peers {
            assert_eq!(told.next(), Disconnect::TransportEnd);
        }
        served.end(peers);
    }
}

#[test]
fn connection_that_ends_in_on_open_is_not_parked_for_ever() {
    struct Brief;

    impl WebSocketApplication for Brief {
        fn on_open(&mut self, client: &Client) -> Result<()> {
            client.ws().close(CloseCode::from(4004), "")?;
            Ok(())
        }
    }

    let (served, alone) = (
        serve(echo),
        Resource::new([("/", Route::websocket(|_| Brief))]),
    );
    let server = WebSocketServer::new("127.0.0.1:0", alone.unwrap());
    server.start().unwrap();
    let mut peer = served.open_at(&server);
    assert_eq!(peer.close_code(), 4004);
    peer.write(close(4004));
    // The server ends the transport first (RFC 6455, 7.1.1).
    peer.expect_end();
    server.stop(Duration::from_millis(200));
    served.end(peer);
}

/// Reads exactly these bytes.
#[expect(
    clippy::disallowed_types,
    reason = "the peer is the foreign side, on a plain thread"
)]
fn expect(stream: &mut std::net::TcpStream, wire: &[u8]) {
    let mut read = vec![0; wire.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, wire);
}

#[test]
#[expect(
    clippy::disallowed_types,
    reason = "the peers are the foreign side, on plain threads, and own no buffers"
)]
fn thousands_are_served_with_a_handful_of_greenlets() {
    let served = serve(echo);
    // Two descriptors each, as the peers are here too.
    let limit = Hub::limits().descriptors.saturating_sub(500) / 2;
    let count = usize::try_from(limit).unwrap().min(4_000);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        io_support::ACCEPT
    );
    let mut peers = Vec::new();
    for _ in 0..count {
        let mut peer = std::net::TcpStream::connect(served.server.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        peer.write_all(handshake("").as_bytes()).unwrap();
        // One by one: what the backlog has no room for comes again after a second only.
        expect(&mut peer, answer.as_bytes());
        peers.push(peer);
    }
    settle(served.greenlets + 1 + Hub::count(), usize::MAX);
    assert_eq!(served.clients().len(), count);
    for peer in &mut peers {
        peer.write_all(&text("x")).unwrap();
    }
    for peer in &mut peers {
        expect(peer, b"\x81\x01x");
    }
    assert_eq!(served.clients().broadcast("to all").sent, count);
    for peer in &mut peers {
        expect(peer, b"\x81\x06to all");
    }
    served.server.stop(Duration::ZERO);
    served.end(peers);
}
