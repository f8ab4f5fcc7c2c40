//! UDP: datagrams from everywhere, time limits, kills, and what options do.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenwood_runtime::net::UdpSocket;
use greenwood_runtime::{Event, Hub, sleep, spawn, with_timeout};

use crate::limits::processor_time;
use crate::support::{
    EVERYWHERE, OnDrop, any_hub, case, child_with_hubs, deadline, eventually, open_descriptors,
    spawn_on, until_waits,
};

const SHORT: Duration = Duration::from_millis(5);

fn bound() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn datagrams_go_both_ways_from_everywhere() {
    let _deadline = deadline();
    for receiver in EVERYWHERE {
        for sender in EVERYWHERE {
            let (here, address) = bound();
            let echo = receiver.start(move || {
                let mut buffer = [0; 64];
                for _ in 0..50 {
                    let (n, peer) = here.recv_from(&mut buffer).unwrap();
                    here.send_to(&buffer[..n], peer).unwrap();
                }
            });
            sender.run(move || {
                let (there, _) = bound();
                let mut buffer = [0; 64];
                for i in 0..50_u8 {
                    there.send_to(&[i; 9], address).unwrap();
                    assert_eq!(there.recv_from(&mut buffer).unwrap(), (9, address));
                    assert_eq!(buffer[..9], [i; 9]);
                }
            });
            echo();
        }
    }
}

#[test]
fn peeked_datagram_stays_and_a_long_one_loses_its_rest() {
    let _deadline = deadline();
    let (here, address) = bound();
    let (there, sender) = bound();
    there.send_to(b"0123456789", address).unwrap();
    there.send_to(b"", address).unwrap();
    there.send_to(b"next", address).unwrap();
    let mut buffer = [0; 4];
    assert_eq!(here.peek_from(&mut buffer).unwrap(), (4, sender));
    assert_eq!(here.recv_from(&mut buffer).unwrap(), (4, sender));
    assert_eq!(&buffer, b"0123");
    // An empty one is one too.
    assert_eq!(here.recv_from(&mut buffer).unwrap(), (0, sender));
    assert_eq!(here.recv_from(&mut buffer).unwrap(), (4, sender));
    assert_eq!(
        here.try_recv_from(&mut buffer).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn connected_socket_hears_its_peer_only_and_of_refusals() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let ((here, address), (other, _)) = (bound(), bound());
            // No other test uses this address, and could get the port while nobody has it.
            let there = UdpSocket::bind("127.0.0.9:0").unwrap();
            let peer = there.local_addr().unwrap();
            assert_eq!(
                here.peer_addr().unwrap_err().kind(),
                ErrorKind::NotConnected
            );
            here.connect(peer).unwrap();
            assert_eq!(here.peer_addr().unwrap(), peer);
            other.send_to(b"other", address).unwrap();
            there.send_to(b"peer", address).unwrap();
            let mut buffer = [0; 16];
            assert_eq!(here.peek(&mut buffer).unwrap(), 4);
            assert_eq!(here.recv(&mut buffer).unwrap(), 4);
            drop(there);
            here.send(b"anybody there?").unwrap();
            let error = here.recv(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            // The error is gone, and the socket as good as new: it waits, and does not spin.
            here.set_read_timeout(Some(SHORT)).unwrap();
            let error = here.recv(&mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let there = UdpSocket::bind(peer).unwrap();
            there.send_to(b"again", address).unwrap();
            here.set_read_timeout(None).unwrap();
            assert_eq!(here.recv(&mut buffer).unwrap(), 5);
        });
    }
}

/// After an error that was reported as an event a wait must put the greenlet aside: the hub's
/// thread would be busy otherwise.
#[test]
fn wait_after_an_error_takes_no_time_of_the_hub() {
    let _deadline = deadline();
    if case().is_none() {
        child_with_hubs("udp::wait_after_an_error_takes_no_time_of_the_hub", "x", 1).passed();
        return;
    }
    let (here, _) = bound();
    let (there, peer) = bound();
    here.connect(peer).unwrap();
    drop(there);
    let waiting = spawn_on(0, move || {
        here.send(b"x").unwrap();
        assert!(here.recv(&mut [0]).is_err());
        let before = processor_time();
        assert!(with_timeout(Duration::from_millis(500), || here.recv(&mut [0])).is_err());
        processor_time() - before
    });
    let busy = waiting.join().unwrap();
    assert!(busy < Duration::from_millis(250), "{busy:?}");
}

#[test]
fn receive_times_out_and_is_killed() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let (here, address) = bound();
            here.set_timeout(Some(SHORT)).unwrap();
            assert_eq!(here.read_timeout(), Some(SHORT));
            assert_eq!(here.write_timeout(), Some(SHORT));
            let start = Instant::now();
            let error = here.recv_from(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(start.elapsed() >= SHORT);
            here.set_timeout(None).unwrap();
            assert!(with_timeout(SHORT, || here.recv_from(&mut [0])).is_err());
            here.send_to(b"x", address).unwrap();
            assert_eq!(here.recv_from(&mut [0; 9]).unwrap().0, 1);
        });
    }
    for hub in 0..Hub::count() {
        let (here, address) = bound();
        let theirs = here.clone();
        let waiting = spawn_on(hub, move || theirs.recv_from(&mut [0; 9]).map(|it| it.0));
        until_waits(waiting.id());
        waiting.kill();
        assert!(waiting.join().unwrap_err().is_killed());
        here.send_to(b"later", address).unwrap();
        assert_eq!(here.recv_from(&mut [0; 9]).unwrap().0, 5);
    }
}

