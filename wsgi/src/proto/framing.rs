//! How long a request's body is (RFC 9112 section 6), and taking it out of the bytes.

use super::{
    chars,
    chunked::ChunkedDecoder,
    error::{HttpError, LimitKind, PeerFault},
    head::Version,
    limits::Limits,
};

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// `Content-Length`: so many bytes (possibly 0).
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Takes one request's body out of the bytes that follow its head.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
}

/// What one call of a decoder did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that are used up.
    pub consumed: usize,
    /// Bytes of body that were written to the output.
    pub produced: usize,
}

#[derive(Debug)]
enum State {
    Length(u64),
    // Rare, and much larger than the other.
    Chunked(Box<ChunkedDecoder>),
}

impl BodyDecoder {
    /// A decoder for a body that is delimited as `framing` says.
    pub fn new(framing: Framing, limits: &Limits) -> Self {
        let state = match framing {
            Framing::None => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Box::new(ChunkedDecoder::new(limits))),
        };
        Self { state }
    }

    /// Moves body from `input` to `output`, as far as both reach.
    ///
    /// With some input and some room for output it always gets on, until the body
    /// [is done](Self::is_done).
    ///
    /// # Errors
    ///
    /// What [`ChunkedDecoder::decode`] finds wrong; a body with a length has no errors.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Decoded, HttpError> {
        match &mut self.state {
            State::Length(left) => {
                let length = input.len().min(output.len());
                let length = usize::try_from(*left).map_or(length, |left| length.min(left));
                output[..length].copy_from_slice(&input[..length]);
                *left -= length as u64;
                Ok(Decoded {
                    consumed: length,
                    produced: length,
                })
            }
            State::Chunked(chunked) => chunked.decode(input, output),
        }
    }

    /// Notes that `length` bytes of the body were read past the decoder, straight from the
    /// connection. At most [`direct`](Self::direct) bytes.
    pub fn skip(&mut self, length: usize) {
        if let State::Length(left) = &mut self.state {
            debug_assert!(length as u64 <= *left, "read beyond the body");
            *left = left.saturating_sub(length as u64);
        }
    }

    /// How many of the bytes that come next on the connection are body as they are, so that they
    /// can be read without the decoder; `None` if they are chunked.
    pub fn direct(&self) -> Option<u64> {
        match &self.state {
            State::Length(left) => Some(*left),
            State::Chunked(_) => None,
        }
    }

    /// Whether the whole body, trailers included, has been taken.
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Length(left) => *left == 0,
            State::Chunked(chunked) => chunked.is_done(),
        }
    }
}

/// Collects the framing headers of one request and decides among them.
#[derive(Debug, Default)]
pub(super) struct FramingHeaders {
    length: Option<u64>,
    length_repeated: bool,
    /// Number of codings, and whether `chunked` was the last and an unknown one among them.
    codings: usize,
    chunked: usize,
    chunked_last: bool,
    malformed: bool,
}

impl FramingHeaders {
    /// Takes the value of a `Content-Length` header.
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), PeerFault> {
        if self.length.is_some() {
            self.length_repeated = true;
        }
        if value.contains(&b',') {
            return Err(PeerFault::ContentLengthRepeated);
        }
        self.length = Some(chars::decimal(value).ok_or(PeerFault::ContentLength)?);
        Ok(())
    }

    /// Takes the value of a `Transfer-Encoding` header.
    pub(super) fn transfer_encoding(&mut self, value: &[u8]) {
        for coding in chars::list(value) {
            let name = coding
                .split(|&b| b == b';')
                .next()
                .map_or(coding, chars::trim);
            self.codings += 1;
            self.chunked_last = coding.eq_ignore_ascii_case(b"chunked");
            self.chunked += usize::from(name.eq_ignore_ascii_case(b"chunked"));
            // `chunked` has no parameters.
            self.malformed |= !chars::is_token(name)
                || (!self.chunked_last && name.eq_ignore_ascii_case(b"chunked"));
        }
    }

    /// The framing that the headers mean.
    pub(super) fn decide(&self, version: Version, max_body: u64) -> Result<Framing, HttpError> {
        if self.codings > 0 {
            // RFC 9112 section 6.1: either of these may be an attempt at request smuggling.
            if self.length.is_some() {
                return Err(PeerFault::LengthAndCoding.into());
            }
            if version == Version::Http10 {
                return Err(PeerFault::TransferEncodingOnOldVersion.into());
            }
            // Chunked twice, or followed by something, is never right (section 7).
            if self.malformed || self.chunked > 1 || (self.chunked == 1 && !self.chunked_last) {
                return Err(PeerFault::TransferEncoding.into());
            }
            if self.codings != self.chunked {
                return Err(PeerFault::TransferCodingUnknown.into());
            }
            return Ok(Framing::Chunked);
        }
        if self.length_repeated {
            return Err(PeerFault::ContentLengthRepeated.into());
        }
        match self.length {
            Some(length) if length > max_body => Err(HttpError::Limit {
                limit: LimitKind::BodySize,
                max: max_body,
            }),
            Some(length) => Ok(Framing::Length(length)),
            None => Ok(Framing::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(codings: &[&str], version: Version) -> Result<Framing, u16> {
        let mut headers = FramingHeaders::default();
        for coding in codings {
            headers.transfer_encoding(coding.as_bytes());
        }
        headers.decide(version, 100).map_err(|e| e.status_hint())
    }

    #[test]
    fn only_chunked_alone_is_a_coding() {
        let v11 = Version::Http11;
        assert_eq!(decide(&["chunked"], v11), Ok(Framing::Chunked));
        assert_eq!(decide(&["CHUNKED"], v11), Ok(Framing::Chunked));
        for unknown in [
            "gzip",
            "gzip, chunked",
            "identity",
            "xchunked",
            "gzip;q=1, chunked",
        ] {
            assert_eq!(decide(&[unknown], v11), Err(501), "{unknown}");
        }
        for bad in [
            "",
            "chunked, gzip",
            "chunked, chunked",
            "chunked,",
            ",chunked",
            "chunked;a=b",
            "\"chunked\"",
            "chun ked",
            "chunked, identity",
        ] {
            assert_eq!(decide(&[bad], v11), Err(400), "{bad}");
        }
        assert_eq!(decide(&["chunked", "chunked"], v11), Err(400));
        assert_eq!(decide(&["gzip", "chunked"], v11), Err(501));
        assert_eq!(decide(&["chunked"], Version::Http10), Err(400));
    }

    #[test]
    fn length_decoder_stops_at_the_end_of_the_body() {
        let mut body = BodyDecoder::new(Framing::Length(5), &Limits::default());
        let mut out = [0; 3];
        let done = body.decode(b"helloGET /", &mut out).unwrap();
        assert_eq!(
            (done, &out),
            (
                Decoded {
                    consumed: 3,
                    produced: 3
                },
                b"hel"
            )
        );
        assert_eq!(body.direct(), Some(2));
        let done = body.decode(b"loGET /", &mut out).unwrap();
        assert_eq!((done.consumed, &out[..2]), (2, &b"lo"[..]));
        assert!(body.is_done());
        assert_eq!(body.decode(b"GET /", &mut out).unwrap(), Decoded::default());
    }
}
