//! permessage-deflate (RFC 7692): what is agreed on, and the two directions of the codec.

use std::cell::RefCell;
use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Extension, ProtocolError, Role};

const NAME: &str = "permessage-deflate";

/// How to use permessage-deflate, for those who want it: it is off unless asked for.
///
/// Compression costs processor time and memory, and pays where messages are text and bandwidth is
/// scarce. What both sides compress over one connection may leak: don't mix secrets with what an
/// attacker chooses (CRIME).
///
/// ```
/// use greenwood_websocket::proto::Deflate;
///
/// let rarely = Deflate::default().threshold(4096).level(1);
/// # let _ = rarely;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deflate {
    /// Messages shorter than that, in bytes, are sent as they are. Default: 1,024, as in npm's
    /// `ws`: less is hardly worth the work.
    pub threshold: usize,
    /// From 1, fast, to 9, small. Default: 2, which takes half the time of 6, and makes text a few
    /// percent larger; 1 takes two thirds of that, and makes it a third larger.
    pub level: u8,
    /// Whether what this side sends is compressed with what it has sent before in view. Default:
    /// no. It makes similar messages smaller, and costs some 300 KiB per connection; without it
    /// the connections of a thread share one compressor.
    pub compress_with_context: bool,
    /// Whether the peer may do so. Default: no, for then a connection keeps 40 KiB for it.
    pub decompress_with_context: bool,
    /// How far back this side looks for repetitions, as a power of 2 in bytes: 9 to 15. Default:
    /// 15, 32 KiB. The peer may ask for less.
    pub compress_window_bits: u8,
    /// How far back the peer may look, 8 to 15. Default: 15. A peer that does not let itself be
    /// told so may all the same.
    pub decompress_window_bits: u8,
}

impl Default for Deflate {
    fn default() -> Deflate {
        Deflate {
            threshold: 1024,
            level: 2,
            compress_with_context: false,
            decompress_with_context: false,
            compress_window_bits: MAX_BITS,
            decompress_window_bits: MAX_BITS,
        }
    }
}

const MIN_BITS: u8 = 8;
const MAX_BITS: u8 = 15;

/// zlib has no smaller window for raw deflate. It never looks back further than its window less
/// 262 bytes, so with this one it suits a peer with a window of 256 bytes, too.
const MIN_COMPRESS_BITS: u8 = 9;

impl Deflate {
    /// Sets from which size on messages are compressed, in bytes.
    #[must_use]
    pub fn threshold(mut self, bytes: usize) -> Deflate {
        self.threshold = bytes;
        self
    }

    /// Sets the level.
    ///
    /// # Panics
    ///
    /// If it is not 1 to 9.
    #[must_use]
    pub fn level(mut self, level: u8) -> Deflate {
        assert!((1..=9).contains(&level), "level {level}: it must be 1 to 9");
        self.level = level;
        self
    }

    /// Sets whether context is kept between messages, of what is sent and of what is received.
    #[must_use]
    pub fn context_takeover(mut self, sent: bool, received: bool) -> Deflate {
        self.compress_with_context = sent;
        self.decompress_with_context = received;
        self
    }

    /// Sets how far back to look, of what is sent and of what is received, as powers of 2.
    ///
    /// # Panics
    ///
    /// If the first is not 9 to 15, or the second not 8 to 15.
    #[must_use]
    pub fn window_bits(mut self, sent: u8, received: u8) -> Deflate {
        assert!(
            (MIN_COMPRESS_BITS..=MAX_BITS).contains(&sent)
                && (MIN_BITS..=MAX_BITS).contains(&received),
            "window bits {sent} and {received}: they must be 9 to 15 and 8 to 15"
        );
        self.compress_window_bits = sent;
        self.decompress_window_bits = received;
        self
    }

    /// A server's choice: the first of the client's offers that it can do, if there is one.
    pub fn accept(&self, offers: &[Extension]) -> Option<DeflateParams> {
        offers.iter().find_map(|offer| self.accept_one(offer))
    }

    fn accept_one(&self, offer: &Extension) -> Option<DeflateParams> {
        let offer = Parameters::read(offer)?;
        Some(DeflateParams {
            server_no_context_takeover: offer.server_no_context_takeover
                || !self.compress_with_context,
            // 7.1.1.2: a server may ask for it whatever was offered.
            client_no_context_takeover: offer.client_no_context_takeover
                || !self.decompress_with_context,
            server_max_window_bits: match offer.server_max_window_bits {
                Some(bits) => bits?.min(self.compress_window_bits),
                None => self.compress_window_bits,
            },
            // 7.1.2.2: only where the client has said that it understands it.
            client_max_window_bits: match offer.client_max_window_bits {
                Some(bits) => bits.unwrap_or(MAX_BITS).min(self.decompress_window_bits),
                None => MAX_BITS,
            },
        })
    }

