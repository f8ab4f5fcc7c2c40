//! permessage-deflate over real sockets.

mod io_support;

use greenwood_websocket::proto::{Decoder, Deflate, DeflateParams, Event, Extension, Limits, Role};
use greenwood_websocket::{Message, WebSocketConfig};
use io_support::*;

fn config(deflate: Deflate) -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(1 << 20)
        .deflate(deflate)
}

/// A client's side of the compression, with the peer that carries it.
struct Packed {
    peer: Peer,
    params: DeflateParams,
    settings: Deflate,
    decoder: Decoder,
}

fn open(server: &Server, settings: Deflate) -> Packed {
    let mut peer = server.connect();
    let offer = format!("Sec-WebSocket-Extensions: {}\r\n", settings.offer());
    peer.write(handshake(&offer));
    let head = peer.accepted();
    let answer = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "))
        .unwrap_or_else(|| panic!("no extension in {head}"));
    let answer = Extension::parse_list(answer.as_bytes()).unwrap();
    let params = settings.accepted(&answer[0]).unwrap();
    let decoder =
        Decoder::new(Role::Client, Limits::default()).with_deflate(params.inflater(Role::Client));
    Packed {
        peer,
        params,
        settings,
        decoder,
    }
}

impl Packed {
    /// The next frame: whether it is compressed, and its message.
    fn message(&mut self) -> (bool, Message) {
        let (head, _, message) = self.whole_message();
        (head & 0x40 != 0, message)
    }

    /// The next frame: the size of its payload, and its message.
    fn sized_message(&mut self) -> (usize, Message) {
        let (_, size, message) = self.whole_message();
        (size, message)
    }

    fn whole_message(&mut self) -> (u8, usize, Message) {
        let head = self.peer.exactly(2);
        let mut wire = head.clone();
        let len = match head[1] {
            126 => {
                wire.extend(self.peer.exactly(2));
                usize::from(u16::from_be_bytes([wire[2], wire[3]]))
            }
            127 => {
                wire.extend(self.peer.exactly(8));
                u64::from_be_bytes(wire[2..10].try_into().unwrap()) as usize
            }
            len => len.into(),
        };
        wire.extend(self.peer.exactly(len));
        match self.decoder.decode(&mut wire) {
            (_, Ok(Some(Event::Message(message)))) => (head[0], len, message),
            other => panic!("{other:?}"),
        }
    }
}

fn compressed(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = frame(true, opcode, payload);
    wire[0] |= 0x40;
    wire
}

fn words(n: usize) -> String {
    (0..n).map(|i| format!("word {} of {n}; ", i * i)).collect()
}

#[test]
fn messages_go_both_ways_with_and_without_context() {
    for (ours, theirs) in [
        (Deflate::default(), Deflate::default()),
        (
            Deflate::default().context_takeover(true, true),
            Deflate::default().context_takeover(true, true),
        ),
        (
            Deflate::default()
                .context_takeover(true, true)
                .window_bits(9, 9),
            Deflate::default().level(9),
        ),
    ] {
        let server = serve_with(config(ours), echo);
        let mut client = open(&server, theirs.threshold(0));
        let mut deflater = client.params.deflater(Role::Client, &client.settings);
        for round in 0..3 {
            for sent in ["", "short", &words(100), &words(10_000)] {
                let mut packed = Vec::new();
                let wire = match deflater.compress(sent.as_bytes(), &mut packed) {
                    true => compressed(TEXT, &packed),
                    false => text(sent),
                };
                client.peer.write(wire);
                let (is_compressed, message) = client.message();
                assert_eq!(is_compressed, sent.len() >= ours.threshold);
                assert!(message == Message::from(sent), "round {round}");
            }
            // Pings in between, and messages that are not compressed.
            client.peer.write(ping("p"));
            client.peer.expect(PONG, "p");
            client.peer.write(binary(words(200)));
            assert!(client.message() == (true, Message::from(words(200).as_bytes())));
        }
        client.peer.close();
    }
}

/// Context makes what repeats small.
#[test]
fn kept_context_is_used() {
    let settings = Deflate::default().context_takeover(true, true);
    let server = serve_with(config(settings), echo);
    let mut client = open(&server, settings);
    let sent = words(100);
    let mut sizes = (0..2).map(|_| {
        client.peer.write(text(&sent));
        let (size, message) = client.sized_message();
        assert!(message == Message::from(sent.as_str()));
        size
    });
    let (first, second) = (sizes.next().unwrap(), sizes.next().unwrap());
    assert!(
        first > 200 && second < first / 4,
        "{first} and {second} bytes"
    );
}

#[test]
fn nothing_is_compressed_unless_both_want_it() {
    let server = serve(echo);
    let mut peer = server.connect();
    peer.write(handshake(
        "Sec-WebSocket-Extensions: permessage-deflate\r\n",
    ));
    assert!(!peer.accepted().contains("Extensions"));
    let long = words(1_000);
    peer.write(text(&long));
    peer.expect(TEXT, &long);
    peer.write(compressed(TEXT, &[0]));
    assert_eq!(peer.close_code(), 1002);

    let server = serve_with(config(Deflate::default()), echo);
    for headers in ["", "Sec-WebSocket-Extensions: permessage-deflate; x\r\n"] {
        let mut peer = server.connect();
        peer.write(handshake(headers));
        assert!(!peer.accepted().contains("Extensions"));
        peer.write(text(&long));
        peer.expect(TEXT, &long);
        peer.close();
    }
}

#[test]
fn bombs_and_garbage_end_their_connection_only() {
    let server = serve_with(config(Deflate::default()), echo);
    let mut well = open(&server, Deflate::default());
    let settings = Deflate::default().level(9).threshold(0);
    let mut deflater = well.params.deflater(Role::Client, &settings);
    let mut bomb = Vec::new();
    assert!(deflater.compress(&vec![b' '; (1 << 20) + 1], &mut bomb));
    assert!(bomb.len() < 5_000);
    let mut bad_text = Vec::new();
    assert!(deflater.compress(&[b'a', 0xff].repeat(50), &mut bad_text));
    for (payload, code) in [
        (bomb.as_slice(), 1009),
        (&[0xff; 10], 1007),
        (&bad_text, 1007),
    ] {
        let mut client = open(&server, Deflate::default());
        client.peer.write(compressed(TEXT, payload));
        assert_eq!(client.peer.close_code(), code);
    }
    well.peer.write(text("well"));
    assert!(well.message() == (false, Message::from("well")));
    well.peer.close();
}

#[test]
fn malformed_extensions_get_400() {
    let server = serve_with(config(Deflate::default()), echo);
    let mut peer = server.connect();
    peer.write(handshake(
        "Sec-WebSocket-Extensions: permessage-deflate;;\r\n",
    ));
    let (head, body) = peer.response();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(body.contains("Sec-WebSocket-Extensions"), "{body}");
}
