//! The closing handshake.

use greenwood_websocket::proto::{
    CloseCode, CloseFrame, CloseHandshake, CloseState, Disconnect, EncodeError, ProtocolError,
    parse_close_payload,
};

fn frame(code: u16, reason: &str) -> CloseFrame {
    CloseFrame::new(CloseCode::from(code), reason)
}

#[test]
fn open_connection_may_send_and_has_not_ended() {
    let closing = CloseHandshake::new();
    assert_eq!(closing.state(), CloseState::Open);
    assert!(closing.may_send_data());
    assert!(!closing.is_finished());
    assert_eq!(closing.disconnect(), None);
}

#[test]
fn close_of_the_peer_is_answered_with_its_code_alone() {
    let mut closing = CloseHandshake::new();
    let reply = closing.on_close_received(Some(frame(4001, "bye")));
    assert_eq!(reply, Some(4001u16.to_be_bytes().to_vec()));
    assert_eq!(closing.state(), CloseState::CloseReceived);
    assert!(closing.is_finished());
    assert!(!closing.may_send_data());
    assert_eq!(
        closing.disconnect(),
        Some(&Disconnect::PeerClosed(Some(frame(4001, "bye"))))
    );
}

#[test]
fn close_without_a_code_is_answered_without_one() {
    let mut closing = CloseHandshake::new();
    assert_eq!(closing.on_close_received(None), Some(vec![]));
    let end = closing.disconnect().unwrap();
    assert_eq!(end.close_code(), CloseCode::NO_STATUS);
    assert!(end.is_clean());
}

#[test]
fn every_code_that_can_be_received_is_echoed() {
    for code in 0..=u16::MAX {
        let Ok(Some(received)) = parse_close_payload(&code.to_be_bytes()) else {
            continue;
        };
        let reply = CloseHandshake::new().on_close_received(Some(received));
        assert_eq!(reply, Some(code.to_be_bytes().to_vec()));
    }
}

#[test]
fn second_close_of_the_peer_is_not_answered() {
    let mut closing = CloseHandshake::new();
    closing.on_close_received(Some(frame(1000, "first")));
    assert_eq!(closing.on_close_received(Some(frame(1001, "second"))), None);
    assert_eq!(closing.disconnect().unwrap().reason(), "first");
}

#[test]
fn own_close_waits_for_the_answer() {
    let mut closing = CloseHandshake::new();
    let sent = closing.start_close(CloseCode::NORMAL, "done").unwrap();
    assert_eq!(sent, Some(b"\x03\xe8done".to_vec()));
    assert_eq!(closing.state(), CloseState::CloseSent);
    assert!(!closing.may_send_data());
    assert!(!closing.is_finished());
    assert_eq!(closing.on_close_received(Some(frame(1000, ""))), None);
    assert_eq!(closing.state(), CloseState::Closed);
    assert!(closing.is_finished());
    assert_eq!(
        closing.disconnect(),
        Some(&Disconnect::LocalClosed(frame(1000, "done")))
    );
}

#[test]
fn own_close_is_sent_once() {
    let mut closing = CloseHandshake::new();
    closing.start_close(CloseCode::NORMAL, "").unwrap().unwrap();
    assert_eq!(closing.start_close(CloseCode::GOING_AWAY, ""), Ok(None));
    closing.on_close_received(None);
    assert_eq!(
        closing.disconnect().unwrap().close_code(),
        CloseCode::NORMAL
    );
    assert_eq!(closing.start_close(CloseCode::GOING_AWAY, ""), Ok(None));
}

#[test]
fn own_close_after_the_peers_is_too_late() {
    let mut closing = CloseHandshake::new();
    closing.on_close_received(None);
    assert_eq!(closing.start_close(CloseCode::NORMAL, ""), Ok(None));
}

#[test]
fn close_that_must_not_be_sent_changes_nothing() {
    let mut closing = CloseHandshake::new();
    let error = EncodeError::InvalidCloseCode(CloseCode::ABNORMAL);
    assert_eq!(closing.start_close(CloseCode::ABNORMAL, ""), Err(error));
    let error = EncodeError::ReasonTooLong(124);
    assert_eq!(
        closing.start_close(CloseCode::NORMAL, &"x".repeat(124)),
        Err(error)
    );
    assert!(closing.may_send_data());
    assert!(
        closing
            .start_close(CloseCode::NORMAL, &"x".repeat(123))
            .unwrap()
            .is_some()
    );
}

