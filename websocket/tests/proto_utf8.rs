//! The incremental UTF-8 validator, judged by std.

use greenwood_websocket::proto::{Utf8Error, Utf8Validator};
use proptest::prelude::*;

/// What std says about the whole text: where the first bad sequence starts, and at how many bytes
/// it is known to be bad (none if it merely ends early).
fn judge(bytes: &[u8]) -> Result<(), (u64, Option<usize>)> {
    std::str::from_utf8(bytes).map(|_| ()).map_err(|error| {
        let known = (1..=bytes.len()).find(|end| {
            std::str::from_utf8(&bytes[..*end]).is_err_and(|error| error.error_len().is_some())
        });
        (error.valid_up_to() as u64, known)
    })
}

/// Pushes pieces of these sizes; the error, and after how many bytes it came.
fn validate(bytes: &[u8], sizes: &[usize]) -> Result<(), (u64, Option<usize>)> {
    let mut validator = Utf8Validator::new();
    let mut at = 0;
    for size in sizes.iter().cycle() {
        if at == bytes.len() {
            break;
        }
        let end = bytes.len().min(at + size);
        validator
            .push(&bytes[at..end])
            .map_err(|error: Utf8Error| (error.valid_up_to, Some(end)))?;
        at = end;
    }
    validator
        .finish()
        .map_err(|error| (error.valid_up_to, None))
}

/// Bytes that are often nearly UTF-8: characters, with bytes of interest among them.
fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
    let odd = vec![
        0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4,
        0xf5, 0xff,
    ];
    let piece = prop_oneof![
        4 => any::<char>().prop_map(|c| c.to_string().into_bytes()),
        4 => "[a-z]{0,80}".prop_map(String::into_bytes),
        1 => prop::sample::select(odd).prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn bad_byte_fails_at_once(bytes in nearly_text()) {
        prop_assert_eq!(validate(&bytes, &[1]), judge(&bytes));
    }

    #[test]
    fn cuts_change_nothing(
        bytes in nearly_text(),
        sizes in prop::collection::vec(1usize..90, 1..6),
    ) {
        let where_bad = |(valid_up_to, _)| valid_up_to;
        prop_assert_eq!(
            validate(&bytes, &sizes).map_err(where_bad),
            judge(&bytes).map_err(where_bad)
        );
    }
}

#[test]
fn bytes_that_no_continuation_can_save_fail_at_once() {
    let hopeless: [&[u8]; 12] = [
        b"\x80",
        b"\xc0",
        b"\xc1",
        b"\xf5",
        b"\xff",
        b"\xe0\x9f",
        b"\xed\xa0",
        b"\xf0\x8f",
        b"\xf4\x90",
        b"\xc3\x28",
        b"\xe2\x82\x28",
        b"\xf0\x9f\x98\x28",
    ];
    for bytes in hopeless {
        assert!(Utf8Validator::new().push(bytes).is_err(), "{bytes:x?}");
        let mut validator = Utf8Validator::new();
        let (last, before) = bytes.split_last().unwrap();
        validator
            .push(before)
            .unwrap_or_else(|_| panic!("{bytes:x?} is not bad before its end"));
        assert!(validator.push(&[*last]).is_err(), "{bytes:x?}");
    }
}

#[test]
fn text_that_ends_inside_a_character_fails_at_the_end() {
    for bytes in [
        &b"\xc3"[..],
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"ab\xf4\x8f\xbf",
    ] {
        let mut validator = Utf8Validator::new();
        validator.push(bytes).unwrap();
        assert!(validator.finish().is_err(), "{bytes:x?}");
    }
}

#[test]
fn finished_validator_starts_a_new_text() {
    let mut validator = Utf8Validator::new();
    validator.push(b"\xc3").unwrap();
    validator.finish().unwrap_err();
    validator.push(b"ok").unwrap();
    assert_eq!(validator.push(b"\xff"), Err(Utf8Error { valid_up_to: 2 }));
}

#[test]
fn failed_push_changes_nothing() {
    let mut validator = Utf8Validator::new();
    validator.push(b"a\xe2\x82").unwrap();
    validator.push(b"\xac!\xff").unwrap_err();
    validator.push(b"\xac").unwrap();
    validator.finish().unwrap();
}
