//! Feeding a WebSocket decoder: whole, byte by byte, in pieces, by each of its entrances.

use greenwood_websocket::proto::{
    Decoder, Deflate, DeflateParams, Event, Extension, Limits, ProtocolError, Role,
};

use crate::Cuts;

/// What a stream gave: the events, and the error that ended it.
pub type Outcome = (Vec<Event>, Option<ProtocolError>);

/// How a decoder is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// This side.
    pub role: Role,
    /// What the peer may make it hold.
    pub limits: Limits,
    /// Whether messages may be compressed, and if so, whether with context.
    pub deflate: Option<bool>,
}

impl Setup {
    /// The setup that two bytes stand for.
    pub fn of(kind: u8, limit: u8) -> Setup {
        let size = [0, 1, 7, 125, 126, 1_000, 65_535, 1 << 20][usize::from(limit % 8)];
        let frame = [0, 1, 7, 125, 126, 1_000, 65_535, 1 << 20][usize::from(limit / 8 % 8)];
        Setup {
            role: if kind & 1 == 0 {
                Role::Server
            } else {
                Role::Client
            },
            limits: Limits::default()
                .max_message_size(size)
                .max_frame_size(if limit < 64 { size } else { frame }),
            deflate: [None, None, Some(false), Some(true)][usize::from(kind / 2 % 4)],
        }
    }

    /// A decoder at the start of its stream.
    pub fn decoder(&self) -> Decoder {
        let decoder = Decoder::new(self.role, self.limits);
        match self.deflate {
            None => decoder,
            Some(context) => decoder.with_deflate(agreed(context).inflater(self.role)),
        }
    }

    /// How much memory a decoder may ever have: a message that grows by doubling and is moved on
    /// the way, and what decompresses it.
    pub fn most_memory(&self) -> u64 {
        let message = 2 * self.limits.max_message_size as u64 + (32 << 10);
        message + self.deflate.map_or(0, |_| 128 << 10)
    }
}

/// What is agreed on by two sides that both keep context, or both don't.
pub fn agreed(context: bool) -> DeflateParams {
    let settings = Deflate::default().context_takeover(context, context);
    let offer = Extension::parse_list(b"permessage-deflate; client_max_window_bits");
    let params = settings.accept(&offer.expect("a good offer"));
    params.expect("an offer that can be accepted")
}

/// Feeds one piece to its end. After an error nothing more is to come.
pub fn feed(decoder: &mut Decoder, piece: &mut [u8], outcome: &mut Outcome) {
    let mut at = 0;
    loop {
        let (used, result) = decoder.decode(&mut piece[at..]);
        at += used;
        if note(result, at == piece.len(), outcome) {
            return;
        }
    }
}

/// Notes a result; says whether the piece is at its end.
fn note(result: Result<Option<Event>, ProtocolError>, taken: bool, outcome: &mut Outcome) -> bool {
    match result {
        Ok(Some(event)) => {
            assert_eq!(outcome.1, None, "an event after an error");
            assert!(
                !matches!(outcome.0.last(), Some(Event::Close(_))),
                "an event after the close frame"
            );
            outcome.0.push(event);
            false
        }
        Ok(None) => {
            assert!(taken, "without an event all input is taken");
            assert_eq!(outcome.1, None, "the error is forgotten");
            true
        }
        Err(error) => {
            assert!(taken, "with an error all input is taken");
            assert!(
                outcome.1.is_none_or(|first| first == error),
                "another error"
            );
            outcome.1 = Some(error);
            true
        }
    }
}

/// Feeds the stream as a whole.
pub fn run_whole(mut decoder: Decoder, wire: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    feed(&mut decoder, &mut wire.to_vec(), &mut outcome);
    check_end(&mut decoder, &outcome);
    outcome
}

/// Feeds the stream byte by byte.
pub fn run_bytewise(mut decoder: Decoder, wire: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    for &byte in wire {
        feed(&mut decoder, &mut [byte], &mut outcome);
    }
    check_end(&mut decoder, &outcome);
    outcome
}

/// Feeds the stream in pieces.
pub fn run_cut(mut decoder: Decoder, wire: &[u8], mut cuts: Cuts<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rest = wire;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(cuts.next_size()));
        feed(&mut decoder, &mut piece.to_vec(), &mut outcome);
        rest = after;
    }
    outcome
}

/// Feeds the stream in pieces, as the connection does: by the short way for whole messages, by the
/// payload sink where there is one.
pub fn run_fast(mut decoder: Decoder, wire: &[u8], mut cuts: Cuts<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rest = wire;
    while !rest.is_empty() {
        let size = rest.len().min(cuts.next_size());
        if let Some(sink) = decoder.payload_sink() {
            let size = size.min(sink.remaining);
            let (piece, after) = rest.split_at(size);
            sink.buffer.extend_from_slice(piece);
            let result = decoder.sink_filled(size);
            note(result, true, &mut outcome);
            rest = after;
            continue;
        }
        let (piece, after) = rest.split_at(size);
        rest = after;
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let complete = decoder.has_complete_frame(&piece[at..]);
            if let Some((used, message)) = decoder.decode_message(&mut piece[at..]) {
                assert!(complete, "a message of an incomplete frame");
                at += used;
                note(Ok(Some(Event::Message(message))), false, &mut outcome);
                continue;
            }
            let (used, result) = decoder.decode(&mut piece[at..]);
            at += used;
            if note(result, at == piece.len(), &mut outcome) {
                break;
            }
        }
    }
    outcome
}

/// What holds at the end of every stream.
fn check_end(decoder: &mut Decoder, outcome: &Outcome) {
    let over = matches!(outcome.0.last(), Some(Event::Close(_)));
    if let Some(error) = outcome.1 {
        assert_eq!(decoder.decode(&mut [0x81]), (1, Err(error)));
    } else if over {
        assert_eq!(decoder.decode(&mut [0x83]), (1, Ok(None)));
    }
}

/// The outcome of a stream, which is the same however the stream is cut.
pub fn outcome(setup: Setup, wire: &[u8], cuts: Cuts<'_>) -> Outcome {
    let whole = run_whole(setup.decoder(), wire);
    assert_eq!(
        run_bytewise(setup.decoder(), wire),
        whole,
        "byte by byte (left)"
    );
    assert_eq!(
        run_cut(setup.decoder(), wire, cuts.clone()),
        whole,
        "in pieces (left)"
    );
    assert_eq!(
        run_fast(setup.decoder(), wire, cuts),
        whole,
        "by the short ways (left)"
    );
    whole
}

/// Fails if a decoder takes more memory than its limits allow, and than the stream is worth.
pub fn check_memory(setup: Setup, wire: &[u8], mut cuts: Cuts<'_>) {
    let peak = crate::peak(|| {
        let mut decoder = setup.decoder();
        let mut piece = Vec::new();
        let mut rest = wire;
        while !rest.is_empty() {
            let (next, after) = rest.split_at(rest.len().min(cuts.next_size()));
            piece.clear();
            piece.extend_from_slice(next);
            rest = after;
            let mut at = 0;
            // Events are dropped as they come.
            while let (used, Ok(Some(_))) = decoder.decode(&mut piece[at..]) {
                at += used;
            }
        }
    });
    // The pieces are memory too, and ours.
    let pieces = 2 * wire.len() as u64;
    let mut most = setup.most_memory();
    if setup.deflate.is_none() {
        // It grows with what has arrived, not with what was announced.
        most = most.min(4 * wire.len() as u64 + (32 << 10));
    }
    assert!(
        peak <= most + pieces,
        "{peak} bytes at once, {most} allowed"
    );
}
