//! Handlers, and connections that leave HTTP.

use std::{
    io::{Read, Write},
    time::Duration,
};

use greenwood_wsgi::{
    Application, Body, Environ, Exchange, Handler, Result, StartResponse, Upgraded,
};

use crate::client::{get, post, serve_handler, serve_with};

/// Upgrades to a protocol that echoes, having the application say what is put before the echo.
struct Echoing;

struct Protocol(Upgraded);

impl Handler for Echoing {
    fn handle(&self, exchange: &mut Exchange<'_>, app: &dyn Application) -> Result<()> {
        match exchange.environ().header("upgrade") {
            None => exchange.run(app),
            Some("echo") => {
                let upgraded =
                    exchange.upgrade(&[("Upgrade", "echo"), ("Connection", "Upgrade")])?;
                assert!(exchange.is_upgraded());
                assert!(exchange.respond("200 OK", &[], "no more").is_err());
                assert!(exchange.upgrade(&[]).is_err());
                exchange.environ_mut().insert(Protocol(upgraded));
                app.call(exchange.environ_mut(), &mut |_, _| Ok(()))?;
                Ok(())
            }
            Some("panic") => {
                let _upgraded = exchange.upgrade(&[])?;
                panic!("on purpose");
            }
            Some("bad") => exchange.upgrade(&[("A", "b\r\nc")]).map(|_| ()),
            Some(_) => exchange.respond(
                "426 Upgrade Required",
                &[("Upgrade", "echo"), ("Connection", "Upgrade")],
                "echo only\n",
            ),
        }
    }
}

fn app(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    if let Some(Protocol(upgraded)) = environ.remove() {
        let mut stream = upgraded.stream;
        let path = environ.path().into_owned();
        assert_eq!(environ.input().read(&mut [0; 1])?, 0);
        stream.write_all(path.as_bytes())?;
        stream.write_all(&upgraded.leftover)?;
        let mut bytes = [0; 100];
        loop {
            match stream.read(&mut bytes)? {
                0 => return Ok(Body::empty()),
                read => stream.write_all(&bytes[..read])?,
            }
        }
    }
    start_response("200 OK", &[])?;
    Ok("plain".into())
}

#[test]
fn upgraded_connection_is_the_handlers() {
    let server = serve_handler(Echoing, app);
    let mut client = server.connect();
    client.send(get("/first", ""));
    assert_eq!(client.response().text(), "plain");
    client.send(get("/path", "Upgrade: echo\r\n") + "early");
    let head = client.until(b"\r\n\r\n");
    assert_eq!(
        String::from_utf8(head).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"
    );
    assert_eq!(client.exactly(10), b"/pathearly");
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.exactly(18), b"GET / HTTP/1.1\r\n\r\n");
    client.end_sending();
    assert!(client.has_ended());
}

#[test]
fn body_before_an_upgrade_is_not_the_protocols() {
    let server = serve_handler(Echoing, app);
    let mut client = server.connect();
    client.send(post("Upgrade: echo\r\n", "body") + "early");
    client.until(b"\r\n\r\n");
    assert_eq!(client.exactly(6), b"/early");
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(client.response().status, 413);
}

/// RFC 9110 section 7.8: 100 comes before 101, and the body between them.
#[test]
fn upgrade_with_an_expectation_gets_100_first() {
    let server = serve_handler(Echoing, app);
    let mut client = server.connect();
    let headers = "Upgrade: echo\r\nExpect: 100-continue\r\nContent-Length: 4\r\n";
    client.send(get("/x", headers));
    assert_eq!(client.until(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("bodyearly");
    assert!(client.until(b"\r\n\r\n").starts_with(b"HTTP/1.1 101 "));
    assert_eq!(client.exactly(7), b"/xearly");
}

/// It is the peer's fault, and says so.
#[test]
fn upgrade_with_a_bad_body_is_refused_as_fits() {
    let server = serve_with(app, |server| {
        server
            .handler(Echoing)
            .body_timeout(Duration::from_millis(100))
    });
    for (headers, body, ends, status) in [
        ("Transfer-Encoding: chunked\r\n", "zz\r\n", false, 400),
        ("Content-Length: 10\r\n", "ab", true, 400),
        ("Content-Length: 10\r\n", "ab", false, 408),
        ("Content-Length: 100000\r\n", "ab", false, 413),
    ] {
        let mut client = server.connect();
        client.send(get("/", &format!("Upgrade: echo\r\n{headers}")) + body);
        if ends {
            client.end_sending();
        }
        let response = client.response();
        assert_eq!(response.status, status, "{headers}{body}");
        assert_eq!(response.header("connection"), Some("close"));
        assert!(client.has_ended());
    }
}

#[test]
fn handler_answers_by_itself() {
    let server = serve_handler(Echoing, app);
    let mut client = server.connect();
    client.send(get("/", "Upgrade: other\r\n"));
    let response = client.response();
    assert_eq!((response.status, response.text()), (426, "echo only\n"));
    assert_eq!(response.header("connection"), Some("Upgrade"));
    client.send(get("/", ""));
    assert_eq!(client.response().text(), "plain");
}

#[test]
fn failures_around_an_upgrade_stay_with_their_connection() {
    let server = serve_handler(Echoing, app);
    let mut client = server.connect();
    client.send(get("/", "Upgrade: bad\r\n"));
    assert_eq!(client.response().status, 500);
    let mut client = server.connect();
    client.send(get("/", "Upgrade: panic\r\n"));
    client.until(b"\r\n\r\n");
    assert!(client.has_ended());
    assert_eq!(server.get("/", "").text(), "plain");
}
