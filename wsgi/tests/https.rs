//! `https`: what TLS changes for a server. The client is `greenwood_runtime`'s; foreign ones are in
//! `interop/`. In a binary of its own: descriptors are the process's, as is the log's subscriber.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use greenwood_runtime::{
    Hub,
    net::{ClientTls, Identity, ServerTls, ServerTlsBuilder, TcpStream, TlsStream},
    sleep,
};
use greenwood_wsgi::{Application, Body, Environ, Result, StartResponse, WsgiServer};
use rcgen::{CertificateParams, KeyPair};

/// No answer of the server takes that long.
const DEADLINE: Duration = Duration::from_secs(30);
const NEVER: Duration = Duration::from_secs(3_600);

/// A certificate that signs itself, and its key.
fn certify(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// What a server says of itself, and a client that believes it.
fn settings() -> (ServerTlsBuilder, ClientTls) {
    let (certificate, key) = certify("localhost");
    let client = ClientTls::builder()
        .system_roots(false)
        .ca_certs_pem(&*certificate)
        .alpn(["http/1.1"])
        .build()
        .unwrap();
    let server = ServerTls::builder(Identity::pem(certificate, key)).alpn(["http/1.1"]);
    (server, client)
}

/// Stops when the test ends. One test at a time: they count descriptors.
struct Server {
    server: WsgiServer,
    client: ClientTls,
    _alone: MutexGuard<'static, ()>,
}

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve_with(
    app: impl Application,
    configure: impl FnOnce(WsgiServer) -> WsgiServer,
    (tls, client): (ServerTlsBuilder, ClientTls),
) -> Server {
    let alone = alone();
    let server = WsgiServer::new("127.0.0.1:0", app).tls(tls.build().unwrap());
    let server = configure(server);
    server.start().unwrap();
    Server {
        server,
        client,
        _alone: alone,
    }
}

fn serve(app: impl Application) -> Server {
    serve_with(app, |server| server, settings())
}

impl Server {
    fn tcp(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.server.local_addr().unwrap()).unwrap();
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        tcp.set_write_timeout(Some(DEADLINE)).unwrap();
        tcp
    }

    fn connect(&self) -> TlsStream {
        TlsStream::connect(self.tcp(), "localhost", &self.client).unwrap()
    }

    /// As [`connect`](Server::connect), where the server gives up soon: perhaps not at once.
    fn connect_in_time(&self) -> TlsStream {
        (0..10)
            .find_map(|_| TlsStream::connect(self.tcp(), "localhost", &self.client).ok())
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.stop(Duration::from_millis(100));
    }
}

/// Sends a request and reads everything up to the end of the connection.
fn ask(stream: &mut TlsStream, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map(|_| answer)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

fn echo(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    let mut body = Vec::new();
    environ.input().read_to_end(&mut body)?;
    start_response("200 OK", &[])?;
    Ok(body.into())
}

fn who(environ: &mut Environ, start_response: StartResponse<'_>) -> Result<Body> {
    start_response("200 OK", &[])?;
    let scheme = environ.get("wsgi.url_scheme").unwrap_or_default();
    let Some(tls) = environ.tls() else {
        return Ok(format!("{scheme}, plain").into());
    };
    let name = tls.server_name.as_deref().unwrap_or("-");
    let alpn = tls.alpn.clone().unwrap_or_default();
    Ok(format!(
        "{scheme} {name} {} {} {} {}",
        String::from_utf8_lossy(&alpn),
        tls.version,
        tls.cipher.starts_with("TLS_"),
        tls.peer_certificates.len(),
    )
    .into())
}

#[test]
fn tls_is_refused_on_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("greenwood-tls-{}", std::process::id()));
    let (tls, _) = settings();
    let server = WsgiServer::unix(&path, echo).tls(tls.build().unwrap());
    let error = server.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[test]
