//! The forms of a request target (RFC 9112 section 3.2), and the `Host` that goes with it.

use std::ops::Range;

use super::error::PeerFault;

/// Where the parts of a target lie within it.
pub(super) struct Target {
    /// The path as sent; empty where it means `/` (or, for `OPTIONS`, `*`).
    pub(super) path: Range<usize>,
    /// What follows the first `?`.
    pub(super) query: Option<Range<usize>>,
    /// The authority of an absolute-form target, which replaces `Host` (section 3.2.2).
    pub(super) authority: Option<Range<usize>>,
}

/// Splits a target into its parts.
///
/// # Errors
///
/// `Target` if it has no form that fits the method, holds a fragment or bytes outside ASCII, or is
/// absolute with a scheme other than `http` and `https` or with user information;
/// `Connect` for the method `CONNECT`.
pub(super) fn split(method: &str, target: &[u8]) -> Result<Target, PeerFault> {
    if method == "CONNECT" {
        return Err(PeerFault::Connect);
    }
    if !target.is_ascii() || target.contains(&b'#') {
        return Err(PeerFault::Target);
    }
    match target {
        [b'/', ..] => Ok(origin(target, 0, None)),
        b"*" if method == "OPTIONS" => Ok(Target {
            path: 0..1,
            query: None,
            authority: None,
        }),
        _ => absolute(target),
    }
}

/// Whether `value` is `uri-host [":" port]`; an empty one is allowed (RFC 9110 section 7.2).
pub(super) fn is_host(value: &[u8]) -> bool {
    let (valid_host, port) = if let Some(literal) = value.strip_prefix(b"[") {
        // An IPv6 or future address literal.
        let Some(end) = literal.iter().position(|&b| b == b']') else {
            return false;
        };
        let (address, rest) = (&literal[..end], &literal[end + 1..]);
        let valid = !address.is_empty()
            && address.iter().all(|&b| is_name_char(b) || b == b':')
            && (rest.is_empty() || rest[0] == b':');
        (valid, rest.strip_prefix(b":"))
    } else {
        match value.iter().position(|&b| b == b':') {
            Some(0) => (false, None),
            Some(colon) => (
                value[..colon].iter().all(|&b| is_name_char(b)),
                Some(&value[colon + 1..]),
            ),
            None => (value.iter().all(|&b| is_name_char(b)), None),
        }
    };
    valid_host && port.is_none_or(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit))
}

fn origin(target: &[u8], start: usize, authority: Option<Range<usize>>) -> Target {
    match target[start..].iter().position(|&b| b == b'?') {
        Some(mark) => Target {
            path: start..start + mark,
            query: Some(start + mark + 1..target.len()),
            authority,
        },
        None => Target {
            path: start..target.len(),
            query: None,
            authority,
        },
    }
}

fn absolute(target: &[u8]) -> Result<Target, PeerFault> {
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|s| {
            target
                .get(..s.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(s))
        })
        .ok_or(PeerFault::Target)?
        .len();
    let end = target[scheme..]
        .iter()
        .position(|&b| matches!(b, b'/' | b'?'))
        .map_or(target.len(), |length| scheme + length);
    // User information is refused along with everything else that is no host (RFC 9110 4.2.4).
    if end == scheme || !is_host(&target[scheme..end]) {
        return Err(PeerFault::Target);
    }
    Ok(origin(target, end, Some(scheme..end)))
}

/// `reg-name` without the comma, which would hide two hosts in one.
fn is_name_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_other_things() {
        for good in [
            "",
            "a",
            "example.org:80",
            "127.0.0.1:",
            "[::1]",
            "[::1]:8080",
            "a_b%20",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b", "a/b", "a,b", "u@h", "a:b", ":80", "[::1", "[]", "[::1]x", "a:123456", "a?b",
            "a#b", "a:80:80", "\u{e4}",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
