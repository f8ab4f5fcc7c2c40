//! A plain client on std's sockets, and a server that stops when the test ends.
#![allow(dead_code, reason = "each test binary uses its part")]
#![expect(
    clippy::disallowed_types,
    reason = "the client is the foreign side, on a plain thread"
)]

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use greenwood_wsgi::{Application, Body, Environ, Handler, Result, StartResponse, WsgiServer};

/// No answer of the server takes that long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Time limits within which the client has to do something: of a slow machine it may miss the first.
pub(crate) const LIMITS: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(2),
    Duration::from_secs(20),
];

pub(crate) struct Server {
    pub(crate) server: WsgiServer,
    pub(crate) address: SocketAddr,
}

pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A server for `app` on a free port, with settings.
pub(crate) fn serve_with(
    app: impl Application,
    configure: impl FnOnce(WsgiServer) -> WsgiServer,
) -> Server {
    let server = configure(WsgiServer::new("127.0.0.1:0", app));
    server.start().unwrap();
    let address = server.local_addr().unwrap();
    Server { server, address }
}

pub(crate) fn serve(app: impl Application) -> Server {
    serve_with(app, |server| server)
}

pub(crate) fn serve_handler(handler: impl Handler, app: impl Application) -> Server {
    serve_with(app, |server| server.handler(handler))
}

/// An application that answers every request with its method and path.
pub(crate) fn hello(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    start_response("200 OK", &[("Content-Type", "text/plain")])?;
    Ok(format!("{} {}", environ.method(), environ.path()).into())
}

/// An application that answers with the request's body.
pub(crate) fn echo(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    let mut body = Vec::new();
    environ.input().read_to_end(&mut body)?;
    start_response("200 OK", &[])?;
    Ok(body.into())
}

impl Server {
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// The response to one request on a connection of its own.
    pub(crate) fn ask(&self, request: &str) -> Response {
        let mut client = self.connect();
        client.send(request);
        client.response()
    }

    /// A GET with further header lines.
    pub(crate) fn get(&self, path: &str, headers: &str) -> Response {
        self.ask(&get(path, headers))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.stop(Duration::from_millis(100));
    }
}

pub(crate) fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n")
}

pub(crate) fn post(headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn local_port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    /// Sends what the server may refuse to take.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    pub(crate) fn end_sending(&self) {
        // Unless the server has been first.
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Whether anything comes before the end.
    pub(crate) fn is_answered(&mut self) -> bool {
        !self.buffer.is_empty() || matches!(self.more(), Ok(true))
    }

    /// One response with its body, however that is delimited.
    pub(crate) fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    pub(crate) fn response_to(&mut self, method: &str) -> Response {
        let head = self.until(b"\r\n\r\n");
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap();
        assert!(status_line.starts_with("HTTP/1.1 "), "{head}");
        let headers = lines
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line:?}")))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let status = status_line[9..12].parse().unwrap();
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        if method != "HEAD" && !matches!(status, 100..200 | 204 | 304) {
            response.body = self.body(&response);
        }
        response
    }

    fn body(&mut self, response: &Response) -> Vec<u8> {
        if let Some(length) = response.header("content-length") {
            return self.exactly(length.parse().unwrap());
        }
        if response.header("transfer-encoding") != Some("chunked") {
            return self.rest();
        }
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.until(b"\r\n")).unwrap();
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            let chunk = self.exactly(size + 2);
            assert!(chunk.ends_with(b"\r\n"));
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return body;
            }
        }
    }

    /// Everything up to and with `end`.
    pub(crate) fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|w| w == end) {
                return self.buffer.drain(..at + end.len()).collect();
            }
            assert!(
                self.more().unwrap(),
                "ended within {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    pub(crate) fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(
                self.more().unwrap(),
                "ended at {} of {length}",
                self.buffer.len()
            );
        }
        self.buffer.drain(..length).collect()
    }

    /// Reads so much and drops it; whether the connection had as much.
    pub(crate) fn skip(&mut self, length: usize) -> bool {
        while self.buffer.len() < length {
            if !matches!(self.more(), Ok(true)) {
                return false;
            }
        }
        self.buffer.drain(..length);
        true
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.more().unwrap() {}
        std::mem::take(&mut self.buffer)
    }

    /// As [`rest`](Self::rest), where the connection may also end in an error.
    pub(crate) fn rest_or_reset(&mut self) -> Vec<u8> {
        while matches!(self.more(), Ok(true)) {}
        std::mem::take(&mut self.buffer)
    }

    /// Everything up to a reset; a panic if the connection ends in an orderly way.
    pub(crate) fn rest_before_reset(&mut self) -> Vec<u8> {
        let end = loop {
            match self.more() {
                Ok(true) => {}
                end => break end,
            }
        };
        let error = end.expect_err("the connection ended as if all were well");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        std::mem::take(&mut self.buffer)
    }

    /// Whether the connection has ended, and nothing was left of it.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.rest_or_reset().is_empty()
    }

    /// Whether nothing arrives for a while.
    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let result = self.more();
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        matches!(result, Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    fn more(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 65536];
        let read = loop {
            match self.stream.read(&mut bytes) {
                // With a time limit it ends when the process is stopped and goes on (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.buffer.extend_from_slice(&bytes[..read]);
        Ok(read > 0)
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self
            .headers
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, v)| v.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} repeated");
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}
