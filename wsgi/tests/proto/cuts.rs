//! Feeding the same bytes in different pieces, with one outcome.

use greenwood_wsgi::proto::{BodyDecoder, Framing, HeadParser, HttpError, Limits, RequestHead};

/// What becomes of one request: the head, its body, and what is left behind it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: RequestHead,
    pub(crate) body: Vec<u8>,
    pub(crate) rest: Vec<u8>,
}

/// Reads one request however it is cut; `None` if it stays incomplete.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<Request>, HttpError> {
    request_with(bytes, &Limits::default())
}

/// As [`request`], under other limits.
pub(crate) fn request_with(bytes: &[u8], limits: &Limits) -> Result<Option<Request>, HttpError> {
    let whole = in_pieces(bytes, limits, &mut std::iter::repeat(usize::MAX));
    let summary = summarize(&whole);
    let single = in_pieces(bytes, limits, &mut std::iter::repeat(1));
    assert_eq!(
        summarize(&single),
        summary,
        "byte by byte: {}",
        bytes.escape_ascii()
    );
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut sizes = std::iter::repeat_with(|| 1 + random.below(40));
        let cut = in_pieces(bytes, limits, &mut sizes);
        assert_eq!(
            summarize(&cut),
            summary,
            "seed {seed}: {}",
            bytes.escape_ascii()
        );
    }
    whole
}

/// The head alone, however it is cut.
pub(crate) fn head(text: &str) -> RequestHead {
    request(text.as_bytes()).expect(text).expect(text).head
}

/// The status that refuses these bytes, however they are cut.
pub(crate) fn refusal(bytes: impl AsRef<[u8]>) -> u16 {
    match request(bytes.as_ref()) {
        Ok(_) => panic!("not refused: {}", bytes.as_ref().escape_ascii()),
        Err(error) => error.status_hint(),
    }
}

/// A small generator: the tests need variety, not quality.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

type Summary = Result<Option<(String, Vec<(String, Vec<u8>)>, Vec<u8>, Vec<u8>)>, u16>;

fn summarize(result: &Result<Option<Request>, HttpError>) -> Summary {
    let request = match result {
        Ok(Some(request)) => request,
        Ok(None) => return Ok(None),
        Err(error) => return Err(error.status_hint()),
    };
    let headers = request
        .head
        .headers()
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect();
    Ok(Some((
        format!("{:?} {:?}", request.head, request.head.host()),
        headers,
        request.body.clone(),
        request.rest.clone(),
    )))
}

fn in_pieces(
    bytes: &[u8],
    limits: &Limits,
    sizes: &mut dyn Iterator<Item = usize>,
) -> Result<Option<Request>, HttpError> {
    let mut parser = HeadParser::new();
    let (mut buffer, mut unread) = (Vec::new(), bytes);
    let mut more = |buffer: &mut Vec<u8>| {
        let (piece, rest) = unread.split_at(sizes.next().unwrap().min(unread.len()));
        unread = rest;
        buffer.extend_from_slice(piece);
        !piece.is_empty()
    };
    let head = loop {
        if !more(&mut buffer) {
            return Ok(None);
        }
        if let Some((head, used)) = parser.parse(&buffer, limits)? {
            buffer.drain(..used);
            break head;
        }
    };
    let mut decoder = BodyDecoder::new(head.framing(), limits);
    let mut body = Vec::new();
    // A small output, so that the body is cut on this side as well.
    let mut output = [0; 7];
    while !decoder.is_done() {
        let done = decoder.decode(&buffer, &mut output)?;
        body.extend_from_slice(&output[..done.produced]);
        buffer.drain(..done.consumed);
        if done.consumed == 0 && !decoder.is_done() && !more(&mut buffer) {
            return Ok(None);
        }
    }
    assert!(head.framing() != Framing::None || body.is_empty());
    while more(&mut buffer) {}
    Ok(Some(Request {
        head,
        body,
        rest: buffer,
    }))
}
