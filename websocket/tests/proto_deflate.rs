//! permessage-deflate (RFC 7692): negotiation, both directions, and hostile data.

mod proto_support;

use greenwood_websocket::proto::{
    CloseCode, Decoder, Deflate, DeflateParams, Event, Extension, Fault, Limits, Message,
    ProtocolError, Role, encode_compressed_frame,
};
use proto_support::*;

fn extensions(value: &str) -> Vec<Extension> {
    Extension::parse_list(value.as_bytes()).unwrap()
}

/// What a server with these settings answers to these offers.
fn answer(settings: Deflate, offers: &str) -> Option<String> {
    let params = settings.accept(&extensions(offers))?;
    let answer = params.answer();
    let parameters = answer.strip_prefix("permessage-deflate").unwrap();
    Some(parameters.replace("; ", " ").trim_start().to_owned())
}

fn with_context() -> Deflate {
    Deflate::default().context_takeover(true, true).threshold(0)
}

fn params(settings: Deflate) -> DeflateParams {
    settings
        .accept(&extensions("permessage-deflate; client_max_window_bits"))
        .unwrap()
}

/// A server's decoder that keeps the context.
fn inflating() -> Decoder {
    server().with_deflate(params(with_context()).inflater(Role::Server))
}

fn inflating_with(limits: Limits) -> Decoder {
    Decoder::new(Role::Server, limits)
        .with_deflate(params(Deflate::default()).inflater(Role::Server))
}

/// A whole message of a client, compressed data given.
fn compressed(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    raw_frame(FIN, 4, opcode, payload, Some(KEY))
}

/// Repetitive in places, random in others.
fn sample(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match i / 700 % 3 {
                0 => b"the quick brown fox "[i % 20],
                1 => (state >> 24) as u8,
                _ => (state >> 30) as u8 + b'a',
            }
        })
        .collect()
}

#[test]
fn server_answers_what_it_can_do() {
    let default = Deflate::default();
    let neither = "server_no_context_takeover client_no_context_takeover";
    for (settings, offers, expected) in [
        (default, "permessage-deflate", Some(neither)),
        (default, "PerMessage-Deflate", Some(neither)),
        (with_context(), "permessage-deflate", Some("")),
        (
            with_context(),
            "permessage-deflate; server_no_context_takeover",
            Some("server_no_context_takeover"),
        ),
        (
            with_context(),
            "permessage-deflate; client_no_context_takeover",
            Some("client_no_context_takeover"),
        ),
        (
            with_context(),
            "permessage-deflate; server_max_window_bits=10",
            Some("server_max_window_bits=10"),
        ),
        (
            with_context(),
            "permessage-deflate; server_max_window_bits=\"8\"",
            Some("server_max_window_bits=8"),
        ),
        (
            with_context().window_bits(9, 8),
            "permessage-deflate; server_max_window_bits=12",
            Some("server_max_window_bits=9"),
        ),
        // The client has not said that it can be told.
        (
            with_context().window_bits(15, 8),
            "permessage-deflate",
            Some(""),
        ),
        (
            with_context().window_bits(15, 10),
            "permessage-deflate; client_max_window_bits",
            Some("client_max_window_bits=10"),
        ),
        (
            with_context().window_bits(15, 10),
            "permessage-deflate; client_max_window_bits=9",
            Some("client_max_window_bits=9"),
        ),
        (
            with_context(),
            "permessage-deflate; client_max_window_bits=15",
            Some(""),
        ),
        // The first that will do.
        (
            with_context(),
            "x-other, permessage-deflate; x, permessage-deflate; server_max_window_bits=9, \
             permessage-deflate",
            Some("server_max_window_bits=9"),
        ),
        (default, "", None),
        (default, "x-webkit-deflate-frame, deflate", None),
    ] {
        assert_eq!(answer(settings, offers).as_deref(), expected, "{offers}");
    }
}

/// RFC 7692, 7.1.
#[test]
fn server_declines_bad_offers() {
    for parameters in [
        "x",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover",
        "client_max_window_bits; client_max_window_bits=9",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "server_max_window_bits=+9",
        "server_max_window_bits=a",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=010",
        "Server_no_context_takeover",
    ] {
        let offers = format!("permessage-deflate; {parameters}");
        assert_eq!(answer(Deflate::default(), &offers), None, "{offers}");
    }
}

