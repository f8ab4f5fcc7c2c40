//! What the protocols cost: bytes in, events and bytes out, nothing else.
//!
//! ```text
//! cargo bench --bench protocol
//! cargo bench --bench protocol -- unmask
//! ```

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use greenwood::websocket::proto::{
    Decoder, Event, FrameHeader, Limits, OpCode, Role, Utf8Validator, apply_mask, encode_frame,
};
use greenwood::wsgi::proto::{HeadParser, Limits as HttpLimits, ResponseContext, ResponseEncoder};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A page of memory.
const PAGE: usize = 4 * KIB;

/// Turns printable ASCII into other ASCII, so that a text frame, which the decoder unmasks where it
/// lies, is again a valid one for the next turn, and nothing needs to be restored while the clock
/// runs.
const KEY: [u8; 4] = [1, 2, 3, 4];

/// What a load generator sends.
const SHORT_HEAD: &[u8] =
    b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:18000\r\nUser-Agent: wrk/4.1.0\r\n\r\n";

/// What a browser sends to open a page.
const BROWSER_HEAD: &[u8] = b"GET /articles/2026/green-threads?page=2&sort=newest HTTP/1.1\r\n\
    Host: www.example.org\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=0\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Referer: https://www.example.org/articles/2026/\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=5f2b8c1e9d3a4470b6e1c0a7f4d29b83; theme=dark; consent=necessary\r\n\
    \r\n";

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .configure_from_args();
    frame_headers(&mut criterion);
    frames(&mut criterion);
    masks(&mut criterion);
    unmasking(&mut criterion);
    utf8(&mut criterion);
    encoding(&mut criterion);
    request_heads(&mut criterion);
    response_heads(&mut criterion);
    criterion.final_summary();
}

fn frame_headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame header");
    for size in [64, 16 * KIB, MIB] {
        let frame = masked(OpCode::Binary, size);
        group.bench_function(BenchmarkId::from_parameter(human(size)), |bencher| {
            bencher.iter(|| FrameHeader::parse(black_box(&frame)));
        });
    }
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    for (kind, opcode) in [("text", OpCode::Text), ("binary", OpCode::Binary)] {
        let mut group = criterion.benchmark_group(format!("decode {kind}"));
        for size in [64, 16 * KIB] {
            let mut input = Placed::new(masked(opcode, size), size);
            let frame = input.bytes();
            let mut decoder = server_side();
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new("decode_message", human(size)), |bencher| {
                bencher.iter(|| decoder.decode_message(black_box(&mut *frame)));
            });
            group.bench_function(BenchmarkId::new("decode", human(size)), |bencher| {
                bencher.iter(|| decoder.decode(black_box(&mut *frame)));
            });
        }
        group.finish();
    }
    pipelined(criterion);
}

fn pipelined(criterion: &mut Criterion) {
    const FRAMES: usize = 16;
    let mut group = criterion.benchmark_group("decode 16 pipelined of 64 B");
    group.throughput(Throughput::Elements(FRAMES as u64));
    for (kind, opcode) in [("text", OpCode::Text), ("binary", OpCode::Binary)] {
        let mut input = masked(opcode, 64).repeat(FRAMES);
        let mut decoder = server_side();
        group.bench_function(BenchmarkId::new("decode_message", kind), |bencher| {
            bencher.iter(|| {
                let mut rest = black_box(&mut input[..]);
                while let Some((used, message)) = decoder.decode_message(rest) {
                    black_box(message);
                    rest = &mut rest[used..];
                }
                assert!(rest.is_empty());
            });
        });
        group.bench_function(BenchmarkId::new("decode", kind), |bencher| {
            bencher.iter(|| {
                let mut rest = black_box(&mut input[..]);
                while let (used, Ok(Some(event))) = decoder.decode(rest) {
                    black_box(event);
                    rest = &mut rest[used..];
                }
                assert!(rest.is_empty());
            });
        });
    }
    group.finish();
}

fn masks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mask");
    for size in [64, 16 * KIB, MIB] {
        let mut bytes = payload(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("apply_mask", human(size)), |bencher| {
            bencher.iter(|| apply_mask(black_box(&mut bytes), black_box(KEY), 0));
        });
        group.bench_function(BenchmarkId::new("byte loop", human(size)), |bencher| {
            bencher.iter(|| mask_bytewise(black_box(&mut bytes), black_box(KEY)));
        });
    }
    group.finish();
}

/// What the RFC says, in as many words.
#[inline(never)]
fn mask_bytewise(bytes: &mut [u8], key: [u8; 4]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte ^= key[i % 4];
    }
}

/// From a binary frame in a read buffer to a message of its own: in one pass, as the decoder does
/// it, and in two.
fn unmasking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask and copy");
    for size in [64, KIB, 16 * KIB, 48 * KIB, MIB] {
        let mut input = Placed::new(masked(OpCode::Binary, size), size);
        let frame = input.bytes();
        let mut decoder = server_side();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("in one pass", human(size)), |bencher| {
            bencher.iter(|| {
                if let Some((_, message)) = decoder.decode_message(black_box(&mut *frame)) {
                    return message;
                }
                match decoder.decode(black_box(&mut *frame)) {
                    (_, Ok(Some(Event::Message(message)))) => message,
                    other => panic!("not a message: {other:?}"),
                }
            });
        });
        group.bench_function(
            BenchmarkId::new("in place, then copy", human(size)),
            |bencher| {
                bencher.iter(|| match FrameHeader::parse(black_box(&*frame)) {
                    Ok(Some((header, used))) => {
                        let payload = &mut frame[used..];
                        apply_mask(payload, header.mask.unwrap_or_default(), 0);
                        payload.to_vec()
                    }
                    other => panic!("not a frame: {other:?}"),
                });
            },
        );
        // The floor: no unmasking at all.
        group.bench_function(BenchmarkId::new("copy alone", human(size)), |bencher| {
            bencher.iter(|| black_box(&*frame)[frame.len() - size..].to_vec());
        });
    }
    group.finish();
}

