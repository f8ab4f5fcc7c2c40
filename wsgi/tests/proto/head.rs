//! What a request head is, and what it is not.

use greenwood_wsgi::proto::{Framing, HeadParser, Limits, Version};

use crate::cuts::{head, refusal, request, request_with};

const HOST: &str = "Host: example.org\r\n";

fn get(extra: &str) -> String {
    format!("GET / HTTP/1.1\r\n{HOST}{extra}\r\n")
}

#[test]
fn head_gives_its_parts() {
    let head = head(
        "POST /a%20b?x=1&y=?2 HTTP/1.1\r\nHost: h:80\r\nX-One: 1\r\nx-one:  two \t\r\nEmpty:\r\n\r\n",
    );
    assert_eq!(head.method(), "POST");
    assert_eq!(head.target(), "/a%20b?x=1&y=?2");
    assert_eq!(head.path(), "/a%20b");
    assert_eq!(head.query(), Some("x=1&y=?2"));
    assert_eq!(head.version(), Version::Http11);
    assert_eq!(head.host(), Some("h:80"));
    assert_eq!(head.header("X-ONE"), Some(&b"1"[..]));
    assert_eq!(head.header("empty"), Some(&b""[..]));
    assert_eq!(head.header("missing"), None);
    assert_eq!(head.headers().len(), 4);
    assert_eq!(head.headers().nth(2), Some(("x-one", &b"two"[..])));
    assert_eq!(head.request_line(), "POST /a%20b?x=1&y=?2 HTTP/1.1");
    assert_eq!(head.framing(), Framing::None);
}

#[test]
fn headers_are_names_and_values_without_the_space_around_them() {
    let head =
        head("GET / HTTP/1.1\r\nHost:h\r\nA:b: c\r\nA-B:\t \r\nA-Bc:  d\te \t\r\nA-:\r\n\r\n");
    let headers: Vec<_> = head.headers().collect();
    let expected: [(&str, &[u8]); 5] = [
        ("Host", b"h"),
        ("A", b"b: c"),
        ("A-B", b""),
        ("A-Bc", b"d\te"),
        ("A-", b""),
    ];
    assert_eq!(headers, expected);
    for (name, value) in expected {
        assert_eq!(head.header(&name.to_lowercase()), Some(value), "{name}");
    }
    for name in ["", "a-b:", "A:b", "hos", "host:h"] {
        assert_eq!(head.header(name), None, "{name}");
    }
}

#[test]
fn head_leaves_what_follows_it() {
    let bytes = [get("").into_bytes(), b"GET /next".to_vec()].concat();
    assert_eq!(request(&bytes).unwrap().unwrap().rest, b"GET /next");
}

#[test]
fn head_is_incomplete_until_its_empty_line() {
    for end in 0..get("A: b\r\n").len() {
        assert!(
            request(&get("A: b\r\n").as_bytes()[..end])
                .unwrap()
                .is_none(),
            "{end}"
        );
    }
}

#[test]
fn empty_lines_before_the_request_line_are_skipped() {
    assert_eq!(head(&format!("\r\n{}", get(""))).path(), "/");
    assert_eq!(head(&format!("\r\n\r\n{}", get(""))).path(), "/");
    assert_eq!(refusal(format!("\n{}", get(""))), 400);
    assert_eq!(refusal(format!("\r\n\n{}", get(""))), 400);
}

/// More of them would be a way round the limit on the request line, and what is logged of it.
#[test]
fn only_two_empty_lines_are_skipped() {
    for lines in [3, 4, 500] {
        let empty = "\r\n".repeat(lines);
        assert_eq!(refusal(format!("{empty}{}", get(""))), 400, "{lines}");
        assert_eq!(refusal(&empty), 400, "{lines}");
    }
    let line = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(20_000));
    assert_eq!(refusal(format!("\r\n\r\n{line}")), 414);
}

