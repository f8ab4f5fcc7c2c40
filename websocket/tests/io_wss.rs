//! Floods over `wss`, how its connections end, and that nothing is left of them. In a binary of its
//! own: greenlets and descriptors are the process's. What foreign clients make of it is in
//! `interop/`.
#![cfg(feature = "tls")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenwood_runtime::net::{ClientTls, Identity, ServerTls, ServerTlsBuilder};
use greenwood_runtime::{self as runtime, Event};
use greenwood_websocket::{
    CloseCode, Connect, Deflate, Disconnect, Message, WebSocket, WebSocketConfig, WebSocketEnviron,
    WebSocketError, WebSocketHandler,
};
use greenwood_wsgi::{Body, Environ, Result, StartResponse, WsgiServer};
use rcgen::{CertificateParams, KeyPair};

mod io_support;

use io_support::{descriptors, echo, news, pattern, settle, watchdog};

/// Stops when the test ends. One test at a time.
struct Server {
    server: WsgiServer,
    address: SocketAddr,
    client: ClientTls,
    _watchdog: io_support::Watchdog,
    _alone: MutexGuard<'static, ()>,
}

fn settings() -> (ServerTlsBuilder, ClientTls) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let params = CertificateParams::new(names).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let client = ClientTls::builder()
        .system_roots(false)
        .ca_certs_pem(&*certificate)
        .alpn(["http/1.1"])
        .build()
        .unwrap();
    let identity = Identity::pem(certificate, key.serialize_pem());
    (ServerTls::builder(identity).alpn(["http/1.1"]), client)
}

fn serve_with(
    config: WebSocketConfig,
    serve: impl Fn(WebSocket) -> Result<()> + Send + Sync + 'static,
) -> Server {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (tls, client) = settings();
    let app = move |environ: &mut Environ, start_response: StartResponse<'_>| {
        if let Some(ws) = environ.websocket() {
            serve(ws)?;
            return Ok(Body::empty());
        }
        start_response("200 OK", &[])?;
        Ok("plain".into())
    };
    let handler = WebSocketHandler::new().config(config);
    let server = WsgiServer::new("127.0.0.1:0", app)
        .tls(tls.build().unwrap())
        .handler(handler.deflate(Deflate::default()));
    server.start().unwrap();
    Server {
        address: server.local_addr().unwrap(),
        server,
        client,
        _watchdog: watchdog(),
        _alone: alone,
    }
}

fn serve(serve: impl Fn(WebSocket) -> Result<()> + Send + Sync + 'static) -> Server {
    serve_with(WebSocketConfig::default(), serve)
}

impl Server {
    fn connect(&self) -> Connect {
        Connect::to(format!("wss://{}/ws", self.address)).tls(self.client.clone())
    }

    fn open(&self) -> WebSocket {
        self.connect().connect().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.stop(Duration::from_millis(100));
    }
}

#[test]
fn pipelined_messages_come_back_in_order() {
    let server = serve(echo);
    let ws = server.open();
    for i in 0..3_000 {
        ws.send(format!("message {i}")).unwrap();
    }
    for i in 0..3_000 {
        let text = ws.receive().unwrap();
        assert_eq!(text, Some(Message::Text(format!("message {i}"))));
    }
}

/// Both sides send more than sockets hold before either reads, from greenlets of other hubs.
#[test]
fn floods_both_ways_at_once_arrive_whole() {
    const COUNT: usize = 60;
    const SIZE: usize = 200_000;
    fn flood(ws: &WebSocket) -> runtime::Greenlet<()> {
        let sender = ws.clone();
        runtime::spawn(move || {
            for i in 0..COUNT {
                sender.send(pattern(SIZE + i)).unwrap();
            }
        })
    }
    fn drain(ws: &WebSocket) {
        for i in 0..COUNT {
            let expected = Message::Binary(pattern(SIZE + i));
            assert!(ws.receive().unwrap() == Some(expected), "message {i}");
        }
    }
    let (done, dones) = news();
    let server = serve(move |ws| {
        let flooding = flood(&ws);
        drain(&ws);
        flooding.join().unwrap();
        done.send(()).unwrap();
        // The client has the last word.
        assert!(ws.receive()?.is_none());
        Ok(())
    });
    for hub in 0..runtime::Hub::count().min(2) {
        let connect = server.connect();
        let client = runtime::Builder::new().hub(hub).spawn(move || {
            let ws = connect.connect().unwrap();
            let flooding = flood(&ws);
            drain(&ws);
            flooding.join().unwrap();
            ws.close(CloseCode::NORMAL, "").unwrap();
        });
        client.unwrap().join().unwrap();
        dones.next();
    }
}

#[test]
fn connection_that_is_cut_is_an_abnormal_end() {
    let (seen, ends) = news();
    let server = serve(move |ws| {
        seen.send(ws.receive().map(|_| ())).unwrap();
        Ok(())
    });
    // By TLS, but not by the protocol; and by neither.
    for announced in [true, false] {
        let tcp = runtime::net::TcpStream::connect(server.address).unwrap();
        let raw = tcp.clone();
        let tls = runtime::net::TlsStream::connect(tcp, "localhost", &server.client).unwrap();
        let ws = server.connect().connect_over(tls.clone()).unwrap();
        match announced {
            true => tls.shutdown(std::net::Shutdown::Write).unwrap(),
            false => raw.shutdown(std::net::Shutdown::Write).unwrap(),
        }
        let end = ends.next();
        assert!(
            matches!(
                end,
                Err(WebSocketError::Disconnected(Disconnect::TransportEnd))
            ),
            "{end:?}"
        );
        drop(ws);
    }
}

#[test]
fn stop_closes_with_1001() {
    let server = serve(echo);
    let ws = server.open();
    ws.send("x").unwrap();
    ws.receive().unwrap();
    let receiving = {
        let ws = ws.clone();
        runtime::spawn(move || ws.receive().map(|message| message.is_none()))
    };
    server.server.stop(Duration::from_secs(5));
    assert!(receiving.join().unwrap().unwrap());
}

#[test]
fn nothing_is_left_of_connections() {
    let config = WebSocketConfig::default().close_timeout(Duration::from_millis(200));
    let server = serve_with(config, echo);
    let round = |server: &Server, ways: usize| {
        for way in 0..ways {
            let connect = server.connect().config(config);
            let ws = connect.connect().unwrap();
            ws.send("x").unwrap();
            match way % 6 {
                0 => ws.close(CloseCode::NORMAL, "").unwrap(),
                1 => assert_eq!(ws.receive().unwrap(), Some(Message::from("x"))),
                2 => ws.close_nowait(CloseCode::NORMAL, "").unwrap(),
                3 => {
                    let started = Arc::new(Event::new());
                    let begun = Arc::clone(&started);
                    let receiving = runtime::spawn(move || {
                        begun.set();
                        while ws.receive().is_ok() {}
                    });
                    started.wait();
                    receiving.kill();
                }
                4 => {
                    let connecting = runtime::spawn(move || connect.connect().map(drop));
                    connecting.kill();
                }
                _ => ws.send(pattern(500_000)).unwrap(),
            }
        }
    };
    round(&server, 12);
    // The acceptor is the only one that stays.
    settle(1, usize::MAX);
    let before = descriptors();
    round(&server, 60);
    settle(1, before);
}