    /// A client's offer, as the value of Sec-WebSocket-Extensions.
    pub fn offer(&self) -> String {
        let mut offer = NAME.to_owned();
        if !self.decompress_with_context {
            offer += "; server_no_context_takeover";
        }
        if !self.compress_with_context {
            offer += "; client_no_context_takeover";
        }
        if self.decompress_window_bits < MAX_BITS {
            offer += &format!("; server_max_window_bits={}", self.decompress_window_bits);
        }
        match self.compress_window_bits {
            MAX_BITS => offer += "; client_max_window_bits",
            bits => offer += &format!("; client_max_window_bits={bits}"),
        }
        offer
    }

    /// A client's judgement of the server's answer to its [`offer`](Deflate::offer); none if it is
    /// not a possible answer, and then the connection must be failed (RFC 7692, 7.1).
    pub fn accepted(&self, answer: &Extension) -> Option<DeflateParams> {
        let answer = Parameters::read(answer)?;
        let server_bits = match answer.server_max_window_bits {
            Some(bits) => bits?,
            None => MAX_BITS,
        };
        // An answer has to have a value.
        let client_bits = match answer.client_max_window_bits {
            Some(bits) => bits?,
            None => MAX_BITS,
        };
        let as_asked = server_bits <= self.decompress_window_bits
            && (answer.server_no_context_takeover || self.decompress_with_context);
        as_asked.then_some(DeflateParams {
            server_no_context_takeover: answer.server_no_context_takeover,
            client_no_context_takeover: answer.client_no_context_takeover
                || !self.compress_with_context,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits.min(self.compress_window_bits),
        })
    }
}

/// The parameters of an offer or an answer as they are.
#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    /// There, and perhaps with a value.
    server_max_window_bits: Option<Option<u8>>,
    client_max_window_bits: Option<Option<u8>>,
}

impl Parameters {
    /// None for another extension, and for what RFC 7692, 7.1, has declined: unknown parameters,
    /// repeated ones, bad values.
    fn read(extension: &Extension) -> Option<Parameters> {
        if !extension.name.eq_ignore_ascii_case(NAME) {
            return None;
        }
        let mut read = Parameters::default();
        for (name, value) in &extension.parameters {
            let bits = match value.as_deref() {
                Some(value) => Some(window_bits(value)?),
                None => None,
            };
            let repeated = match &**name {
                "server_no_context_takeover" if value.is_none() => {
                    std::mem::replace(&mut read.server_no_context_takeover, true)
                }
                "client_no_context_takeover" if value.is_none() => {
                    std::mem::replace(&mut read.client_no_context_takeover, true)
                }
                "server_max_window_bits" => read.server_max_window_bits.replace(bits).is_some(),
                "client_max_window_bits" => read.client_max_window_bits.replace(bits).is_some(),
                _ => return None,
            };
            if repeated {
                return None;
            }
        }
        Some(read)
    }
}

/// "A decimal integer value without leading zeroes between 8 to 15, inclusive."
fn window_bits(value: &str) -> Option<u8> {
    let plain = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    let bits = value.parse().ok().filter(|_| plain)?;
    (MIN_BITS..=MAX_BITS).contains(&bits).then_some(bits)
}

/// What client and server have agreed on (RFC 7692, 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateParams {
    /// The server compresses each message by itself.
    pub server_no_context_takeover: bool,
    /// The client compresses each message by itself.
    pub client_no_context_takeover: bool,
    /// How far back the server looks, as a power of 2: 8 to 15.
    pub server_max_window_bits: u8,
    /// How far back the client looks, as a power of 2: 8 to 15.
    pub client_max_window_bits: u8,
}

impl DeflateParams {
    /// The server's answer, as the value of Sec-WebSocket-Extensions.
    pub fn answer(&self) -> String {
        let mut answer = NAME.to_owned();
        if self.server_no_context_takeover {
            answer += "; server_no_context_takeover";
        }
        if self.client_no_context_takeover {
            answer += "; client_no_context_takeover";
        }
        if self.server_max_window_bits < MAX_BITS {
            answer += &format!("; server_max_window_bits={}", self.server_max_window_bits);
        }
        if self.client_max_window_bits < MAX_BITS {
            answer += &format!("; client_max_window_bits={}", self.client_max_window_bits);
        }
        answer
    }

