//! Bad input: the status that fits, and the end of the connection.

use greenwood_wsgi::proto::Limits;

use crate::client::{echo, get, hello, post, serve, serve_with};

#[test]
fn bad_requests_get_the_status_that_fits() {
    let server = serve(hello);
    for (request, status) in [
        ("garbage\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\nHost: h\n\n".to_owned(), 400),
        ("\x16\x03\x01\x02\0\x01\0".to_owned(), 400),
        (get("/", "Folded: a\r\n b\r\n"), 400),
        (get("/", "Host: h\r\n"), 400),
        (get("/", "Content-Length: +5\r\n"), 400),
        (get("/", "Content-Length: 5\r\nContent-Length: 5\r\n"), 400),
        (
            get("/", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            400,
        ),
        (get("/", "Transfer-Encoding : chunked\r\n"), 400),
        (get("/", "Transfer-Encoding: chunked, gzip\r\n"), 400),
        (get("/", "Content-Length: 99999999999\r\n"), 413),
        (get(&format!("/{}", "a".repeat(9000)), ""), 414),
        (get("/", "Expect: miracles\r\n"), 417),
        (get("/", &"A: b\r\n".repeat(101)), 431),
        (get("/", &format!("A: {}\r\n", "b".repeat(70_000))), 431),
        (get("/", "Transfer-Encoding: gzip, chunked\r\n"), 501),
        ("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 501),
        ("GET / HTTP/1.2\r\nHost: h\r\n\r\n".to_owned(), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
    ] {
        let mut client = server.connect();
        // What follows must not be served.
        client
            .try_send(request.clone() + &get("/hidden", ""))
            .unwrap();
        let response = client.response();
        assert_eq!(response.status, status, "{:.60}", request.escape_debug());
        assert_eq!(response.header("connection"), Some("close"));
        assert!(response.header("date").is_some());
        assert!(client.has_ended(), "{:.60}", request.escape_debug());
    }
}

#[test]
fn refusal_names_the_cause() {
    let server = serve(hello);
    let response = server.ask("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(response.text(), "Bad Request: host header missing\n");
    assert_eq!(
        response.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
}

#[test]
fn refusal_of_head_has_no_body() {
    let server = serve(hello);
    let mut client = server.connect();
    client.send("HEAD / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status, 400);
    assert!(client.has_ended());
}

#[test]
fn refusal_comes_after_the_answers_before_it() {
    let server = serve(hello);
    let mut client = server.connect();
    client.send(get("/a", "") + "bad\r\n\r\n");
    assert_eq!(client.response().text(), "GET /a");
    assert_eq!(client.response().status, 400);
    assert!(client.has_ended());
}

#[test]
fn client_that_is_still_sending_sees_the_refusal() {
    let server = serve(echo);
    let mut client = server.connect();
    let size = 20_000_000;
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n"
    ));
    client.try_send(vec![b'x'; size]).unwrap();
    assert_eq!(client.response().status, 413);
    assert!(client.has_ended());
}

#[test]
fn bad_chunks_are_refused_through_the_application() {
    let server = serve(echo);
    for body in [
        "x\r\n",
        "5\nhello",
        "3\r\nabcd\r\n",
        "-1\r\n",
        "11111111111111111\r\n",
        "0\r\n x\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}{}",
            get("/hidden", "")
        ));
        assert_eq!(client.response().status, 400, "{body:?}");
        assert!(client.has_ended());
    }
}

#[test]
fn chunked_body_over_the_limit_is_refused() {
    let limits = Limits::default().max_body_size(10);
    let server = serve_with(echo, |server| server.limits(limits));
    let mut client = server.connect();
    client.send(post("", "0123456789"));
    assert_eq!(client.response().status, 200);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n5\r\nabcde\r\n");
    assert_eq!(client.response().status, 413);
    assert!(client.has_ended());
}

#[test]
fn truncated_requests_are_refused() {
    let server = serve(echo);
    for request in [
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: h\r\n",
        &post("", "hello")[..30],
    ] {
        let mut client = server.connect();
        client.send(request);
        client.end_sending();
        assert_eq!(client.response().status, 400, "{request:?}");
        assert!(client.has_ended());
    }
}
