//! Status lines and headers as bytes, and what may not become one.

use super::{
    chars,
    error::{ApplicationFault, HttpError},
};

/// Appends `101 Switching Protocols` with the given headers to `out` (RFC 9110 section 15.2.2).
///
/// # Errors
///
/// [`ApplicationFault::HeaderName`] and [`HeaderValue`](ApplicationFault::HeaderValue), with
/// nothing appended.
pub fn encode_upgrade<N: AsRef<str>, V: AsRef<str>>(
    out: &mut Vec<u8>,
    headers: &[(N, V)],
) -> Result<(), HttpError> {
    let base = out.len();
    write_status_line(out, "101 Switching Protocols");
    for (name, value) in headers {
        match checked(name.as_ref(), value.as_ref()) {
            Ok(value) => write_header(out, name.as_ref(), value),
            Err(fault) => {
                out.truncate(base);
                return Err(fault.into());
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The reason phrase of a status that this server sends by itself (RFC 9110 section 15).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// The code of a status of the form `200` or `200 OK`.
pub(super) fn status_code(status: &str) -> Option<u16> {
    let (digits, rest) = status.as_bytes().split_first_chunk::<3>()?;
    let well_formed =
        matches!(rest, [] | [b' ', ..]) && rest.iter().all(|&b| chars::is_field_char(b));
    let code = chars::decimal(digits).filter(|_| well_formed)? as u16;
    // 1xx are no final answers (RFC 9110 section 15.2).
    (200..600).contains(&code).then_some(code)
}

pub(super) fn checked<'v>(name: &str, value: &'v str) -> Result<&'v str, ApplicationFault> {
    if !chars::is_token(name.as_bytes()) {
        return Err(ApplicationFault::HeaderName);
    }
    if !value.bytes().all(chars::is_field_char) {
        return Err(ApplicationFault::HeaderValue);
    }
    Ok(value.trim_matches([' ', '\t']))
}

pub(super) fn write_status_line(out: &mut Vec<u8>, status: &str) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_bytes());
    // RFC 9112 section 4: the space stays, also without a reason phrase.
    out.extend_from_slice(if status.len() == 3 { b" \r\n" } else { b"\r\n" });
}

pub(super) fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(super) fn write_decimal(out: &mut Vec<u8>, number: u64) {
    write_digits(out, number, 10);
}

pub(super) fn write_hex(out: &mut Vec<u8>, number: usize) {
    write_digits(out, number as u64, 16);
}

/// The number's digits, without the machinery of `write!`.
fn write_digits(out: &mut Vec<u8>, mut number: u64, base: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(number % base) as usize];
        number /= base;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_written_in_either_base() {
        for number in [0, 1, 9, 10, 15, 16, 255, 4096, u64::MAX] {
            let mut out = Vec::new();
            write_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
            let mut out = Vec::new();
            write_hex(&mut out, number as usize);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{number:x}"));
        }
    }

    #[test]
    fn status_needs_three_digits_of_a_final_answer() {
        for good in ["200 OK", "200", "404 ", "599 \u{e4}"] {
            assert!(status_code(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "20",
            "2000",
            "OK 200",
            "200OK",
            "199 x",
            "600 x",
            "200 a\r\nb",
            "200 \0",
        ] {
            assert!(status_code(bad).is_none(), "{bad}");
        }
    }
}