fn environ_tells_of_tls() {
    let server = serve(who);
    let mut stream = server.connect();
    // Twice on one connection.
    for _ in 0..2 {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        let mut buffer = [0; 1];
        while !answer.ends_with("TLSv1.3 true 0") {
            assert_eq!(stream.read(&mut buffer).unwrap(), 1, "{answer}");
            answer.push(buffer[0].into());
        }
        assert!(answer.contains("https localhost http/1.1 "), "{answer}");
    }
    drop(server);
    let _alone = alone();
    let plain = WsgiServer::new("127.0.0.1:0", who);
    plain.start().unwrap();
    let mut tcp = TcpStream::connect(plain.local_addr().unwrap()).unwrap();
    tcp.write_all(get("/").as_bytes()).unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("http, plain"), "{answer}");
    plain.stop(Duration::ZERO);
}

#[test]
fn environ_has_the_clients_certificate() {
    let (certificate, key) = certify("a client");
    let (tls, _) = settings();
    let tls = tls.require_client_cert_pem(&*certificate);
    let client = ClientTls::builder()
        .dangerous_accept_any_certificate()
        .identity(Identity::pem(certificate, key))
        .build()
        .unwrap();
    let server = serve_with(who, |server| server, (tls, client));
    let answer = ask(&mut server.connect(), get("/").as_bytes()).unwrap();
    assert!(answer.ends_with(b"TLSv1.3 true 1"), "{answer:?}");
}

#[test]
fn large_bodies_pass_both_ways() {
    let server = serve(echo);
    let body: Vec<u8> = (0..3_000_000_u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let mut stream = server.connect();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let answer = ask(&mut stream, &body).unwrap();
    assert!(answer.ends_with(&body));
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

/// Only the end says where such a body ends.
#[test]
fn body_up_to_the_end_is_announced_or_cut() {
    let stream = |environ: &mut Environ, start_response: StartResponse<'_>| -> Result<Body> {
        start_response("200 OK", &[])?;
        let fails = environ.path() == "/fails";
        Ok(Body::stream(move |out| {
            for _ in 0..50 {
                out.write_all(&[b'x'; 10_000])?;
            }
            match fails {
                false => Ok(()),
                true => Err("on purpose".into()),
            }
        }))
    };
    let server = serve(stream);
    let whole = ask(&mut server.connect(), b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(whole.iter().filter(|&&b| b == b'x').count(), 500_000);
    let error = ask(&mut server.connect(), b"GET /fails HTTP/1.0\r\n\r\n").unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
        ),
        "{error}"
    );
}

/// A folder that is removed when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("greenwood-https-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn certificates_are_reloaded_while_the_server_runs() {
    let _alone = alone();
    let folder = Folder::new("reload");
    let (certificate, key) = certify("localhost");
    let certfile = folder.write("cert.pem", &certificate);
    let keyfile = folder.write("key.pem", &key);
    let server = WsgiServer::new("127.0.0.1:0", who)
        .certfile(&certfile)
        .keyfile(&keyfile);
    let handle = server.handle();
    assert!(handle.reload_certificates().is_err(), "not started");
    server.start().unwrap();
    let connect = |certificate: &str| {
        let client = ClientTls::builder()
            .system_roots(false)
            .ca_certs_pem(certificate)
            .build()
            .unwrap();
        let tcp = TcpStream::connect(handle.local_addr().unwrap()).unwrap();
        TlsStream::connect(tcp, "localhost", &client)
    };
    let mut old = connect(&certificate).unwrap();

    let (renewed, key) = certify("localhost");
    folder.write("cert.pem", &renewed);
    let error = handle.reload_certificates().unwrap_err();
    assert!(error.to_string().contains("key.pem"), "{error}");
    connect(&certificate).unwrap();
    folder.write("key.pem", &key);
    handle.reload_certificates().unwrap();
    let mut new = connect(&renewed).unwrap();
    assert!(connect(&certificate).is_err());
    for stream in [&mut old, &mut new] {
        let answer = ask(stream, get("/").as_bytes()).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    server.stop(Duration::ZERO);
}

