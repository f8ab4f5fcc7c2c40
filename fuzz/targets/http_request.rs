//! The requests of one HTTP connection: heads, framing and bodies, the same at every cut.
#![no_main]

use greenwood_fuzz::{
    Cuts, byte,
    http::{outcome, small_limits},
};
use greenwood_wsgi::proto::Limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let limits = match byte(&mut data) & 1 {
        0 => Limits::default(),
        _ => small_limits(),
    };
    let cuts = Cuts::take(&mut data);
    // A line that has not ended may be judged early or late, depending on the cuts.
    let bytes = [data, b"\r\n"].concat();
    let (requests, _) = outcome(&bytes, &limits, cuts);
    for request in &requests {
        let names: Vec<_> = request
            .headers
            .iter()
            .map(|(name, _)| name.to_lowercase())
            .collect();
        let count = |name: &str| names.iter().filter(|other| *other == name).count();
        // What two servers might read differently does not get here.
        assert!(count("host") <= 1 && count("content-length") <= 1);
        assert!(count("content-length") == 0 || count("transfer-encoding") == 0);
        assert!(names.len() <= limits.max_headers);
        for (_, value) in &request.headers {
            assert!(
                !value
                    .iter()
                    .any(|byte| matches!(byte, b'\r' | b'\n' | b'\0'))
            );
        }
    }
});
