//! Feeding the HTTP parsers: one connection's requests, however they are cut.

use greenwood_wsgi::proto::{BodyDecoder, Framing, HeadParser, HttpError, Limits};

use crate::Cuts;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// What its head says.
    pub head: String,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body as far as it came.
    pub body: Vec<u8>,
}

/// How a connection's bytes ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Inside a request or behind one.
    Open,
    /// The rest was refused. With which status may depend on the cuts, where two would be right: a
    /// request line that is both malformed and too long.
    Refused,
}

/// Limits that a fuzzer's inputs can reach.
pub fn small_limits() -> Limits {
    Limits::default()
        .max_request_line(60)
        .max_headers(6)
        .max_head_size(300)
        .max_body_size(100)
        .max_chunk_extensions(20)
        .max_trailers(30)
}

/// Reads the requests of one connection, one after the other, out of pieces that come one by one.
pub fn requests(
    bytes: &[u8],
    limits: &Limits,
    mut next_size: impl FnMut() -> usize,
) -> (Vec<Request>, End) {
    let mut seen = Vec::new();
    let (mut buffer, mut unread) = (Vec::new(), bytes);
    let mut more = |buffer: &mut Vec<u8>| {
        let (piece, rest) = unread.split_at(next_size().min(unread.len()));
        unread = rest;
        buffer.extend_from_slice(piece);
        !piece.is_empty()
    };
    loop {
        let mut parser = HeadParser::new();
        let head = loop {
            // What was received behind the last request is looked at before more is read.
            if !buffer.is_empty() {
                match parser.parse(&buffer, limits) {
                    Ok(Some((head, used))) => {
                        assert!(used <= buffer.len() && used > 0);
                        buffer.drain(..used);
                        break head;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        check_refusal(&error);
                        return (seen, End::Refused);
                    }
                }
            }
            if !more(&mut buffer) {
                return (seen, End::Open);
            }
        };
        let headers = head.headers().map(|(n, v)| (n.to_owned(), v.to_vec()));
        seen.push(Request {
            head: format!("{head:?} {:?} {:?}", head.host(), head.request_line()),
            headers: headers.collect(),
            body: Vec::new(),
        });
        let body = &mut seen.last_mut().expect("just pushed").body;
        let mut decoder = BodyDecoder::new(head.framing(), limits);
        // A small output, so that the body is cut on this side as well.
        let mut output = [0; 7];
        while !decoder.is_done() {
            let done = match decoder.decode(&buffer, &mut output) {
                Ok(done) => done,
                Err(error) => {
                    // How much of it came out before is a matter of the cuts.
                    body.clear();
                    check_refusal(&error);
                    return (seen, End::Refused);
                }
            };
            body.extend_from_slice(&output[..done.produced]);
            buffer.drain(..done.consumed);
            if done.consumed == 0 && !decoder.is_done() && !more(&mut buffer) {
                return (seen, End::Open);
            }
        }
        match head.framing() {
            Framing::None => assert!(body.is_empty()),
            Framing::Length(length) => assert_eq!(body.len() as u64, length),
            _ => assert!(body.len() as u64 <= limits.max_body_size),
        }
    }
}

fn check_refusal(error: &HttpError) {
    let status = error.status_hint();
    let known = [400, 413, 414, 417, 431, 501, 505];
    assert!(known.contains(&status), "{status} for {error}");
}

/// The requests of a connection, which are the same however the bytes are cut.
pub fn outcome(bytes: &[u8], limits: &Limits, mut cuts: Cuts<'_>) -> (Vec<Request>, End) {
    let whole = requests(bytes, limits, || usize::MAX);
    let single = requests(bytes, limits, || 1);
    assert_eq!(single, whole, "byte by byte (left)");
    let cut = requests(bytes, limits, || cuts.next_size());
    assert_eq!(cut, whole, "in pieces (left)");
    whole
}
