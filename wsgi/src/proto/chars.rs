//! Character classes of RFC 9110 section 5, and lists of tokens.

/// `tchar`: what methods and header names are made of.
pub(super) fn is_token_char(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Whether `bytes` is a `token`: one or more `tchar`.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token_char(b))
}

/// `field-vchar`, space or tab: everything but control characters.
pub(super) fn is_field_char(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// The elements of a comma-separated list, without the white space around them. Empty elements
/// are kept.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim)
}

/// `value` without optional white space (spaces and tabs) at either end.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A number of decimal digits only: no sign, no space, no underscore. Past `u64` it is `u64::MAX`,
/// which no limit allows.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &byte| {
        byte.is_ascii_digit().then(|| {
            number
                .saturating_mul(10)
                .saturating_add(u64::from(byte - b'0'))
        })
    })
}

/// How often `wanted` occurs in `bytes`.
///
/// Counts in blocks whose sum fits a byte, which the compiler turns into vector code.
pub(super) fn count(bytes: &[u8], wanted: u8) -> usize {
    bytes
        .chunks(255)
        .map(|block| block.iter().fold(0u8, |n, &b| n + u8::from(b == wanted)) as usize)
        .sum()
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(
                byte as u8,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_takes_digits_only() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"99999999999999999999999"), Some(u64::MAX));
        for bad in [
            &b""[..],
            b"+5",
            b"-5",
            b"0_5",
            b" 5",
            b"5 ",
            b"0x5",
            b"5,5",
            b"\xb2",
        ] {
            assert_eq!(decimal(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn count_counts_past_a_block() {
        let bytes = [b'\n'; 1000];
        assert_eq!(count(&bytes, b'\n'), 1000);
        assert_eq!(count(&bytes, b'\r'), 0);
    }

    #[test]
    fn trim_leaves_inner_space() {
        assert_eq!(trim(b" \ta b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
    }
}
