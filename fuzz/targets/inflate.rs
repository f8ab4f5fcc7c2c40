//! Any bytes as the compressed data of messages: nothing is made of them beyond the limits, and the
//! cuts change nothing.
#![no_main]

use greenwood_fuzz::{
    Cuts, byte,
    websocket::{Setup, check_memory, outcome},
};
use greenwood_websocket::proto::{Event, OpCode, Role, encode_compressed_frame, encode_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let kind = byte(&mut data);
    let mut setup = Setup::of(kind & 1, 0);
    setup.deflate = Some(kind & 2 != 0);
    let max = [0, 100, 4_096, 100_000][usize::from(kind / 4 % 4)];
    setup.limits = setup.limits.max_message_size(max).max_frame_size(1 << 20);
    let cuts = Cuts::take(&mut data);

    // Two messages, so that the second has the context of the first; each in two frames.
    let opcode = if kind & 16 == 0 {
        OpCode::Binary
    } else {
        OpCode::Text
    };
    let mask = (setup.role == Role::Server).then_some([0x37, 0xfa, 0x21, 0x3d]);
    let middle = usize::from(byte(&mut data)).min(data.len());
    let (first, second) = data.split_at(middle);
    let mut wire = Vec::new();
    for message in [first, second] {
        let (head, tail) = message.split_at(message.len() / 3);
        encode_compressed_frame(&mut wire, false, opcode, head, mask);
        encode_frame(&mut wire, true, OpCode::Continuation, tail, mask);
    }
    let (events, error) = outcome(setup, &wire, cuts.clone());
    for event in &events {
        let Event::Message(message) = event else {
            panic!("{event:?} out of a message");
        };
        assert!(message.len() <= max);
    }
    assert!(error.is_some() || events.len() == 2);
    if let Some(error) = error {
        assert!(
            matches!(error.close_code().as_u16(), 1007 | 1009),
            "{error}"
        );
    }
    check_memory(setup, &wire, cuts);
});
