//! Applications on `may_minihttp`.

#[path = "client/mod.rs"]
mod client;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use client::{Client, get, hello, post};
use greenwood_runtime::{Queue, getcurrent, sleep, spawn};
use greenwood_wsgi::{
    Application, Body, Environ, Result, StartResponse, minihttp::MiniHttpServer, proto::Limits,
};

/// A server at a port that was free a moment ago: its own can't be asked for.
fn serve_with(
    app: impl Application + Clone,
    configure: impl Fn(MiniHttpServer) -> MiniHttpServer,
) -> SocketAddr {
    for port in ports() {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        match configure(MiniHttpServer::new(address, app.clone())).start() {
            Ok(()) => return address,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}"),
        }
    }
    panic!("no free port");
}

fn serve(app: impl Application + Clone) -> SocketAddr {
    serve_with(app, |server| server)
}

/// Ports that no other test of this process has tried.
fn ports() -> impl Iterator<Item = u16> {
    static NEXT: Mutex<u16> = Mutex::new(0);
    let first = 20_000 + (std::process::id() % 20_000) as u16;
    std::iter::from_fn(move || {
        let mut next = NEXT.lock().unwrap();
        *next += 1;
        Some(first + *next)
    })
    .take(1_000)
}

fn ask(address: SocketAddr, request: &str) -> client::Response {
    let mut client = Client::connect(address);
    client.send(request);
    client.response()
}

#[test]
fn application_is_the_same_as_on_the_other_server() {
    let app = |environ: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
        let mut body = String::new();
        io::Read::read_to_string(environ.input(), &mut body)?;
        let text = format!(
            "{} {} {} {} {} {body}",
            environ.method(),
            environ.path(),
            environ.get("QUERY_STRING").unwrap_or_default(),
            environ.get("HTTP_X_ONE").unwrap_or_default(),
            environ.remote_addr(),
        );
        let length = text.len().to_string();
        start_response(
            "201 Made So",
            &[("Content-Length", &length), ("X-Path", &environ.path())],
        )?;
        Ok(Body::from_iter([text]))
    };
    let address = serve(app);
    let mut client = Client::connect(address);
    // One connection for all: it persists.
    for body in ["", "x", &"long ".repeat(50_000)] {
        let length = body.len();
        client.send(format!(
            "POST /caf%C3%A9?a=b HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        let response = client.response();
        assert_eq!(response.status, 201);
        assert_eq!(response.header("x-path"), Some("/café"));
        let port = client.local_port();
        let expected = format!("POST /café a=b 1 127.0.0.1:{port} {body}");
        assert!(response.text() == expected, "{}", response.text());
    }
    client.send(get("/a", "") + &get("/b", ""));
    assert!(client.response().text().starts_with("GET /a "));
    assert!(client.response().text().starts_with("GET /b "));
}

/// It runs in a greenlet, which stays on its hub.
#[test]
fn application_may_block() {
    const CLIENTS: usize = 40;
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    let app = |environ: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
        let thread = std::thread::current().id();
        assert!(getcurrent().is_some());
        let queue = std::sync::Arc::new(Queue::new(0));
        let theirs = std::sync::Arc::clone(&queue);
        let path = environ.path().into_owned();
        // Beside each other, not one after the other: each waits for all of its round.
        let all = (BEGUN.fetch_add(1, Ordering::SeqCst) / CLIENTS + 1) * CLIENTS;
        spawn(move || {
            while BEGUN.load(Ordering::SeqCst) < all {
                sleep(Duration::from_millis(1));
            }
            theirs.put(path).unwrap();
        });
        let path = queue.get().unwrap();
        assert_eq!(std::thread::current().id(), thread);
        start_response("200 OK", &[])?;
        Ok(path.into())
    };
    let address = serve(app);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
    for _ in 0..3 {
        for (i, client) in clients.iter_mut().enumerate() {
            client.send(get(&format!("/{i}"), ""));
        }
        for (i, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.response().text(), format!("/{i}"));
        }
    }
}

#[test]
fn failures_are_500_and_close() {
    let app = |environ: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
        match &*environ.path() {
            "/panic" => panic!("on purpose"),
            "/error" => return Err("on purpose".into()),
            "/silent" => return Ok("x".into()),
            "/split" => start_response("200 OK", &[("A", "b\r\nC: d")])?,
            "/short" => start_response("200 OK", &[("Content-Length", "9")])?,
            "/headers" => start_response("200 OK", &[("A", "b"); 17])?,
            "/most" => start_response("200 OK", &[("A", "b"); 16])?,
            _ => {}
        }
        Ok("body".into())
    };
    let address = serve(app);
    for path in [
        "/panic", "/error", "/silent", "/split", "/short", "/headers",
    ] {
        let mut client = Client::connect(address);
        client.send(get(path, "") + &get("/most", ""));
        let response = client.response();
        assert_eq!(response.status, 500, "{path}");
        assert_eq!(response.header("connection"), Some("close"), "{path}");
        assert_eq!(response.text(), "Internal Server Error\n", "{path}");
        // What was sent behind it reaches nobody.
        assert!(
            !client.rest_or_reset().starts_with(b"HTTP/1.1 200"),
            "{path}"
        );
    }
    assert_eq!(ask(address, &get("/most", "")).text(), "body");
}

#[test]
fn what_it_cannot_do_is_refused() {
    let address = serve_with(hello, |server| {
        server.limits(Limits::default().max_body_size(10))
    });
    let of = |headers: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (of("Host: again\r\n"), 400),
        (of("Content-Length: +1\r\n"), 400),
        (of("Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        (
            of("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"),
            400,
        ),
        (of("Transfer-Encoding: chunked\r\n"), 501),
        (of("Content-Length: 1\r\nExpect: 100-continue\r\n"), 417),
        (of("Content-Length: 11\r\n"), 413),
    ] {
        let mut client = Client::connect(address);
        client.send(&request);
        let response = client.response();
        assert_eq!(response.status, status, "{request}");
        assert_eq!(response.header("connection"), Some("close"), "{request}");
        assert!(client.has_ended(), "{request}");
        // Nothing behind it is taken for a request.
        for behind in ["0\r\n\r\n", &get("/hidden", ""), "garbage\r\n"] {
            let mut client = Client::connect(address);
            client.send(request.clone() + behind);
            let all = client.rest_or_reset();
            assert!(!all.starts_with(b"HTTP/1.1 200"), "{request}{behind}");
            let hidden = all.windows(7).any(|bytes| bytes == b"/hidden");
            assert!(!hidden, "{request}{behind}");
        }
    }
    assert_eq!(ask(address, &post("", "ten bytes.")).text(), "POST /");
}

#[test]
fn connection_closes_when_it_is_asked_to() {
    let address = serve(hello);
    let mut client = Client::connect(address);
    client.send(get("/", "Connection: close\r\n"));
    let response = client.response();
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.has_ended());
    let mut client = Client::connect(address);
    client.send("GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "GET /old");
    assert!(client.has_ended());
    let mut client = Client::connect(address);
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status, 200);
    client.send(get("/", ""));
    assert_eq!(client.response().text(), "GET /");
}

#[test]
fn address_that_is_taken_is_an_error_that_names_it() {
    let address = serve(hello);
    let error = MiniHttpServer::new(address, hello).start().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(
        MiniHttpServer::new("no-such-host.invalid:1", hello)
            .start()
            .is_err()
    );
    assert_eq!(ask(address, &get("/", "")).text(), "GET /");
}
