//! The bytes of responses.

use greenwood_wsgi::proto::{
    ApplicationFault, HttpError, Payload, ResponseContext, ResponseEncoder, encode_upgrade,
};

use crate::cuts::head;

const CONTEXT: ResponseContext<'_> = ResponseContext {
    date: "Sun, 22 Nov 2026 14:35:38 GMT",
    server: "greenwood",
    keep_alive: true,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n";
const OLD: &str = "GET / HTTP/1.0\r\n\r\n";

/// A whole response of pieces, with or without a length known beforehand.
fn respond(
    request: &str,
    status: &str,
    headers: &[(&str, &str)],
    pieces: &[&str],
    known: bool,
) -> Result<(String, bool), HttpError> {
    let mut out = Vec::new();
    let mut response = ResponseEncoder::new(&head(request));
    response.start(&mut out, status, headers)?;
    let length = pieces.iter().map(|p| p.len() as u64).sum();
    response.head(&mut out, known.then_some(length), &CONTEXT)?;
    for piece in pieces {
        response.data(&mut out, piece.as_bytes())?;
    }
    response.finish(&mut out)?;
    Ok((String::from_utf8(out).unwrap(), response.keep_alive()))
}

fn ok(request: &str, headers: &[(&str, &str)], pieces: &[&str], known: bool) -> (String, bool) {
    respond(request, "200 OK", headers, pieces, known).unwrap()
}

fn fault(status: &str, headers: &[(&str, &str)], pieces: &[&str], known: bool) -> HttpError {
    respond(GET, status, headers, pieces, known).unwrap_err()
}

#[test]
fn known_length_is_announced() {
    let (text, keep) = ok(GET, &[("Content-Type", "text/plain")], &["hel", "lo"], true);
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
         Date: Sun, 22 Nov 2026 14:35:38 GMT\r\nServer: greenwood\r\n\r\nhello"
    );
    assert!(keep);
}

#[test]
fn unknown_length_is_chunked() {
    let (text, keep) = ok(GET, &[], &["hello", "", "0123456789abcdef"], false);
    assert!(text.contains("Transfer-Encoding: chunked\r\n"));
    assert!(!text.contains("Content-Length"));
    assert!(text.ends_with("\r\n\r\n5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"));
    assert!(keep);
}

#[test]
fn unknown_length_closes_in_the_old_version() {
    let (text, keep) = ok(
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        &[],
        &["a", "b"],
        false,
    );
    assert!(!text.contains("chunked") && !text.contains("Content-Length"));
    assert!(text.contains("Connection: close\r\n") && text.ends_with("\r\n\r\nab"));
    assert!(!keep);
}