#[test]
fn second_receiver_of_a_hub_is_refused() {
    let _deadline = deadline();
    let (here, address) = bound();
    let theirs = here.clone();
    let first = spawn_on(0, move || theirs.recv_from(&mut [0; 9]).unwrap().0);
    until_waits(first.id());
    let theirs = here.clone();
    let second = spawn_on(0, move || theirs.recv_from(&mut [0; 9]).unwrap_err().kind());
    assert_eq!(second.join().unwrap(), ErrorKind::ResourceBusy);
    here.send_to(b"x", address).unwrap();
    assert_eq!(first.join().unwrap(), 1);
}

#[test]
fn close_wakes_who_receives() {
    let _deadline = deadline();
    for waiter in EVERYWHERE {
        for closer in EVERYWHERE {
            let (here, address) = bound();
            let theirs = here.clone();
            let waiting = waiter.start_waiting(move || theirs.recv_from(&mut [0]).unwrap_err());
            let closes = here.clone();
            closer.run(move || closes.close());
            assert_eq!(waiting().raw_os_error(), Some(libc_ebadf()));
            let error = here.send_to(b"x", address).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc_ebadf()));
        }
    }
}

/// EBADF, without a dependency for its number.
fn libc_ebadf() -> i32 {
    9
}

#[test]
fn options_are_the_systems() {
    let _deadline = deadline();
    let (here, _) = bound();
    assert!(!here.broadcast().unwrap());
    here.set_broadcast(true).unwrap();
    assert!(here.broadcast().unwrap());
    here.set_ttl(7).unwrap();
    here.set_multicast_ttl_v4(3).unwrap();
    here.set_multicast_loop_v4(false).unwrap();
    let socket = socket2::SockRef::from(&here);
    assert_eq!(socket.ttl_v4().unwrap(), 7);
    assert_eq!(socket.multicast_ttl_v4().unwrap(), 3);
    assert!(!socket.multicast_loop_v4().unwrap());
}

#[test]
fn members_of_a_group_get_what_is_sent_to_it() {
    let _deadline = deadline();
    let group = Ipv4Addr::new(239, 255, 77, 1);
    let here = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = here.local_addr().unwrap().port();
    here.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
        .unwrap();
    let (there, _) = bound();
    there.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    there.send_to(b"all", (group, port)).unwrap();
    let mut buffer = [0; 9];
    here.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(here.recv_from(&mut buffer).unwrap().0, 3);
    here.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
        .unwrap();
}

#[test]
fn names_are_looked_up_and_bad_addresses_refused() {
    let _deadline = deadline();
    let (here, address) = bound();
    let (there, _) = bound();
    spawn(move || {
        there.send_to(b"x", ("localhost", address.port())).ok();
        there
            .send_to(b"y", format!("127.0.0.1:{}", address.port()))
            .unwrap();
        assert!(there.send_to(b"z", "nonsense").is_err());
        let nothing: &[SocketAddr] = &[];
        assert!(there.send_to(b"z", nothing).is_err());
    })
    .join()
    .unwrap();
    let mut buffer = [0];
    while buffer != *b"y" {
        here.recv_from(&mut buffer).unwrap();
    }
    let error = UdpSocket::bind(address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains("can't bind to 127.0.0.1"));
}

#[test]
fn greenlet_that_unwinds_receives_what_there_is() {
    let _deadline = deadline();
    let (here, address) = bound();
    here.send_to(b"x", address).unwrap();
    let (results, result) = std::sync::mpsc::channel();
    let started = Arc::new(Event::new());
    let go = Arc::clone(&started);
    let greenlet = spawn(move || {
        let _last = OnDrop(|| {
            let first = here.recv_from(&mut [0]).unwrap().0;
            let second = here.recv_from(&mut [0]).unwrap_err().kind();
            results.send((first, second)).unwrap();
        });
        go.set();
        sleep(Duration::MAX);
    });
    started.wait();
    greenlet.kill();
    assert_eq!(result.recv().unwrap(), (1, ErrorKind::WouldBlock));
}

#[test]
fn kills_and_time_outs_leave_nothing_behind() {
    let _deadline = deadline();
    if case().is_none() {
        for hubs in [1, 2, 4] {
            child_with_hubs("udp::kills_and_time_outs_leave_nothing_behind", "x", hubs).passed();
        }
        return;
    }
    let run = || {
        for i in 0..300 {
            let (here, address) = bound();
            let waiting = spawn_on(any_hub(i), {
                let here = here.clone();
                move || here.recv_from(&mut [0]).map(|it| it.0)
            });
            match i % 3 {
                0 => waiting.kill(),
                1 => {
                    here.send_to(b"x", address).unwrap();
                    assert_eq!(waiting.join().unwrap().unwrap(), 1);
                }
                _ => {
                    here.close();
                    assert!(waiting.join().unwrap().is_err());
                }
            }
        }
        eventually("all have ended", || Hub::greenlets() == 0);
    };
    run();
    let before = open_descriptors();
    run();
    assert_eq!(open_descriptors(), before);
}

#[test]
fn a_name_is_sent_to_at_an_address_of_the_sockets_family() {
    let _deadline = deadline();
    let (here, address) = bound();
    let (there, _) = bound();
    let addresses: [SocketAddr; 2] = [
        format!("[::1]:{}", address.port()).parse().unwrap(),
        address,
    ];
    assert_eq!(there.send_to(b"x", &addresses[..]).unwrap(), 1);
    here.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(here.recv(&mut [0; 9]).unwrap(), 1);
}
