//! The decoder by the groups of the Autobahn test suite, and what Autobahn does not see.

mod proto_support;

use greenwood_websocket::proto::{
    CloseCode, CloseFrame, Decoder, Event, Limits, ProtocolError, Role,
};
use proto_support::*;

#[test]
fn message_of_every_length_form_arrives() {
    for len in [0, 1, 7, 8, 125, 126, 127, 128, 65_535, 65_536, 65_537] {
        let payload = vec![b'*'; len];
        assert_events(&frame(FIN, OpCode::Binary, &payload), &[binary(&payload)]);
        let payload = "*".repeat(len);
        assert_events(
            &frame(FIN, OpCode::Text, payload.as_bytes()),
            &[text(&payload)],
        );
    }
}

#[test]
fn ping_and_pong_carry_their_payload() {
    for len in [0, 1, 125] {
        let payload = vec![0xfe; len];
        assert_events(
            &frame(FIN, OpCode::Ping, &payload),
            &[Event::Ping(payload.clone())],
        );
        assert_events(&frame(FIN, OpCode::Pong, &payload), &[Event::Pong(payload)]);
    }
}

#[test]
fn ping_over_125_bytes_is_refused() {
    let error = ProtocolError::ControlTooLong(OpCode::Ping);
    assert_error(&frame(FIN, OpCode::Ping, &[0xfe; 126]), error);
}

#[test]
fn reserved_bit_is_refused_at_the_first_byte() {
    for rsv in 1..8 {
        for opcode in [OpCode::Text, OpCode::Binary, OpCode::Close, OpCode::Ping] {
            let wire = raw_frame(FIN, rsv, opcode, b"", Some(KEY));
            assert_error(&wire, ProtocolError::ReservedBits(rsv));
            assert_error(&wire[..1], ProtocolError::ReservedBits(rsv));
        }
    }
}

#[test]
fn reserved_opcode_is_refused_after_a_good_message() {
    let mut wire = frame(FIN, OpCode::Text, b"good");
    wire.push(0x83);
    let error = ProtocolError::ReservedOpCode(3);
    assert_eq!(outcome(&wire), (vec![text("good")], Some(error)));
}

#[test]
fn fragmented_ping_is_refused() {
    let error = ProtocolError::FragmentedControl(OpCode::Ping);
    assert_error(&frame(MORE, OpCode::Ping, b"half"), error);
}

#[test]
fn fragments_are_joined() {
    let wire = [
        frame(MORE, OpCode::Text, b"frag"),
        frame(MORE, OpCode::Continuation, b"ment"),
        frame(FIN, OpCode::Continuation, b"s"),
        frame(MORE, OpCode::Binary, b""),
        frame(MORE, OpCode::Continuation, b""),
        frame(FIN, OpCode::Continuation, b""),
    ];
    assert_events(&wire.concat(), &[text("fragments"), binary(b"")]);
}

#[test]
fn control_frames_between_fragments_come_at_once() {
    let wire = [
        frame(MORE, OpCode::Text, b"a"),
        frame(FIN, OpCode::Ping, b"1"),
        frame(MORE, OpCode::Continuation, b"b"),
        frame(FIN, OpCode::Pong, b"2"),
        frame(FIN, OpCode::Continuation, b"c"),
    ];
    let ping = Event::Ping(b"1".to_vec());
    let pong = Event::Pong(b"2".to_vec());
    assert_events(&wire.concat(), &[ping, pong, text("abc")]);
}

#[test]
fn continuation_without_a_message_is_refused_at_the_first_byte() {
    assert_error(&[0x80], ProtocolError::UnexpectedContinuation);
    assert_error(&[0x00], ProtocolError::UnexpectedContinuation);
    let wire = [frame(FIN, OpCode::Text, b"x"), vec![0x80]].concat();
    let error = ProtocolError::UnexpectedContinuation;
    assert_eq!(outcome(&wire), (vec![text("x")], Some(error)));
}

#[test]
fn new_message_inside_a_fragmented_one_is_refused_at_the_first_byte() {
    for opcode in [OpCode::Text, OpCode::Binary] {
        let wire = [frame(MORE, OpCode::Text, b"x"), vec![0x80 | opcode as u8]].concat();
        assert_error(&wire, ProtocolError::UnfinishedMessage(opcode));
    }
}

#[test]
fn character_may_be_cut_by_a_fragment() {
    let euro = "€".as_bytes();
    let wire = [
        frame(MORE, OpCode::Text, &euro[..1]),
        frame(FIN, OpCode::Ping, b""),
        frame(MORE, OpCode::Continuation, b""),
        frame(MORE, OpCode::Continuation, &euro[1..2]),
        frame(FIN, OpCode::Continuation, &euro[2..]),
    ];
    assert_events(&wire.concat(), &[Event::Ping(vec![]), text("€")]);
}

