//! The client against Greenwood's own server, and against servers by hand that answer what they
//! should not.
#![cfg(feature = "io")]
#![expect(
    clippy::disallowed_types,
    reason = "the foreign server is on a plain thread"
)]

mod io_support;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use greenwood_runtime as runtime;
use greenwood_websocket::proto::accept_key;
use greenwood_websocket::{
    CloseCode, CloseFrame, Connect, ConnectError, Deflate, Disconnect, Message, WebSocket,
    WebSocketConfig, WebSocketEnviron, WebSocketError, WebSocketHandler, connect,
};
use greenwood_wsgi::{Body, Environ, StartResponse};
use io_support::{
    CLOSE, DEADLINE, PING, PONG, Server, echo, news, pattern, serve, serve_app, serve_with,
    watchdog,
};

fn url(server: &Server) -> String {
    format!("ws://{}/ws", server.address)
}

/// A server by hand for one connection: it reads the request, and hands it and the stream on.
fn by_hand<T: Send + 'static>(
    serve: impl FnOnce(String, TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (request, stream) = accept(&listener);
        serve(request, stream)
    });
    (address, server)
}

/// Accepts a connection and reads its request.
fn accept(listener: &TcpListener) -> (String, TcpStream) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    (String::from_utf8(request).unwrap(), stream)
}

/// Grants the request, with further header lines.
fn grant(request: &str, lines: &str) -> String {
    let key = request.split("Sec-WebSocket-Key: ").nth(1).unwrap();
    let accept = accept_key(key.split("\r\n").next().unwrap());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{lines}\r\n"
    )
}

/// The next frame of a client: its first byte, its key, and its payload.
fn frame_of(stream: &mut TcpStream) -> io::Result<(u8, [u8; 4], Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    assert!(head[1] & 0x80 != 0, "a client masks");
    let len = match head[1] & 0x7f {
        126 => {
            let mut wide = [0; 2];
            stream.read_exact(&mut wide)?;
            usize::from(u16::from_be_bytes(wide))
        }
        127 => {
            let mut wide = [0; 8];
            stream.read_exact(&mut wide)?;
            u64::from_be_bytes(wide) as usize
        }
        len => usize::from(len),
    };
    let mut key = [0; 4];
    stream.read_exact(&mut key)?;
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload)?;
    for (i, byte) in payload.iter_mut().enumerate() {
        *byte ^= key[i % 4];
    }
    Ok((head[0], key, payload))
}

fn exchange(ws: &WebSocket) {
    for len in [0, 1, 125, 126, 4096, 4097, 65535, 65536, 200_000] {
        let bytes = pattern(len);
        ws.send(&bytes).unwrap();
        assert!(
            ws.receive().unwrap() == Some(Message::Binary(bytes)),
            "{len}"
        );
        let text = "\u{e4}\u{20ac}x".repeat(len / 6);
        ws.send(&text).unwrap();
        assert!(ws.receive().unwrap() == Some(Message::Text(text)), "{len}");
    }
}

#[test]
fn client_on_a_thread_talks_to_the_server() {
    let server = serve(echo);
    let ws = connect(&url(&server)).unwrap();
    assert_eq!(ws.peer_addr().unwrap(), server.address);
    exchange(&ws);
    ws.close(CloseCode::NORMAL, "bye").unwrap();
    assert!(ws.closed());
    let closed = Disconnect::LocalClosed(CloseFrame::new(CloseCode::NORMAL, "bye"));
    assert_eq!(ws.disconnect(), Some(closed));
    assert_eq!(ws.receive().unwrap(), None);
    assert!(matches!(ws.send("late"), Err(WebSocketError::Closed)));
}

