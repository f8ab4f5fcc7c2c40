//! WebSocket URLs.

use greenwood_websocket::proto::Url;

#[test]
fn urls_are_taken_apart() {
    for (url, secure, host, port, header, target) in [
        ("ws://host", false, "host", 80, "host", "/"),
        ("wss://host", true, "host", 443, "host", "/"),
        ("WS://Host/", false, "Host", 80, "Host", "/"),
        ("ws://host:80/a", false, "host", 80, "host", "/a"),
        ("ws://host:443/a", false, "host", 443, "host:443", "/a"),
        ("wss://host:443", true, "host", 443, "host", "/"),
        (
            "ws://host:8000?a=b",
            false,
            "host",
            8000,
            "host:8000",
            "/?a=b",
        ),
        (
            "ws://host/a%20b?c=%23&d",
            false,
            "host",
            80,
            "host",
            "/a%20b?c=%23&d",
        ),
        (
            "ws://127.0.0.1:65535/",
            false,
            "127.0.0.1",
            65535,
            "127.0.0.1:65535",
            "/",
        ),
        ("ws://[::1]/", false, "::1", 80, "[::1]", "/"),
        ("ws://[::1]:9/x", false, "::1", 9, "[::1]:9", "/x"),
        ("ws://user:pass@host:9/x", false, "host", 9, "host:9", "/x"),
        ("ws://u@[::1]:9", false, "::1", 9, "[::1]:9", "/"),
        ("ws://host:/x", false, "host", 80, "host", "/x"),
    ] {
        let parsed = Url::parse(url).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed.is_secure(), secure, "{url}");
        assert_eq!(parsed.host(), host, "{url}");
        assert_eq!(parsed.port(), port, "{url}");
        assert_eq!(parsed.host_header(), header, "{url}");
        assert_eq!(parsed.target(), target, "{url}");
    }
}

#[test]
fn what_is_no_websockets_url_is_refused_with_the_cause() {
    for (url, cause) in [
        ("", "not well-formed"),
        ("host", "the scheme must be ws or wss"),
        ("/path", "the scheme must be ws or wss"),
        ("http://host/", "the scheme must be ws or wss"),
        ("https://host/", "the scheme must be ws or wss"),
        ("ws:///path", "not well-formed"),
        ("ws://", "not well-formed"),
        ("ws://:80/", "no host"),
        ("ws://host/#part", "no fragment"),
        ("ws://host:0/", "the port must be 1 to 65535"),
        ("ws://host:65536/", "port"),
        ("ws://host:x/", "port"),
        ("ws://host:-1/", "port"),
        ("ws://host/a b", "not well-formed"),
        ("ws://host/\r\nX: y", "not well-formed"),
        ("ws://host\0/", "not well-formed"),
        ("ws://h\u{f6}st/", "Punycode"),
        ("ws://host/\u{f6}", "percent-encoded"),
        ("ws://[::1/", "not well-formed"),
        ("ws://[::@]c/", "brackets"),
        ("ws://[::1]@h/", "brackets"),
        ("ws://[host]/", "brackets"),
        ("ws://[127.0.0.1]/", "brackets"),
        ("ws://[v1.x]/", "brackets"),
        ("ws://[fe80::1%25eth0]/", "brackets"),
        ("ws://host:+80/", "port"),
        ("ws://a%3Ab:c@host/", "user name"),
    ] {
        let error = Url::parse(url).expect_err(url).to_string();
        assert!(
            error.contains(cause) || cause == "port" && error.contains("not well-formed"),
            "{url}: {error}"
        );
    }
}

#[test]
fn user_and_password_become_basic_authorization() {
    for (url, authorization) in [
        ("ws://host/", None),
        // RFC 7617, 2.
        (
            "ws://Aladdin:open%20sesame@host/",
            Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ),
        ("ws://a:%3A%@host/", Some("Basic YTo6JQ==")),
        // Without a password it is empty: the colon is there.
        ("ws://me@host/", Some("Basic bWU6")),
        ("ws://me:@host/", Some("Basic bWU6")),
        ("ws://:5ecret@host/", Some("Basic OjVlY3JldA==")),
        ("ws://@host/", None),
    ] {
        let url = Url::parse(url).unwrap();
        assert_eq!(url.authorization(), authorization);
    }
}

#[test]
fn passwords_are_never_shown() {
    let url = Url::parse("wss://me:5ecret@host:8/x").unwrap();
    assert_eq!(url.to_string(), "wss://host:8/x");
    assert_eq!(format!("{url:?}"), "Url(wss://host:8/x)");
    for url in [
        "http://me:5ecret@host/@",
        "ws://me:5ecret@host/#x",
        "ws://me:5ecret@:1",
        // Forgotten to encode.
        "ws://me:5ec/5ecret@host/",
        "ws://me:5ecret?x@host/",
        "ws://me:5ecret#x@host/",
        "ws:me:5ecret@host",
    ] {
        let error = Url::parse(url).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("5ecret"), "{error}");
    }
}
