//! RFC 6455, clause by clause, for a client against a server by hand that does what it must not.
#![cfg(feature = "io")]
#![expect(
    clippy::disallowed_types,
    reason = "the foreign server is on a plain thread"
)]

mod io_support;

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use greenwood_websocket::proto::{
    Decoder, Event, FrameHeader, Limits, OpCode, Role, accept_key, encode_frame,
};
use greenwood_websocket::{
    CloseCode, CloseFrame, Connect, Disconnect, Message, WebSocket, WebSocketConfig,
    WebSocketError, connect,
};
use io_support::{DEADLINE, watchdog};

/// The server's side of one connection.
struct Served {
    stream: TcpStream,
    request: String,
    decoder: Decoder,
    unread: Vec<u8>,
}

/// A server for one connection, on a thread of its own.
fn serve<T: Send + 'static>(
    serve: impl FnOnce(Served) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        serve(Served {
            stream,
            request: String::from_utf8(request).unwrap(),
            decoder: Decoder::new(Role::Server, Limits::default()),
            unread: Vec::new(),
        })
    });
    (address, server)
}

impl Served {
    fn key(&self) -> &str {
        let key = self.request.split("Sec-WebSocket-Key: ").nth(1).unwrap();
        key.split("\r\n").next().unwrap()
    }

