//! The chunked transfer coding, decoding side (RFC 9112 section 7.1).

use super::{
    chars,
    error::{HttpError, LimitKind, PeerFault},
    framing::Decoded,
    limits::Limits,
};

/// Decodes a chunked body, strictly.
///
/// A chunk size is 1 to 16 hexadecimal digits and nothing else; every line ends in CRLF. Chunk
/// extensions and trailers are checked for control characters, bounded and dropped.
///
/// ```
/// use greenwood_wsgi::proto::{ChunkedDecoder, Limits};
///
/// let mut decoder = ChunkedDecoder::new(&Limits::default());
/// let mut out = [0; 16];
/// let done = decoder.decode(b"5\r\nhello\r\n0\r\n\r\nGET", &mut out)?;
/// assert_eq!(&out[..done.produced], b"hello");
/// assert_eq!(done.consumed, 15);
/// assert!(decoder.is_done());
/// # Ok::<(), greenwood_wsgi::proto::HttpError>(())
/// ```
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Bytes the body may still have; each announced chunk takes its size.
    body_left: u64,
    extensions_left: usize,
    trailers_left: usize,
    max_body: u64,
    max_extensions: usize,
    max_trailers: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the digits of a chunk size.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the digits, in white space that only an extension may follow.
    SizeSpace {
        size: u64,
    },
    /// In a chunk extension.
    Extension {
        size: u64,
    },
    /// Before the LF of the size line.
    SizeLf {
        size: u64,
    },
    /// In a chunk's data.
    Data {
        left: u64,
    },
    /// Before the CR behind a chunk's data.
    DataCr,
    /// Before the LF behind a chunk's data.
    DataLf,
    /// At the first byte of a trailer line.
    TrailerStart,
    /// In a trailer's name.
    TrailerName,
    /// In a trailer's value.
    TrailerValue,
    /// Before the LF of a trailer.
    TrailerLf,
    /// Before the very last LF.
    EndLf,
    Done,
}

const MAX_SIZE_DIGITS: u8 = 16;

impl ChunkedDecoder {
    /// A decoder at the start of a body, with the body's limits out of `limits`.
    pub fn new(limits: &Limits) -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            body_left: limits.max_body_size,
            extensions_left: limits.max_chunk_extensions,
            trailers_left: limits.max_trailers,
            max_body: limits.max_body_size,
            max_extensions: limits.max_chunk_extensions,
            max_trailers: limits.max_trailers,
        }
    }

    /// Whether the last chunk and the trailers have been taken.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Moves body from `input` to `output`, as far as both reach.
    ///
    /// Bytes behind the end of the body are left alone. When only framing is missing it gets on
    /// without room for output.
    ///
    /// # Errors
    ///
    /// [`PeerFault::ChunkSize`], [`ChunkExtension`](PeerFault::ChunkExtension),
    /// [`ChunkEnd`](PeerFault::ChunkEnd), [`LineEnd`](PeerFault::LineEnd) and
    /// [`Trailer`](PeerFault::Trailer) for malformed framing; a limit for a body, extensions or
    /// trailers past theirs, a body as soon as the chunk that is too much is announced. The
    /// decoder is of no use after an error.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Decoded, HttpError> {
        let mut done = Decoded::default();
        while let Some(&byte) = input.get(done.consumed) {
            if let State::Data { left } = self.state {
                let source = &input[done.consumed..];
                let target = &mut output[done.produced..];
                if target.is_empty() {
                    break;
                }
                let length = source.len().min(target.len());
                let length = usize::try_from(left).map_or(length, |left| length.min(left));
                target[..length].copy_from_slice(&source[..length]);
                done.consumed += length;
                done.produced += length;
                let left = left - length as u64;
                self.state = if left == 0 {
                    State::DataCr
                } else {
                    State::Data { left }
                };
                continue;
            }
            if self.is_done() {
                break;
            }
            self.state = self.step(byte)?;
            done.consumed += 1;
        }
        Ok(done)
    }

    /// The state behind one byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, HttpError> {
        Ok(match self.state {
            State::Size { size, digits } => match (hex(byte), byte) {
                (Some(value), _) if digits < MAX_SIZE_DIGITS => State::Size {
                    size: size << 4 | u64::from(value),
                    digits: digits + 1,
                },
                (None, b'\r') if digits > 0 => State::SizeLf { size },
                (None, b';') if digits > 0 => self.extension(size)?,
                (None, b' ' | b'\t') if digits > 0 => {
                    self.extension(size)?;
                    State::SizeSpace { size }
                }
                _ => return Err(PeerFault::ChunkSize.into()),
            },
            State::SizeSpace { size } => match byte {
                b' ' | b'\t' => {
                    self.extension(size)?;
                    State::SizeSpace { size }
                }
                b';' => self.extension(size)?,
                _ => return Err(PeerFault::ChunkSize.into()),
            },
            State::Extension { size } => match byte {
                b'\r' => State::SizeLf { size },
                b'\n' => return Err(PeerFault::LineEnd.into()),
                byte if chars::is_field_char(byte) => self.extension(size)?,
                _ => return Err(PeerFault::ChunkExtension.into()),
            },
            State::SizeLf { size } => {
                line_feed(byte)?;
                self.chunk(size)?
            }
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { size: 0, digits: 0 },
            State::DataCr | State::DataLf => return Err(PeerFault::ChunkEnd.into()),
            State::TrailerStart => match byte {
                b'\r' => State::EndLf,
                byte if chars::is_token_char(byte) => self.trailer(State::TrailerName)?,
                _ => return Err(PeerFault::Trailer.into()),
            },
            State::TrailerName => match byte {
                b':' => self.trailer(State::TrailerValue)?,
                byte if chars::is_token_char(byte) => self.trailer(State::TrailerName)?,
                _ => return Err(PeerFault::Trailer.into()),
            },
            State::TrailerValue => match byte {
                b'\r' => self.trailer(State::TrailerLf)?,
                b'\n' => return Err(PeerFault::LineEnd.into()),
                byte if chars::is_field_char(byte) => self.trailer(State::TrailerValue)?,
                _ => return Err(PeerFault::Trailer.into()),
            },
            State::TrailerLf => {
                line_feed(byte)?;
                self.trailer(State::TrailerStart)?
            }
            State::EndLf => {
                line_feed(byte)?;
                State::Done
            }
            State::Data { .. } | State::Done => self.state,
        })
    }

    fn chunk(&mut self, size: u64) -> Result<State, HttpError> {
        if size == 0 {
            return Ok(State::TrailerStart);
        }
        self.body_left = self.body_left.checked_sub(size).ok_or(HttpError::Limit {
            limit: LimitKind::BodySize,
            max: self.max_body,
        })?;
        Ok(State::Data { left: size })
    }

    /// Charges one byte to the extensions.
    fn extension(&mut self, size: u64) -> Result<State, HttpError> {
        self.extensions_left = self
            .extensions_left
            .checked_sub(1)
            .ok_or(HttpError::Limit {
                limit: LimitKind::ChunkExtensions,
                max: self.max_extensions as u64,
            })?;
        Ok(State::Extension { size })
    }

    /// Charges one byte to the trailers.
    fn trailer(&mut self, next: State) -> Result<State, HttpError> {
        self.trailers_left = self.trailers_left.checked_sub(1).ok_or(HttpError::Limit {
            limit: LimitKind::Trailers,
            max: self.max_trailers as u64,
        })?;
        Ok(next)
    }
}

fn line_feed(byte: u8) -> Result<(), HttpError> {
    if byte == b'\n' {
        Ok(())
    } else {
        Err(PeerFault::LineEnd.into())
    }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
