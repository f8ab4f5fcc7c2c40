//! Messages and errors as values.

use greenwood_websocket::proto::{CloseCode, Message, OpCode, Outgoing, ProtocolError};

#[test]
fn message_gives_its_payload_by_kind() {
    let text = Message::from("é");
    assert_eq!(
        (text.len(), text.is_text(), text.as_text()),
        (2, true, Some("é"))
    );
    assert_eq!(text.clone().into_bytes(), "é".as_bytes());
    assert_eq!(text.into_text().as_deref(), Some("é"));
    let binary = Message::from(b"ab");
    assert_eq!(
        (binary.len(), binary.is_binary(), binary.as_text()),
        (2, true, None)
    );
    assert_eq!(binary.as_bytes(), b"ab");
    assert_eq!(binary.into_text(), None);
    assert!(Message::from(String::new()).is_empty());
    assert!(Message::from(Vec::new()).is_empty());
}

#[test]
fn debug_of_a_long_message_is_short() {
    assert_eq!(
        format!("{:?}", Message::from("hi")),
        r#"Text(2 bytes, "hi")"#
    );
    assert_eq!(
        format!("{:?}", Message::from(b"\x01")),
        "Binary(1 bytes, [1])"
    );
    let long = format!("{:?}", Message::from("é".repeat(1000)));
    assert!(
        long.starts_with("Text(2000 bytes, \"éé") && long.ends_with("é\"…)"),
        "{long}"
    );
    assert!(long.len() < 100, "{long}");
    assert!(format!("{:?}", Message::from(vec![255; 1000])).len() < 400);
}

#[test]
fn display_shows_text_and_counts_bytes() {
    assert_eq!(Message::from("hi").to_string(), "hi");
    assert_eq!(Message::from(b"abc").to_string(), "3 bytes");
}

#[test]
fn outgoing_takes_whatever_the_caller_has() {
    let string = "text".to_owned();
    let message = Message::from("text");
    let text: [Outgoing<'_>; 5] = [
        "text".into(),
        (&string).into(),
        "text".to_owned().into(),
        (&message).into(),
        message.clone().into(),
    ];
    for outgoing in text {
        assert_eq!(
            (outgoing.opcode(), outgoing.as_bytes()),
            (OpCode::Text, &b"text"[..])
        );
        assert_eq!(outgoing.into_vec(), b"text");
    }
    let vector = b"bytes".to_vec();
    let message = Message::from(b"bytes");
    let binary: [Outgoing<'_>; 6] = [
        b"bytes".into(),
        b"bytes"[..].into(),
        b"bytes".to_vec().into(),
        (&vector).into(),
        (&message).into(),
        message.clone().into(),
    ];
    for outgoing in binary {
        assert_eq!(
            (outgoing.opcode(), outgoing.as_bytes()),
            (OpCode::Binary, &b"bytes"[..])
        );
        assert_eq!(outgoing.into_vec(), b"bytes");
    }
}

#[test]
fn close_code_names_its_meaning() {
    assert_eq!(CloseCode::NORMAL.to_string(), "1000 (normal closure)");
    assert_eq!(CloseCode::from(4242).to_string(), "4242 (private use)");
    assert_eq!(CloseCode::from(7).to_string(), "7 (unassigned)");
    assert_eq!(u16::from(CloseCode::from(1234)), 1234);
}

#[test]
fn error_names_the_offending_value() {
    let errors = [
        (ProtocolError::ReservedBits(4), "reserved bits 100 are set"),
        (ProtocolError::ReservedOpCode(11), "opcode 11 is reserved"),
        (
            ProtocolError::ControlTooLong(OpCode::Ping),
            "ping frame over 125 bytes",
        ),
        (
            ProtocolError::InvalidCloseCode(1005),
            "close code 1005 is not allowed",
        ),
        (
            ProtocolError::FrameTooLarge { len: 9, max: 8 },
            "frame of 9 bytes, the limit is 8",
        ),
    ];
    for (error, shown) in errors {
        assert_eq!(error.to_string(), shown);
    }
}
