//! The URL of a WebSocket (RFC 6455, 3).

use core::net::Ipv6Addr;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;

/// A `ws` or `wss` URL, taken apart.
///
/// ```
/// use greenwood_websocket::proto::Url;
///
/// let url = Url::parse("ws://[::1]:8000/chat?room=1").unwrap();
/// assert_eq!((url.host(), url.port(), url.is_secure()), ("::1", 8000, false));
/// assert_eq!(url.host_header(), "[::1]:8000");
/// assert_eq!(url.target(), "/chat?room=1");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    secure: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    host_header: String,
    target: String,
    authorization: Option<String>,
}

impl Url {
    /// Takes a URL apart.
    ///
    /// # Errors
    ///
    /// It is no URL, or none of a WebSocket: another scheme, no host, a fragment (RFC 6455, 3:
    /// "Fragment identifiers are meaningless ... and MUST NOT be used"), or characters that have to
    /// be percent-encoded, in a host by Punycode.
    pub fn parse(url: &str) -> Result<Url, UrlError> {
        let error = |what: &'static str| UrlError {
            url: without_secret(url),
            what,
        };
        if url.contains('#') {
            return Err(error(
                "a WebSocket's URL has no fragment: encode '#' as %23",
            ));
        }
        if !url.is_ascii() {
            return Err(error(
                "characters beyond ASCII have to be percent-encoded, in a host name by Punycode",
            ));
        }
        let uri: Uri = url.parse().map_err(|_| error("it is not well-formed"))?;
        let secure = match uri.scheme_str() {
            Some(scheme) if scheme.eq_ignore_ascii_case("ws") => false,
            Some(scheme) if scheme.eq_ignore_ascii_case("wss") => true,
            _ => return Err(error("the scheme must be ws or wss")),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let bracketed = uri.host().unwrap_or_default();
        let host = bracketed
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(bracketed);
        if host.is_empty() {
            return Err(error("it names no host"));
        }
        // `http` lets them pass anywhere, and around anything (RFC 3986, 3.2.2).
        let is_address = host.len() == bracketed.len() || host.parse::<Ipv6Addr>().is_ok();
        if !is_address
            || host.contains(['[', ']'])
            || user.is_some_and(|user| user.contains(['[', ']']))
        {
            return Err(error("brackets belong around an IPv6 address only"));
        }
        // What is behind the host, by which a port that is no number is told from none.
        let explicit = address[bracketed.len()..].strip_prefix(':');
        let default = if secure { 443 } else { 80 };
        let port = match explicit {
            None | Some("") => default,
            // A number may also have a sign.
            Some(digits) => Some(digits)
                .filter(|digits| !digits.starts_with('+'))
                .and_then(|digits| digits.parse().ok())
                .filter(|port| *port != 0)
                .ok_or_else(|| error("the port must be 1 to 65535"))?,
        };
        let target = match uri.path_and_query().map(|target| target.as_str()) {
            None | Some("") => "/".to_owned(),
            Some(target) if target.starts_with('?') => format!("/{target}"),
            Some(target) => target.to_owned(),
        };
        Ok(Url {
            secure,
            host: host.to_owned(),
            port,
            // RFC 9110, 7.2: the port is left out where it is the scheme's.
            host_header: match port == default {
                true => bracketed.to_owned(),
                false => format!("{bracketed}:{port}"),
            },
            target,
            authorization: match user {
                None | Some("") => None,
                Some(user) => {
                    Some(basic(user).ok_or_else(|| {
                        error("a user name can't have a colon: it would end there")
                    })?)
                }
            },
        })
    }

    /// Whether it is `wss`: over TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host, a name or an address; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port: 80 or 443 if the URL has none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of the Host header.
    pub fn host_header(&self) -> &str {
        &self.host_header
    }

    /// The path and the query: what the request asks for.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of an Authorization header, if the URL has a user and a password in front of the
    /// host.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }
}

/// The URL itself, without user and password.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.host_header, self.target)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

/// A URL that is none of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlError {
    url: String,
    what: &'static str,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the URL {:?} can't be connected to: {}",
            self.url, self.what
        )
    }
}

impl std::error::Error for UrlError {}

/// The value of Authorization for what is in front of the '@' (RFC 7617, 2); none if its user would
/// be taken for another.
fn basic(user: &str) -> Option<String> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain = percent_decoded(name.as_bytes());
    if plain.contains(&b':') {
        return None;
    }
    plain.push(b':');
    plain.extend(percent_decoded(password.as_bytes()));
    Some(format!("Basic {}", STANDARD.encode(plain)))
}

/// The URL for an error, that may end up in a log: without a user and password in it, not even if
/// the password has a '/', '?' or '#' that was not encoded.
fn without_secret(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let is_plain = authority.contains('@') || port.bytes().all(|byte| byte.is_ascii_digit());
    let secret = if is_plain { authority } else { rest };
    match secret.rfind('@') {
        Some(at) => format!("{scheme}://***@{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// The bytes that a part of a URL stands for. A '%' without two digits behind it is one.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.first_chunk::<2>().filter(|_| first == b'%');
        let value = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = &behind[2..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    bytes
}
