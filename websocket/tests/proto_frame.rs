//! Headers, masking, control-frame encoding.

mod proto_support;

use greenwood_websocket::proto::{
    CloseCode, CloseFrame, EncodeError, FrameHeader, MAX_HEADER, ProtocolError, apply_mask, close,
    encode_frame, frame_header, ping, pong,
};
use proptest::prelude::*;
use proto_support::{KEY, OpCode};

const OPCODES: [OpCode; 6] = [
    OpCode::Continuation,
    OpCode::Text,
    OpCode::Binary,
    OpCode::Close,
    OpCode::Ping,
    OpCode::Pong,
];

/// The plain masking of RFC 6455, 5.3: the judge of the fast one.
fn mask_bytewise(buf: &mut [u8], key: [u8; 4], offset: usize) {
    for (i, byte) in buf.iter_mut().enumerate() {
        *byte ^= key[(offset + i) % 4];
    }
}

proptest! {
    #[test]
    fn mask_equals_the_plain_one(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        start in 0usize..16,
        key: [u8; 4],
        offset in 0usize..100,
    ) {
        let start = start.min(bytes.len());
        let mut fast = bytes.clone();
        let mut plain = bytes;
        apply_mask(&mut fast[start..], key, offset);
        mask_bytewise(&mut plain[start..], key, offset);
        prop_assert_eq!(fast, plain);
    }

    #[test]
    fn header_survives_encoding(
        fin: bool,
        rsv in 0u8..8,
        opcode in prop::sample::select(&OPCODES[..]),
        mask: Option<[u8; 4]>,
        len in prop_oneof![0u64..130, 65_530u64..65_540, 0u64..1 << 63],
    ) {
        let control = opcode.is_control();
        let header = FrameHeader {
            fin: fin || control,
            rsv,
            opcode,
            mask,
            payload_len: if control { len % 126 } else { len },
        };
        let (bytes, used) = header.encode();
        prop_assert_eq!(FrameHeader::parse(&bytes[..used]), Ok(Some((header, used))));
        prop_assert_eq!(FrameHeader::parse(&bytes), Ok(Some((header, used))));
        for cut in 0..used {
            prop_assert_eq!(FrameHeader::parse(&bytes[..cut]), Ok(None));
        }
    }

    #[test]
    fn header_never_needs_more_than_the_maximum(bytes: [u8; MAX_HEADER]) {
        prop_assert_ne!(FrameHeader::parse(&bytes), Ok(None));
    }

    #[test]
    fn header_error_stays_the_same_with_more_bytes(bytes: [u8; MAX_HEADER]) {
        if let Err(error) = FrameHeader::parse(&bytes) {
            let earliest = (0..=MAX_HEADER).find_map(|n| FrameHeader::parse(&bytes[..n]).err());
            prop_assert_eq!(earliest, Some(error));
        }
    }
}

#[test]
fn header_lengths_take_their_shortest_form() {
    let lengths = [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)];
    for (len, header_len) in lengths {
        assert_eq!(
            frame_header(true, OpCode::Binary, len, None).1,
            header_len,
            "{len}"
        );
        assert_eq!(
            frame_header(true, OpCode::Binary, len, Some(KEY)).1,
            header_len + 4,
            "{len}"
        );
    }
}

#[test]
fn reserved_opcode_fails_at_the_first_byte() {
    for number in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let error = ProtocolError::ReservedOpCode(number);
        assert_eq!(FrameHeader::parse(&[0x80 | number]), Err(error));
        assert_eq!(OpCode::from_u8(number), None);
    }
}

#[test]
fn fragmented_control_fails_at_the_first_byte() {
    for opcode in [OpCode::Close, OpCode::Ping, OpCode::Pong] {
        let error = ProtocolError::FragmentedControl(opcode);
        assert_eq!(FrameHeader::parse(&[opcode as u8]), Err(error));
    }
}

#[test]
fn long_control_fails_at_the_second_byte() {
    for opcode in [OpCode::Close, OpCode::Ping, OpCode::Pong] {
        for len in [126, 127] {
            let error = ProtocolError::ControlTooLong(opcode);
            assert_eq!(
                FrameHeader::parse(&[0x80 | opcode as u8, 0x80 | len]),
                Err(error)
            );
        }
    }
}