#[test]
fn start_names_files_that_are_of_no_use() {
    let folder = Folder::new("start");
    let (certificate, key) = certify("localhost");
    let certfile = folder.write("cert.pem", &certificate);
    let keyfile = folder.write("key.pem", &key);
    let both = folder.write("both.pem", &format!("{certificate}{key}"));
    let new = || WsgiServer::new("127.0.0.1:0", echo);
    let why = |server: WsgiServer| server.start().unwrap_err().to_string();
    assert!(why(new().certfile(folder.0.join("absent.pem"))).contains("absent.pem"));
    assert!(why(new().certfile(&certfile)).contains("cert.pem: there is no private key"));
    assert!(why(new().keyfile(&keyfile)).contains("certfile is not"));
    let tls = ServerTls::from_files(&both, &both).unwrap();
    assert!(why(new().certfile(&both).tls(tls)).contains("both tls and certfile"));
    let server = new().certfile(&both);
    server.start().unwrap();
    server.stop(Duration::ZERO);
}

#[test]
fn stop_does_not_wait_for_handshakes_nor_for_idle_connections() {
    let (tls, client) = settings();
    let server = serve_with(
        echo,
        |server| server,
        (tls.handshake_timeout(NEVER), client),
    );
    let mut half = server.tcp();
    half.write_all(&[0x16, 3, 1]).unwrap();
    let _silent = server.tcp();
    let mut idle = server.connect();
    let start = Instant::now();
    while server.server.handle().connections() < 3 {
        assert!(start.elapsed() < DEADLINE);
        sleep(Duration::from_millis(1));
    }
    server.server.stop(NEVER);
    assert!(start.elapsed() < 2 * DEADLINE, "{start:?}");
    assert_eq!(half.read(&mut [0]).unwrap_or(0), 0);
    // That is said by TLS too.
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn bad_handshakes_are_logged_and_leave_nothing_behind() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .init();
    let (tls, client) = settings();
    let tls = tls.handshake_timeout(Duration::from_secs(1));
    let server = serve_with(echo, |server| server, (tls, client));
    drop(server.connect_in_time());
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let settled = |greenlets: usize, most: usize| {
        let start = Instant::now();
        while Hub::greenlets() > greenlets || descriptors() > most {
            assert!(
                start.elapsed() < DEADLINE,
                "{} {}",
                Hub::greenlets(),
                descriptors()
            );
            sleep(Duration::from_millis(1));
        }
    };
    settled(1, usize::MAX);
    let before = (Hub::greenlets(), descriptors());
    let silent: Vec<_> = (0..10).map(|_| server.tcp()).collect();
    for _ in 0..10 {
        let mut plain = server.tcp();
        plain.write_all(get("/").as_bytes()).unwrap();
        assert_eq!(
            plain.read(&mut [0]).unwrap_or(0),
            0,
            "no answer in plain text"
        );
        let nobody = ClientTls::builder()
            .system_roots(false)
            .ca_certs_pem(certify("localhost").0)
            .build()
            .unwrap();
        TlsStream::connect(server.tcp(), "localhost", &nobody).unwrap_err();
        let answered =
            (0..10).any(|_| ask(&mut server.connect_in_time(), get("/").as_bytes()).is_ok());
        assert!(answered);
    }
    for mut silent in silent {
        assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    }
    settled(before.0, before.1);
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for why in ["plain HTTP", "within 1s", "has refused"] {
        let line = log.lines().find(|line| line.contains(why));
        let line = line.unwrap_or_else(|| panic!("{why} is not in {log}"));
        assert!(line.contains("DEBUG greenwood::wsgi"), "{line}");
        assert!(line.contains("peer=127.0.0.1:"), "{line}");
    }
}
