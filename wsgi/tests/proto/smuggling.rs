//! Requests that two servers might read differently. None gets past the head.

use crate::cuts::{Random, refusal, request};

fn post(headers: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
    )
}

#[test]
fn length_and_coding_together_are_refused() {
    assert_eq!(
        refusal(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        400
    );
    assert_eq!(
        refusal(post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
        400
    );
    assert_eq!(
        refusal(post("transfer-encoding: gzip\r\ncontent-length: 0\r\n")),
        400
    );
}

#[test]
fn repeated_lengths_are_refused() {
    assert_eq!(
        refusal(post("Content-Length: 5\r\nContent-Length: 6\r\n")),
        400
    );
    assert_eq!(
        refusal(post("Content-Length: 5\r\nContent-Length: 5\r\n")),
        400
    );
    assert_eq!(refusal(post("Content-Length: 5, 5\r\n")), 400);
}

#[test]
fn disguised_codings_are_refused() {
    for (headers, status) in [
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            501,
        ),
        ("Transfer-Encoding: xchunked\r\n", 501),
        ("Transfer-Encoding: identity\r\n", 501),
        ("Transfer-Encoding: chunked, gzip\r\n", 400),
        ("Transfer-Encoding: chunked, chunked\r\n", 400),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            400,
        ),
        ("Transfer-Encoding: \u{b}chunked\r\n", 400),
        ("Transfer-Encoding : chunked\r\n", 400),
        ("Transfer-Encoding\t: chunked\r\n", 400),
        (" Transfer-Encoding: chunked\r\n", 400),
        ("X: y\r\n Transfer-Encoding: chunked\r\n", 400),
        ("X: y\rTransfer-Encoding: chunked\r\n", 400),
        ("X: y\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding:\r\n chunked\r\n", 400),
        ("Transfer-Encoding: \"chunked\"\r\n", 400),
        ("Transfer-Encoding:\r\n", 400),
        ("Content-Length : 5\r\n", 400),
        ("Content-Length\r\n: 5\r\n", 400),
        ("Content-Length: 5\0\r\n", 400),
    ] {
        assert_eq!(refusal(post(headers)), status, "{headers:?}");
    }
}

#[test]
fn coding_in_an_old_version_is_refused() {
    assert_eq!(
        refusal("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        400
    );
}

#[test]
fn line_without_a_colon_hides_nothing() {
    assert_eq!(refusal(post("X\r\nContent-Length: 5\r\n")), 400);
}

#[test]
fn parser_survives_any_bytes() {
    let parts: [&[u8]; 18] = [
        b"GET ",
        b"/ ",
        b"HTTP/1.1",
        b"\r\n",
        b"\n",
        b"Host: h",
        b":",
        b" ",
        b"\0",
        b"\r",
        b"\xff",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"\r\n\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"Connection: close",
        b"Expect: 100-continue",
    ];
    let mut random = Random(3);
    for _ in 0..3000 {
        let bytes: Vec<u8> = (0..random.below(14))
            .flat_map(|_| parts[random.below(parts.len())])
            .copied()
            .collect();
        // A line that has not ended may be judged early or late, depending on the cuts.
        let bytes = [&bytes[..], b"\r\n"].concat();
        // That it does not panic and does not depend on the cuts is checked inside.
        let _ = request(&[b"GET / HTTP/1.1\r\nHost: h\r\n", &bytes[..]].concat());
        let _ = request(&bytes);
    }
}
