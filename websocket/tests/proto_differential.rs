//! A stranger's implementation has the last word: tungstenite reads what we read, on either side,
//! and each reads what the other writes.

mod proto_support;
#[path = "proto_support/stream.rs"]
mod stream;

use std::io::{Cursor, Read, Write};

use greenwood_websocket::proto::{
    CloseCode, CloseFrame, Event, Message, ProtocolError, Role, encode_frame,
};
use proptest::prelude::*;
use proto_support::*;
use stream::{Act, CLIENT, Control, Payload, SERVER, Sender, acts, damaged};
use tungstenite::protocol::WebSocketConfig;

/// How tungstenite got on.
#[derive(Debug, PartialEq)]
enum End {
    /// It wants more bytes.
    Unfinished,
    /// The close frame came.
    Closed,
    /// It refused the stream.
    Refused,
}

/// tungstenite's role where ours is this.
fn other(role: Role) -> tungstenite::protocol::Role {
    match role {
        Role::Client => tungstenite::protocol::Role::Server,
        Role::Server => tungstenite::protocol::Role::Client,
    }
}

/// Reads from the wire and forgets what is written.
struct Peer(Cursor<Vec<u8>>);

impl Read for Peer {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Peer {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of a stream of this sender.
fn stranger(sender: Sender, wire: &[u8]) -> (Vec<Event>, End) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(1 << 20))
        .max_frame_size(Some(1 << 20));
    let peer = Peer(Cursor::new(wire.to_vec()));
    let role = other(sender.role);
    let mut socket = tungstenite::WebSocket::from_raw_socket(peer, role, Some(config));
    let mut events = Vec::new();
    loop {
        events.push(match socket.read() {
            Ok(tungstenite::Message::Text(text)) => Event::Message(Message::from(text.as_str())),
            Ok(tungstenite::Message::Binary(bytes)) => Event::Message(Message::from(&bytes[..])),
            Ok(tungstenite::Message::Ping(bytes)) => Event::Ping(bytes.to_vec()),
            Ok(tungstenite::Message::Pong(bytes)) => Event::Pong(bytes.to_vec()),
            Ok(tungstenite::Message::Close(frame)) => {
                events.push(Event::Close(frame.map(|frame| {
                    let code = CloseCode::from(u16::from(frame.code));
                    CloseFrame::new(code, frame.reason.as_str())
                })));
                return (events, End::Closed);
            }
            Ok(tungstenite::Message::Frame(_)) => unreachable!("read gives no raw frames"),
            Err(tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return (events, End::Unfinished),
            Err(_) => return (events, End::Refused),
        });
    }
}

/// The answer that tungstenite makes up for a close code it does not accept.
fn is_close_refusal(event: &Event) -> bool {
    *event
        == Event::Close(Some(CloseFrame::new(
            CloseCode::PROTOCOL_ERROR,
            "Protocol violation",
        )))
}

fn compare(sender: Sender, wire: &[u8]) -> Result<(), TestCaseError> {
    let (events, error) = run_whole(sender.receiver(), wire);
    let (mut theirs, end) = stranger(sender, wire);
    match error {
        // Differences by intent, each at the end of the stream.
        // RFC 6455, 5.2: the shortest form of a length is a MUST. tungstenite reads on.
        Some(ProtocolError::LengthNotMinimal(_)) => theirs.truncate(events.len()),
        // It answers 1002 itself and reports that as the peer's frame.
        Some(ProtocolError::InvalidCloseCode(_)) => {
            // If the reason is no UTF-8 either, it just refuses.
            let made_up = theirs.pop_if(|event| is_close_refusal(event)).is_some();
            prop_assert!(made_up || end == End::Refused);
        }
        // It refuses a frame when it is complete, we at the byte that proves it wrong; so the
        // stream may have ended before it noticed.
        Some(_) => prop_assert!(matches!(end, End::Refused | End::Unfinished), "{:?}", error),
        // 1014 was registered after RFC 6455, tungstenite does not know it.
        None if theirs.last().is_some_and(is_close_refusal)
            && matches!(events.last(), Some(Event::Close(Some(frame)))
                if frame.code == CloseCode::BAD_GATEWAY) =>
        {
            prop_assert_eq!(&events[..events.len() - 1], &theirs[..theirs.len() - 1]);
            return Ok(());
        }
        None => {
            let closed = matches!(events.last(), Some(Event::Close(_)));
            prop_assert_eq!(end, if closed { End::Closed } else { End::Unfinished });
        }
    }
    prop_assert_eq!(events, theirs);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn stranger_sees_the_same_in_a_stream_of_a_client(wire in damaged(CLIENT)) {
        compare(CLIENT, &wire)?;
    }

    #[test]
    fn stranger_sees_the_same_in_a_stream_of_a_server(wire in damaged(SERVER)) {
        compare(SERVER, &wire)?;
    }

    #[test]
    fn stranger_sees_the_same_in_noise(wire in prop::collection::vec(any::<u8>(), 0..40)) {
        compare(CLIENT, &wire)?;
        compare(SERVER, &wire)?;
    }

    #[test]
    fn stranger_sees_the_same_in_any_text(
        bytes in prop::collection::vec(any::<u8>(), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let (first, rest) = bytes.split_at(cut.index(bytes.len()));
        let whole = frame(FIN, OpCode::Text, &bytes);
        let first = frame(MORE, OpCode::Text, first);
        compare(CLIENT, &[whole, first, frame(FIN, OpCode::Continuation, rest)].concat())?;
    }
}

proptest! {
    #[test]
    fn what_the_stranger_writes_is_read(acts in acts(), sizes in prop::collection::vec(1usize..5_000, 1..5)) {
        for sender in [CLIENT, SERVER] {
            let (wire, mut events) = written(sender, &acts);
            events.push(Event::Close(Some(CloseFrame::new(CloseCode::from(4000), "bye"))));
            prop_assert_eq!(&run_whole(sender.receiver(), &wire), &(events.clone(), None));
            prop_assert_eq!(&run_cut(sender.receiver(), &wire, &sizes), &(events, None));
        }
    }

    #[test]
    fn stranger_reads_what_is_written(acts in acts()) {
        for sender in [CLIENT, SERVER] {
            let mask = (sender.role == Role::Client).then_some(KEY);
            let (mut wire, mut events) = (Vec::new(), Vec::new());
            for act in &acts {
                let (opcode, payload, event) = whole(act);
                encode_frame(&mut wire, FIN, opcode, &payload, mask);
                events.push(event);
            }
            encode_frame(&mut wire, FIN, OpCode::Close, b"", mask);
            events.push(Event::Close(None));
            prop_assert_eq!(stranger(sender, &wire), (events, End::Closed));
        }
    }
}

#[test]
fn stranger_refuses_what_is_refused_here() {
    let refused = [
        raw_frame(FIN, 4, OpCode::Text, b"", Some(KEY)),
        raw_frame(FIN, 0, OpCode::Text, b"", None),
        announcement(FIN, OpCode::Binary, 1 << 40),
        frame(MORE, OpCode::Ping, b""),
        frame(FIN, OpCode::Ping, &[0; 126]),
        frame(FIN, OpCode::Continuation, b""),
        frame(FIN, OpCode::Text, b"\xff"),
        frame(FIN, OpCode::Close, b"\x03"),
        [
            frame(MORE, OpCode::Text, b""),
            frame(FIN, OpCode::Text, b""),
        ]
        .concat(),
    ];
    for wire in refused {
        assert!(run_whole(server(), &wire).1.is_some(), "{wire:x?}");
        assert_eq!(stranger(CLIENT, &wire).1, End::Refused, "{wire:x?}");
    }
    let masked = frame(FIN, OpCode::Text, b"");
    assert!(run_whole(SERVER.receiver(), &masked).1.is_some());
    assert_eq!(stranger(SERVER, &masked).1, End::Refused);
}

/// What an act means, in one frame.
fn whole(act: &Act) -> (OpCode, Vec<u8>, Event) {
    match act {
        Act::Message { payload, .. } => match payload {
            Payload::Text(string) => (OpCode::Text, string.clone().into_bytes(), text(string)),
            Payload::Binary(bytes) => (OpCode::Binary, bytes.clone(), binary(bytes)),
        },
        Act::Control(Control::Ping(payload)) => {
            (OpCode::Ping, payload.clone(), Event::Ping(payload.clone()))
        }
        Act::Control(Control::Pong(payload)) => {
            (OpCode::Pong, payload.clone(), Event::Pong(payload.clone()))
        }
    }
}

/// The acts and a close frame as tungstenite writes them in the sender's place.
fn written(sender: Sender, acts: &[Act]) -> (Vec<u8>, Vec<Event>) {
    let role = match sender.role {
        Role::Client => tungstenite::protocol::Role::Client,
        Role::Server => tungstenite::protocol::Role::Server,
    };
    let mut socket = tungstenite::WebSocket::from_raw_socket(Cursor::new(Vec::new()), role, None);
    let mut events = Vec::new();
    for act in acts {
        let (opcode, payload, event) = whole(act);
        socket
            .send(match opcode {
                OpCode::Text => {
                    tungstenite::Message::text(String::from_utf8(payload).expect("text"))
                }
                OpCode::Binary => tungstenite::Message::binary(payload),
                OpCode::Ping => tungstenite::Message::Ping(payload.into()),
                _ => tungstenite::Message::Pong(payload.into()),
            })
            .unwrap();
        events.push(event);
    }
    let bye = tungstenite::protocol::CloseFrame {
        code: 4000.into(),
        reason: "bye".into(),
    };
    socket.close(Some(bye)).unwrap();
    socket.flush().unwrap();
    (std::mem::take(socket.get_mut()).into_inner(), events)
}