    /// The answer that grants the WebSocket.
    fn grant(&self) -> Vec<u8> {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            accept_key(self.key())
        )
        .into_bytes()
    }

    /// Grants it, and sends these bytes in the same segment.
    fn grant_with(&mut self, wire: &[u8]) {
        let bytes = [&self.grant(), wire].concat();
        self.stream.write_all(&bytes).unwrap();
    }

    /// What the client says next: judged as strictly as a server does, the masks included. None at
    /// the end.
    fn next(&mut self) -> Option<Event> {
        loop {
            let (used, event) = self.decoder.decode(&mut self.unread);
            self.unread.drain(..used);
            if let Some(event) = event.unwrap() {
                return Some(event);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.unread.extend(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The code of the close frame that comes next.
    fn close_code(&mut self) -> Option<u16> {
        match self.next() {
            Some(Event::Close(Some(frame))) => Some(frame.code.as_u16()),
            other => panic!("{other:?} instead of a close frame"),
        }
    }
}

fn frame(fin: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    encode_frame(&mut wire, fin, opcode, payload, None);
    wire
}

fn text(text: &str) -> Vec<u8> {
    frame(true, OpCode::Text, text.as_bytes())
}

fn close(code: u16) -> Vec<u8> {
    frame(true, OpCode::Close, &code.to_be_bytes())
}

fn to(address: SocketAddr) -> WebSocket {
    connect(&format!("ws://{address}/")).unwrap()
}

/// 4.1: "The nonce MUST be selected randomly for each connection", and is 16 bytes in base64.
#[test]
fn keys_differ() {
    let _watchdog = watchdog();
    let mut keys = HashSet::new();
    for _ in 0..20 {
        let (address, server) = serve(|mut served| {
            served.grant_with(&close(1000));
            served.key().to_owned()
        });
        assert_eq!(to(address).receive().unwrap(), None);
        let key = server.join().unwrap();
        assert!(key.len() == 24 && key.ends_with("=="), "{key}");
        keys.insert(key);
    }
    assert_eq!(keys.len(), 20);
}

#[test]
fn frames_in_the_segment_of_the_answer_arrive() {
    let _watchdog = watchdog();
    let (address, server) = serve(|mut served| {
        let wire = [
            text("first"),
            frame(true, OpCode::Ping, b"?"),
            text("second"),
            close(4000),
        ];
        served.grant_with(&wire.concat());
        [served.next(), served.next(), served.next()]
    });
    let ws = to(address);
    assert_eq!(ws.receive().unwrap(), Some(Message::from("first")));
    assert_eq!(ws.receive().unwrap(), Some(Message::from("second")));
    assert_eq!(ws.receive().unwrap(), None);
    // 7.1.1: it waits for the server to end the transport, until nobody is interested any more.
    drop(ws);
    let [pong, answer, end] = server.join().unwrap();
    assert_eq!(pong, Some(Event::Pong(b"?".to_vec())));
    let frame = CloseFrame::new(CloseCode::from(4000), "");
    assert_eq!((answer, end), (Some(Event::Close(Some(frame))), None));
}

#[test]
fn answer_and_frames_may_come_byte_by_byte() {
    let _watchdog = watchdog();
    let (address, server) = serve(|mut served| {
        let wire = [
            served.grant(),
            frame(false, OpCode::Text, b"gr\xc3"),
            frame(true, OpCode::Ping, b"!"),
            frame(true, OpCode::Continuation, b"\xbcn"),
            close(1000),
        ];
        for byte in wire.concat() {
            served.stream.write_all(&[byte]).unwrap();
        }
        [served.next(), served.next()]
    });
    let ws = to(address);
    assert_eq!(ws.receive().unwrap(), Some(Message::from("grün")));
    assert_eq!(ws.receive().unwrap(), None);
    let [pong, answer] = server.join().unwrap();
    assert_eq!(pong, Some(Event::Pong(b"!".to_vec())));
    assert!(matches!(answer, Some(Event::Close(Some(_)))));
}

/// Whatever a server must not send ends the connection, with a close frame (masked, as `next`
/// demands) that says why.
#[test]
fn faults_of_the_server_are_named_to_it() {
    let _watchdog = watchdog();
    let long = |len: u64| [&[0x82, 0x7f][..], &len.to_be_bytes()].concat();
    let masked = FrameHeader {
        fin: true,
        rsv: 0,
        opcode: OpCode::Binary,
        mask: Some([0; 4]),
        payload_len: 0,
    };
    let (masked, used) = masked.encode();
    for (wire, code) in [
        // 5.1: "A server MUST NOT mask any frames that it sends to the client."
        (masked[..used].to_vec(), 1002),
        (vec![0x89, 0x80], 1002),
        // Compression that was not agreed on, other bits and opcodes.
        (vec![0xc1], 1002),
        (vec![0xa1], 1002),
        (vec![0x91], 1002),
        (vec![0x83], 1002),
        (vec![0x8f], 1002),
        // Control frames in fragments or too long.
        (vec![0x09], 1002),
        (vec![0x8a, 0x7e], 1002),
        // Lengths.
        (long(1 << 63), 1002),
        (long(u64::MAX), 1002),
        (long(65_535), 1002),
        (vec![0x82, 0x7e, 0, 125], 1002),
        (long((1 << 63) - 1), 1009),
        // Fragments out of order.
        (vec![0x80], 1002),
        (
            [frame(false, OpCode::Text, b"a"), vec![0x82]].concat(),
            1002,
        ),
        // Text.
        (frame(true, OpCode::Text, b"\xff"), 1007),
        (frame(false, OpCode::Text, b"\xed\xa0"), 1007),
        (frame(true, OpCode::Close, b"\x03\xe8\xff"), 1007),
        // Close codes.
        (frame(true, OpCode::Close, b"\x03"), 1002),
        (close(0), 1002),
        (close(999), 1002),
        (close(1004), 1002),
        (close(1005), 1002),
        (close(1006), 1002),
        (close(1015), 1002),
        (close(2999), 1002),
        (close(5000), 1002),
    ] {
        let bad = wire.clone();
        let (address, server) = serve(move |mut served| {
            // What was in order before is received.
            served.grant_with(&[text("good"), bad].concat());
            served.close_code()
        });
        let ws = to(address);
        assert_eq!(ws.receive().unwrap(), Some(Message::from("good")));
        let error = ws.receive().unwrap_err();
        assert_eq!(error.close_code().as_u16(), code, "{wire:02x?}");
        assert!(
            matches!(
                error,
                WebSocketError::Disconnected(
                    Disconnect::ProtocolError(_) | Disconnect::LimitExceeded(_)
                )
            ),
            "{error:?}"
        );
        drop(ws);
        assert_eq!(server.join().unwrap(), Some(code), "{wire:02x?}");
    }
}

#[test]
fn close_codes_that_may_be_sent_are_echoed() {
    let _watchdog = watchdog();
    for code in [
        1000, 1001, 1003, 1008, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
    ] {
        let (address, server) = serve(move |mut served| {
            served.grant_with(&close(code));
            (served.close_code(), served.next())
        });
        let ws = to(address);
        assert_eq!(ws.receive().unwrap(), None);
        assert_eq!(ws.disconnect().unwrap().close_code().as_u16(), code);
        drop(ws);
        assert_eq!(server.join().unwrap(), (Some(code), None));
    }
}

/// 1.4: "any further data received is discarded".
#[test]
fn what_follows_the_servers_close_is_dropped() {
    let _watchdog = watchdog();
    let (address, server) = serve(|mut served| {
        let wire = [close(1000), text("late"), vec![0xff; 100]];
        served.grant_with(&wire.concat());
        (served.close_code(), served.next())
    });
    let ws = to(address);
    assert_eq!(ws.receive().unwrap(), None);
    assert!(ws.disconnect().unwrap().is_clean());
    drop(ws);
    assert_eq!(server.join().unwrap(), (Some(1000), None));
}

/// 7.1.5: 1006, wherever the transport ends.
#[test]
fn end_without_a_close_frame_is_1006() {
    let _watchdog = watchdog();
    let whole = frame(true, OpCode::Binary, &[7; 300]);
    for cut in [0, 1, 3, 100] {
        let part = whole[..cut].to_vec();
        let (address, server) = serve(move |mut served| {
            served.grant_with(&part);
            served.stream.shutdown(Shutdown::Write).unwrap();
            while served.next().is_some() {}
        });
        let ws = to(address);
        let error = ws.receive().unwrap_err();
        assert_eq!(error.close_code(), CloseCode::ABNORMAL, "{cut}");
        assert!(!ws.disconnect().unwrap().is_clean());
        drop(ws);
        server.join().unwrap();
    }
}

/// 10.4: the limits are the client's too.
#[test]
fn message_over_the_clients_limit_is_refused_with_1009() {
    let _watchdog = watchdog();
    let (address, server) = serve(|mut served| {
        served.grant_with(
            &[
                frame(false, OpCode::Text, b"12345"),
                frame(true, OpCode::Continuation, b"6"),
            ]
            .concat(),
        );
        served.close_code()
    });
    let config = WebSocketConfig::default().max_message_size(5);
    let ws = Connect::to(format!("ws://{address}/"))
        .config(config)
        .connect()
        .unwrap();
    assert_eq!(
        ws.receive().unwrap_err().close_code(),
        CloseCode::MESSAGE_TOO_BIG
    );
    drop(ws);
    assert_eq!(server.join().unwrap(), Some(1009));
}

/// A server that others wrote, with its own handshake.
#[test]
fn tungstenites_server_echoes() {
    let _watchdog = watchdog();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut socket = tungstenite::accept(stream).unwrap();
        loop {
            match socket.read() {
                Ok(message) if message.is_text() || message.is_binary() => {
                    socket.send(message).unwrap();
                }
                Ok(_) => {}
                Err(tungstenite::Error::ConnectionClosed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let ws = to(address);
    for len in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
        let bytes = io_support::pattern(len);
        ws.ping(b"in between").unwrap();
        ws.send(&bytes).unwrap();
        assert!(
            ws.receive().unwrap() == Some(Message::Binary(bytes)),
            "{len}"
        );
        let string = "ä€😀".repeat(len / 9);
        ws.send(&string).unwrap();
        assert!(
            ws.receive().unwrap() == Some(Message::Text(string)),
            "{len}"
        );
    }
    ws.close(CloseCode::NORMAL, "bye").unwrap();
    assert!(ws.disconnect().unwrap().is_clean());
    server.join().unwrap();
}
