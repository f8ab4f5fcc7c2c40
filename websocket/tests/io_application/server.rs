//! Clients, stops, and what stands between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::io_support::{CLOSE, NEVER, Peer, TEXT, close, handshake, news, text};
use crate::support::*;
use greenwood_runtime as runtime;
use greenwood_websocket::{
    BaseProtocol, Client, CloseCode, Coupled, Disconnect, Message, Protocol, Resource, Route,
    WebSocketEnviron,
};
use greenwood_wsgi::{Application, Body, Environ, Result, ServerHandle, StartResponse};

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
    for _ in &peers {
        assert_eq!(told.next(), Told::Open);
    }
    served.handle().stop(Duration::from_millis(50));
    assert_eq!(served.handle().connections(), 0);
    for peer in &mut peers {
        assert_eq!(peer.close_code(), 1001);
        peer.expect_cut();
    }
    for _ in &peers {
        match told.next() {
            Told::Close(reason) => assert!(!reason.is_clean(), "{reason:?}"),
            other => panic!("{other:?}"),
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
