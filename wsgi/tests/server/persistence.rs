//! How connections persist and end.

use crate::client::{echo, get, hello, post, serve};

#[test]
fn connection_serves_one_request_after_another() {
    let server = serve(hello);
    let mut client = server.connect();
    for path in ["/a", "/b", "/c"] {
        client.send(get(path, ""));
        let response = client.response();
        assert_eq!(
            (response.status, response.text()),
            (200, &*format!("GET {path}"))
        );
        assert_eq!(response.header("connection"), None);
        assert!(response.header("date").unwrap().ends_with(" GMT"));
    }
}

#[test]
fn close_is_answered_in_kind() {
    let server = serve(hello);
    for options in ["close", "keep-alive, close", "Close"] {
        let mut client = server.connect();
        client.send(get("/", &format!("Connection: {options}\r\n")));
        let response = client.response();
        assert_eq!(response.header("connection"), Some("close"));
        assert!(client.has_ended());
    }
}

#[test]
fn old_version_closes_unless_asked_to_persist() {
    let server = serve(hello);
    let mut client = server.connect();
    client.send("GET /a HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().header("connection"), Some("close"));
    assert!(client.has_ended());

    let mut client = server.connect();
    for path in ["/a", "/b"] {
        client.send(format!(
            "GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        ));
        let response = client.response();
        assert_eq!(response.header("connection"), Some("keep-alive"));
        assert_eq!(response.text(), format!("GET {path}"));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = serve(echo);
    let mut client = server.connect();
    let requests: String = (0..200).map(|i| post("", &format!("body {i}"))).collect();
    client.send(requests);
    for i in 0..200 {
        assert_eq!(client.response().text(), format!("body {i}"));
    }
}

#[test]
fn pipelined_requests_behind_a_close_are_not_served() {
    let server = serve(hello);
    let mut client = server.connect();
    client.send(get("/a", "Connection: close\r\n") + &get("/b", ""));
    assert_eq!(client.response().text(), "GET /a");
    assert!(client.has_ended());
}

#[test]
fn request_may_come_byte_by_byte() {
    let server = serve(echo);
    let mut client = server.connect();
    let chunked =
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for request in [post("", "hello"), chunked.to_owned()] {
        for byte in request.bytes() {
            client.send([byte]);
        }
        assert!(["hello", "abc"].contains(&client.response().text()));
    }
}

#[test]
fn half_closed_connection_gets_its_answer() {
    let server = serve(hello);
    let mut client = server.connect();
    client.send(get("/a", "") + &get("/b", ""));
    client.end_sending();
    assert_eq!(client.response().text(), "GET /a");
    assert_eq!(client.response().text(), "GET /b");
    assert!(client.has_ended());
}

#[test]
fn connection_without_a_request_ends_quietly() {
    let server = serve(hello);
    let mut client = server.connect();
    client.end_sending();
    assert!(client.has_ended());
    let mut client = server.connect();
    client.send("\r\n");
    client.end_sending();
    assert!(client.has_ended());
}

#[test]
fn unread_body_is_dropped() {
    let server = serve(hello);
    let mut client = server.connect();
    client.send(post("", &"x".repeat(60_000)));
    assert_eq!(client.response().text(), "POST /");
    let chunked =
        "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    client.send(chunked);
    assert_eq!(client.response().text(), "POST /c");
    client.send(get("/next", ""));
    assert_eq!(client.response().text(), "GET /next");
}

#[test]
fn unread_body_that_is_large_closes() {
    let server = serve(hello);
    let mut client = server.connect();
    client.send(post("", &"x".repeat(2_000_000)));
    let response = client.response();
    assert_eq!(
        (response.status, response.header("connection")),
        (200, Some("close"))
    );
    assert!(client.has_ended());
}

#[test]
fn malformed_unread_body_closes() {
    let server = serve(hello);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n");
    client.send(get("/next", ""));
    assert_eq!(client.response().text(), "POST /");
    assert!(client.has_ended());
}

#[test]
fn many_connections_are_served_at_a_time() {
    let server = serve(hello);
    let mut clients: Vec<_> = (0..200).map(|_| server.connect()).collect();
    for round in 0..3 {
        for (i, client) in clients.iter_mut().enumerate() {
            client.send(get(&format!("/{round}/{i}"), ""));
        }
        for (i, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.response().text(), format!("GET /{round}/{i}"));
        }
    }
}