#[test]
fn client_offers_what_it_wants_and_judges_the_answer() {
    let default = Deflate::default();
    assert_eq!(
        default.offer(),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
         client_max_window_bits"
    );
    let narrow = with_context().window_bits(9, 10);
    assert_eq!(
        narrow.offer(),
        "permessage-deflate; server_max_window_bits=10; client_max_window_bits=9"
    );
    let judged = |settings: Deflate, answer: &str| {
        let answer = format!("permessage-deflate{answer}");
        settings.accepted(&extensions(&answer)[0]).is_some()
    };
    for (settings, answer, good) in [
        (with_context(), "", true),
        (with_context(), "; server_no_context_takeover", true),
        (with_context(), "; client_max_window_bits=9", true),
        (with_context(), "; server_max_window_bits=9", true),
        // What was asked for has to be granted.
        (default, "", false),
        (default, "; server_no_context_takeover", true),
        (narrow, "", false),
        (narrow, "; server_max_window_bits=11", false),
        (narrow, "; server_max_window_bits=10", true),
        // In an answer it has a value.
        (with_context(), "; client_max_window_bits", false),
        (with_context(), "; server_max_window_bits", false),
        (with_context(), "; x", false),
        (with_context(), "; client_max_window_bits=7", false),
    ] {
        assert_eq!(judged(settings, answer), good, "{answer}");
    }
    assert!(default.accepted(&extensions("x-other")[0]).is_none());
}

/// What a client offers a server can accept, and both then mean the same.
#[test]
fn offers_and_answers_fit_each_other() {
    for client in every_setting() {
        for server in every_setting() {
            let agreed = server.accept(&extensions(&client.offer())).unwrap();
            let seen = client.accepted(&extensions(&agreed.answer())[0]).unwrap();
            assert_eq!(
                seen.server_no_context_takeover,
                agreed.server_no_context_takeover
            );
            assert_eq!(seen.server_max_window_bits, agreed.server_max_window_bits);
            assert!(seen.client_no_context_takeover || !agreed.client_no_context_takeover);
            assert!(seen.client_max_window_bits <= agreed.client_max_window_bits);
            exchange(seen, agreed, client, server);
        }
    }
}

fn every_setting() -> Vec<Deflate> {
    let mut all = Vec::new();
    for (sent, received) in [(true, true), (true, false), (false, true), (false, false)] {
        for (sent_bits, received_bits) in [(15, 15), (9, 8), (11, 12)] {
            let settings = Deflate::default()
                .context_takeover(sent, received)
                .window_bits(sent_bits, received_bits)
                .threshold(0);
            all.push(settings);
        }
    }
    all
}

/// Sends a few messages both ways.
fn exchange(client: DeflateParams, server: DeflateParams, ours: Deflate, theirs: Deflate) {
    let mut from_client = client.deflater(Role::Client, &ours);
    let mut from_server = server.deflater(Role::Server, &theirs);
    let mut at_server =
        Decoder::new(Role::Server, Limits::default()).with_deflate(server.inflater(Role::Server));
    let mut at_client =
        Decoder::new(Role::Client, Limits::default()).with_deflate(client.inflater(Role::Client));
    for (i, len) in [0, 1, 50_000, 700, 0, 50_000, 3].into_iter().enumerate() {
        let message = sample(len, i as u32);
        for (deflater, decoder, mask) in [
            (&mut from_client, &mut at_server, Some(KEY)),
            (&mut from_server, &mut at_client, None),
        ] {
            let mut wire = Vec::new();
            let mut packed = Vec::new();
            if deflater.compress(&message, &mut packed) {
                encode_compressed_frame(&mut wire, FIN, OpCode::Binary, &packed, mask);
            } else {
                wire = raw_frame(FIN, 0, OpCode::Binary, &message, mask);
            }
            let (used, event) = decoder.decode(&mut wire);
            assert_eq!(used, wire.len());
            assert!(event == Ok(Some(binary(&message))), "{i}: {event:?}");
        }
    }
}

