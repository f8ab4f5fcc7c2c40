//! How bodies are delimited and decoded.

use greenwood_wsgi::proto::{ChunkedDecoder, Framing, Limits, PeerFault};

use crate::cuts::{Random, refusal, request, request_with};

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunked(body: &str) -> String {
    format!("{CHUNKED}{body}")
}

fn with_length(length: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn body_with_a_length_ends_there() {
    let bytes = format!("{}helloGET /", with_length("5"));
    let request = request(bytes.as_bytes()).unwrap().unwrap();
    assert_eq!(request.head.framing(), Framing::Length(5));
    assert_eq!(
        (request.body, request.rest),
        (b"hello".to_vec(), b"GET /".to_vec())
    );
}

#[test]
fn length_is_a_plain_number() {
    for bad in [
        "+5", "-5", "0_5", "", "5 5", "0x5", "5.0", "five", "5;", "\u{b2}", "5,5", "5, 5", "5,",
    ] {
        assert_eq!(refusal(with_length(bad)), 400, "{bad:?}");
    }
    assert!(
        request(format!("{}x", with_length("001")).as_bytes())
            .unwrap()
            .is_some()
    );
}

#[test]
fn length_over_the_limit_is_refused_before_the_body() {
    let limits = Limits::default().max_body_size(10);
    let at = request_with(
        format!("{}0123456789", with_length("10")).as_bytes(),
        &limits,
    );
    assert_eq!(at.unwrap().unwrap().body.len(), 10);
    for over in ["11", "18446744073709551616", "99999999999999999999999999"] {
        let refused = request_with(with_length(over).as_bytes(), &limits).unwrap_err();
        assert_eq!(refused.status_hint(), 413, "{over}");
    }
}

#[test]
fn chunks_make_up_a_body() {
    let text =
        chunked("5\r\nhello\r\n006;a=\"b\";c\r\n world\r\nA ;x\r\n0123456789\r\n0\r\n\r\nnext");
    let request = request(text.as_bytes()).unwrap().unwrap();
    assert_eq!(request.body, b"hello world0123456789");
    assert_eq!(request.rest, b"next");
}

#[test]
fn trailers_are_dropped() {
    let text = chunked("1\r\nx\r\n0;last\r\nExpires: never\r\nA:\r\n\r\nnext");
    let request = request(text.as_bytes()).unwrap().unwrap();
    assert_eq!(
        (request.body, request.rest),
        (b"x".to_vec(), b"next".to_vec())
    );
    assert_eq!(request.head.header("expires"), None);
}

#[test]
fn chunk_framing_is_strict() {
    for bad in [
        "\r\n",
        "+5\r\nhello",
        "-1\r\n",
        "0x5\r\nhello",
        "5_0\r\n",
        " 5\r\nhello",
        "5 \r\nhello",
        "g\r\n",
        ";a\r\n",
        "5\nhello",
        "5;a\nhello",
        "5\r\rhello",
        "00000000000000005\r\nhello",
        "5;\0\r\nhello",
        "5;a\u{7f}\r\nhello",
        "5\r\nhelloX\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n",
        "5\r\nhello\r\n\r\n",
        "0\r\n\n",
        "0\n\n",
        "0\r\nA b: c\r\n\r\n",
        "0\r\n folded\r\n\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\n: b\r\n\r\n",
        "0\r\nA: b\r\n c\r\n\r\n",
        "0\r\nnocolon\r\n\r\n",
        "0\r\nA: \0\r\n\r\n",
        "0\r\n\rx",
    ] {
        assert_eq!(refusal(chunked(bad)), 400, "{bad:?}");
    }
}

#[test]
fn chunk_size_has_sixteen_digits_at_most() {
    let sixteen = request(chunked("0000000000000001\r\nx\r\n0\r\n\r\n").as_bytes());
    assert_eq!(sixteen.unwrap().unwrap().body, b"x");
    assert_eq!(refusal(chunked("ffffffffffffffff\r\n")), 413);
    assert_eq!(refusal(chunked("10000000000000000\r\n")), 400);
}

#[test]
fn chunked_body_over_the_limit_is_refused_when_announced() {
    let limits = Limits::default().max_body_size(10);
    let at = request_with(
        chunked("5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n").as_bytes(),
        &limits,
    );
    assert_eq!(at.unwrap().unwrap().body, b"helloworld");
    let over = request_with(chunked("5\r\nhello\r\n6\r\n").as_bytes(), &limits);
    assert_eq!(over.unwrap_err().status_hint(), 413);
}

#[test]
fn extensions_and_trailers_are_limited() {
    let limits = Limits::default().max_chunk_extensions(20).max_trailers(20);
    let fine = chunked("1;23456789\r\nx\r\n1;23456789\r\nx\r\n0\r\nA: 890123456789\r\n\r\n");
    assert!(request_with(fine.as_bytes(), &limits).unwrap().is_some());
    let extension = chunked("1;23456789\r\nx\r\n1;23456789\r\nx\r\n1;234\r\nx\r\n0\r\n\r\n");
    assert_eq!(
        request_with(extension.as_bytes(), &limits)
            .unwrap_err()
            .status_hint(),
        400
    );
    let trailer = chunked("0\r\nA: 8901\r\nB: 8901\r\nC: 8901\r\n\r\n");
    assert_eq!(
        request_with(trailer.as_bytes(), &limits)
            .unwrap_err()
            .status_hint(),
        400
    );
    assert_eq!(refusal(chunked(&format!("1;{}", "a".repeat(8192)))), 400);
    assert_eq!(
        refusal(chunked(&format!("0\r\nA: {}", "a".repeat(8192)))),
        400
    );
}

#[test]
fn decoder_names_the_fault() {
    let fault = |body: &[u8]| {
        ChunkedDecoder::new(&Limits::default())
            .decode(body, &mut [0; 64])
            .unwrap_err()
    };
    assert_eq!(fault(b"x"), PeerFault::ChunkSize.into());
    assert_eq!(fault(b"5\n"), PeerFault::ChunkSize.into());
    assert_eq!(fault(b"1\r\nab"), PeerFault::ChunkEnd.into());
    assert_eq!(fault(b"1;\x01"), PeerFault::ChunkExtension.into());
    assert_eq!(fault(b"0\r\n\0"), PeerFault::Trailer.into());
}

#[test]
fn decoder_survives_any_bytes() {
    let mut random = Random(7);
    let alphabet = b"0123456789abcdefF;= \r\n\r\n\r\nx:\0";
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random.below(40))
            .map(|_| alphabet[random.below(alphabet.len())])
            .collect();
        let mut decoder = ChunkedDecoder::new(&Limits::default());
        let mut output = [0; 64];
        if let Ok(done) = decoder.decode(&bytes, &mut output) {
            assert!(done.consumed <= bytes.len() && done.produced <= done.consumed);
            assert!(decoder.is_done() || done.consumed == bytes.len());
        }
    }
}
