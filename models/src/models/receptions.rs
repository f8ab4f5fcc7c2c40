//! Who waits for the peer of a WebSocket, and its end.

use std::sync::Arc;

use super::Model;
use crate::event::Event;
use crate::switch;
use crate::thread_parker::ThreadParker;
use crate::websocket::reception::{CLOSER, RECEIVER, Reception};

pub(super) const MODELS: &[Model] = &[
    ("who_waits_for_the_peer_learns_of_the_end", end),
    ("who_waits_for_the_place_is_told_when_it_is_left", leave),
    ("a_parked_connection_has_the_place_or_is_called", parked),
];

fn reception() -> Arc<Reception> {
    let reception = Reception::new();
    // They are made by their first use, here.
    assert!(!reception.is_taken() && !reception.is_finished());
    Arc::new(reception)
}

/// The shutdown of a socket is a flag that stays, by which who waits for the socket is woken. It is
/// made only if somebody waits.
fn end() {
    let (reception, socket) = (reception(), Arc::new(ThreadParker::default()));
    let (theirs, shutdown) = (Arc::clone(&reception), Arc::clone(&socket));
    let ending = switch::spawn_thread(move || {
        theirs.finish();
        if theirs.is_taken() {
            shutdown.unpark();
        }
    });
    reception.take(RECEIVER).unwrap();
    if !reception.is_finished() {
        socket.park(None);
    }
    reception.leave();
    ending.join();
    assert!(reception.is_finished() && !reception.is_taken());
}

fn leave() {
    let (reception, left) = (reception(), Arc::new(Event::new()));
    assert!(!left.is_set());
    reception.take(RECEIVER).unwrap();
    let (theirs, told) = (Arc::clone(&reception), Arc::clone(&left));
    let closing = switch::spawn_thread(move || {
        if theirs.await_leave() {
            assert!(told.wait());
        }
        theirs.take(CLOSER).unwrap();
        theirs.leave();
    });
    if reception.leave().waited {
        left.set();
    }
    closing.join();
    assert!(!reception.is_taken());
}

/// By who has had it, who then gives it to nobody.
fn parked() {
    let reception = reception();
    reception.take(CLOSER).unwrap();
    let theirs = Arc::clone(&reception);
    let closing = switch::spawn_thread(move || theirs.leave().parked);
    let holds = reception.take_for_parked();
    let called = closing.join();
    assert!(holds != called);
    assert_eq!(reception.is_taken(), holds);
}
