//! RFC 6455, clause by clause, for a server on a real socket: what neither Autobahn nor the other
//! files of tests look at.
#![cfg(feature = "io")]

mod io_support;

use greenwood_websocket::{
    Deflate, Disconnect, WebSocketConfig, WebSocketEnviron, WebSocketError, WebSocketHandler,
};
use greenwood_wsgi::{Body, Environ, Result, StartResponse};
use io_support::{
    BINARY, CLOSE, KEY, PONG, Peer, Server, TEXT, announcement, binary, close, echo, frame,
    handshake, news, ping, serve, serve_app, serve_with, text,
};

/// A request line and headers that differ from the usual ones.
fn request(line: &str, headers: &str) -> String {
    format!(
        "{line}\r\n{headers}Upgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// Says what path and host it sees, then echoes.
fn place(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    let place = format!("{} {:?}", environ.path(), environ.header("host"));
    if let Some(ws) = environ.websocket() {
        ws.send(place)?;
        echo(ws)?;
        return Ok(Body::empty());
    }
    start_response("200 OK", &[])?;
    Ok(place.into())
}

fn place_server() -> Server {
    serve_app(WebSocketHandler::new(), place)
}

/// 4.2.1, 1: "Request-URI, which should be interpreted as a resource name; or an absolute HTTP/HTTPS
/// URI containing the resource name".
#[test]
fn resource_may_be_given_by_an_absolute_uri() {
    let server = place_server();
    for line in [
        "GET /ws?a=b HTTP/1.1",
        "GET http://h/ws?a=b HTTP/1.1",
        "GET HTTPS://h:443/ws HTTP/1.1",
    ] {
        let mut peer = server.connect();
        peer.write(request(line, "Host: h\r\n"));
        peer.accepted();
        peer.expect(TEXT, "/ws Some(\"h\")");
        peer.close();
    }
    for line in [
        "GET ws://h/ws HTTP/1.1",
        "GET ws HTTP/1.1",
        "GET * HTTP/1.1",
    ] {
        let mut peer = server.connect();
        peer.write(request(line, "Host: h\r\n"));
        assert!(peer.head().starts_with("HTTP/1.1 400 "), "{line}");
    }
}

/// 4.2.1, 2: "A |Host| header field containing the server's authority."
#[test]
fn handshake_has_one_host_or_gets_400() {
    let server = place_server();
    for hosts in [
        "",
        "Host: h\r\nHost: h\r\n",
        "Host: h\r\nhost: other\r\n",
        "Host: a b\r\n",
    ] {
        let mut peer = server.connect();
        peer.write([request("GET / HTTP/1.1", hosts).as_bytes(), &text("x")].concat());
        let (head, _) = peer.response();
        assert!(head.starts_with("HTTP/1.1 400 "), "{hosts:?}: {head}");
        peer.expect_end();
    }
}

/// Methods have a case (RFC 9110, 9.1), and only GET upgrades.
#[test]
fn other_methods_are_no_handshakes() {
    let server = place_server();
    for method in ["get", "POST", "PUT", "HEAD", "OPTIONS", "WEBSOCKET"] {
        let mut peer = server.connect();
        peer.write(request(&format!("{method} / HTTP/1.1"), "Host: h\r\n"));
        let head = peer.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{method}: {head}");
    }
}

/// A GET may have a body, and it comes before the frames.
#[test]
fn body_of_the_handshake_is_no_frame() {
    let server = place_server();
    let body = text("a body that looks like a frame");
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunk = [
        format!("{:x}\r\n", body.len()).as_bytes(),
        &body,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    for (headers, body) in [
        (length.as_str(), body),
        ("Transfer-Encoding: chunked\r\n", chunk),
    ] {
        let mut peer = server.connect();
        let head = handshake(headers);
        peer.write([head.as_bytes(), &body, &text("a frame")].concat());
        peer.accepted();
        peer.expect(TEXT, "/ws Some(\"h\")");
        peer.expect(TEXT, "a frame");
        peer.close();
    }
}

#[test]
fn handshake_may_come_byte_by_byte() {
    let server = place_server();
    let mut peer = server.connect();
    for byte in handshake("").bytes() {
        peer.write([byte]);
    }
    peer.accepted();
    peer.expect(TEXT, "/ws Some(\"h\")");
    peer.close();
}

/// 9.1: "multiple |Sec-WebSocket-Extensions| header fields … should be treated as if combined", and
/// the order says what the client prefers.
#[test]
fn extensions_of_several_lines_are_one_list() {
    let settings = Deflate::default().context_takeover(true, true);
    let config = WebSocketConfig::default().deflate(settings);
    let server = serve_with(config, echo);
    for (lines, agreed) in [
        (
            "Sec-WebSocket-Extensions: x-other; a=b\r\n\
             sec-websocket-extensions: permessage-deflate; server_max_window_bits=10,\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\n",
            "permessage-deflate; server_max_window_bits=10",
        ),
        (
            "Sec-WebSocket-Extensions: permessage-deflate; nonsense\r\n\
             Sec-WebSocket-Extensions: , permessage-deflate; server_max_window_bits=\"9\"\r\n",
            "permessage-deflate; server_max_window_bits=9",
        ),
    ] {
        let mut peer = server.connect();
        peer.write(handshake(lines));
        let head = peer.accepted();
        let line = format!("\r\nSec-WebSocket-Extensions: {agreed}\r\n");
        assert!(head.contains(&line), "{head}");
        peer.close();
    }
    // One bad line spoils the lot: "MUST immediately _Fail the WebSocket Connection_".
    let lines = "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Extensions: a=b\r\n";
    let mut peer = server.connect();
    peer.write(handshake(lines));
    assert!(peer.head().starts_with("HTTP/1.1 400 "));
}

/// 5.2: "the most significant bit MUST be 0", "the minimal number of bytes MUST be used".
#[test]
fn lengths_that_must_not_be_are_refused_with_1002() {
    let server = serve(echo);
    let long = |len: u64| [&[0x82, 0xff][..], &len.to_be_bytes()].concat();
    let short = |len: u16| [&[0x82, 0xfe][..], &len.to_be_bytes()].concat();
    for wire in [
        long(1 << 63),
        long(u64::MAX),
        long(1 << 63 | 5),
        long(0),
        long(125),
        long(65_535),
        short(0),
        short(125),
    ] {
        // Noticed at the length: neither the key nor the payload has to come.
        let mut peer = server.open();
        peer.write(&wire);
        assert_eq!(peer.close_code(), 1002, "{wire:02x?}");
        peer.expect_end();
    }
    // Right, but too much.
    for len in [(1 << 63) - 1, 1 << 32, (1 << 20) + 1] {
        let mut peer = server.open();
        peer.write([long(len), vec![0; 4]].concat());
        assert_eq!(peer.close_code(), 1009, "{len}");
        peer.expect_end();
    }
}

/// What can't become right is answered at its first byte; the peer may be waiting for just that.
#[test]
fn faults_are_answered_before_their_frame_is_complete() {
    let server = serve(echo);
    for wire in [
        // A reserved bit, an opcode, a control frame in fragments, nothing to continue.
        &[0xc1][..],
        &[0x91],
        &[0xa1],
        &[0x83],
        &[0x8b],
        &[0x09],
        &[0x80],
        // No mask, and a control frame that is too long.
        &[0x81, 0x05],
        &[0x89, 0xfe],
        &[0x88, 0xff],
    ] {
        let mut peer = server.open();
        peer.write(wire);
        assert_eq!(peer.close_code(), 1002, "{wire:02x?}");
        peer.expect_end();
    }
}

/// 7.4.1, 7.4.2 and the registry: what may be sent is echoed, what must not be is an error.
#[test]
fn close_codes_are_echoed_or_refused_by_the_table() {
    let server = serve(echo);
    let registered = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
    ];
    let private = [3000, 3001, 3999, 4000, 4001, 4999];
    for code in registered.into_iter().chain(private) {
        let mut peer = server.open();
        peer.write(close(code));
        peer.expect(CLOSE, u16::to_be_bytes(code));
        peer.expect_end();
    }
    let reserved = [1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999];
    let never = [0, 1, 999, 5000, 0x7fff, 0x8000, u16::MAX];
    for code in reserved.into_iter().chain(never) {
        let mut peer = server.open();
        peer.write(close(code));
        assert_eq!(peer.close_code(), 1002, "{code}");
        peer.expect_end();
    }
}

/// 5.4: "Control frames … MAY be injected in the middle of a fragmented message", and 5.5.2: "as
/// soon as is practical".
#[test]
fn ping_within_a_message_is_answered_before_the_message_ends() {
    let server = serve(echo);
    let mut peer = server.open();
    peer.write([frame(false, TEXT, "a"), ping("now")].concat());
    peer.expect(PONG, "now");
    // An answer to nothing is no answer to wait for, and none is sent.
    peer.write([frame(true, PONG, "unasked"), frame(false, 0, "b"), ping("")].concat());
    peer.expect(PONG, "");
    peer.write(frame(true, 0, "c"));
    peer.expect(TEXT, "abc");
    peer.close();
}

/// 5.5.1: the close frame ends it, whatever is unfinished.
#[test]
fn close_within_a_message_is_answered_and_the_message_dropped() {
    let (told, heard) = news();
    let server = serve(move |ws| {
        let received = ws.receive();
        told.send(format!("{received:?}, {:?}", ws.disconnect()))
            .unwrap();
        Ok(())
    });
    let mut peer = server.open();
    peer.write(
        [
            frame(false, BINARY, [0; 70_000]),
            close(1001),
            frame(true, 0, "late"),
        ]
        .concat(),
    );
    peer.expect(CLOSE, [0x03, 0xe9]);
    peer.expect_end();
    let outcome = heard.next();
    assert!(
        outcome.starts_with("Ok(None), Some(PeerClosed("),
        "{outcome}"
    );
}

/// 7.1.5: an end of the transport inside anything but the closing handshake is 1006, and answered
/// by the end.
#[test]
fn half_close_is_an_end_wherever_it_comes() {
    let (told, heard) = news();
    let server = serve(move |ws| {
        let end = loop {
            match ws.receive() {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        told.send(match end {
            Ok(_) => "clean".to_owned(),
            Err(WebSocketError::Disconnected(Disconnect::TransportEnd)) => "end".to_owned(),
            Err(error) => format!("{error:?}"),
        })
        .unwrap();
        Ok(())
    });
    let whole = binary([7; 300]);
    for (wire, outcome) in [
        (vec![], "end"),
        (whole[..1].to_vec(), "end"),
        (whole[..3].to_vec(), "end"),
        (whole[..8].to_vec(), "end"),
        (whole[..200].to_vec(), "end"),
        (whole.clone(), "end"),
        (frame(false, TEXT, "more"), "end"),
        (announcement(true, BINARY, 100_000), "end"),
        (close(1000)[..3].to_vec(), "end"),
        (close(1000), "clean"),
    ] {
        let mut peer = server.open();
        peer.write(&wire);
        peer.end_sending();
        match outcome {
            "clean" => peer.expect(CLOSE, [0x03, 0xe8]),
            // 7.1.7: a close frame may be sent, and would not arrive anywhere.
            _ => assert!(no_data(&mut peer), "{wire:02x?}"),
        }
        peer.expect_end();
        assert_eq!(heard.next(), outcome, "{wire:02x?}");
    }
}

/// Whether nothing comes but at most a close frame.
fn no_data(peer: &mut Peer) -> bool {
    match peer.try_frame() {
        Ok(None) => true,
        Ok(Some(frame)) => frame.opcode == CLOSE,
        Err(_) => false,
    }
}

/// 10.3: each frame has its own key, and any will do.
#[test]
fn every_masking_key_is_taken() {
    let server = serve(echo);
    let mut peer = server.open();
    for key in [[0; 4], [0xff; 4], [1, 0, 0, 0], [0, 0, 0, 0x80], *b"GET "] {
        let masked = b"the same"
            .iter()
            .zip(key.iter().cycle())
            .map(|(a, b)| a ^ b);
        let mut wire = vec![0x81, 0x88];
        wire.extend(key);
        wire.extend(masked);
        peer.write(wire);
        peer.expect(TEXT, "the same");
    }
    peer.close();
}