#[test]
fn target_in_absolute_form_replaces_host() {
    let absolute = head("GET http://user.example:81/p?q HTTP/1.1\r\nHost: other\r\n\r\n");
    assert_eq!((absolute.path(), absolute.query()), ("/p", Some("q")));
    assert_eq!(absolute.host(), Some("user.example:81"));
    let bare = head("GET HTTP://h HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((bare.path(), bare.query()), ("/", None));
    let query = head("GET https://h?q HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((query.path(), query.query()), ("/", Some("q")));
    assert_eq!(
        head("OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n").path(),
        "*"
    );
}

#[test]
fn target_has_to_fit_the_method() {
    assert_eq!(head("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").path(), "*");
    assert_eq!(
        head("GET //double HTTP/1.1\r\nHost: h\r\n\r\n").path(),
        "//double"
    );
    for bad in [
        "*",
        "x",
        "example.org:80",
        "ftp://h/",
        "http://",
        "http:///p",
        "http://u@h/",
        "?q",
        "/a#b",
        "http://a b/",
    ] {
        assert_eq!(
            refusal(format!("GET {bad} HTTP/1.1\r\n{HOST}\r\n")),
            400,
            "{bad}"
        );
    }
    assert_eq!(refusal("GET /\u{e4} HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    assert_eq!(refusal(b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    assert_eq!(refusal("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"), 501);
}

#[test]
fn version_unknown_is_told_from_garbage() {
    for known in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0", "HTTP/9.9"] {
        assert_eq!(
            refusal(format!("GET / {known}\r\n{HOST}\r\n")),
            505,
            "{known}"
        );
    }
    assert_eq!(refusal("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    for garbage in [
        "http/1.1",
        "HTTP/1",
        "HTTP/11",
        "HTTP/1.10",
        "HTTP/1.x",
        "HTTPS/1.1",
        "x",
        "ICY/1.1",
    ] {
        assert_eq!(
            refusal(format!("GET / {garbage}\r\n{HOST}\r\n")),
            400,
            "{garbage}"
        );
    }
    assert_eq!(refusal("GET /\r\n\r\n"), 400);
}

#[test]
fn request_line_is_strict() {
    for bad in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET /a b HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET",
        "/",
        "\0",
        "GET /\0 HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET / HTTP/1.1\r",
        "GET /\r HTTP/1.1",
    ] {
        assert_eq!(refusal(format!("{bad}\r\n{HOST}\r\n")), 400, "{bad:?}");
    }
    assert_eq!(
        refusal(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        400
    );
}

#[test]
fn unknown_methods_are_for_the_application() {
    assert_eq!(
        head("BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n").method(),
        "BREW"
    );
    assert_eq!(head("get / HTTP/1.1\r\nHost: h\r\n\r\n").method(), "get");
}

#[test]
fn host_is_required_exactly_once() {
    assert_eq!(refusal("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(refusal("GET / HTTP/1.1\r\nX: y\r\n\r\n"), 400);
    assert_eq!(refusal("GET http://h/ HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(refusal("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), 400);
    assert_eq!(refusal("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"), 400);
    for bad in ["a b", "a, b", "u@h", "a/b", "a:b"] {
        assert_eq!(
            refusal(format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n")),
            400,
            "{bad}"
        );
    }
    assert_eq!(head("GET / HTTP/1.1\r\nHost:\r\n\r\n").host(), Some(""));
    assert_eq!(head("GET / HTTP/1.0\r\n\r\n").host(), None);
}

#[test]
fn header_lines_are_strict() {
    for bad in [
        "A: b\r\n folded\r\n",
        "A: b\r\n\tfolded\r\n",
        " A: b\r\n",
        "A : b\r\n",
        "A\t: b\r\n",
        "no colon\r\n",
        "nocolon\r\n",
        ": empty\r\n",
        "A(: b\r\n",
        "\u{e4}: b\r\n",
        "A: b\0\r\n",
        "A: b\rc\r\n",
        "A: \u{1}\r\n",
        "A: \u{7f}\r\n",
        "A\0: b\r\n",
        "A: b\n",
        "A: b\n\r\n",
        "A: b\r\r\n",
    ] {
        assert_eq!(refusal(get(bad)), 400, "{bad:?}");
    }
    assert_eq!(refusal("GET / HTTP/1.1\nHost: h\n\n"), 400);
    assert_eq!(refusal("GET / HTTP/1.1\r\nHost: h\r\n\n"), 400);
}

#[test]
fn header_values_may_be_outside_ascii() {
    let bytes = [&b"GET / HTTP/1.1\r\nHost: h\r\nA: \xff\xc3\xa4\tb\r\n\r\n"[..]].concat();
    let request = request(&bytes).unwrap().unwrap();
    assert_eq!(request.head.header("a"), Some(&b"\xff\xc3\xa4\tb"[..]));
}

#[test]
fn request_line_is_limited() {
    let line = |length: usize| {
        let fixed = "GET / HTTP/1.1".len();
        format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "a".repeat(length - fixed))
    };
    assert!(request(line(8192).as_bytes()).unwrap().is_some());
    assert_eq!(refusal(line(8193)), 414);
    assert_eq!(refusal("A".repeat(8194)), 414);
    assert_eq!(refusal(format!("GET /{}", "a".repeat(9000))), 414);
}

#[test]
fn number_of_headers_is_limited() {
    let with = |n: usize| get(&"A: b\r\n".repeat(n - 1));
    assert_eq!(head(&with(100)).headers().len(), 100);
    assert_eq!(refusal(with(101)), 431);
    let more = Limits::default().max_headers(150);
    assert_eq!(
        request_with(with(150).as_bytes(), &more)
            .unwrap()
            .unwrap()
            .head
            .headers()
            .len(),
        150
    );
    assert_eq!(
        request_with(with(151).as_bytes(), &more)
            .unwrap_err()
            .status_hint(),
        431
    );
    let fewer = Limits::default().max_headers(3);
    assert_eq!(
        request_with(with(4).as_bytes(), &fewer)
            .unwrap_err()
            .status_hint(),
        431
    );
}

#[test]
fn size_of_the_head_is_limited() {
    let limits = Limits::default().max_head_size(1000);
    let with = |size: usize| {
        get(&format!(
            "A: {}\r\n",
            "b".repeat(size - get("A: \r\n").len())
        ))
    };
    assert!(
        request_with(with(1000).as_bytes(), &limits)
            .unwrap()
            .is_some()
    );
    assert_eq!(
        request_with(with(1001).as_bytes(), &limits)
            .unwrap_err()
            .status_hint(),
        431
    );
    // Without an end in sight as well.
    let endless = format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(70_000));
    let refused = HeadParser::new().parse(endless.as_bytes(), &Limits::default());
    assert_eq!(refused.unwrap_err().status_hint(), 431);
}

#[test]
fn connection_persists_as_the_version_says() {
    let keeps = |version: &str, options: &str| {
        head(&format!("GET / {version}\r\n{HOST}{options}\r\n")).keep_alive()
    };
    assert!(keeps("HTTP/1.1", ""));
    assert!(keeps("HTTP/1.1", "Connection: keep-alive\r\n"));
    assert!(!keeps("HTTP/1.1", "Connection: Close\r\n"));
    assert!(!keeps("HTTP/1.1", "Connection: keep-alive, close\r\n"));
    assert!(!keeps(
        "HTTP/1.1",
        "Connection: keep-alive\r\nConnection: close\r\n"
    ));
    assert!(!keeps("HTTP/1.0", ""));
    assert!(keeps("HTTP/1.0", "Connection: Keep-Alive\r\n"));
    assert!(!keeps("HTTP/1.0", "Connection: keep-alive, close\r\n"));
}

#[test]
fn expectation_other_than_continue_fails() {
    let expects = |version: &str, extra: &str| {
        head(&format!(
            "POST / {version}\r\n{HOST}{extra}Content-Length: 0\r\n\r\n"
        ))
        .expects_continue()
    };
    assert!(!expects("HTTP/1.1", "Expect: 100-continue\r\n"));
    let with_body = |version: &str| {
        let text =
            format!("POST / {version}\r\n{HOST}Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx");
        head(&text).expects_continue()
    };
    assert!(with_body("HTTP/1.1"));
    assert!(!with_body("HTTP/1.0"));
    for bad in ["200-ok", "", "100-continue, x", "100-continued"] {
        assert_eq!(refusal(get(&format!("Expect: {bad}\r\n"))), 417, "{bad}");
    }
}