/// A frame whose payload begins in the middle of a page.
///
/// Some processors (AMD's Zen 3 and 4) take twenty times as long for a `memcpy` of more than 2 KiB
/// when the target lies a few bytes behind the source, modulo a page: glibc uses `rep movsb` there.
/// An allocator likes to put long vectors at the same place in a page, and a payload behind its
/// header and its own copy are then just so. Here that is not left to chance.
struct Placed {
    buffer: Vec<u8>,
    start: usize,
}

impl Placed {
    fn new(frame: Vec<u8>, size: usize) -> Placed {
        let mut buffer = vec![0; frame.len() + PAGE];
        let payload = buffer.as_ptr() as usize + (frame.len() - size);
        let start = (PAGE / 2).wrapping_sub(payload) % PAGE;
        buffer[start..start + frame.len()].copy_from_slice(&frame);
        buffer.truncate(start + frame.len());
        Placed { buffer, start }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..]
    }
}

fn utf8(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("UTF-8");
    let mixed = "Grün, зелёный, 緑, 🌳. ";
    for (kind, size, text) in [
        ("ASCII", 64, payload(64)),
        ("ASCII", 16 * KIB, payload(16 * KIB)),
        (
            "mixed",
            16 * KIB,
            mixed.repeat(16 * KIB / mixed.len()).into_bytes(),
        ),
    ] {
        let name = format!("{kind} {}", human(size));
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("Utf8Validator", &name), |bencher| {
            bencher.iter(|| {
                let mut validator = Utf8Validator::new();
                validator.push(black_box(&text)).is_ok() && validator.finish().is_ok()
            });
        });
        group.bench_function(BenchmarkId::new("std", &name), |bencher| {
            bencher.iter(|| str::from_utf8(black_box(&text)).is_ok());
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode_frame");
    for size in [64, 16 * KIB] {
        let payload = payload(size);
        group.throughput(Throughput::Bytes(size as u64));
        for (kind, mask) in [("server", None), ("client", Some(KEY))] {
            let mut out = Vec::new();
            group.bench_function(BenchmarkId::new(kind, human(size)), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    encode_frame(&mut out, true, OpCode::Binary, black_box(&payload), mask);
                    black_box(&out);
                });
            });
        }
    }
    group.finish();
}

fn request_heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request head");
    let limits = HttpLimits::default();
    for (kind, bytes) in [("short", SHORT_HEAD), ("browser", BROWSER_HEAD)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let name = format!("{kind}, {} B", bytes.len());
        let parse = || match HeadParser::new().parse(black_box(bytes), &limits) {
            Ok(Some(parsed)) => parsed,
            other => panic!("not a head: {other:?}"),
        };
        group.bench_function(name, |bencher| bencher.iter(parse));
    }
    group.finish();
}

fn response_heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("response head");
    let parsed = HeadParser::new().parse(SHORT_HEAD, &HttpLimits::default());
    let Ok(Some((request, _))) = parsed else {
        panic!("not a head: {parsed:?}");
    };
    let context = ResponseContext {
        date: "Sun, 22 Nov 2026 14:35:38 GMT",
        server: "greenwood",
        keep_alive: true,
    };
    let few: &[(&str, &str)] = &[("Content-Type", "text/plain")];
    let many: &[(&str, &str)] = &[
        ("Content-Type", "text/html; charset=utf-8"),
        ("Cache-Control", "private, max-age=0, must-revalidate"),
        ("Content-Language", "en"),
        ("ETag", "\"5f2b8c1e9d3a4470\""),
        ("Last-Modified", "Sat, 21 Nov 2026 09:10:11 GMT"),
        (
            "Strict-Transport-Security",
            "max-age=31536000; includeSubDomains",
        ),
        ("Vary", "Accept-Encoding, Cookie"),
        ("X-Content-Type-Options", "nosniff"),
    ];
    for (kind, headers) in [("1 header", few), ("8 headers", many)] {
        let mut out = Vec::new();
        group.bench_function(kind, |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut encoder = ResponseEncoder::new(&request);
                let started = encoder.start(&mut out, "200 OK", black_box(headers));
                let head = encoder.head(&mut out, Some(13), &context);
                black_box(&out);
                started.and(head)
            });
        });
    }
    group.finish();
}

fn server_side() -> Decoder {
    Decoder::new(Role::Server, Limits::default())
}

/// A client's frame.
fn masked(opcode: OpCode, size: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&mut frame, true, opcode, &payload(size), Some(KEY));
    frame
}

/// ASCII letters.
fn payload(size: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(size).collect()
}

fn human(size: usize) -> String {
    match size {
        MIB.. => format!("{} MiB", size / MIB),
        KIB.. => format!("{} KiB", size / KIB),
        _ => format!("{size} B"),
    }
}
