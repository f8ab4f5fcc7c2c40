//! Chunked bodies: the same at every cut of input and output, and never beyond the limits.
#![no_main]

use greenwood_fuzz::{Cuts, byte, http::small_limits};
use greenwood_wsgi::proto::{ChunkedDecoder, Limits};
use libfuzzer_sys::fuzz_target;

/// The body if it ended, how much was taken, and the status that refused it.
type Outcome = (Option<Vec<u8>>, usize, Option<u16>);

fn run(data: &[u8], limits: &Limits, room: usize, mut next_size: impl FnMut() -> usize) -> Outcome {
    let mut decoder = ChunkedDecoder::new(limits);
    let mut output = vec![0; room];
    let (mut body, mut at, mut end) = (Vec::new(), 0, 0);
    while !decoder.is_done() {
        let done = match decoder.decode(&data[at..end], &mut output) {
            Ok(done) => done,
            Err(error) => return (None, 0, Some(error.status_hint())),
        };
        assert!(done.consumed <= end - at && done.produced <= room);
        body.extend_from_slice(&output[..done.produced]);
        assert!(body.len() as u64 <= limits.max_body_size);
        at += done.consumed;
        if at == end && !decoder.is_done() {
            if end == data.len() {
                return (None, at, None);
            }
            end = data.len().min(end.saturating_add(next_size()));
        } else {
            assert!(done.consumed > 0 || decoder.is_done(), "it does not get on");
        }
    }
    assert!(body.len() <= at);
    (Some(body), at, None)
}

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let kind = byte(&mut data);
    let limits = if kind & 1 == 0 {
        Limits::default()
    } else {
        small_limits()
    };
    let mut cuts = Cuts::take(&mut data);
    let whole = run(data, &limits, data.len() + 1, || usize::MAX);
    assert_eq!(run(data, &limits, 1, || 1), whole, "byte by byte (left)");
    let room = 1 + usize::from(kind / 2);
    assert_eq!(
        run(data, &limits, room, || cuts.next_size()),
        whole,
        "in pieces (left)"
    );
});
