//! The body of a response.

use std::{fmt, io, sync::Arc};

use crate::Result;

/// What an application returns: nothing, bytes, chunks, or a function that writes.
///
/// Bytes go out with the head in one write, with their length. Chunks and what a function writes
/// go out piece by piece as they come, chunked unless the length is [known](Self::with_length).
/// The answer to HEAD has no body: chunks are not asked for and functions are not called.
///
/// A body is consumed in the greenlet that made it, so what it owns need not be `Send`.
///
/// ```
/// use greenwood_wsgi::Body;
///
/// let whole = Body::from("hello");
/// assert_eq!(whole.length(), Some(5));
///
/// let chunks = Body::from_iter(["hel", "lo"]);
/// assert_eq!(chunks.length(), None);
///
/// let written = Body::stream(|out| {
///     for i in 0..3 {
///         out.send(format!("{i}\n").as_bytes())?;
///     }
///     Ok(())
/// });
/// assert_eq!(written.into_bytes()?, b"0\n1\n2\n");
/// # Ok::<(), greenwood_wsgi::Error>(())
/// ```
#[derive(Default)]
pub struct Body {
    pub(crate) content: Content,
    pub(crate) length: Option<u64>,
}

#[derive(Default)]
pub(crate) enum Content {
    #[default]
    Empty,
    Owned(Vec<u8>),
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
    Chunks(Box<dyn Iterator<Item = Vec<u8>>>),
    Stream(Stream),
}

type Stream = Box<dyn FnOnce(&mut BodyWriter<'_>) -> Result<()>>;

/// Where a [`Body::stream`] writes to. What is written goes out at once.
///
/// It is an [`io::Write`] too. `write!` calls it once per formatted part, each of which would be a
/// chunk of its own; `format!` first and [`send`](Self::send) whole pieces.
pub struct BodyWriter<'a> {
    sink: &'a mut dyn FnMut(&[u8]) -> Result<()>,
}

impl Body {
    /// No body: `Content-Length: 0`, or none for 204 and 304.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A body of chunks, each of which goes out as the iterator yields it. Empty ones are skipped.
    ///
    /// An iterator that says by its `size_hint` that it has one chunk only makes a body with a
    /// known length, as in pywsgi a list of one.
    #[expect(
        clippy::should_implement_trait,
        reason = "the iterator is kept, which the trait forbids"
    )]
    pub fn from_iter<I>(chunks: I) -> Self
    where
        I: IntoIterator<IntoIter: 'static>,
        I::Item: Into<Vec<u8>> + 'static,
    {
        let chunks = chunks.into_iter().map(Into::into);
        Self {
            content: Content::Chunks(Box::new(chunks)),
            length: None,
        }
    }

    /// A body that `write` writes when the head can go out; the head goes out with the first
    /// piece. If it fails before that, the response is a 500; after that the connection is cut.
    pub fn stream(write: impl FnOnce(&mut BodyWriter<'_>) -> Result<()> + 'static) -> Self {
        Self {
            content: Content::Stream(Box::new(write)),
            length: None,
        }
    }

    /// Announces the length in bytes of chunks or a stream. A body that turns out longer or shorter
    /// cuts the connection.
    #[must_use]
    pub fn with_length(mut self, bytes: u64) -> Self {
        self.length = Some(bytes);
        self
    }

    /// The length in bytes if it is known beforehand.
    pub fn length(&self) -> Option<u64> {
        self.length
            .or_else(|| self.content.bytes().map(|bytes| bytes.len() as u64))
    }

    /// Writes the whole body to `sink`, piece by piece, as a server does; for other servers, and
    /// for applications around applications.
    ///
    /// # Errors
    ///
    /// Those of the sink and of the body itself.
    pub fn write_to(self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self.content {
            Content::Chunks(chunks) => chunks
                .filter(|chunk| !chunk.is_empty())
                .try_for_each(|chunk| sink(&chunk)),
            Content::Stream(write) => write(&mut BodyWriter::new(sink)),
            content => match content.bytes() {
                Some(bytes) if !bytes.is_empty() => sink(bytes),
                _ => Ok(()),
            },
        }
    }

    /// The whole body in memory.
    ///
    /// # Errors
    ///
    /// That of the function of a [`stream`](Self::stream).
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        if let Content::Owned(bytes) = self.content {
            return Ok(bytes);
        }
        let mut bytes = Vec::new();
        self.write_to(&mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }
}

impl Content {
    /// The whole content, if it is in memory.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Empty => Some(&[]),
            Self::Owned(bytes) => Some(bytes),
            Self::Static(bytes) => Some(bytes),
            Self::Shared(bytes) => Some(bytes),
            Self::Chunks(_) | Self::Stream(_) => None,
        }
    }
}

impl<'a> BodyWriter<'a> {
    /// A writer that hands every piece to `sink`.
    pub fn new(sink: &'a mut dyn FnMut(&[u8]) -> Result<()>) -> Self {
        Self { sink }
    }

    /// Sends one piece of the body. It is on its way when this returns; an empty one is nothing.
    ///
    /// # Errors
    ///
    /// A peer that went away or does not read within the server's write time-out; more bytes than
    /// announced. The stream should end then; nothing more will go out.
    pub fn send(&mut self, piece: &[u8]) -> Result<()> {
        if piece.is_empty() {
            Ok(())
        } else {
            (self.sink)(piece)
        }
    }
}

impl io::Write for BodyWriter<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.send(piece)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Content::Owned(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Content::Static(bytes).into()
    }
}

impl<const N: usize> From<&'static [u8; N]> for Body {
    fn from(bytes: &'static [u8; N]) -> Self {
        Content::Static(bytes).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

impl From<Arc<[u8]>> for Body {
    fn from(bytes: Arc<[u8]>) -> Self {
        Content::Shared(bytes).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

impl From<Content> for Body {
    fn from(content: Content) -> Self {
        Self {
            content,
            length: None,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.content {
            Content::Chunks(_) => "chunks",
            Content::Stream(_) => "stream",
            _ => "bytes",
        };
        f.debug_struct("Body")
            .field("kind", &kind)
            .field("length", &self.length())
            .finish()
    }
}

impl fmt::Debug for BodyWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyWriter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_all_kinds_give_their_bytes() {
        let bodies: [Body; 7] = [
            "abc".into(),
            String::from("abc").into(),
            b"abc".into(),
            Arc::<[u8]>::from(&b"abc"[..]).into(),
            Body::from_iter([&b"a"[..], b"", b"bc"]),
            Body::stream(|out| {
                out.send(b"ab")?;
                Ok(io::Write::write_all(out, b"c")?)
            }),
            Body::from_iter(vec![String::from("abc")]).with_length(3),
        ];
        for body in bodies {
            assert!(body.length().is_none_or(|length| length == 3), "{body:?}");
            assert_eq!(body.into_bytes().unwrap(), b"abc");
        }
        assert_eq!(Body::empty().length(), Some(0));
    }

    #[test]
    fn empty_pieces_do_not_reach_the_sink() {
        let mut pieces = 0;
        let mut count = |_: &[u8]| {
            pieces += 1;
            Ok(())
        };
        Body::from_iter(["", "a", ""]).write_to(&mut count).unwrap();
        Body::empty().write_to(&mut count).unwrap();
        assert_eq!(pieces, 1);
    }
}
