//! The Sec-WebSocket-Extensions header (RFC 6455, 9.1).

use super::handshake::is_token_byte;

/// One element of the header: a name and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The extension's name, a token.
    pub name: String,
    /// Its parameters in order: a name, and a value if there is one. A quoted value is given
    /// without its quotes.
    pub parameters: Vec<(String, Option<String>)>,
}

impl Extension {
    /// Reads the value of one header line.
    ///
    /// # Errors
    ///
    /// It does not follow the grammar: the connection must be failed (RFC 6455, 9.1).
    pub fn parse_list(line: &[u8]) -> Result<Vec<Extension>, MalformedExtensions> {
        let mut text = Text { rest: line };
        let mut list = Vec::new();
        loop {
            // Empty elements do not count (RFC 9110, 5.6.1.2).
            while text.take(b',') {}
            if text.is_at_end() {
                return Ok(list);
            }
            list.push(text.extension()?);
            if !text.is_at_end() && !text.take(b',') {
                return Err(MalformedExtensions);
            }
        }
    }
}

/// A Sec-WebSocket-Extensions header that does not follow the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedExtensions;

struct Text<'a> {
    rest: &'a [u8],
}

impl Text<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.rest.is_empty()
    }

    /// Takes `byte` if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn token(&mut self) -> Result<String, MalformedExtensions> {
        self.skip_space();
        let end = self.rest.iter().position(|&byte| !is_token_byte(byte));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        into_token(token.to_vec())
    }

    fn extension(&mut self) -> Result<Extension, MalformedExtensions> {
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.take(b';') {
            let name = self.token()?;
            let value = match self.take(b'=') {
                true => Some(self.value()?),
                false => None,
            };
            parameters.push((name, value));
        }
        Ok(Extension { name, parameters })
    }

    fn value(&mut self) -> Result<String, MalformedExtensions> {
        if !self.take(b'"') {
            return self.token();
        }
        let mut value = Vec::new();
        loop {
            let (&byte, rest) = self.rest.split_first().ok_or(MalformedExtensions)?;
            self.rest = rest;
            match byte {
                b'"' => return into_token(value),
                b'\\' => {
                    let (&escaped, rest) = self.rest.split_first().ok_or(MalformedExtensions)?;
                    self.rest = rest;
                    value.push(escaped);
                }
                byte => value.push(byte),
            }
        }
    }
}

/// "When using the quoted-string syntax variant, the value after quoted-string unescaping MUST
/// conform to the 'token' ABNF."
fn into_token(bytes: Vec<u8>) -> Result<String, MalformedExtensions> {
    if bytes.is_empty() || !bytes.iter().copied().all(is_token_byte) {
        return Err(MalformedExtensions);
    }
    String::from_utf8(bytes).map_err(|_| MalformedExtensions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<String, MalformedExtensions> {
        let list = Extension::parse_list(line.as_bytes())?;
        let text = list.iter().map(|extension| {
            let parameters = extension
                .parameters
                .iter()
                .map(|(name, value)| match value {
                    Some(value) => format!("{name}={value}"),
                    None => name.clone(),
                });
            let parameters: Vec<_> = parameters.collect();
            format!("{}({})", extension.name, parameters.join(","))
        });
        Ok(text.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn lists_are_read_with_their_parameters() {
        for (line, expected) in [
            ("", ""),
            (" , ,", ""),
            ("foo", "foo()"),
            ("foo , bar;x", "foo() bar(x)"),
            ("foo;a=1;b,foo ; a = \"2\"", "foo(a=1,b) foo(a=2)"),
            ("foo; a=\"\\1\\0\"", "foo(a=10)"),
            (",foo,,bar,", "foo() bar()"),
        ] {
            assert_eq!(parsed(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for line in [
            ";",
            "=",
            "foo;",
            "foo;;a",
            "foo;=1",
            "foo;a=",
            "foo bar",
            "foo;a=\"\"",
            "foo;a=\"1",
            "foo;a=\"1\\",
            "foo;a=\"1 2\"",
            "foo;a=\"1\"2",
            "foo;a=1 2",
            "f\u{f6}o",
            "foo;a=1=2",
        ] {
            assert_eq!(parsed(line), Err(MalformedExtensions), "{line}");
        }
    }
}