/// RFC 7692, 7.2.3.
#[test]
fn examples_of_the_rfc_are_understood() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let mut wire = compressed(OpCode::Text, &hello);
    // The same again, as what came before.
    wire.extend(compressed(OpCode::Text, &[0xf2, 0x00, 0x11, 0x00, 0x00]));
    // A block without compression; a last block; two blocks; in two frames.
    wire.extend(compressed(
        OpCode::Text,
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
    ));
    wire.extend(compressed(
        OpCode::Text,
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
    ));
    wire.extend(compressed(
        OpCode::Text,
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    ));
    wire.extend(raw_frame(MORE, 4, OpCode::Text, &hello[..3], Some(KEY)));
    wire.extend(frame(FIN, OpCode::Ping, b"between"));
    wire.extend(frame(FIN, OpCode::Continuation, &hello[3..]));
    // An empty one, and one that is not compressed.
    wire.extend(compressed(OpCode::Text, &[0x00]));
    wire.extend(frame(FIN, OpCode::Text, b"plain"));
    let expected = [
        text("Hello"),
        text("Hello"),
        text("Hello"),
        text("Hello"),
        text("Hello"),
        Event::Ping(b"between".to_vec()),
        text("Hello"),
        text(""),
        text("plain"),
    ];
    assert_eq!(outcome_of(inflating, &wire), (expected.to_vec(), None));
}

#[test]
fn every_message_comes_back_however_it_is_cut() {
    let mut deflater = params(with_context()).deflater(Role::Server, &with_context());
    let mut wire = Vec::new();
    let mut expected = Vec::new();
    for (i, len) in [0, 1, 5, 125, 126, 1_000, 70_000, 200_000]
        .into_iter()
        .enumerate()
    {
        let message = sample(len, i as u32);
        let mut packed = Vec::new();
        assert!(deflater.compress(&message, &mut packed));
        // In one frame, and in three.
        wire.extend(compressed(OpCode::Binary, &packed));
        expected.push(binary(&message));
        packed.clear();
        assert!(deflater.compress(&message, &mut packed));
        let (a, b) = (packed.len() / 3, packed.len() / 2);
        wire.extend(raw_frame(MORE, 4, OpCode::Binary, &packed[..a], Some(KEY)));
        wire.extend(frame(MORE, OpCode::Continuation, &packed[a..b]));
        wire.extend(frame(FIN, OpCode::Continuation, &packed[b..]));
        expected.push(binary(&message));
    }
    let whole = (expected, None);
    assert!(outcome_of(inflating, &wire) == whole);
    for sizes in [&[1_000][..], &[16_384], &[7, 65_536, 1]] {
        assert!(run_cut(inflating(), &wire, sizes) == whole);
        // A compressed message is no place to read to directly.
        assert!(run_sink(inflating(), &wire, sizes) == (whole.clone(), 0));
    }
}

#[test]
fn reserved_bits_mean_compression_in_a_messages_first_frame_only() {
    for rsv in 1..8 {
        for opcode in [OpCode::Ping, OpCode::Pong, OpCode::Close] {
            let wire = raw_frame(FIN, rsv, opcode, b"", Some(KEY));
            let error = ProtocolError::ReservedBits(rsv);
            assert_eq!(outcome_of(inflating, &wire), (vec![], Some(error)));
        }
        let mut wire = raw_frame(MORE, 4, OpCode::Text, b"", Some(KEY));
        wire.extend(raw_frame(FIN, rsv, OpCode::Continuation, b"", Some(KEY)));
        let error = ProtocolError::ReservedBits(rsv);
        assert_eq!(outcome_of(inflating, &wire), (vec![], Some(error)));
        if rsv != 4 {
            let wire = raw_frame(FIN, rsv, OpCode::Text, b"", Some(KEY));
            assert_eq!(outcome_of(inflating, &wire), (vec![], Some(error)));
        }
    }
    let wire = compressed(OpCode::Text, &[0]);
    assert_error(&wire, ProtocolError::ReservedBits(4));
}

#[test]
fn data_that_is_not_deflate_is_refused() {
    for bad in [&[0x07][..], &[0xff; 20], b"\x00\x05\x00\x00\x00hello"] {
        let wire = compressed(OpCode::Binary, bad);
        let (events, error) = outcome_of(inflating, &wire);
        assert_eq!(
            (events, error),
            (vec![], Some(ProtocolError::InvalidDeflate))
        );
    }
    let error = ProtocolError::InvalidDeflate;
    assert_eq!(error.close_code(), CloseCode::INVALID_PAYLOAD);
    assert_eq!(error.fault(), Fault::Peer);
}

/// What is not UTF-8 is so after decompression, and is noticed at once.
#[test]
fn compressed_text_is_validated() {
    let mut deflater = params(with_context()).deflater(Role::Client, &with_context());
    let mut packed = Vec::new();
    assert!(deflater.compress(b"good \xff bad", &mut packed));
    let wire = compressed(OpCode::Text, &packed);
    let error = ProtocolError::InvalidText { valid_up_to: 5 };
    assert_eq!(outcome_of(inflating, &wire), (vec![], Some(error)));
}

