//! `wss`: the client against the server, over TLS.
#![cfg(feature = "tls")]

mod io_support;

use std::error::Error as _;
use std::thread;
use std::time::Duration;

use greenwood_runtime as runtime;
use greenwood_runtime::net::{ClientTls, Identity, ServerTls};
use greenwood_websocket::{
    CloseCode, Connect, ConnectError, Deflate, Message, Resource, Route, Topic, TopicPolicy,
    WebSocket, WebSocketApplication, WebSocketConfig, WebSocketEnviron, WebSocketHandler, connect,
};
use greenwood_wsgi::{Application, Body, Environ, Result, StartResponse, WsgiServer};
use io_support::{NEVER, pattern, watchdog};
use rcgen::{CertificateParams, KeyPair};

/// A server that echoes, and publishes to all if it is told to.
fn serve(name: &str, config: WebSocketConfig) -> (WsgiServer, ClientTls) {
    let topic = Topic::new(TopicPolicy::Block);
    serve_with(name, config, move |ws| {
        let _subscription = topic.subscribe(&ws);
        while let Some(message) = ws.receive()? {
            match message.as_text() {
                Some("topic") => drop(topic.publish("published")),
                _ => ws.send(message)?,
            }
        }
        Ok(())
    })
}

/// A server whose WebSockets are given to `serve`.
fn serve_with(
    name: &str,
    config: WebSocketConfig,
    serve: impl Fn(WebSocket) -> Result<()> + Send + Sync + 'static,
) -> (WsgiServer, ClientTls) {
    let app = move |environ: &mut Environ, _: StartResponse<'_>| {
        if let Some(ws) = environ.websocket() {
            serve(ws)?;
        }
        Ok(Body::empty())
    };
    serve_app(name, config, app)
}

/// A server with a certificate for this name, and a client that trusts it.
fn serve_app(
    name: &str,
    config: WebSocketConfig,
    app: impl Application,
) -> (WsgiServer, ClientTls) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let identity = Identity::pem(&*certificate, key.serialize_pem());
    let tls = ServerTls::builder(identity).alpn(["http/1.1"]);
    let server = WsgiServer::new("127.0.0.1:0", app)
        .handler(WebSocketHandler::new().config(config))
        .tls(tls.build().unwrap());
    server.start().unwrap();
    let client = ClientTls::builder()
        .system_roots(false)
        .ca_certs_pem(certificate)
        .build()
        .unwrap();
    (server, client)
}

fn url(server: &WsgiServer) -> String {
    format!("wss://localhost:{}/", server.local_addr().unwrap().port())
}

#[test]
fn parked_connections_pass_messages_over_tls() {
    struct Echo;
    impl WebSocketApplication for Echo {}

    let _watchdog = watchdog();
    let config = WebSocketConfig::default().max_message_size(8 << 20);
    let echo = Resource::new([("/", Route::websocket(|_| Echo))]).unwrap();
    let (server, tls) = serve_app("localhost", config, echo);
    let sockets: Vec<_> = (0..4)
        .map(|_| {
            let connecting = Connect::to(url(&server)).config(config);
            connecting.tls(tls.clone()).connect().unwrap()
        })
        .collect();
    // Longer than one record, and than one read; and many in one record.
    for size in [1, 16 << 10, 100_000, 4 << 20, 5] {
        let payload = pattern(size);
        for ws in &sockets {
            ws.send(&payload).unwrap();
        }
        for ws in &sockets {
            let echoed = ws.receive().unwrap().unwrap();
            assert!(echoed.as_bytes() == payload, "{size} bytes");
        }
    }
    for ws in &sockets {
        for i in 0..2_000 {
            ws.send(i.to_string()).unwrap();
        }
    }
    for ws in sockets {
        for i in 0..2_000 {
            assert_eq!(
                ws.receive().unwrap().unwrap().as_text(),
                Some(&*i.to_string())
            );
        }
        ws.close(CloseCode::NORMAL, "").unwrap();
    }
    server.stop(NEVER);
}

#[test]
fn messages_pass_over_tls() {
    let _watchdog = watchdog();
    for deflate in [None, Some(Deflate::default())] {
        let mut config = WebSocketConfig::default().max_message_size(8 << 20);
        config.deflate = deflate;
        let (server, tls) = serve("localhost", config);
        let ws = Connect::to(url(&server))
            .config(config)
            .tls(tls)
            .connect()
            .unwrap();
        for len in [0, 1, 125, 126, 4096, 16_384, 65_536, 3 << 20] {
            let bytes = pattern(len);
            ws.send(&bytes).unwrap();
            assert!(
                ws.receive().unwrap() == Some(Message::Binary(bytes)),
                "{len}"
            );
        }
        ws.send("topic").unwrap();
        assert_eq!(ws.receive().unwrap(), Some(Message::from("published")));
        ws.close(CloseCode::NORMAL, "").unwrap();
        assert!(ws.disconnect().unwrap().is_clean());
        server.stop(Duration::from_secs(1));
    }
}

