//! What a peer may make the server hold or read.

/// The limits on a request's sizes. Each has a default that suits the open internet.
///
/// ```
/// use greenwood_wsgi::proto::Limits;
///
/// let limits = Limits::default().max_body_size(100 * 1024 * 1024);
/// assert_eq!(limits.max_request_line, 8192);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line without its CRLF; past it the answer is 414.
    ///
    /// Default 8,192 (pywsgi's, and what RFC 9112 section 3 recommends at least). Raise it for
    /// clients that put documents into query strings.
    pub max_request_line: usize,
    /// Number of header lines; past it the answer is 431.
    ///
    /// Default 100 (pywsgi's). Up to 100 are parsed on the stack; a higher limit allocates.
    pub max_headers: usize,
    /// Bytes of the whole head, request line and empty line included; past it the answer is 431.
    ///
    /// Default 65,536: it bounds what one connection can make the server buffer. Raise it only for
    /// clients with very large cookies. At most `u32::MAX`.
    pub max_head_size: usize,
    /// Bytes of the request's body, decoded; past it the answer is 413, before anything of an
    /// announced body is read.
    ///
    /// Default 16 MiB. The body is streamed, so a higher limit costs no memory by itself; but an
    /// application that reads a body into memory is bounded by this alone.
    pub max_body_size: u64,
    /// Bytes of chunk extensions in one body, all chunks together; past it the answer is 400.
    ///
    /// Default 8,192. Nobody uses extensions; they are read and ignored.
    pub max_chunk_extensions: usize,
    /// Bytes of the trailer section of a chunked body; past it the answer is 400.
    ///
    /// Default 8,192. Trailers are read and ignored.
    pub max_trailers: usize,
    /// Bytes of an unread body that are read and dropped after a response to keep the connection.
    ///
    /// Default 65,536: with more than that outstanding, closing is the cheaper way.
    pub max_discard: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request_line: 8192,
            max_headers: 100,
            max_head_size: 65_536,
            max_body_size: 16 * 1024 * 1024,
            max_chunk_extensions: 8192,
            max_trailers: 8192,
            max_discard: 65_536,
        }
    }
}

impl Limits {
    /// Sets [`max_request_line`](Self#structfield.max_request_line), in bytes.
    #[must_use]
    pub fn max_request_line(mut self, bytes: usize) -> Self {
        self.max_request_line = bytes;
        self
    }

    /// Sets [`max_headers`](Self#structfield.max_headers).
    #[must_use]
    pub fn max_headers(mut self, headers: usize) -> Self {
        self.max_headers = headers;
        self
    }

    /// Sets [`max_head_size`](Self#structfield.max_head_size), in bytes.
    #[must_use]
    pub fn max_head_size(mut self, bytes: usize) -> Self {
        self.max_head_size = bytes.min(u32::MAX as usize);
        self
    }

    /// Sets [`max_body_size`](Self#structfield.max_body_size), in bytes.
    #[must_use]
    pub fn max_body_size(mut self, bytes: u64) -> Self {
        self.max_body_size = bytes;
        self
    }

    /// Sets [`max_chunk_extensions`](Self#structfield.max_chunk_extensions), in bytes.
    #[must_use]
    pub fn max_chunk_extensions(mut self, bytes: usize) -> Self {
        self.max_chunk_extensions = bytes;
        self
    }

    /// Sets [`max_trailers`](Self#structfield.max_trailers), in bytes.
    #[must_use]
    pub fn max_trailers(mut self, bytes: usize) -> Self {
        self.max_trailers = bytes;
        self
    }

    /// Sets [`max_discard`](Self#structfield.max_discard), in bytes.
    #[must_use]
    pub fn max_discard(mut self, bytes: u64) -> Self {
        self.max_discard = bytes;
        self
    }
}