/// What came before the garbage counts, and is judged first: found by the fuzz target `inflate`.
#[test]
fn fault_before_the_garbage_is_the_fault_however_it_is_cut() {
    // The length of a stored block, and not its complement.
    let garbage = [0xff; 4];
    let mut deflater = params(with_context()).deflater(Role::Client, &with_context());
    let mut packed = Vec::new();
    assert!(deflater.compress(b"good \xff bad", &mut packed));
    packed.extend(garbage);
    let error = ProtocolError::InvalidText { valid_up_to: 5 };
    let wire = compressed(OpCode::Text, &packed);
    assert_eq!(outcome_of(inflating, &wire), (vec![], Some(error)));

    let limits = Limits::default().max_message_size(100);
    packed.clear();
    let settings = Deflate::default().threshold(0);
    let mut deflater = params(settings).deflater(Role::Client, &settings);
    assert!(deflater.compress(&[0; 101], &mut packed));
    packed.extend(garbage);
    let error = ProtocolError::MessageTooLarge { len: 101, max: 100 };
    let wire = compressed(OpCode::Binary, &packed);
    let outcome = outcome_of(|| inflating_with(limits), &wire);
    assert_eq!(outcome, (vec![], Some(error)));

    // Bad text that is also too long.
    packed.clear();
    assert!(deflater.compress(&[&[b'a'; 50][..], &[0xff; 100]].concat(), &mut packed));
    let error = ProtocolError::InvalidText { valid_up_to: 50 };
    let wire = compressed(OpCode::Text, &packed);
    let outcome = outcome_of(|| inflating_with(limits), &wire);
    assert_eq!(outcome, (vec![], Some(error)));
}

/// A megabyte of zeroes is a kilobyte on the wire: the limit counts what it becomes, and nothing
/// beyond is made of it.
#[test]
fn bombs_end_at_the_message_limit() {
    let settings = Deflate::default().threshold(0).level(9);
    let mut deflater = params(settings).deflater(Role::Client, &settings);
    let limits = Limits::default().max_message_size(100_000);
    let pack = |deflater: &mut greenwood_websocket::proto::Deflater, len| {
        let mut packed = Vec::new();
        assert!(deflater.compress(&vec![0; len], &mut packed));
        compressed(OpCode::Binary, &packed)
    };
    let just = pack(&mut deflater, 100_000);
    let (events, error) = outcome_of(|| inflating_with(limits), &just);
    assert!(error.is_none() && events == [binary(&[0; 100_000])]);
    for len in [100_001, 64 << 20] {
        let wire = pack(&mut deflater, len);
        let (events, error) = run_whole(inflating_with(limits), &wire);
        let error = error.unwrap();
        assert!(events.is_empty());
        assert!(matches!(
            error,
            ProtocolError::MessageTooLarge { max: 100_000, .. }
        ));
        assert_eq!(error.close_code(), CloseCode::MESSAGE_TOO_BIG);
    }
}

/// What can't be compressed takes a little more than the message: no reason to refuse it.
#[test]
fn message_of_the_limits_size_is_taken_compressed_too() {
    let message: Vec<u8> = sample(3_000_000, 7)
        .chunks(700)
        .skip(1)
        .step_by(3)
        .flatten()
        .copied()
        .collect();
    let limits = Limits::default()
        .max_message_size(message.len())
        .max_frame_size(message.len());
    let settings = with_context();
    let mut deflater = params(settings).deflater(Role::Client, &settings);
    let mut packed = Vec::new();
    assert!(deflater.compress(&message, &mut packed));
    let extra = packed.len() - message.len();
    let (events, error) = run_whole(inflating_with(limits), &compressed(OpCode::Binary, &packed));
    assert!(error.is_none(), "{error:?} for {extra} bytes more");
    assert!(events == [Event::Message(Message::Binary(message))]);
}

#[test]
fn small_and_incompressible_messages_are_sent_as_they_are() {
    let settings = Deflate::default();
    let mut deflater = params(settings).deflater(Role::Server, &settings);
    let mut out = b"before".to_vec();
    assert!(!deflater.compress(&[b'a'; 1_023], &mut out));
    let random: Vec<u8> = sample(2_100, 3)[700..1_400].to_vec();
    let settings = settings.threshold(0);
    let mut keen = params(settings).deflater(Role::Server, &settings);
    assert!(!keen.compress(&random, &mut out));
    assert_eq!(out, b"before");
    assert!(deflater.compress(&[b'a'; 1_024], &mut out));
    assert!(out.starts_with(b"before") && out.len() < 40);
}