/// Much in both directions at once, with nobody to wait for the other: on either side a greenlet
/// reads and another writes.
#[test]
fn both_directions_are_used_at_once() {
    let _watchdog = watchdog();
    let config = WebSocketConfig::default();
    let (server, tls) = serve("localhost", config);
    let ws = Connect::to(url(&server)).tls(tls).connect().unwrap();
    let sender = {
        let ws = ws.clone();
        runtime::spawn(move || {
            for i in 0..200_usize {
                ws.send(pattern(i * 400)).unwrap();
            }
        })
    };
    for i in 0..200_usize {
        assert!(
            ws.receive().unwrap() == Some(Message::Binary(pattern(i * 400))),
            "{i}"
        );
    }
    sender.join().unwrap();
    ws.close(CloseCode::NORMAL, "").unwrap();
    server.stop(Duration::from_secs(1));
}

#[test]
fn certificates_that_are_not_to_be_trusted_are_refused() {
    let _watchdog = watchdog();
    let (server, tls) = serve("another.example", WebSocketConfig::default());
    // For another name, and by nobody that the system knows.
    for client in [
        Connect::to(url(&server)).tls(tls),
        Connect::to(url(&server)),
    ] {
        let error = client.connect().unwrap_err();
        assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
        assert!(error.source().is_some());
    }
    server.stop(Duration::from_secs(1));
}

#[test]
fn server_without_tls_is_an_error_and_a_silent_one_is_given_up_in_time() {
    let server = io_support::serve(io_support::echo);
    let plain = format!("wss://{}/", server.address);
    assert!(matches!(connect(&plain), Err(ConnectError::Tls(_))));
    // One that takes the connection, and says nothing.
    let silent = runtime::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let limit = Duration::from_millis(100);
    let error = Connect::to(format!("wss://{address}/"))
        .timeout(limit)
        .connect()
        .unwrap_err();
    assert!(
        matches!(error, ConnectError::Timeout(it) if it == limit),
        "{error:?}"
    );
    // A kill ends it as well.
    let url = format!("wss://{address}/");
    let waiting = runtime::spawn(move || Connect::to(url).timeout(NEVER).connect().map(drop));
    waiting.kill();
}

/// What is encrypted already can't be dropped any more.
#[test]
fn dropping_the_oldest_does_not_break_the_tls_stream() {
    let _watchdog = watchdog();
    let topic = Topic::new(TopicPolicy::DropOldest { keep: 300 });
    let (server, tls) = serve_with("localhost", WebSocketConfig::default(), {
        let topic = topic.clone();
        move |ws| {
            let _subscription = topic.subscribe(&ws);
            ws.send("subscribed")?;
            while ws.receive()?.is_some() {}
            Ok(())
        }
    });
    let ws = Connect::to(url(&server)).tls(tls).connect().unwrap();
    assert_eq!(ws.receive().unwrap(), Some(Message::from("subscribed")));
    // Of different lengths, so that they don't end where records do; many more than the system takes.
    let message = |i: usize| {
        let mut message = pattern(50 + i * 37 % 100);
        message.splice(..0, (i as u32).to_be_bytes());
        message
    };
    const LAST: usize = 200_000;
    let publisher = {
        let topic = topic.clone();
        thread::spawn(move || {
            for i in 0..=LAST {
                topic.publish(message(i));
            }
        })
    };
    let mut before = None;
    while before != Some(LAST) {
        let Some(Message::Binary(bytes)) = ws.receive().unwrap() else {
            panic!("another end");
        };
        let i = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
        assert!(before < Some(i), "{i} behind {before:?}");
        assert!(bytes == message(i), "{i}");
        before = Some(i);
        // Slower than it is published: on with it when more has been dropped.
        let dropped = topic.dropped();
        while i.is_multiple_of(50) && topic.dropped() == dropped && !publisher.is_finished() {
            runtime::sleep(Duration::from_millis(1));
        }
    }
    publisher.join().unwrap();
    assert!(topic.dropped() > 0);
    ws.close(CloseCode::NORMAL, "").unwrap();
    server.stop(Duration::from_secs(1));
}
