//! The Sec-WebSocket-Extensions header, and what is made of permessage-deflate in it by either side.
#![no_main]

use greenwood_fuzz::byte;
use greenwood_websocket::proto::{Deflate, Extension};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let (kind, bits) = (byte(&mut data), byte(&mut data));
    let settings = Deflate::default()
        .context_takeover(kind & 1 != 0, kind & 2 != 0)
        .window_bits(9 + bits % 7, 8 + bits / 16 % 8);
    let Ok(list) = Extension::parse_list(data) else {
        return;
    };
    // What was understood, written down, means the same.
    let written: Vec<String> = list.iter().map(written).collect();
    assert_eq!(
        Extension::parse_list(written.join(",").as_bytes()).as_ref(),
        Ok(&list)
    );

    if let Some(agreed) = settings.accept(&list) {
        let answer = Extension::parse_list(agreed.answer().as_bytes()).expect("a list");
        assert_eq!(answer.len(), 1);
        assert!(agreed.server_max_window_bits <= settings.compress_window_bits);
        assert!(agreed.server_no_context_takeover || settings.compress_with_context);
        assert!(agreed.client_no_context_takeover || settings.decompress_with_context);
        assert!((8..=15).contains(&agreed.server_max_window_bits));
        assert!((8..=15).contains(&agreed.client_max_window_bits));
    }
    for answer in &list {
        if let Some(agreed) = settings.accepted(answer) {
            assert!(agreed.server_max_window_bits <= settings.decompress_window_bits);
            assert!(agreed.client_max_window_bits <= settings.compress_window_bits.max(8));
            assert!(agreed.client_no_context_takeover || settings.compress_with_context);
        }
    }
});

fn written(extension: &Extension) -> String {
    let mut text = extension.name.clone();
    for (name, value) in &extension.parameters {
        text += "; ";
        text += name;
        if let Some(value) = value {
            text += "=\"";
            text += value;
            text += "\"";
        }
    }
    text
}