#[test]
fn text_that_ends_inside_a_character_is_refused() {
    let error = ProtocolError::InvalidText { valid_up_to: 1 };
    assert_error(&frame(FIN, OpCode::Text, b"a\xe2\x82"), error);
    let wire = [
        frame(MORE, OpCode::Text, b"a\xe2"),
        frame(FIN, OpCode::Continuation, b"\x82"),
    ];
    assert_error(&wire.concat(), error);
}

/// Autobahn 6.4.3 and 6.4.4, strict: the bad byte fails before the frame ends.
#[test]
fn bad_byte_fails_in_an_unfinished_frame() {
    let bad = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90";
    let wire = frame(FIN, OpCode::Text, &[&bad[..], b"\x80\x80edited"].concat());
    let header = wire.len() - bad.len() - 8;
    let error = ProtocolError::InvalidText { valid_up_to: 11 };
    assert_error(&wire[..header + bad.len()], error);
    assert_eq!(outcome(&wire[..header + bad.len() - 1]), (vec![], None));
    assert_error(&wire, error);
}

#[test]
fn every_invalid_text_is_refused_with_1007() {
    let invalid: [&[u8]; 14] = [
        b"\x80",
        b"\xbf\x80",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xc1\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf7\xbf\xbf\xbf",
        b"\xfe",
        b"\xff",
    ];
    for bytes in invalid {
        let wire = frame(FIN, OpCode::Text, &[b"ok", bytes, b"after"].concat());
        let (events, error) = outcome(&wire);
        assert_eq!(events, []);
        assert_eq!(
            error,
            Some(ProtocolError::InvalidText { valid_up_to: 2 }),
            "{bytes:x?}"
        );
        assert_eq!(error.unwrap().close_code(), CloseCode::INVALID_PAYLOAD);
    }
}

#[test]
fn unusual_but_valid_text_arrives() {
    for c in [
        '\0', '\u{7f}', '\u{80}', '\u{7ff}', '\u{800}', '\u{d7ff}', '\u{e000}',
    ] {
        assert_events(
            &frame(FIN, OpCode::Text, c.to_string().as_bytes()),
            &[text(&c.to_string())],
        );
    }
    for c in [
        '\u{fffe}',
        '\u{ffff}',
        '\u{10000}',
        '\u{1fffe}',
        '\u{10ffff}',
        '\u{feff}',
    ] {
        assert_events(
            &frame(FIN, OpCode::Text, c.to_string().as_bytes()),
            &[text(&c.to_string())],
        );
    }
}

fn close_wire(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN, OpCode::Close, &[&code.to_be_bytes(), reason].concat())
}

#[test]
fn close_carries_code_and_reason() {
    assert_events(&frame(FIN, OpCode::Close, b""), &[Event::Close(None)]);
    let plain = Event::Close(Some(CloseFrame::new(CloseCode::NORMAL, "")));
    assert_events(&close_wire(1000, b""), &[plain]);
    let reason = "é".repeat(61);
    let longest = Event::Close(Some(CloseFrame::new(
        CloseCode::from(4999),
        format!("{reason}."),
    )));
    assert_events(
        &close_wire(4999, format!("{reason}.").as_bytes()),
        &[longest],
    );
}

#[test]
fn every_close_code_is_judged_by_the_registry() {
    for code in 0..=u16::MAX {
        let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let (events, error) = run_whole(server(), &close_wire(code, b""));
        if allowed {
            let frame = CloseFrame::new(CloseCode::from(code), "");
            assert_eq!((events, error), (vec![Event::Close(Some(frame))], None));
        } else {
            assert_eq!(
                (events, error),
                (vec![], Some(ProtocolError::InvalidCloseCode(code)))
            );
        }
    }
}

#[test]
fn close_with_half_a_code_is_refused() {
    assert_error(
        &frame(FIN, OpCode::Close, b"\x03"),
        ProtocolError::CloseTooShort,
    );
}

#[test]
fn close_reason_that_is_not_utf8_is_refused_with_1007() {
    let error = ProtocolError::InvalidCloseReason { valid_up_to: 3 };
    assert_error(&close_wire(1000, b"bye\xff"), error);
    assert_eq!(error.close_code(), CloseCode::INVALID_PAYLOAD);
}

#[test]
fn close_over_125_bytes_is_refused() {
    let error = ProtocolError::ControlTooLong(OpCode::Close);
    assert_error(&close_wire(1000, &[b'x'; 124]), error);
}