#[test]
fn connection_is_answered_in_kind() {
    let answer = |request: &str| ok(request, &[], &["x"], true);
    let (text, keep) = answer("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert!(text.contains("Connection: close\r\n") && !keep);
    let (text, keep) = answer("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(text.contains("Connection: keep-alive\r\n") && keep);
    let (text, keep) = answer(OLD);
    assert!(text.contains("Connection: close\r\n") && !keep);
    let (text, keep) = answer(GET);
    assert!(!text.contains("Connection:") && keep);
}

#[test]
fn application_may_close() {
    let (text, keep) = ok(GET, &[("connection", "Close")], &["x"], true);
    assert!(text.contains("Connection: close\r\n") && !text.contains("connection:") && !keep);
    // `Upgrade` needs its option (RFC 9110 section 7.8).
    let (text, _) = ok(
        GET,
        &[("Connection", "Upgrade"), ("Upgrade", "websocket")],
        &[],
        true,
    );
    assert!(text.contains("Connection: Upgrade\r\n"));
    let (text, _) = ok(GET, &[("Connection", "upgrade, close")], &[], true);
    assert!(text.contains("Connection: close, upgrade\r\n"));
}

#[test]
fn server_may_close() {
    let mut out = Vec::new();
    let mut response = ResponseEncoder::new(&head(GET));
    response.start(&mut out, "200 OK", &[("A", "b")]).unwrap();
    response
        .head(
            &mut out,
            Some(0),
            &ResponseContext {
                keep_alive: false,
                ..CONTEXT
            },
        )
        .unwrap();
    assert!(
        String::from_utf8(out)
            .unwrap()
            .contains("Connection: close\r\n")
    );
    assert!(!response.keep_alive());
}

#[test]
fn head_gets_headers_and_no_body() {
    let (text, keep) = ok(HEAD, &[], &["hello"], true);
    assert!(text.contains("Content-Length: 5\r\n") && text.ends_with("\r\n\r\n") && keep);
    let (text, keep) = ok(HEAD, &[], &["hello"], false);
    assert!(text.contains("chunked\r\n") && text.ends_with("\r\n\r\n") && keep);
    // What GET would have given, announced by an application that knows of HEAD.
    let (text, _) = ok(HEAD, &[("Content-Length", "700")], &[], true);
    assert!(text.contains("Content-Length: 700\r\n") && text.ends_with("\r\n\r\n"));
    let (text, _) = ok(HEAD, &[], &[], true);
    assert!(!text.contains("Content-Length") && !text.contains("chunked"));
}

#[test]
fn status_without_a_body_has_none() {
    let (text, keep) = respond(GET, "204 No Content", &[], &[], true).unwrap();
    assert!(!text.contains("Content-Length") && !text.contains("chunked") && keep);
    let (text, _) = respond(GET, "204 No Content", &[("Content-Length", "0")], &[], true).unwrap();
    assert!(!text.contains("Content-Length"));
    let (text, _) = respond(
        GET,
        "304 Not Modified",
        &[("Content-Length", "5")],
        &[],
        true,
    )
    .unwrap();
    assert!(text.contains("Content-Length: 5\r\n") && text.ends_with("\r\n\r\n"));
    let (text, _) = respond(GET, "304 Not Modified", &[], &[], false).unwrap();
    assert!(!text.contains("chunked"));
    for status in ["204 No Content", "304 Not Modified"] {
        for known in [true, false] {
            let fault = fault(status, &[], &["x"], known);
            assert_eq!(
                fault,
                ApplicationFault::BodyNotAllowed.into(),
                "{status} {known}"
            );
            assert_eq!(fault.status_hint(), 500);
        }
    }
}

/// RFC 9110 section 15.3.6.
#[test]
fn reset_content_says_that_it_has_none() {
    for body in [&[] as &[&str], &[""]] {
        for known in [true, false] {
            let (text, keep) = respond(GET, "205 Reset Content", &[], body, known).unwrap();
            assert!(text.ends_with("\r\n\r\n") && keep, "{text}");
            assert!(text.contains("Content-Length: 0\r\n"), "{text}");
        }
    }
    let declared = [("Content-Length", "5")];
    let refused = fault("205 Reset Content", &declared, &[], false);
    assert_eq!(refused, ApplicationFault::ContentLength.into());
    assert_eq!(
        fault("205 Reset Content", &[], &["x"], true).status_hint(),
        500
    );
    assert_eq!(
        fault("205 Reset Content", &[], &["x"], false).status_hint(),
        500
    );
}

#[test]
fn nothing_splits_a_response() {
    for value in [
        "a\r\nSet-Cookie: x",
        "a\nb",
        "a\rb",
        "a\0b",
        "\u{1}",
        "\u{7f}",
    ] {
        assert_eq!(
            fault("200 OK", &[("A", value)], &[], true),
            ApplicationFault::HeaderValue.into()
        );
        let status = format!("200 {value}");
        assert_eq!(
            fault(&status, &[], &[], true),
            ApplicationFault::Status.into()
        );
        let mut out = b"before".to_vec();
        assert!(encode_upgrade(&mut out, &[("A", value)]).is_err());
        assert_eq!(out, b"before");
    }
    for name in ["", "A B", "A:", "A\r\nB", "\u{e4}", "A\0"] {
        assert_eq!(
            fault("200 OK", &[(name, "x")], &[], true),
            ApplicationFault::HeaderName.into()
        );
    }
}

#[test]
fn status_has_to_be_a_final_one() {
    for status in [
        "",
        "OK",
        "100 Continue",
        "101 Switching Protocols",
        "600 x",
        "2000 x",
        "200OK",
    ] {
        assert_eq!(
            fault(status, &[], &[], true),
            ApplicationFault::Status.into(),
            "{status}"
        );
    }
    let (text, _) = respond(GET, "299", &[], &[], true).unwrap();
    assert!(text.starts_with("HTTP/1.1 299 \r\n"));
}

#[test]
fn declared_length_has_to_be_true() {
    let declared = |length| [("Content-Length", length)];
    assert_eq!(
        ok(GET, &declared("3"), &["abc"], false)
            .0
            .matches("Content-Length: 3")
            .count(),
        1
    );
    assert_eq!(
        fault("200 OK", &declared("2"), &["abc"], true),
        ApplicationFault::BodyTooLong.into()
    );
    assert_eq!(
        fault("200 OK", &declared("2"), &["abc"], false),
        ApplicationFault::BodyTooLong.into()
    );
    assert_eq!(
        fault("200 OK", &declared("4"), &["abc"], true),
        ApplicationFault::BodyTooShort.into()
    );
    assert_eq!(
        fault("200 OK", &declared("4"), &["abc"], false),
        ApplicationFault::BodyTooShort.into()
    );
    for bad in ["x", "+3", "-3", "", "3, 3"] {
        assert_eq!(
            fault("200 OK", &declared(bad), &["abc"], true),
            ApplicationFault::ContentLength.into()
        );
    }
    let twice = [("Content-Length", "3"), ("content-length", "3")];
    assert_eq!(
        fault("200 OK", &twice, &["abc"], true),
        ApplicationFault::ContentLength.into()
    );
}

#[test]
fn piece_over_the_length_sends_nothing() {
    let mut out = Vec::new();
    let mut response = ResponseEncoder::new(&head(GET));
    response
        .start(&mut out, "200 OK", &[("Content-Length", "4")])
        .unwrap();
    response.head(&mut out, None, &CONTEXT).unwrap();
    assert_eq!(response.begin(&mut out, 3).unwrap(), Payload::Send);
    let before = out.clone();
    assert!(response.data(&mut out, b"45").is_err());
    assert_eq!(out, before);
}

#[test]
fn transfer_encoding_is_the_servers() {
    let headers = [("Transfer-Encoding", "chunked")];
    assert_eq!(
        fault("200 OK", &headers, &[], true),
        ApplicationFault::HopByHop.into()
    );
}

#[test]
fn start_again_replaces_until_the_head_is_written() {
    let mut out = b"earlier".to_vec();
    let mut response = ResponseEncoder::new(&head(GET));
    response
        .start(
            &mut out,
            "200 OK",
            &[("A", "b"), ("Content-Length", "9"), ("Date", "x")],
        )
        .unwrap();
    assert!(response.start(&mut out, "200 OK", &[("A", "\n")]).is_err());
    assert_eq!(out, b"earlier");
    response.start(&mut out, "500 Oops", &[("C", "d")]).unwrap();
    response.head(&mut out, Some(0), &CONTEXT).unwrap();
    let text = String::from_utf8(out.clone()).unwrap();
    assert!(
        text.starts_with("earlierHTTP/1.1 500 Oops\r\nC: d\r\nContent-Length: 0\r\nDate: Sun"),
        "{text}"
    );
    assert_eq!(text.matches("HTTP/1.1").count(), 1);
    let late = response
        .start(&mut out, "200 OK", &[("A", "b")])
        .unwrap_err();
    assert_eq!(late, ApplicationFault::HeadSent.into());
}

#[test]
fn application_sets_date_and_server() {
    let (text, _) = ok(GET, &[("date", "now"), ("SERVER", "mine")], &[], true);
    assert!(text.contains("date: now\r\n") && text.contains("SERVER: mine\r\n"));
    assert!(!text.contains("Date: ") && !text.contains("Server: "));
}

#[test]
fn order_of_calls_is_checked() {
    let mut out = Vec::new();
    let mut response = ResponseEncoder::new(&head(GET));
    let not_started = ApplicationFault::NotStarted.into();
    assert_eq!(
        response.head(&mut out, None, &CONTEXT).unwrap_err(),
        not_started
    );
    assert_eq!(response.data(&mut out, b"x").unwrap_err(), not_started);
    assert_eq!(response.finish(&mut out).unwrap_err(), not_started);
    assert!(out.is_empty());
}

#[test]
fn upgrade_has_the_given_headers_alone() {
    let mut out = Vec::new();
    encode_upgrade(
        &mut out,
        &[("Upgrade", "websocket"), ("Connection", "Upgrade")],
    )
    .unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        text,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    );
}
