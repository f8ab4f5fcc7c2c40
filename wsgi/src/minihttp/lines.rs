//! Header lines for `may_minihttp`, which takes none but `&'static str`.

use may_minihttp::Response;

/// The status line and header lines of a connection's last response.
#[derive(Default)]
pub(super) struct Lines {
    kept: Vec<Box<str>>,
}

/// Headers that `may_minihttp` writes itself.
const ITS_OWN: [&str; 3] = ["content-length", "date", "server"];

/// How many headers of an encoded head are put on a response.
pub(super) fn count(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head);
    head.split("\r\n")
        .skip(1)
        .filter(|line| is_header(line))
        .count()
}

fn is_header(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    !line.is_empty() && !ITS_OWN.iter().any(|own| name.eq_ignore_ascii_case(own))
}

impl Lines {
    /// Puts status and headers of an encoded head on `response`; returns the status.
    ///
    /// The lines are kept until the next call: by then the response is gone.
    pub(super) fn put_on(&mut self, response: &mut Response<'_>, head: &[u8]) -> u16 {
        // Of the response before, which `may_minihttp` has encoded and dropped.
        self.kept.clear();
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let mut parts = status_line.splitn(3, ' ').skip(1);
        let status = parts.next().and_then(|code| code.parse().ok());
        let status: u16 = status.unwrap_or(500);
        let reason = self.keep(parts.next().unwrap_or_default());
        response.status_code(status.into(), reason);
        for line in lines.filter(|line| is_header(line)) {
            let line = self.keep(line);
            response.header(line);
        }
        status
    }

    #[allow(unsafe_code, reason = "the crate's only one; see below")]
    fn keep(&mut self, line: &str) -> &'static str {
        let line: Box<str> = line.into();
        let lent: *const str = &*line;
        self.kept.push(line);
        // SAFETY: The text is on the heap and stays where it is, unchanged, until `kept` is cleared
        // or dropped. Only the response gets the reference. `may_minihttp` (=0.1.11) makes a
        // response for each call of `HttpService::call`, and encodes and drops it before it calls
        // again or drops the service; a response can't be cloned, and gives its lines to nobody.
        unsafe { &*lent }
    }
}
