//! A server for routes, and applications that tell what happens to them.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::io_support::{DEADLINE, News, Peer, Watchdog, handshake, news, watchdog};
use greenwood_websocket::{
    Client, Clients, CloseCode, Disconnect, Message, Resource, Route, WebSocketApplication,
    WebSocketServer,
};
use greenwood_wsgi::{Application, Body, Environ, Result, ServerHandle, StartResponse};

/// A server that stops when its test ends.
pub(crate) struct Served {
    pub(crate) server: WebSocketServer,
    pub(crate) _watchdog: Watchdog,
}

pub(crate) fn serve_configured(
    app: impl Application,
    set: impl FnOnce(WebSocketServer) -> WebSocketServer,
) -> Served {
    let watchdog = watchdog();
    let server = set(WebSocketServer::new("127.0.0.1:0", app));
    server.start().unwrap();
    Served {
        server,
        _watchdog: watchdog,
    }
}

pub(crate) fn serve<const N: usize>(routes: [(&str, Route); N]) -> Served {
    serve_configured(Resource::new(routes).unwrap(), |server| server)
}

impl Served {
    pub(crate) fn connect(&self) -> Peer {
        #[expect(
            clippy::disallowed_types,
            reason = "the peer is the foreign side, on a plain thread"
        )]
        let stream = std::net::TcpStream::connect(self.server.local_addr().unwrap());
        Peer::new(stream.unwrap())
    }

    pub(crate) fn open(&self, path: &str) -> Peer {
        let mut peer = self.connect();
        peer.write(handshake("").replacen("/ws", path, 1));
        peer.accepted();
        peer
    }

    pub(crate) fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    pub(crate) fn clients(&self) -> Clients {
        self.server.clients()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.stop(Duration::from_millis(100));
    }
}

/// What an application was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Open,
    Message(String),
    Close(Disconnect),
}

type Act = Arc<dyn Fn(&Client, &str) -> Result<()> + Send + Sync>;

/// Tells what it was told, and does what the test says.
pub(crate) struct Telling {
    pub(crate) news: mpsc::Sender<Told>,
    pub(crate) act: Act,
}

impl WebSocketApplication for Telling {
    fn on_open(&mut self, client: &Client) -> Result<()> {
        self.news.send(Told::Open).ok();
        (self.act)(client, "open")
    }

    fn on_message(&mut self, client: &Client, message: Message) -> Result<()> {
        let text = message.to_string();
        self.news.send(Told::Message(text.clone())).ok();
        (self.act)(client, &text)
    }

    fn on_close(&mut self, client: &Client, reason: &Disconnect) {
        self.news.send(Told::Close(reason.clone())).ok();
        // Whatever it does there concerns nobody else.
        (self.act)(client, "close").ok();
    }
}

/// A server of one application, and what that is told.
pub(crate) fn telling_with(
    act: impl Fn(&Client, &str) -> Result<()> + Send + Sync + 'static,
    set: impl FnOnce(WebSocketServer) -> WebSocketServer,
) -> (Served, News<Told>) {
    let (sender, told) = news();
    let sender = std::sync::Mutex::new(sender);
    let act: Act = Arc::new(act);
    let route = Route::websocket(move |_| Telling {
        news: sender.lock().unwrap().clone(),
        act: Arc::clone(&act),
    });
    let resource = Resource::new([("/", route)]).unwrap();
    (serve_configured(resource, set), told)
}

pub(crate) fn telling(
    act: impl Fn(&Client, &str) -> Result<()> + Send + Sync + 'static,
) -> (Served, News<Told>) {
    telling_with(act, |server| server)
}

pub(crate) fn local(code: u16) -> Disconnect {
    Disconnect::LocalClosed(greenwood_websocket::CloseFrame::new(
        CloseCode::from(code),
        "",
    ))
}

pub(crate) fn peer_closed(code: u16) -> Disconnect {
    let frame = greenwood_websocket::CloseFrame::new(CloseCode::from(code), "");
    Disconnect::PeerClosed(Some(frame))
}

pub(crate) struct Echo;

impl WebSocketApplication for Echo {}

/// Says its name once.
pub(crate) struct Named(pub(crate) String);

impl WebSocketApplication for Named {
    fn on_open(&mut self, client: &Client) -> Result<()> {
        client.send(&self.0)?;
        Ok(())
    }
}

pub(crate) fn named(name: &'static str) -> Route {
    Route::websocket(move |_| Named(name.to_owned()))
}

pub(crate) fn page(name: &'static str) -> Route {
    Route::application(
        move |_: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
            start_response("200 OK", &[])?;
            Ok(name.into())
        },
    )
}

/// Waits until the server has no clients.
pub(crate) fn nobody_is_left(served: &Served) {
    let began = Instant::now();
    while !served.clients().is_empty() {
        assert!(began.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
}

pub(crate) fn get(served: &Served, path: &str) -> (String, String) {
    let mut peer = served.connect();
    peer.write(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    peer.response()
}
