//! The options of the `Connection` header (RFC 9110 section 7.6.1).

use super::chars;

/// What the `Connection` headers of a message list, taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// `close`: the connection ends after this exchange. It outweighs `keep-alive`.
    pub close: bool,
    /// `keep-alive`: an HTTP/1.0 peer asks for the connection to persist.
    pub keep_alive: bool,
    /// `upgrade`: the `Upgrade` header is meant for this hop.
    pub upgrade: bool,
}

impl ConnectionOptions {
    /// Adds the options of one `Connection` header's value. Unknown options are ignored.
    pub fn add(&mut self, value: &[u8]) {
        for option in chars::list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_a_list_in_any_case() {
        let mut options = ConnectionOptions::default();
        options.add(b"Keep-Alive ,\tUPGRADE,, x-other");
        assert_eq!(
            options,
            ConnectionOptions {
                close: false,
                keep_alive: true,
                upgrade: true
            }
        );
        options.add(b"close");
        assert!(options.close);
    }

    #[test]
    fn options_are_whole_tokens() {
        let mut options = ConnectionOptions::default();
        options.add(b"closed, keep alive, \"close\"");
        assert_eq!(options, ConnectionOptions::default());
    }
}