#[test]
fn protocol_error_sends_its_code_and_ends() {
    let mut closing = CloseHandshake::new();
    let error = ProtocolError::ReservedOpCode(3);
    assert_eq!(
        closing.on_protocol_error(&error),
        Some(1002u16.to_be_bytes().to_vec())
    );
    assert_eq!(closing.state(), CloseState::Closed);
    assert_eq!(
        closing.disconnect(),
        Some(&Disconnect::ProtocolError(error))
    );
    assert_eq!(closing.on_close_received(None), None);
    assert_eq!(closing.on_protocol_error(&error), None);
}

#[test]
fn passed_limit_is_told_from_a_protocol_error() {
    let mut closing = CloseHandshake::new();
    let error = ProtocolError::MessageTooLarge { len: 2, max: 1 };
    assert_eq!(
        closing.on_protocol_error(&error),
        Some(1009u16.to_be_bytes().to_vec())
    );
    assert_eq!(
        closing.disconnect(),
        Some(&Disconnect::LimitExceeded(error))
    );
}

#[test]
fn protocol_error_after_the_own_close_sends_nothing() {
    let mut closing = CloseHandshake::new();
    closing.start_close(CloseCode::NORMAL, "").unwrap();
    let error = ProtocolError::ReservedOpCode(3);
    assert_eq!(closing.on_protocol_error(&error), None);
    assert!(closing.is_finished());
    assert_eq!(
        closing.disconnect(),
        Some(&Disconnect::ProtocolError(error))
    );
}

#[test]
fn transport_that_ends_without_a_close_is_1006() {
    let mut closing = CloseHandshake::new();
    closing.on_transport_end(Disconnect::TransportEnd);
    assert!(closing.is_finished());
    let end = closing.disconnect().unwrap();
    assert_eq!(end.close_code(), CloseCode::ABNORMAL);
    assert!(!end.is_clean());
}

#[test]
fn transport_that_ends_after_the_handshake_keeps_the_cause() {
    let mut closing = CloseHandshake::new();
    closing.on_close_received(Some(frame(1001, "")));
    closing.on_transport_end(Disconnect::TransportError);
    assert_eq!(closing.state(), CloseState::Closed);
    assert_eq!(
        closing.disconnect().unwrap().close_code(),
        CloseCode::GOING_AWAY
    );
}

#[test]
fn unanswered_close_is_1006_and_not_sent_again() {
    let mut closing = CloseHandshake::new();
    closing.start_close(CloseCode::NORMAL, "").unwrap();
    assert_eq!(closing.fail(Disconnect::CloseTimeout), None);
    assert_eq!(
        closing.disconnect().unwrap().close_code(),
        CloseCode::ABNORMAL
    );
}

#[test]
fn every_cause_sends_its_code_if_it_may() {
    let causes = [
        (Disconnect::TransportEnd, None),
        (Disconnect::TransportError, None),
        (Disconnect::CloseTimeout, None),
        (Disconnect::PingTimeout, Some(1011u16)),
        (Disconnect::IdleTimeout, Some(1001)),
        (Disconnect::SlowConsumer, Some(1008)),
        (Disconnect::SlowSubscriber, Some(1013)),
        (Disconnect::ApplicationError, Some(1011)),
    ];
    for (cause, code) in causes {
        let mut closing = CloseHandshake::new();
        let sent = closing.fail(cause.clone());
        assert_eq!(
            sent,
            code.map(|code| code.to_be_bytes().to_vec()),
            "{cause}"
        );
        assert_eq!(closing.disconnect(), Some(&cause));
        assert!(closing.is_finished());
    }
}

#[test]
fn reason_of_the_peer_is_kept_for_the_application() {
    let mut closing = CloseHandshake::new();
    closing.on_close_received(Some(frame(1000, "lunch")));
    let end = closing.disconnect().unwrap();
    assert_eq!(end.reason(), "lunch");
    assert_eq!(
        end.to_string(),
        "closed by the peer, 1000 (normal closure): lunch"
    );
}
