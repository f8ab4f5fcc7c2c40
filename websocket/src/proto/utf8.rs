//! UTF-8 validation of text that arrives in pieces (RFC 6455, 8.1; RFC 3629).

use std::fmt;

/// The bytes are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utf8Error {
    /// How many bytes before the bad sequence are valid, counted from the first byte of the text.
    pub valid_up_to: u64,
}

impl fmt::Display for Utf8Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid UTF-8 after {} valid bytes", self.valid_up_to)
    }
}

impl std::error::Error for Utf8Error {}

/// Validates a text piece by piece. It fails at the first byte that no continuation could make
/// valid, not at the end of the character or of the text.
///
/// It holds at most the three bytes of an unfinished character.
///
/// ```
/// use greenwood_websocket::proto::Utf8Validator;
///
/// let mut validator = Utf8Validator::new();
/// assert!(validator.push(b"\xe2\x82").is_ok());
/// assert!(validator.push(b"\xac").is_ok());
/// assert!(validator.finish().is_ok());
/// // F4 90 lies above U+10FFFF whatever follows.
/// assert!(validator.push(b"\xf4\x90").is_err());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Utf8Validator {
    valid: u64,
    /// The unfinished character: `carried` bytes, at most three.
    carry: [u8; 4],
    carried: u8,
}

impl Utf8Validator {
    /// A validator at the start of a text.
    pub fn new() -> Utf8Validator {
        Utf8Validator::default()
    }

    /// Checks the next piece of the text.
    ///
    /// # Errors
    ///
    /// When the text up to the end of `bytes` can't be the start of valid UTF-8. The validator then
    /// stays where it was before the piece.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Utf8Error> {
        self.split(bytes).map(|_| ())
    }

    /// Ends the text; the validator is then ready for another one.
    ///
    /// # Errors
    ///
    /// When the text ends inside a character.
    pub fn finish(&mut self) -> Result<(), Utf8Error> {
        let ended = std::mem::take(self);
        if ended.carried != 0 {
            return Err(Utf8Error {
                valid_up_to: ended.valid,
            });
        }
        Ok(())
    }

    /// The start of an unfinished character.
    pub(super) fn unfinished(&self) -> &[u8] {
        &self.carry[..self.carried()]
    }

    /// How many bytes of an unfinished character are held.
    pub(super) fn carried(&self) -> usize {
        usize::from(self.carried)
    }

    /// Like `push`, and returns what is proven text by now: the character that had begun in an
    /// earlier piece, and the part of `bytes` after it, without a character that is still
    /// unfinished at the end. Whoever collects these needs no second validation.
    #[inline]
    pub(super) fn split<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<(Option<char>, &'a str), Utf8Error> {
        let (first, rest) = self.complete_carry(bytes)?;
        let valid = self.valid + first.map_or(0, |c| c.len_utf8() as u64);
        let (whole, tail) = rest.split_at(rest.len() - unfinished_len(rest));
        let text = simdutf8::basic::from_utf8(whole).map_err(|_| Utf8Error {
            valid_up_to: valid + valid_prefix(whole),
        })?;
        let valid = valid + whole.len() as u64;
        if first.is_some() || self.carried == 0 {
            if !tail.is_empty() && matches!(sequence(tail), Sequence::Invalid) {
                return Err(Utf8Error { valid_up_to: valid });
            }
            self.carry[..tail.len()].copy_from_slice(tail);
            self.carried = tail.len() as u8;
        } else {
            // Every byte went into the character under way.
            self.extend_carry(bytes);
        }
        self.valid = valid;
        Ok((first, text))
    }

    /// Takes from `bytes` what completes the unfinished character. Changes nothing yet, so that an
    /// error leaves the validator as it was.
    #[inline]
    fn complete_carry<'a>(&self, bytes: &'a [u8]) -> Result<(Option<char>, &'a [u8]), Utf8Error> {
        if self.carried == 0 {
            return Ok((None, bytes));
        }
        let had = self.carried();
        let mut carry = self.carry;
        for taken in 0..bytes.len().min(4 - had) {
            let len = had + taken + 1;
            carry[len - 1] = bytes[taken];
            match sequence(&carry[..len]) {
                Sequence::Char(c) => return Ok((Some(c), &bytes[taken + 1..])),
                Sequence::Unfinished => {}
                Sequence::Invalid => {
                    return Err(Utf8Error {
                        valid_up_to: self.valid,
                    });
                }
            }
        }
        // Four bytes are a character or an error, so `bytes` was too short to fill them.
        Ok((None, &[]))
    }

    fn extend_carry(&mut self, bytes: &[u8]) {
        let had = self.carried();
        self.carry[had..had + bytes.len()].copy_from_slice(bytes);
        self.carried += bytes.len() as u8;
    }
}

/// The first bad position of bytes that are known to be bad.
#[cold]
pub(super) fn valid_prefix(bytes: &[u8]) -> u64 {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.len() as u64,
        Err(error) => error.valid_up_to() as u64,
    }
}

/// How many bytes at the end start a character that lacks bytes: 0 to 3. Judges only the lead byte
/// and the number of bytes after it.
#[inline]
fn unfinished_len(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let needed = match bytes[bytes.len() - back] {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            _ => 1,
        };
        return if needed > back { back } else { 0 };
    }
    0
}

enum Sequence {
    Char(char),
    Unfinished,
    Invalid,
}

/// Judges up to four bytes that start at a character's first byte.
fn sequence(bytes: &[u8]) -> Sequence {
    match std::str::from_utf8(bytes) {
        Ok(text) => text
            .chars()
            .next()
            .map_or(Sequence::Unfinished, Sequence::Char),
        Err(error) if error.error_len().is_none() => Sequence::Unfinished,
        Err(_) => Sequence::Invalid,
    }
}
