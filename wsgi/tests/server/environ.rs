//! What the application is told of a request that came over a connection.

use std::sync::Arc;

use greenwood_wsgi::{Application, Body, Environ, Exchange, Handler, Result, StartResponse};

use crate::client::{get, hello, post, serve, serve_handler, serve_with};

/// Answers with the variables that the query names.
fn variables(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    let values: Vec<_> = environ
        .query_string()
        .split(',')
        .map(|key| environ.get(key).unwrap_or("none".into()).into_owned())
        .collect();
    start_response("200 OK", &[])?;
    Ok(values.join("|").into())
}

#[test]
fn addresses_are_those_of_the_connection() {
    let server = serve(variables);
    let mut client = server.connect();
    client.send(get("/?SERVER_NAME,SERVER_PORT,REMOTE_ADDR,REMOTE_PORT", ""));
    let (port, own) = (server.address.port(), client.local_port());
    assert_eq!(
        client.response().text(),
        format!("127.0.0.1|{port}|127.0.0.1|{own}")
    );
}

#[test]
fn server_goes_by_the_names_it_was_given() {
    let server = serve_with(variables, |server| {
        server.server_name("example.org").server_header("me")
    });
    let response = server.get("/?SERVER_NAME", "");
    assert_eq!(
        (response.text(), response.header("server")),
        ("example.org", Some("me"))
    );
    let nameless = serve_with(hello, |server| server.server_header(""));
    assert_eq!(nameless.get("/", "").header("server"), None);
    let default = serve(hello).get("/", "");
    assert!(default.header("server").unwrap().starts_with("greenwood/"));
}

#[test]
fn application_may_be_shared() {
    let app: Arc<dyn Application> = Arc::new(hello);
    assert_eq!(serve(Arc::clone(&app)).get("/a", "").text(), "GET /a");
    assert_eq!(serve(app).get("/b", "").text(), "GET /b");
}

/// Hands the application another environ than the connection's.
struct Exchanging;

impl Handler for Exchanging {
    fn handle(&self, exchange: &mut Exchange<'_>, app: &dyn Application) -> Result<()> {
        let other = Environ::from_bytes(b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n")?;
        *exchange.environ_mut() = other;
        exchange.run(app)
    }
}

#[test]
fn body_does_not_become_a_request_when_the_environ_is_exchanged() {
    let server = serve_handler(Exchanging, hello);
    let mut client = server.connect();
    client.send(post("", &get("/hidden", "")));
    assert_eq!(client.response().text(), "GET /other");
    assert!(client.has_ended());
}