#[test]
fn everything_after_a_close_is_dropped() {
    let wire = [
        frame(MORE, OpCode::Text, b"never finished"),
        frame(FIN, OpCode::Close, b""),
        frame(FIN, OpCode::Text, b"late"),
        vec![0xff; 1000],
    ];
    assert_events(&wire.concat(), &[Event::Close(None)]);
    let mut decoder = server();
    let mut wire = wire.concat();
    let (consumed, _) = decoder.decode(&mut wire);
    assert_eq!(
        decoder.decode(&mut wire[consumed..]),
        (wire.len() - consumed, Ok(None))
    );
    assert!(decoder.is_idle());
}

#[test]
fn error_is_repeated() {
    let mut decoder = server();
    let error = ProtocolError::ReservedOpCode(5);
    assert_eq!(decoder.decode(&mut [0x85, 0x80]), (2, Err(error)));
    assert_eq!(
        decoder.decode(&mut frame(FIN, OpCode::Ping, b"")),
        (6, Err(error))
    );
    assert_eq!(decoder.decode(&mut []), (0, Err(error)));
    assert_eq!(decoder.sink_filled(0), Err(error));
    assert!(decoder.payload_sink().is_none());
}

#[test]
fn server_refuses_unmasked_frames_at_the_second_byte() {
    assert_eq!(outcome(&[0x81]), (vec![], None));
    assert_error(&[0x81, 0x05], ProtocolError::Unmasked);
    assert_error(
        &raw_frame(FIN, 0, OpCode::Ping, b"", None),
        ProtocolError::Unmasked,
    );
}

#[test]
fn client_refuses_masked_frames() {
    let client = || Decoder::new(Role::Client, Limits::default());
    let wire = [
        raw_frame(FIN, 0, OpCode::Text, b"plain", None),
        raw_frame(MORE, 0, OpCode::Binary, b"pla", None),
        raw_frame(FIN, 0, OpCode::Continuation, b"in", None),
    ];
    assert_eq!(
        outcome_of(client, &wire.concat()),
        (vec![text("plain"), binary(b"plain")], None)
    );
    let masked = frame(FIN, OpCode::Text, b"");
    assert_eq!(
        outcome_of(client, &masked),
        (vec![], Some(ProtocolError::Masked))
    );
}

#[test]
fn zero_key_is_a_mask() {
    let wire = raw_frame(FIN, 0, OpCode::Text, b"bare", Some([0; 4]));
    assert_events(&wire, &[text("bare")]);
}

#[test]
fn decode_stops_after_the_first_event() {
    let first = frame(FIN, OpCode::Text, b"first");
    let mut wire = [first.clone(), frame(FIN, OpCode::Ping, b"second")].concat();
    let untouched = wire[first.len()..].to_vec();
    let mut decoder = server();
    assert_eq!(
        decoder.decode(&mut wire),
        (first.len(), Ok(Some(text("first"))))
    );
    assert_eq!(wire[first.len()..], untouched);
}

#[test]
fn decoder_is_idle_only_between_messages() {
    let wire = [
        frame(MORE, OpCode::Text, b"x"),
        frame(FIN, OpCode::Ping, b"y"),
        frame(FIN, OpCode::Continuation, b""),
    ]
    .concat();
    let mut decoder = server();
    assert!(decoder.is_idle());
    for (i, byte) in wire.iter().enumerate() {
        let (_, result) = decoder.decode(&mut [*byte]);
        result.unwrap();
        assert_eq!(decoder.is_idle(), i + 1 == wire.len(), "after byte {i}");
    }
}

#[test]
fn complete_frame_is_seen_from_any_state() {
    let wire = frame(FIN, OpCode::Text, &[b'x'; 200]);
    for fed in 0..wire.len() {
        let mut decoder = server();
        assert_eq!(decoder.decode(&mut wire[..fed].to_vec()).1, Ok(None));
        for more in fed..wire.len() {
            assert!(
                !decoder.has_complete_frame(&wire[fed..more]),
                "{fed} fed, {more} there"
            );
        }
        assert!(decoder.has_complete_frame(&wire[fed..]), "{fed} fed");
        assert!(
            decoder.has_complete_frame(&[&wire[fed..], b"\x81"].concat()),
            "{fed} fed"
        );
    }
}

#[test]
fn error_counts_as_a_complete_frame() {
    assert!(server().has_complete_frame(&[0x83]));
    assert!(server().has_complete_frame(&[0x81, 0x05]));
    assert!(server().has_complete_frame(&[0xc1]));
    assert!(server().has_complete_frame(&announcement(FIN, OpCode::Text, 1 << 40)));
}

#[test]
fn nothing_is_complete_after_the_end() {
    let mut closed = server();
    closed
        .decode(&mut frame(FIN, OpCode::Close, b""))
        .1
        .unwrap();
    assert!(!closed.has_complete_frame(&frame(FIN, OpCode::Text, b"")));
    let mut failed = server();
    failed.decode(&mut [0x83]).1.unwrap_err();
    assert!(!failed.has_complete_frame(&frame(FIN, OpCode::Text, b"")));
}
