//! A WebSocket's URL: whatever is in it, the request that comes of it has no line that is not ours.
#![no_main]

use greenwood_websocket::proto::{ClientHandshake, Url};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| {
    let url = match Url::parse(data) {
        Ok(url) => url,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(url.port() != 0 && !url.host().is_empty() && url.target().starts_with('/'));
    // As it is shown, it means the same, but for the secret.
    let shown = Url::parse(&url.to_string()).expect("a URL");
    assert_eq!(
        (
            shown.is_secure(),
            shown.host(),
            shown.port(),
            shown.target()
        ),
        (url.is_secure(), url.host(), url.port(), url.target())
    );
    assert_eq!(shown.authorization(), None);

    let handshake = ClientHandshake::new(url.clone(), [0; 16]);
    let request = String::from_utf8(handshake.request()).expect("text");
    let lines: Vec<&str> = request
        .strip_suffix("\r\n\r\n")
        .expect("an end")
        .split("\r\n")
        .collect();
    assert_eq!(
        lines.len(),
        7 + usize::from(url.authorization().is_some()),
        "{request}"
    );
    for line in &lines {
        assert!(
            line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{line:?}"
        );
    }
    assert_eq!(lines[0].split(' ').count(), 3, "{request}");
    let host = lines[1]
        .strip_prefix("Host: ")
        .expect("the Host comes first");
    assert!(!host.contains([' ', '/', '@']), "{host}");
});
