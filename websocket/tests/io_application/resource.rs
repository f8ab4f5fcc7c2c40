//! Which application serves which request.

use crate::io_support::{TEXT, handshake, text};
use crate::support::*;
use greenwood_websocket::{Captures, Resource, Route, WebSocketApplication};
use greenwood_wsgi::{Body, Environ, Result, StartResponse};

#[test]
fn default_application_echoes() {
    let served = serve([("/", Route::websocket(|_| Echo))]);
    let mut peer = served.open("/any/path");
    peer.write(text("hello"));
    peer.expect(TEXT, "hello");
    peer.close();
}

#[test]
fn first_matching_pattern_of_the_right_kind_serves() {
    let served = serve([
        ("/chat/.+", named("rooms")),
        ("/chat", page("the page of the chat")),
        ("/chat", named("the chat")),
        ("/c", named("never seen for /chat")),
        ("/$", page("root")),
    ]);
    for (path, name) in [
        ("/chat/room", "rooms"),
        ("/chat", "the chat"),
        // Anchored at the start only, as re.match.
        ("/chatter", "the chat"),
        ("/cc", "never seen for /chat"),
    ] {
        let mut peer = served.open(path);
        peer.expect(TEXT, name);
        peer.close();
    }
    for (path, body) in [
        ("/chat/room", "the page of the chat"),
        ("/chat", "the page of the chat"),
        ("/", "root"),
    ] {
        assert_eq!(get(&served, path).1, body, "{path}");
    }
}

#[test]
fn path_without_a_route_is_not_found() {
    let served = serve([
        ("/page$", page("page")),
        ("/ws$", Route::websocket(|_| Echo)),
        ("b", page("found only at the start of a path")),
    ]);
    for path in ["/nothing", "/ws", "/a/page", "/b"] {
        assert!(get(&served, path).0.starts_with("HTTP/1.1 404 "), "{path}");
    }
    for path in ["/page", "/", "/ws/"] {
        let mut peer = served.connect();
        let refused = handshake("").replacen("/ws", path, 1);
        peer.write(refused + "GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
        let (head, _) = peer.response();
        assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
        // As after every refusal, nothing behind it is read as a request.
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        peer.expect_cut();
    }
}

#[test]
fn bad_handshake_is_refused_before_the_path_is_looked_at() {
    let served = serve([("/ws$", Route::websocket(|_| Echo))]);
    let mut peer = served.connect();
    peer.write(handshake("").replacen("Version: 13", "Version: 7", 1));
    assert!(peer.response().0.starts_with("HTTP/1.1 426 "));
}

#[test]
fn captures_and_request_reach_the_factory() {
    let route = Route::websocket(|opening| {
        let room = opening.name("room").unwrap_or("none");
        let second = opening.group(2).unwrap_or("none");
        let query = opening.environ().query_string();
        assert_eq!(opening.group(3), None);
        assert_eq!(opening.name("other"), None);
        Named(format!(
            "{room} {second} {query} {}",
            opening.group(0).unwrap()
        ))
    });
    let captured = Route::application(
        |environ: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
            start_response("200 OK", &[])?;
            let captures = environ.extension::<Captures>().unwrap();
            Ok(captures.group(1).unwrap().to_owned().into())
        },
    );
    let served = serve([
        (r"/(?<room>[^-/]+)(?:-(\d+))?", route),
        ("/(.*)x", captured),
    ]);
    let mut peer = served.open("/caf%C3%A9-12?a=b");
    peer.expect(TEXT, "café 12 a=b /café-12");
    peer.close();
    let mut peer = served.open("/r");
    peer.expect(TEXT, "r none  /r");
    peer.close();
    assert_eq!(get(&served, "/abcxyz").1, "abc");
}

#[test]
fn invalid_pattern_is_named_at_construction() {
    let error = Resource::new([("/ok", page("")), ("/(unclosed", page(""))]).unwrap_err();
    assert!(error.to_string().contains("/(unclosed"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn subprotocol_is_the_application_s_of_the_path() {
    struct Chat;
    impl WebSocketApplication for Chat {
        fn protocol_name() -> &'static str {
            "chat"
        }
    }
    let resource = Resource::new([
        ("/chat", Route::websocket(|_| Chat)),
        (
            "/many",
            Route::websocket(|_| Chat).subprotocols(["v2", "v1"]),
        ),
        ("/none", Route::websocket(|_| Echo)),
    ])
    .unwrap();
    let served = serve_configured(resource, |server| {
        server.websockets(|handler| handler.subprotocols(["general"]))
    });
    let offered = "Sec-WebSocket-Protocol: chatter, v1, chat, v2, general\r\n";
    for (path, agreed) in [
        ("/chat", Some("chat")),
        ("/many", Some("v1")),
        ("/none", Some("general")),
    ] {
        let mut peer = served.connect();
        peer.write(handshake(offered).replacen("/ws", path, 1));
        let head = peer.accepted();
        let answer = agreed.map(|name| format!("\r\nSec-WebSocket-Protocol: {name}\r\n"));
        assert!(head.contains(&answer.unwrap()), "{head}");
    }
    let mut peer = served.connect();
    peer.write(handshake("Sec-WebSocket-Protocol: chatter\r\n").replacen("/ws", "/chat", 1));
    assert!(!peer.accepted().contains("Sec-WebSocket-Protocol"));
}
