//! Two sides with any settings agree, and then understand each other.
#![no_main]

use greenwood_websocket::proto::{
    Decoder, Deflate, Event, Extension, Limits, Message, OpCode, Role, encode_compressed_frame,
    encode_frame,
};
use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};

const MAX_MESSAGES: usize = 10;

fn settings(u: &mut Unstructured<'_>) -> Result<Deflate> {
    Ok(Deflate::default()
        .threshold(*u.choose(&[0, 10, 1024])?)
        .level(u.int_in_range(1..=9)?)
        .context_takeover(u.arbitrary()?, u.arbitrary()?)
        .window_bits(u.int_in_range(9..=15)?, u.int_in_range(8..=15)?))
}

fn talk(u: &mut Unstructured<'_>) -> Result<()> {
    let (ours, theirs) = (settings(u)?, settings(u)?);
    let offer = Extension::parse_list(ours.offer().as_bytes()).expect("a list");
    let agreed = theirs
        .accept(&offer)
        .expect("an offer that can be accepted");
    let answer = Extension::parse_list(agreed.answer().as_bytes()).expect("a list");
    let [answer] = &answer[..] else {
        panic!("{answer:?} is not one extension");
    };
    let seen = ours.accepted(answer).expect("an answer to the offer");
    // RFC 7692, 7.1: each side keeps to what the other was promised.
    assert_eq!(
        seen.server_no_context_takeover,
        agreed.server_no_context_takeover
    );
    assert_eq!(seen.server_max_window_bits, agreed.server_max_window_bits);
    assert!(seen.client_no_context_takeover >= agreed.client_no_context_takeover);
    assert!(seen.client_max_window_bits <= agreed.client_max_window_bits);
    assert!(agreed.server_max_window_bits <= ours.decompress_window_bits);

    let limits = Limits::default();
    let mut ends = [
        (
            seen.deflater(Role::Client, &ours),
            Decoder::new(Role::Server, limits).with_deflate(agreed.inflater(Role::Server)),
            Some([1, 2, 3, 4]),
        ),
        (
            agreed.deflater(Role::Server, &theirs),
            Decoder::new(Role::Client, limits).with_deflate(seen.inflater(Role::Client)),
            None,
        ),
    ];
    let mut said: Vec<Vec<u8>> = Vec::new();
    for _ in 0..u.int_in_range(0..=MAX_MESSAGES)? {
        let (deflater, decoder, mask) = &mut ends[usize::from(u.arbitrary::<bool>()?)];
        let message: Vec<u8> = match u.int_in_range(0..=4)? {
            // What was said before is what context is for.
            0 if !said.is_empty() => u.choose(&said)?.clone(),
            1 => {
                let piece = u.bytes(u.len().min(30))?;
                let length = u.int_in_range(0..=40_000)?;
                piece.iter().copied().cycle().take(length).collect()
            }
            _ => {
                let length = u.int_in_range(0..=2_000)?;
                u.bytes(u.len().min(length))?.to_vec()
            }
        };
        let (mut packed, mut wire) = (b"before".to_vec(), Vec::new());
        if deflater.compress(&message, &mut packed) {
            let data = packed.strip_prefix(b"before").expect("it appends");
            encode_compressed_frame(&mut wire, true, OpCode::Binary, data, *mask);
        } else {
            assert_eq!(packed, b"before");
            encode_frame(&mut wire, true, OpCode::Binary, &message, *mask);
        }
        let length = wire.len();
        let event = Event::Message(Message::Binary(message.clone()));
        assert!(decoder.decode(&mut wire) == (length, Ok(Some(event))));
        said.push(message);
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    // An input that is too short means less of a talk.
    let _ = talk(&mut Unstructured::new(data));
});