    /// What compresses the messages of this side.
    pub fn deflater(&self, role: Role, settings: &Deflate) -> Deflater {
        let (no_context, bits) = match role {
            Role::Server => (self.server_no_context_takeover, self.server_max_window_bits),
            Role::Client => (self.client_no_context_takeover, self.client_max_window_bits),
        };
        Deflater {
            kind: Kind {
                level: settings.level.clamp(1, 9),
                bits: bits.clamp(MIN_COMPRESS_BITS, MAX_BITS),
            },
            keeps_context: !no_context,
            threshold: settings.threshold,
            own: None,
        }
    }

    /// What decompresses the messages of the peer, `role` being this side.
    pub fn inflater(&self, role: Role) -> Inflater {
        Inflater {
            keeps_context: match role {
                Role::Server => !self.client_no_context_takeover,
                Role::Client => !self.server_no_context_takeover,
            },
            own: None,
        }
    }
}

/// What makes one compressor fit for another's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    level: u8,
    bits: u8,
}

/// Deflaters without context that are alike in this make the same of the same message.
#[cfg(feature = "io")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    kind: Kind,
    threshold: usize,
}

/// Compresses the messages of one direction.
pub struct Deflater {
    kind: Kind,
    keeps_context: bool,
    threshold: usize,
    /// Where context is kept, from the first message on.
    own: Option<Compress>,
}

/// Decompresses the messages of one direction.
pub struct Inflater {
    keeps_context: bool,
    /// Where context is kept, and while a message is under way.
    own: Option<Decompress>,
}

