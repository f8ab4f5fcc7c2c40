//! Any bytes, to either side, with and without compression: the events do not depend on the cuts,
//! and the memory not on what the peer announces.
#![no_main]

use greenwood_fuzz::{
    Cuts, byte,
    websocket::{Setup, check_memory, outcome},
};
use greenwood_websocket::proto::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let setup = Setup::of(byte(&mut data), byte(&mut data));
    let cuts = Cuts::take(&mut data);
    let (events, error) = outcome(setup, data, cuts.clone());
    for event in &events {
        match event {
            Event::Message(message) => assert!(message.len() <= setup.limits.max_message_size),
            Event::Ping(payload) | Event::Pong(payload) => assert!(payload.len() <= 125),
            Event::Close(Some(frame)) => assert!(frame.code.is_allowed_on_wire()),
            Event::Close(None) => {}
            Event::Part(_) => panic!("a part where whole messages are asked for"),
        }
    }
    if let Some(error) = error {
        assert!(error.close_code().is_allowed_on_wire());
        assert!(!error.to_string().is_empty());
    }
    check_memory(setup, data, cuts);
});