#[test]
fn long_form_of_a_short_length_is_refused() {
    let two = |len: u16| [&[0x82, 126][..], &len.to_be_bytes()].concat();
    let eight = |len: u64| [&[0x82, 127][..], &len.to_be_bytes()].concat();
    assert_eq!(
        FrameHeader::parse(&two(0)),
        Err(ProtocolError::LengthNotMinimal(0))
    );
    assert_eq!(
        FrameHeader::parse(&two(125)),
        Err(ProtocolError::LengthNotMinimal(125))
    );
    assert!(FrameHeader::parse(&two(126)).is_ok());
    assert_eq!(
        FrameHeader::parse(&eight(125)),
        Err(ProtocolError::LengthNotMinimal(125))
    );
    assert_eq!(
        FrameHeader::parse(&eight(65_535)),
        Err(ProtocolError::LengthNotMinimal(65_535))
    );
    assert!(FrameHeader::parse(&eight(65_536)).is_ok());
}

#[test]
fn length_with_the_top_bit_is_refused() {
    let bytes = [&[0x82, 127][..], &(1u64 << 63).to_be_bytes()].concat();
    assert_eq!(
        FrameHeader::parse(&bytes),
        Err(ProtocolError::LengthTopBit(1 << 63))
    );
    let bytes = [&[0x82, 127][..], &(u64::MAX >> 1).to_be_bytes()].concat();
    let header = FrameHeader::parse(&bytes).unwrap().unwrap().0;
    assert_eq!(header.payload_len, u64::MAX >> 1);
}

/// The examples of RFC 6455, 5.7.
#[test]
fn frames_of_the_rfc_are_encoded_byte_for_byte() {
    let mut out = Vec::new();
    encode_frame(&mut out, true, OpCode::Text, b"Hello", None);
    assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    out.clear();
    encode_frame(&mut out, true, OpCode::Text, b"Hello", Some(KEY));
    let masked = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(out, masked);
    out.clear();
    encode_frame(&mut out, false, OpCode::Text, b"Hel", None);
    encode_frame(&mut out, true, OpCode::Continuation, b"lo", None);
    assert_eq!(out, [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f]);
    out.clear();
    ping(&mut out, b"Hello", None).unwrap();
    assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    out.clear();
    pong(&mut out, b"Hello", Some(KEY)).unwrap();
    assert_eq!(
        out,
        [
            0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
        ]
    );
    assert_eq!(
        frame_header(true, OpCode::Binary, 256, None).0[..4],
        [0x82, 0x7e, 0x01, 0x00]
    );
    assert_eq!(
        frame_header(true, OpCode::Binary, 65_536, None).0[..10],
        [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]
    );
}

#[test]
fn encoder_appends() {
    let mut out = b"before".to_vec();
    encode_frame(&mut out, true, OpCode::Binary, b"x", Some(KEY));
    assert_eq!(
        out,
        [&b"before\x82\x81"[..], &KEY, &[b'x' ^ KEY[0]]].concat()
    );
}

#[test]
fn control_payload_over_125_bytes_is_not_encoded() {
    let mut out = Vec::new();
    assert_eq!(
        ping(&mut out, &[0; 126], None),
        Err(EncodeError::ControlTooLong(126))
    );
    assert_eq!(
        pong(&mut out, &[0; 126], None),
        Err(EncodeError::ControlTooLong(126))
    );
    assert!(out.is_empty());
    ping(&mut out, &[0; 125], None).unwrap();
    assert_eq!(out.len(), 127);
}

#[test]
fn close_frame_is_encoded_with_code_and_reason() {
    let mut out = Vec::new();
    close(&mut out, None, None).unwrap();
    close(
        &mut out,
        Some(&CloseFrame::new(CloseCode::NORMAL, "bye")),
        None,
    )
    .unwrap();
    assert_eq!(out, b"\x88\x00\x88\x05\x03\xe8bye");
}

#[test]
fn close_frame_that_must_not_be_sent_is_not_encoded() {
    let mut out = Vec::new();
    let unsent = CloseFrame::new(CloseCode::NO_STATUS, "");
    let error = EncodeError::InvalidCloseCode(CloseCode::NO_STATUS);
    assert_eq!(close(&mut out, Some(&unsent), None), Err(error));
    let long = CloseFrame::new(CloseCode::NORMAL, "x".repeat(124));
    assert_eq!(
        close(&mut out, Some(&long), None),
        Err(EncodeError::ReasonTooLong(124))
    );
    assert!(out.is_empty());
    let longest = CloseFrame::new(CloseCode::NORMAL, "x".repeat(123));
    close(&mut out, Some(&longest), None).unwrap();
    assert_eq!(out.len(), 127);
}
