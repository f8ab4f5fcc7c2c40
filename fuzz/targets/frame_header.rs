//! The header of a WebSocket frame: no byte too many is asked for, no error comes late or changes,
//! and what is read is what was written.
#![no_main]

use greenwood_websocket::proto::{FrameHeader, MAX_HEADER};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match FrameHeader::parse(data) {
        Ok(None) => {
            assert!(data.len() < MAX_HEADER);
            for end in 0..data.len() {
                assert_eq!(FrameHeader::parse(&data[..end]), Ok(None));
            }
        }
        Ok(Some((header, used))) => {
            assert!(used <= data.len().min(MAX_HEADER));
            for end in 0..used {
                assert_eq!(FrameHeader::parse(&data[..end]), Ok(None));
            }
            assert_eq!(FrameHeader::parse(&data[..used]), Ok(Some((header, used))));
            assert!(header.payload_len >> 63 == 0);
            assert!(!header.opcode.is_control() || header.fin && header.payload_len <= 125);
            // The shortest form is the only one, so there is one way to write it.
            let (bytes, length) = header.encode();
            assert_eq!(&bytes[..length], &data[..used]);
        }
        Err(error) => {
            let first = (0..=data.len()).find(|&end| FrameHeader::parse(&data[..end]).is_err());
            for end in first.expect("the whole is one")..data.len() {
                assert_eq!(FrameHeader::parse(&data[..end]), Err(error));
            }
            assert_eq!(error.close_code().as_u16(), 1002);
        }
    }
});
