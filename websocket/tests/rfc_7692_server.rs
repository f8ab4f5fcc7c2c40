//! RFC 7692, clause by clause, for a server on a real socket: what is sent to it, and what must not
//! be. What it sends is short here, so that it is not worth compressing.
#![cfg(feature = "io")]

mod io_support;

use greenwood_websocket::{Deflate, WebSocketConfig};
use io_support::{
    BINARY, CLOSE, PING, PONG, Peer, Server, TEXT, echo, frame, handshake, ping, serve, serve_with,
    text,
};

const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

fn server() -> Server {
    let settings = Deflate::default().context_takeover(true, true);
    serve_with(WebSocketConfig::default().deflate(settings), echo)
}

fn open(server: &Server) -> Peer {
    let mut peer = server.connect();
    peer.write(handshake(
        "Sec-WebSocket-Extensions: permessage-deflate\r\n",
    ));
    let head = peer.accepted();
    assert!(
        head.contains("\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"),
        "{head}"
    );
    peer
}

/// A frame with RSV1.
fn marked(fin: bool, opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut wire = frame(fin, opcode, payload);
    wire[0] |= 0x40;
    wire
}

/// 7.2.3.1 to 7.2.3.6.
#[test]
fn examples_of_the_rfc_are_echoed() {
    let server = server();
    let mut peer = open(&server);
    let wire = [
        marked(true, TEXT, HELLO),
        // Again, out of the context.
        marked(true, TEXT, [0xf2, 0x00, 0x11, 0x00, 0x00]),
        // A block without compression, a last block, two blocks.
        marked(true, TEXT, b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"),
        marked(true, TEXT, [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]),
        marked(
            true,
            TEXT,
            b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        ),
    ];
    peer.write(wire.concat());
    for _ in 0..5 {
        peer.expect(TEXT, "Hello");
    }
    peer.write(marked(true, BINARY, [0x00]));
    peer.expect(BINARY, "");
    peer.close();
}

/// 6.1: "sets the RSV1 bit of the first fragment"; control frames come between as ever, and are not
/// compressed.
#[test]
fn compressed_message_may_come_in_fragments() {
    let server = server();
    let mut peer = open(&server);
    peer.write([marked(false, TEXT, &HELLO[..3]), ping("between")].concat());
    peer.expect(PONG, "between");
    peer.write([frame(false, 0, ""), frame(false, 0, &HELLO[3..6])].concat());
    peer.write(frame(true, 0, &HELLO[6..]));
    peer.expect(TEXT, "Hello");
    // 6: a message that is not compressed is one, too.
    peer.write(text("plain"));
    peer.expect(TEXT, "plain");
    peer.close();
}

/// 6.1 and 6.2: the bit has no meaning anywhere else.
#[test]
fn bit_of_compression_elsewhere_is_refused_with_1002() {
    let server = server();
    for wire in [
        marked(true, PING, "x"),
        marked(true, PONG, ""),
        marked(true, CLOSE, [0x03, 0xe8]),
        [frame(false, TEXT, "a"), marked(true, 0, HELLO)].concat(),
        [
            marked(false, TEXT, &HELLO[..3]),
            marked(true, 0, &HELLO[3..]),
        ]
        .concat(),
        // The other bits are still reserved.
        vec![0xa1],
        vec![0x91],
        vec![0xe1],
    ] {
        let mut peer = open(&server);
        peer.write(&wire);
        assert_eq!(peer.close_code(), 1002, "{wire:02x?}");
        peer.expect_end();
    }
}

/// 7.2.2: what can't be decompressed fails the connection.
#[test]
fn bad_data_is_refused_with_1007() {
    let server = server();
    for (opcode, data) in [
        (BINARY, &[0x07][..]),
        (BINARY, b"\x00\x05\x00\x00\x00hello"),
        // Farther back than there is anything.
        (BINARY, &[0xf2, 0x00, 0x11, 0x00, 0x00]),
        // Text that is none: a stored block with a byte of it.
        (TEXT, b"\x00\x01\x00\xfe\xff\xff\x00"),
    ] {
        let mut peer = open(&server);
        peer.write(marked(true, opcode, data));
        assert_eq!(peer.close_code(), 1007, "{data:02x?}");
        peer.expect_end();
    }
}

/// 5: without an agreement there is no extension.
#[test]
fn compression_that_was_not_agreed_on_is_refused_with_1002() {
    let plain = serve(echo);
    let mut peer = plain.connect();
    peer.write(handshake(
        "Sec-WebSocket-Extensions: permessage-deflate\r\n",
    ));
    assert!(!peer.accepted().contains("Extensions"));
    peer.write(marked(true, TEXT, HELLO));
    assert_eq!(peer.close_code(), 1002);
    peer.expect_end();
    let server = server();
    let mut peer = server.open();
    peer.write(marked(true, TEXT, HELLO));
    assert_eq!(peer.close_code(), 1002);
    peer.expect_end();
}