/// A window of 9 bits is what zlib can do; it has to fit a peer that was promised 8.
#[test]
fn smallest_window_is_never_looked_beyond() {
    let settings = with_context();
    let agreed = settings
        .accept(&extensions("permessage-deflate; server_max_window_bits=8"))
        .unwrap();
    for level in [1, 2, 6, 9] {
        let mut deflater = agreed.deflater(Role::Server, &settings.level(level));
        let mut window = Window::default();
        for i in 0..6 {
            let message = sample(2_800 + 997 * i, i as u32);
            let mut packed = Vec::new();
            assert!(deflater.compress(&message, &mut packed));
            packed.extend_from_slice(&[0, 0, 0xff, 0xff]);
            window.inflate(&packed);
        }
        assert!(
            window.farthest > 100 && window.farthest <= 256,
            "{}",
            window.farthest
        );
    }
}

/// Reads DEFLATE data (RFC 1951) for the distances in it.
#[derive(Default)]
struct Window {
    farthest: usize,
}

struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn one(&mut self) -> usize {
        let bit = self.data[self.at / 8] >> (self.at % 8) & 1;
        self.at += 1;
        bit.into()
    }

    fn many(&mut self, count: usize) -> usize {
        (0..count).map(|i| self.one() << i).sum()
    }

    /// A symbol of a canonical Huffman code.
    fn symbol(&mut self, lengths: &[usize]) -> usize {
        let (mut code, mut first, mut len) = (0, 0, 0);
        loop {
            code = code << 1 | self.one();
            len += 1;
            let of_len: Vec<_> = (0..lengths.len()).filter(|&s| lengths[s] == len).collect();
            if code - first < of_len.len() {
                return of_len[code - first];
            }
            first = (first + of_len.len()) << 1;
        }
    }
}

impl Window {
    fn inflate(&mut self, data: &[u8]) {
        let mut bits = Bits { data, at: 0 };
        while bits.at + 7 < data.len() * 8 {
            let _last = bits.one();
            match bits.many(2) {
                0 => {
                    bits.at = bits.at.next_multiple_of(8);
                    let len = bits.many(16);
                    bits.at += 16 + len * 8;
                }
                1 => {
                    let literals: Vec<_> = (0..288)
                        .map(|symbol| match symbol {
                            0..144 => 8,
                            144..256 => 9,
                            256..280 => 7,
                            _ => 8,
                        })
                        .collect();
                    self.block(&mut bits, &literals, &[5; 30]);
                }
                _ => {
                    let (literals, distances) = dynamic(&mut bits);
                    self.block(&mut bits, &literals, &distances);
                }
            }
        }
    }

    fn block(&mut self, bits: &mut Bits<'_>, literals: &[usize], distances: &[usize]) {
        loop {
            match bits.symbol(literals) {
                0..256 => {}
                256 => return,
                symbol => {
                    bits.many(match symbol {
                        265..285 => (symbol - 261) / 4,
                        _ => 0,
                    });
                    let symbol = bits.symbol(distances);
                    let extra = (symbol / 2).saturating_sub(1);
                    let base = match symbol {
                        0..4 => symbol + 1,
                        _ => ((2 + symbol % 2) << extra) + 1,
                    };
                    self.farthest = self.farthest.max(base + bits.many(extra));
                }
            }
        }
    }
}

/// The codes of a dynamic block.
fn dynamic(bits: &mut Bits<'_>) -> (Vec<usize>, Vec<usize>) {
    const ORDER: [usize; 19] = [
        16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
    ];
    let (literals, distances, codes) = (bits.many(5) + 257, bits.many(5) + 1, bits.many(4) + 4);
    let mut of_lengths = [0; 19];
    for &symbol in &ORDER[..codes] {
        of_lengths[symbol] = bits.many(3);
    }
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        match bits.symbol(&of_lengths) {
            16 => {
                let last = *lengths.last().unwrap();
                let times = bits.many(2) + 3;
                lengths.extend(std::iter::repeat_n(last, times));
            }
            17 => {
                let times = bits.many(3) + 3;
                lengths.extend(std::iter::repeat_n(0, times));
            }
            18 => {
                let times = bits.many(7) + 11;
                lengths.extend(std::iter::repeat_n(0, times));
            }
            length => lengths.push(length),
        }
    }
    let distances = lengths.split_off(literals);
    (lengths, distances)
}
