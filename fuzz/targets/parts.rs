//! Any bytes, given in parts: frame by frame the same at every cut, in chunks the same content, and
//! no more held than a few chunks, however long the messages are.
#![no_main]

use greenwood_fuzz::{
    Cuts, byte,
    websocket::{Outcome, Setup, feed, run_bytewise, run_cut, run_whole},
};
use greenwood_websocket::proto::{Decoder, Event, OpCode, ProtocolError, Unit};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let setup = Setup::of(byte(&mut data), byte(&mut data));
    let cuts = Cuts::take(&mut data);

    let frames = || decoder(setup, Unit::Frames);
    let whole = run_whole(frames(), data);
    assert_eq!(run_bytewise(frames(), data), whole, "byte by byte (left)");
    assert_eq!(
        run_cut(frames(), data, cuts.clone()),
        whole,
        "in pieces (left)"
    );
    check_order(&whole.0);

    let chunks = || decoder(setup, Unit::Chunks);
    let whole = content(run_whole(chunks(), data));
    assert_eq!(
        content(run_bytewise(chunks(), data)),
        whole,
        "byte by byte (left)"
    );
    assert_eq!(
        content(run_cut(chunks(), data, cuts.clone())),
        whole,
        "in pieces (left)"
    );

    check_memory(setup, data, cuts.clone());
    change(setup, data, cuts);
});

fn decoder(setup: Setup, unit: Unit) -> Decoder {
    let mut decoder = setup.decoder();
    decoder.deliver(unit).expect("nothing is under way");
    decoder
}

/// A message begins with its kind, and goes on with continuations up to its end.
fn check_order(events: &[Event]) {
    let mut open = false;
    for event in events {
        match event {
            Event::Part(part) => {
                assert_eq!(part.opcode == OpCode::Continuation, open);
                open = !part.fin;
            }
            Event::Message(_) => panic!("a whole message among parts"),
            _ => {}
        }
    }
}

/// What is the same however a stream of chunks is cut: the messages, finished or not, the control
/// frames, and the error.
#[derive(Debug, Default, PartialEq)]
struct Content {
    messages: Vec<(OpCode, Vec<u8>, bool)>,
    controls: Vec<Event>,
    error: Option<ProtocolError>,
}

fn content((events, error): Outcome) -> Content {
    check_order(&events);
    let mut content = Content {
        error,
        ..Content::default()
    };
    for event in events {
        let Event::Part(part) = event else {
            content.controls.push(event);
            continue;
        };
        if part.opcode != OpCode::Continuation {
            content.messages.push((part.opcode, Vec::new(), false));
        }
        let (opcode, payload, fin) = content.messages.last_mut().expect("it has begun");
        payload.extend(&part.payload);
        *fin = part.fin;
        if *opcode == OpCode::Text {
            // Cut between characters, so what there is is text.
            assert!(std::str::from_utf8(&part.payload).is_ok());
        }
    }
    // Of a message that fails, or has only begun, more or less may have been given.
    content.messages.retain(|(_, _, fin)| *fin);
    content
}

/// What is held does not grow with the messages.
fn check_memory(setup: Setup, data: &[u8], mut cuts: Cuts<'_>) {
    let peak = greenwood_fuzz::peak(|| {
        let mut decoder = decoder(setup, Unit::Chunks);
        let mut rest = data;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(cuts.next_size()));
            rest = after;
            let (mut piece, mut at) = (piece.to_vec(), 0);
            while let (used, Ok(Some(_))) = decoder.decode(&mut piece[at..]) {
                at += used;
            }
        }
    });
    let most = (192 << 10) + setup.deflate.map_or(0, |_| 128 << 10) + data.len() as u64;
    assert!(peak <= most, "{peak} bytes at once, {most} allowed");
}

/// The unit may change at any time.
fn change(setup: Setup, data: &[u8], mut cuts: Cuts<'_>) {
    let mut decoder = setup.decoder();
    let mut outcome = Outcome::default();
    let mut rest = data;
    while !rest.is_empty() {
        let size = cuts.next_size();
        let unit = [Unit::Messages, Unit::Chunks, Unit::Frames][size % 3];
        if let Err(error) = decoder.deliver(unit) {
            assert_eq!(decoder.decode(&mut [0x81]), (1, Err(error)));
            return;
        }
        let (piece, after) = rest.split_at(rest.len().min(size));
        feed(&mut decoder, &mut piece.to_vec(), &mut outcome);
        if size.is_multiple_of(5) {
            decoder.skip_rest();
        }
        rest = after;
    }
    for event in &outcome.0 {
        if let Event::Message(message) = event {
            assert!(message.len() <= setup.limits.max_message_size);
        }
    }
}