thread_local! {
    /// Shared by the connections that keep no context.
    static COMPRESSORS: RefCell<Vec<(Kind, Compress)>> = const { RefCell::new(Vec::new()) };
    static DECOMPRESSORS: RefCell<Vec<Decompress>> = const { RefCell::new(Vec::new()) };
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How many of a kind a thread keeps for the next messages.
const SPARES: usize = 4;

/// Decompressed bytes are handed on in pieces of this size, so that the limit on a message's size
/// is noticed before much more is made of it.
const PIECE: usize = 32 * 1024;

/// The end of each message's data, which is not sent (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

impl Deflater {
    /// What decides about the outcome; none where it depends on the messages before.
    #[cfg(feature = "io")]
    pub(crate) fn setting(&self) -> Option<Setting> {
        (!self.keeps_context).then_some(Setting {
            kind: self.kind,
            threshold: self.threshold,
        })
    }

    /// Appends a message, compressed, to `out`; false, and nothing appended, if it is better sent
    /// as it is.
    pub fn compress(&mut self, message: &[u8], out: &mut Vec<u8>) -> bool {
        if message.len() < self.threshold {
            return false;
        }
        let start = out.len();
        if self.keeps_context {
            let kind = self.kind;
            let compressor = self.own.get_or_insert_with(|| new_compressor(kind));
            deflate(compressor, message, true, out);
            return true;
        }
        let mut compressor = take_compressor(self.kind);
        deflate(&mut compressor, message, true, out);
        compressor.reset();
        give_compressor(self.kind, compressor);
        if out.len() - start < message.len() {
            return true;
        }
        out.truncate(start);
        false
    }

    /// Appends a part of a message, compressed, to `out`; `last` is the message's last, and may be
    /// empty. All parts of a message have to be compressed, and no other message before its last.
    pub fn compress_part(&mut self, part: &[u8], last: bool, out: &mut Vec<u8>) {
        let kind = self.kind;
        let compressor = self.own.get_or_insert_with(|| take_compressor(kind));
        if last || !part.is_empty() {
            deflate(compressor, part, last, out);
        }
        if last
            && !self.keeps_context
            && let Some(mut compressor) = self.own.take()
        {
            compressor.reset();
            give_compressor(kind, compressor);
        }
    }
}

fn new_compressor(kind: Kind) -> Compress {
    Compress::new_with_window_bits(Compression::new(kind.level.into()), false, kind.bits)
}

fn take_compressor(kind: Kind) -> Compress {
    COMPRESSORS.with_borrow_mut(
        |spares| match spares.iter().position(|(of, _)| *of == kind) {
            Some(at) => spares.swap_remove(at).1,
            None => new_compressor(kind),
        },
    )
}

fn give_compressor(kind: Kind, compressor: Compress) {
    COMPRESSORS.with_borrow_mut(|spares| {
        if spares.len() == SPARES {
            spares.remove(0);
        }
        spares.push((kind, compressor));
    });
}

/// Compresses a message, or a part of one, up to a flush; the last part is without the tail.
fn deflate(compressor: &mut Compress, message: &[u8], last: bool, out: &mut Vec<u8>) {
    let start = out.len();
    let first_in = compressor.total_in();
    // Mostly enough.
    out.reserve(message.len() / 2 + 64);
    loop {
        let done = (compressor.total_in() - first_in) as usize;
        let room = out.capacity() - out.len();
        let status = compressor
            .compress_vec(&message[done..], out, FlushCompress::Sync)
            .expect("a compressor takes any input");
        let done = (compressor.total_in() - first_in) as usize;
        // Room that is left means that the flush is complete.
        let complete = done == message.len() && out.len() < out.capacity();
        if complete || (status == Status::BufError && room > 0) {
            break;
        }
        out.reserve((out.len() - start).max(64));
    }
    if !last {
        return;
    }
    match out[start..].strip_suffix(&TAIL) {
        // 7.2.3.6: an empty message, where nothing was left to flush.
        None | Some([]) => {
            out.truncate(start);
            out.push(0);
        }
        Some(data) => out.truncate(start + data.len()),
    }
}

impl Inflater {
    /// Decompresses the next bytes of a message, handing what comes of them to `sink` in pieces.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::InvalidDeflate`]; those of `sink`.
    pub(super) fn inflate(
        &mut self,
        input: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        let decompressor = self.own.get_or_insert_with(take_decompressor);
        SCRATCH.with_borrow_mut(|piece| {
            if piece.is_empty() {
                piece.resize(PIECE, 0);
            }
            inflate(decompressor, input, piece, sink)
        })
    }

    /// The end of a message's data.
    ///
    /// # Errors
    ///
    /// As [`inflate`](Inflater::inflate).
    pub(super) fn finish(
        &mut self,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<(), ProtocolError> {
        self.inflate(&TAIL, sink)?;
        if !self.keeps_context
            && let Some(mut decompressor) = self.own.take()
        {
            decompressor.reset(false);
            DECOMPRESSORS.with_borrow_mut(|spares| {
                if spares.len() < SPARES {
                    spares.push(decompressor);
                }
            });
        }
        Ok(())
    }

    /// Gives the memory back; it is of no more use.
    pub(super) fn discard(&mut self) {
        self.own = None;
    }
}

/// With the largest window, which suits every peer, and can be reset cheaply.
fn take_decompressor() -> Decompress {
    let spare = DECOMPRESSORS.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| Decompress::new_with_window_bits(false, MAX_BITS))
}

fn inflate(
    decompressor: &mut Decompress,
    mut input: &[u8],
    piece: &mut [u8],
    sink: &mut dyn FnMut(&[u8]) -> Result<(), ProtocolError>,
) -> Result<(), ProtocolError> {
    loop {
        let (had_in, had_out) = (decompressor.total_in(), decompressor.total_out());
        let status = decompressor.decompress(input, piece, FlushDecompress::Sync);
        let made = (decompressor.total_out() - had_out) as usize;
        input = &input[(decompressor.total_in() - had_in) as usize..];
        // Also what precedes bad data: whether it had arrived by itself must make no difference.
        if made > 0 {
            sink(&piece[..made])?;
        }
        match status.map_err(|_| ProtocolError::InvalidDeflate)? {
            // 7.2.3.5: a last block. What follows begins anew.
            Status::StreamEnd => {
                decompressor.reset(false);
                if input.is_empty() {
                    return Ok(());
                }
            }
            // A piece that is not full says that there is nothing more to come.
            Status::Ok if !input.is_empty() || made == piece.len() => {}
            Status::BufError if !input.is_empty() && made > 0 => {}
            Status::Ok => return Ok(()),
            Status::BufError if input.is_empty() => return Ok(()),
            Status::BufError => return Err(ProtocolError::InvalidDeflate),
        }
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater")
            .field("kind", &self.kind)
            .field("keeps_context", &self.keeps_context)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater")
            .field("keeps_context", &self.keeps_context)
            .finish_non_exhaustive()
    }
}