#[test]
fn client_comes_from_the_address_it_is_given() {
    let server = serve(|ws| {
        ws.send(ws.peer_addr()?.ip().to_string())
            .map_err(Into::into)
    });
    let from = |address: &str| {
        let address: SocketAddr = address.parse().unwrap();
        Connect::to(url(&server)).source_address(address).connect()
    };
    let ws = from("127.0.0.9:0").unwrap();
    assert_eq!(ws.receive().unwrap(), Some("127.0.0.9".into()));
    // The server has no address of that family, and this machine not that address.
    for (none, why) in [
        ("[::1]:0", io::ErrorKind::InvalidInput),
        ("192.0.2.1:0", io::ErrorKind::AddrNotAvailable),
    ] {
        match from(none) {
            Err(ConnectError::Io(error)) => assert_eq!(error.kind(), why, "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn clients_in_greenlets_talk_to_the_server_on_their_own_hub() {
    let server = serve(echo);
    let url = url(&server);
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let url = url.clone();
            runtime::spawn(move || {
                let ws = connect(&url).unwrap();
                exchange(&ws);
                ws.close(CloseCode::NORMAL, "").unwrap();
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn client_and_server_compress() {
    for (offered, used) in [
        (Deflate::default(), Deflate::default()),
        (
            Deflate::default().context_takeover(true, true),
            Deflate::default().context_takeover(true, true),
        ),
        (
            Deflate::default()
                .context_takeover(true, false)
                .window_bits(10, 9),
            Deflate::default()
                .context_takeover(false, true)
                .window_bits(9, 12),
        ),
    ] {
        let server = serve_with(WebSocketConfig::default().deflate(used), echo);
        let ws = Connect::to(url(&server))
            .deflate(offered)
            .connect()
            .unwrap();
        for _ in 0..3 {
            exchange(&ws);
        }
        ws.close(CloseCode::NORMAL, "").unwrap();
    }
}

#[test]
fn compression_and_configuration_may_be_asked_for_in_any_order() {
    for deflate_first in [true, false] {
        let (tell, told) = news();
        let app = move |environ: &mut Environ, _: StartResponse<'_>| {
            let offered = environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS");
            tell.send(offered.map(|offer| offer.into_owned())).unwrap();
            echo(environ.websocket().unwrap()).map(|()| Body::empty())
        };
        let server = serve_app(WebSocketHandler::new(), app);
        let config = WebSocketConfig::default().max_message_size(10_000);
        let connect = Connect::to(url(&server));
        let connect = match deflate_first {
            true => connect.deflate(Deflate::default()).config(config),
            false => connect.config(config).deflate(Deflate::default()),
        };
        let ws = connect.connect().unwrap();
        let offered = told.next().expect("no extension was offered");
        assert!(offered.starts_with("permessage-deflate"), "{offered}");
        ws.close(CloseCode::NORMAL, "").unwrap();
    }
}

#[test]
fn request_arrives_with_headers_and_subprotocols() {
    let (tell, told) = news();
    let app = move |environ: &mut Environ, _: StartResponse<'_>| {
        let header = |name: &str| environ.get(name).map(|value| value.into_owned());
        tell.send((
            environ.path().to_string(),
            header("QUERY_STRING"),
            header("HTTP_HOST"),
            header("HTTP_X_TEST"),
            header("HTTP_AUTHORIZATION"),
        ))
        .unwrap();
        let ws = environ.websocket().unwrap();
        ws.send(ws.subprotocol().unwrap_or("none"))?;
        Ok(Body::empty())
    };
    let server = serve_app(WebSocketHandler::new().subprotocols(["b", "c"]), app);
    let address = server.address;
    let ws = Connect::to(format!("ws://me:pass@{address}/a/b?c=d"))
        .header("X-Test", "yes")
        .subprotocols(["a", "b", "c"])
        .connect()
        .unwrap();
    assert_eq!(ws.subprotocol(), Some("b"));
    // The greeting came with the handshake, or right behind it.
    assert_eq!(ws.receive().unwrap(), Some(Message::from("b")));
    assert_eq!(ws.receive().unwrap(), None);
    let some = |text: &str| Some(text.to_owned());
    let expected = (
        "/a/b".to_owned(),
        some("c=d"),
        some(&address.to_string()),
        some("yes"),
        some("Basic bWU6cGFzcw=="),
    );
    assert_eq!(told.next(), expected);
}

#[test]
fn names_are_looked_up() {
    let server = serve(echo);
    let ws = connect(&format!("ws://localhost:{}/", server.address.port())).unwrap();
    ws.send("x").unwrap();
    assert_eq!(ws.receive().unwrap(), Some(Message::from("x")));
    let error = connect("ws://no-such-host.invalid/").unwrap_err();
    assert!(matches!(error, ConnectError::Io(_)), "{error:?}");
}

#[test]
fn every_frame_is_masked_by_another_key() {
    let _watchdog = watchdog();
    let (address, server) = by_hand(|request, mut stream| {
        stream.write_all(grant(&request, "").as_bytes()).unwrap();
        let frames: Vec<_> = (0..102).map(|_| frame_of(&mut stream).unwrap()).collect();
        stream.write_all(&[0x88, 0]).unwrap();
        frames
    });
    let ws = connect(&format!("ws://{address}")).unwrap();
    let large = pattern(100_000);
    for _ in 0..100 {
        ws.send("hello").unwrap();
    }
    ws.send(&large).unwrap();
    ws.ping(b"ping").unwrap();
    assert_eq!(ws.receive().unwrap(), None);
    let frames = server.join().unwrap();
    let mut keys: Vec<[u8; 4]> = frames.iter().map(|frame| frame.1).collect();
    keys.sort();
    keys.dedup();
    assert!(keys.len() >= 101, "{keys:?}");
    assert!(
        frames[..100]
            .iter()
            .all(|(first, _, payload)| *first == 0x81 && payload == b"hello")
    );
    assert!(frames[100].0 == 0x82 && frames[100].2 == large);
    assert_eq!(
        (frames[101].0, &frames[101].2[..]),
        (0x80 | PING, &b"ping"[..])
    );
}

#[test]
fn client_refuses_masked_frames() {
    let _watchdog = watchdog();
    let (address, server) = by_hand(|request, mut stream| {
        let mut answer = grant(&request, "").into_bytes();
        answer.extend_from_slice(&[0x81, 0x81, 1, 2, 3, 4, b'a' ^ 1]);
        stream.write_all(&answer).unwrap();
        frame_of(&mut stream).unwrap()
    });
    let ws = connect(&format!("ws://{address}")).unwrap();
    let error = ws.receive().unwrap_err();
    assert_eq!(error.close_code(), CloseCode::PROTOCOL_ERROR);
    drop(ws);
    let (first, _, payload) = server.join().unwrap();
    assert_eq!(
        (first, &payload[..2]),
        (0x80 | CLOSE, &1002_u16.to_be_bytes()[..])
    );
}

#[test]
fn pings_of_the_server_are_answered_and_own_ones_measured() {
    let server = serve_with(
        WebSocketConfig::default().ping(Duration::from_millis(20), DEADLINE),
        |ws| {
            while ws.rtt().is_none() {
                runtime::sleep(Duration::from_millis(5));
                if let Ok(Ok(None)) =
                    runtime::with_timeout(Duration::from_millis(5), || ws.receive())
                {
                    return Ok(());
                }
            }
            ws.send("pong seen")?;
            echo(ws)
        },
    );
    let ws = Connect::to(url(&server))
        .config(WebSocketConfig::default().ping(Duration::from_millis(20), DEADLINE))
        .connect()
        .unwrap();
    assert_eq!(ws.receive().unwrap(), Some(Message::from("pong seen")));
    let other = ws.clone();
    let receiver = thread::spawn(move || other.receive());
    let began = Instant::now();
    while ws.rtt().is_none() {
        assert!(began.elapsed() < DEADLINE);
        thread::yield_now();
    }
    ws.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(receiver.join().unwrap().unwrap(), None);
}

/// One takes in the close frame, the other may be the one who comes to the end of the transport,
/// which is right behind it.
#[test]
fn who_receives_and_who_closes_agree_on_the_end() {
    const ROUNDS: usize = 200;
    let _watchdog = watchdog();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        for _ in 0..ROUNDS {
            let (request, mut stream) = accept(&listener);
            stream.write_all(grant(&request, "").as_bytes()).unwrap();
            assert_eq!(frame_of(&mut stream).unwrap().0, 0x80 | CLOSE);
            stream.write_all(b"\x88\x02\x03\xe8").unwrap();
        }
    });
    for _ in 0..ROUNDS {
        let ws = connect(&url).unwrap();
        let other = ws.clone();
        let receiver = thread::spawn(move || other.receive());
        ws.close(CloseCode::NORMAL, "").unwrap();
        assert_eq!(receiver.join().unwrap().unwrap(), None);
        assert!(ws.disconnect().unwrap().is_clean(), "{:?}", ws.disconnect());
    }
    server.join().unwrap();
}

#[test]
fn refusals_come_with_status_headers_and_body() {
    let server = serve_app(
        WebSocketHandler::new().origin(|origin, _| origin == Some("http://good")),
        |_: &mut Environ, _: StartResponse<'_>| Ok(Body::empty()),
    );
    let error = connect(&url(&server)).unwrap_err();
    let ConnectError::Refused(refusal) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(refusal.status(), 403);
    assert_eq!(refusal.head().reason(), "Forbidden");
    assert_eq!(refusal.body(), b"the origin is not allowed\n");
    assert_eq!(error.to_string(), "the server answered 403, not 101");
    Connect::to(url(&server))
        .header("Origin", "http://good")
        .connect()
        .unwrap();
}

#[test]
fn redirections_are_refused_and_say_where_to() {
    let _watchdog = watchdog();
    let (address, server) = by_hand(|_, mut stream| {
        let answer = "HTTP/1.1 302 Found\r\nLocation: ws://elsewhere/\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let error = connect(&format!("ws://{address}")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server answered 302: redirections are not followed; it points to ws://elsewhere/"
    );
    server.join().unwrap();
}

#[test]
fn endless_refusals_are_cut_off() {
    let _watchdog = watchdog();
    let (address, server) = by_hand(|_, mut stream| {
        stream.write_all(b"HTTP/1.1 500 x\r\n\r\n").unwrap();
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let error = connect(&format!("ws://{address}")).unwrap_err();
    let ConnectError::Refused(refusal) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(refusal.body().len(), 8192);
    drop(error);
    server.join().unwrap();
}

#[test]
fn wrong_answers_are_refused() {
    let _watchdog = watchdog();
    let answers: [fn(&str) -> String; 5] = [
        |request| grant(request, "").replace("Accept: ", "Accept: x"),
        |request| grant(request, "Sec-WebSocket-Protocol: x\r\n"),
        |request| grant(request, "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        |_| "SSH-2.0-OpenSSH_9.2\r\n".to_owned(),
        |_| "HTTP/1.1 101 x\r\nX: ".to_owned() + &"y".repeat(70_000),
    ];
    for answer in answers {
        let (address, server) = by_hand(move |request, mut stream| {
            stream.write_all(answer(&request).as_bytes()).ok();
            // The client goes, without a frame.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).ok();
            rest
        });
        let error = connect(&format!("ws://{address}")).unwrap_err();
        assert!(matches!(error, ConnectError::Handshake(_)), "{error:?}");
        assert_eq!(server.join().unwrap(), b"");
    }
}

#[test]
fn nobody_there_is_an_error() {
    let _watchdog = watchdog();
    // At an address at which no other test gets the port meanwhile.
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = connect(&format!("ws://{address}")).unwrap_err();
    let ConnectError::Io(cause) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
    assert!(cause.to_string().contains(&address.to_string()), "{cause}");
    // It goes away in the middle of the handshake.
    let (address, server) = by_hand(|_, stream| drop(stream));
    let error = connect(&format!("ws://{address}")).unwrap_err();
    assert!(matches!(error, ConnectError::Io(_)), "{error:?}");
    server.join().unwrap();
}

#[test]
fn silent_server_is_given_up_in_time() {
    let _watchdog = watchdog();
    let limit = Duration::from_millis(100);
    let (release, released) = news();
    let (address, server) = by_hand(move |request, mut stream| {
        // Nearly all of the answer, and drop by drop.
        for byte in &grant(&request, "").as_bytes()[..20] {
            stream.write_all(&[*byte]).ok();
        }
        released.next()
    });
    for in_greenlet in [false, true] {
        let ask = move || {
            Connect::to(format!("ws://{address}"))
                .timeout(limit)
                .connect()
                .unwrap_err()
        };
        let began = Instant::now();
        let error = match in_greenlet {
            true => runtime::spawn(ask).join().unwrap(),
            false => ask(),
        };
        assert!(
            matches!(error, ConnectError::Timeout(it) if it == limit),
            "{error:?}"
        );
        assert!(began.elapsed() >= limit);
    }
    release.send(()).unwrap();
    server.join().unwrap();
}

#[test]
fn caller_mistakes_are_told_before_anything_is_sent() {
    assert!(matches!(
        connect("http://127.0.0.1:1/"),
        Err(ConnectError::Url(_))
    ));
    for wrong in [
        Connect::to("ws://127.0.0.1:1/").header("a b", "c"),
        Connect::to("ws://127.0.0.1:1/").subprotocols(["a", "a"]),
    ] {
        assert!(matches!(wrong.connect(), Err(ConnectError::Request(_))));
    }
    let debug = format!(
        "{:?}",
        Connect::to("ws://me:5ecret@h/").header("A", "5ecret")
    );
    assert!(
        !debug.contains("5ecret") && debug.contains("ws://h/"),
        "{debug}"
    );
}

#[test]
fn dropping_the_last_handle_closes_with_1001() {
    let (tell, told) = news();
    let server = serve(move |ws| {
        while ws.receive()?.is_some() {}
        tell.send(ws.disconnect()).unwrap();
        Ok(())
    });
    let ws = connect(&url(&server)).unwrap();
    let second = ws.clone();
    drop(ws);
    second.send("still here").unwrap();
    drop(second);
    let closed = Disconnect::PeerClosed(Some(CloseFrame::new(CloseCode::GOING_AWAY, "")));
    assert_eq!(told.next(), Some(closed));
}

#[test]
fn what_waits_is_written_after_the_last_handle_is_gone() {
    let (tell, told) = news();
    let (begin, begun) = news::<()>();
    let begun = std::sync::Mutex::new(begun);
    let config = WebSocketConfig::default().max_message_size(16 << 20);
    let server = serve_with(config, move |ws| {
        // A plain wait: the peer is slow.
        begun.lock().unwrap().next();
        while let Some(message) = ws.receive()? {
            tell.send(message.len()).unwrap();
        }
        Ok(())
    });
    let config = WebSocketConfig::default().high_water(64 << 20);
    let ws = Connect::to(url(&server)).config(config).connect().unwrap();
    ws.send(pattern(12 << 20)).unwrap();
    drop(ws);
    begin.send(()).unwrap();
    assert_eq!(told.next(), 12 << 20);
}

#[test]
fn client_waits_for_the_server_to_end_the_transport() {
    let _watchdog = watchdog();
    let (address, server) = by_hand(|request, mut stream| {
        stream.write_all(grant(&request, "").as_bytes()).unwrap();
        let (first, _, payload) = frame_of(&mut stream).unwrap();
        assert_eq!(first, 0x80 | CLOSE);
        stream
            .write_all(&[&[0x88, 2][..], &payload].concat())
            .unwrap();
        // RFC 6455, 7.1.1: nothing comes from the client, not even the end.
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let silent = stream.read(&mut [0]).is_err();
        drop(stream);
        silent
    });
    let ws = connect(&format!("ws://{address}")).unwrap();
    ws.close(CloseCode::NORMAL, "").unwrap();
    assert!(server.join().unwrap());
}

#[test]
fn silent_server_does_not_hold_the_close() {
    let _watchdog = watchdog();
    let (release, released) = news::<()>();
    let (address, server) = by_hand(move |request, mut stream| {
        stream.write_all(grant(&request, "").as_bytes()).unwrap();
        released.next();
    });
    let config = WebSocketConfig::default().close_timeout(Duration::from_millis(50));
    let ws = Connect::to(format!("ws://{address}"))
        .config(config)
        .connect()
        .unwrap();
    ws.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(ws.disconnect(), Some(Disconnect::CloseTimeout));
    release.send(()).unwrap();
    server.join().unwrap();
}

#[test]
fn killed_receiver_loses_nothing() {
    let server = serve(echo);
    let ws = connect(&url(&server)).unwrap();
    let receiving = {
        let ws = ws.clone();
        runtime::spawn(move || ws.receive())
    };
    receiving.kill();
    ws.send("after").unwrap();
    assert_eq!(ws.receive().unwrap(), Some(Message::from("after")));
    let late = runtime::with_timeout(Duration::from_millis(10), || ws.receive());
    assert!(late.is_err());
    ws.send("again").unwrap();
    assert_eq!(ws.receive().unwrap(), Some(Message::from("again")));
}

#[test]
fn pongs_are_masked_answers_to_pings() {
    let _watchdog = watchdog();
    let (address, server) = by_hand(|request, mut stream| {
        stream.write_all(grant(&request, "").as_bytes()).unwrap();
        stream
            .write_all(&[0x80 | PING, 2, b'h', b'i', 0x82, 0])
            .unwrap();
        frame_of(&mut stream).unwrap()
    });
    let ws = connect(&format!("ws://{address}")).unwrap();
    assert_eq!(ws.receive().unwrap(), Some(Message::Binary(Vec::new())));
    let (first, _, payload) = server.join().unwrap();
    assert_eq!((first, &payload[..]), (0x80 | PONG, &b"hi"[..]));
    assert!(ws.receive().is_err());
}

#[test]
fn closed_client_that_is_kept_ends_its_side_behind_the_servers() {
    let _watchdog = watchdog();
    let (address, server) = by_hand(|request, mut stream| {
        stream.write_all(grant(&request, "").as_bytes()).unwrap();
        let (first, _, payload) = frame_of(&mut stream).unwrap();
        assert_eq!(first, 0x80 | CLOSE);
        stream.write_all(&[0x88, payload.len() as u8]).unwrap();
        stream.write_all(&payload).unwrap();
        // RFC 6455, 7.1.1: the server goes first.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap()
    });
    let ws = connect(&format!("ws://{address}")).unwrap();
    ws.close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(server.join().unwrap(), 0);
    assert!(ws.disconnect().unwrap().is_clean());
}

/// The server's close frame and the end of the transport come at once, to two who may both read.
#[test]
fn closing_while_another_receives_is_clean_for_both() {
    let server = serve(echo);
    for _ in 0..100 {
        let ws = connect(&url(&server)).unwrap();
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                let other = ws.clone();
                // Of two that receive one is refused; and each may be late.
                thread::spawn(move || match other.receive() {
                    Err(WebSocketError::Wait(_)) | Ok(None) => {}
                    wrong => panic!("{wrong:?}"),
                })
            })
            .collect();
        ws.close(CloseCode::NORMAL, "").unwrap();
        for receiver in receivers {
            receiver.join().unwrap();
        }
        let end = ws.disconnect().unwrap();
        assert!(end.is_clean(), "{end:?}");
    }
}
