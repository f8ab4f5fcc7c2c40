//! Unix sockets: paths, abstract names, credentials, and queues that are full.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use greenwood_runtime::net::{UnixDatagram, UnixListener, UnixStream};
use greenwood_runtime::{Hub, StreamServer, spawn, with_timeout};

use crate::support::{
    EVERYWHERE, any_hub, case, child_with_hubs, deadline, eventually, open_descriptors, spawn_on,
    until_waits,
};

const SHORT: Duration = Duration::from_millis(5);
const EBADF: i32 = 9;

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("greenwood-unix-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// An abstract name that no other test has.
fn abstract_name() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from_abstract_name(format!("greenwood-{}-{number}", std::process::id())).unwrap()
}

/// A socket of that kind whose path fills the system's address: it has no room for the zero at the
/// end, for which std asks.
fn of_long_path(kind: socket2::Type, directory: &Directory) -> socket2::Socket {
    let start = directory.path("long-");
    let start = start.as_os_str().as_bytes();
    let make = |address: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        let address = address.cast::<libc::sockaddr_un>();
        // SAFETY: the storage has room for every kind of address, and is zeroed.
        let (address, length) = unsafe { (&mut *address, &mut *length) };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        let filled = start.iter().chain(std::iter::repeat(&b'x'));
        for (to, &from) in address.sun_path.iter_mut().zip(filled) {
            *to = from as libc::c_char;
        }
        *length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        Ok(())
    };
    // SAFETY: `make` writes a whole address, and its length.
    let ((), address) = unsafe { socket2::SockAddr::try_init(make) }.unwrap();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, kind, None).unwrap();
    socket.bind(&address).unwrap();
    socket
}

#[test]
fn peer_of_a_path_that_std_has_no_room_for_is_one_without_an_address() {
    let _deadline = deadline();
    let directory = Directory::new();
    let path = directory.path("socket");
    let to = socket2::SockAddr::unix(&path).unwrap();
    let server = StreamServer::unix(&path, |mut stream, peer| {
        assert!(peer.is_unnamed() && stream.peer_addr().unwrap().is_unnamed());
        stream.write_all(b"served").unwrap();
    })
    .unwrap();
    server.start().unwrap();
    let client = of_long_path(socket2::Type::STREAM, &directory);
    client.connect(&to).unwrap();
    let mut client = UnixStream::from_fd(client.into()).unwrap();
    assert!(client.local_addr().unwrap().is_unnamed());
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "served");
    server.stop(Duration::ZERO);

    let directory = Directory::new();
    let path = directory.path("socket");
    let here = UnixDatagram::bind(&path).unwrap();
    let there = of_long_path(socket2::Type::DGRAM, &directory);
    there
        .send_to(b"hello", &socket2::SockAddr::unix(&path).unwrap())
        .unwrap();
    let (n, sender) = here.recv_from(&mut [0; 8]).unwrap();
    assert!(n == 5 && sender.is_unnamed());
}

#[test]
fn connections_carry_much_both_ways() {
    let _deadline = deadline();
    for reader in EVERYWHERE {
        for writer in EVERYWHERE {
            let (here, there) = UnixStream::pair().unwrap();
            let mut ends = Vec::new();
            for (mut from, mut to) in [(here.clone(), there.clone()), (there, here)] {
                ends.push(writer.start(move || {
                    from.write_all(&vec![7; 1 << 20]).unwrap();
                    from.shutdown(Shutdown::Write).unwrap();
                }));
                ends.push(reader.start(move || {
                    let mut all = Vec::new();
                    to.read_to_end(&mut all).unwrap();
                    assert_eq!(all.len(), 1 << 20);
                }));
            }
            ends.into_iter().for_each(|end| end());
        }
    }
}

#[test]
fn listener_at_a_path_accepts_and_removes_its_file() {
    let _deadline = deadline();
    let directory = Directory::new();
    let path = directory.path("s");
    for from in EVERYWHERE {
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        let theirs = path.clone();
        let client = from.start(move || {
            let mut stream = UnixStream::connect(&theirs).unwrap();
            let peer = stream.peer_addr().unwrap();
            assert_eq!(peer.as_pathname(), Some(&*theirs));
            stream.write_all(b"hello").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let (mut stream, peer) = listener.accept().unwrap();
        assert!(peer.is_unnamed());
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        drop(stream);
        assert_eq!(client(), "HELLO");
        drop(listener);
        assert!(!path.exists());
        let error = UnixStream::connect(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

#[test]
fn abstract_names_need_no_file() {
    let _deadline = deadline();
    let name = abstract_name();
    let listener = UnixListener::bind_addr(&name).unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(address.as_abstract_name(), name.as_abstract_name());
    let theirs = name.clone();
    let client = spawn(move || UnixStream::connect_addr(&theirs, None).unwrap());
    let (stream, _) = listener.accept().unwrap();
    let credentials = client.join().unwrap().peer_credentials().unwrap();
    assert_eq!(credentials.pid as u32, std::process::id());
    assert_eq!(credentials, stream.peer_credentials().unwrap());
    drop(listener);
    let error = UnixStream::connect_addr(&name, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let nameless = UnixStream::pair().unwrap().0.local_addr().unwrap();
    assert!(nameless.is_unnamed());
    let error = UnixStream::connect_addr(&nameless, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn path_is_taken_over_only_from_the_dead() {
    let _deadline = deadline();
    let directory = Directory::new();
    let path = directory.path("s");
    // In use.
    let first = UnixListener::replace(&path).unwrap();
    for error in [UnixListener::bind(&path), UnixListener::replace(&path)] {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(
            error.to_string().contains(&*path.to_string_lossy()),
            "{error}"
        );
    }
    drop(first);
    // Left behind: std's listener leaves its file.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(UnixListener::bind(&path).is_err());
    let listener = UnixListener::replace(&path).unwrap();
    assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
    assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 1);
    let _client = UnixStream::connect(&path).unwrap();
    listener.accept().unwrap();
    // A listener whose path has been taken over leaves it alone.
    std::fs::remove_file(&path).unwrap();
    let next = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
    drop(next);
    assert!(!path.exists());
    // Not a socket.
    std::fs::write(&path, "precious").unwrap();
    let error = UnixListener::replace(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let long = directory.path(&"x".repeat(200));
    assert!(UnixListener::bind(long).is_err());
}

#[test]
fn one_of_many_replaces_a_stale_path() {
    let _deadline = deadline();
    let directory = Directory::new();
    for round in 0..20 {
        let path = directory.path(&format!("s{round}"));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let racers: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || UnixListener::replace(path).ok())
            })
            .collect();
        let listeners: Vec<_> = racers
            .into_iter()
            .filter_map(|racer| racer.join().unwrap())
            .collect();
        assert_eq!(listeners.len(), 1);
        UnixStream::connect(&path).unwrap();
    }
    assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 0);
}

#[test]
fn connect_waits_for_room_in_the_backlog() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let directory = Directory::new();
        let path = directory.path("s");
        let listener = UnixListener::bind(&path).unwrap();
        socket2::SockRef::from(&listener).listen(1).unwrap();
        let mut clients = Vec::new();
        let error = loop {
            match UnixStream::connect_timeout(&path, SHORT) {
                Ok(stream) => clients.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        let theirs = path.clone();
        assert!(with_timeout(SHORT, || UnixStream::connect(&theirs)).is_err());
        let late = from.start_waiting(move || UnixStream::connect(&path).unwrap());
        for _ in 0..=clients.len() {
            listener.accept().unwrap();
        }
        drop(late());
    }
}

#[test]
fn accept_times_out_and_is_closed() {
    let _deadline = deadline();
    for waiter in EVERYWHERE {
        for closer in EVERYWHERE {
            let listener = Arc::new(UnixListener::bind_addr(&abstract_name()).unwrap());
            let theirs = Arc::clone(&listener);
            let late = waiter.run(move || theirs.accept_timeout(SHORT).unwrap_err().kind());
            assert_eq!(late, ErrorKind::TimedOut);
            let theirs = Arc::clone(&listener);
            let waiting = waiter.start_waiting(move || theirs.accept().unwrap_err().raw_os_error());
            let closes = Arc::clone(&listener);
            closer.run(move || closes.close());
            assert_eq!(waiting(), Some(EBADF));
        }
    }
}

#[test]
fn close_wakes_both_directions() {
    let _deadline = deadline();
    for waiter in EVERYWHERE {
        for closer in EVERYWHERE {
            let (here, there) = UnixStream::pair().unwrap();
            while here.try_write(&[0; 65_536]).is_ok() {}
            let (reads, writes) = (here.clone(), here.clone());
            let reader = waiter.start_waiting(move || (&reads).read(&mut [0]).unwrap_err());
            let writer = waiter.start_waiting(move || (&writes).write(&[0]).unwrap_err());
            closer.run(move || here.close());
            assert_eq!(reader().raw_os_error(), Some(EBADF));
            assert_eq!(writer().raw_os_error(), Some(EBADF));
            // The peer sees the end, behind what was sent.
            let mut there = there;
            let mut rest = Vec::new();
            there.read_to_end(&mut rest).unwrap();
            assert!(!rest.is_empty());
        }
    }
}

#[test]
fn datagrams_are_neither_lost_nor_reordered() {
    let _deadline = deadline();
    let directory = Directory::new();
    for (round, receiver) in EVERYWHERE.into_iter().enumerate() {
        for (again, sender) in EVERYWHERE.into_iter().enumerate() {
            let path = directory.path(&format!("{round}-{again}"));
            let here = UnixDatagram::bind(&path).unwrap();
            let receiving = receiver.start(move || {
                let mut buffer = [0; 8];
                for i in 0..400_u64 {
                    assert_eq!(here.recv(&mut buffer).unwrap(), 8);
                    assert_eq!(u64::from_le_bytes(buffer), i);
                }
            });
            sender.run(move || {
                let there = UnixDatagram::unbound().unwrap();
                // The queue holds some ten: one waits most of the time. First without a peer, then
                // with one.
                for i in 0..200_u64 {
                    there.send_to(&i.to_le_bytes(), &path).unwrap();
                }
                there.connect(&path).unwrap();
                for i in 200..400_u64 {
                    there.send(&i.to_le_bytes()).unwrap();
                }
            });
            receiving();
        }
    }
}

#[test]
fn datagram_sender_of_a_full_queue_is_killed_and_timed_out() {
    let _deadline = deadline();
    let (here, there) = UnixDatagram::pair().unwrap();
    there.set_write_timeout(Some(SHORT)).unwrap();
    let error = loop {
        if let Err(error) = there.send(b"x") {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    there.set_write_timeout(None).unwrap();
    for hub in 0..Hub::count() {
        let theirs = there.clone();
        let sending = spawn_on(hub, move || theirs.send(b"y"));
        until_waits(sending.id());
        sending.kill();
        assert!(sending.join().unwrap_err().is_killed());
    }
    let mut buffer = [0];
    while here.try_recv_from(&mut buffer).is_ok() {
        assert_eq!(&buffer, b"x");
    }
    // Without a peer: what is waited for has no event.
    let name = abstract_name();
    let full = UnixDatagram::bind_addr(&name).unwrap();
    let lone = UnixDatagram::unbound().unwrap();
    lone.set_write_timeout(Some(SHORT)).unwrap();
    while lone.send_to_addr(b"x", &name).is_ok() {}
    lone.set_write_timeout(None).unwrap();
    let theirs = lone.clone();
    let to = name.clone();
    let sending = spawn(move || theirs.send_to_addr(b"x", &to).unwrap());
    until_waits(sending.id());
    assert!(!sending.ready());
    full.recv(&mut [0]).unwrap();
    assert_eq!(sending.join().unwrap(), 1);
    let closes = full.clone();
    let receiving = spawn(move || while full.recv(&mut [0]).is_ok() {});
    until_waits(receiving.id());
    closes.close();
    receiving.join().unwrap();
}

#[test]
fn datagrams_know_who_has_sent_them() {
    let _deadline = deadline();
    let (here, there) = (abstract_name(), abstract_name());
    let (ours, theirs) = (
        UnixDatagram::bind_addr(&here).unwrap(),
        UnixDatagram::bind_addr(&there).unwrap(),
    );
    ours.send_to_addr(b"hello", &there).unwrap();
    let mut buffer = [0; 9];
    let (n, from) = theirs.peek_from(&mut buffer).unwrap();
    assert_eq!((n, from.as_abstract_name()), (5, here.as_abstract_name()));
    let (n, from) = theirs.recv_from(&mut buffer).unwrap();
    theirs.send_to_addr(&buffer[..n], &from).unwrap();
    assert_eq!(ours.recv(&mut buffer).unwrap(), 5);
    let nameless = UnixDatagram::unbound().unwrap();
    nameless.connect_addr(&there).unwrap();
    nameless.send(b"x").unwrap();
    assert!(theirs.recv_from(&mut buffer).unwrap().1.is_unnamed());
}

#[test]
fn nothing_is_left_behind() {
    let _deadline = deadline();
    if case().is_none() {
        for hubs in [1, 2, 4] {
            child_with_hubs("unix::nothing_is_left_behind", "x", hubs).passed();
        }
        return;
    }
    let run = || {
        for i in 0..200 {
            let (here, there) = UnixStream::pair().unwrap();
            let waiting = spawn_on(any_hub(i), {
                let here = here.clone();
                move || (&here).read(&mut [0])
            });
            match i % 4 {
                0 => waiting.kill(),
                1 => drop(there),
                2 => here.close(),
                _ => assert_eq!(there.try_write(b"x").unwrap(), 1),
            }
            drop(waiting.join());
        }
        eventually("all have ended", || Hub::greenlets() == 0);
    };
    run();
    let before = open_descriptors();
    run();
    assert_eq!(open_descriptors(), before);
}

/// What is passed along with `bytes`, in a message of their own: the standard input, by SCM_RIGHTS.
fn send_with_descriptor(stream: &UnixStream, bytes: &[u8]) {
    // A cmsghdr and a descriptor: the length without padding, SOL_SOCKET, SCM_RIGHTS.
    let mut control = Vec::new();
    control.extend(20usize.to_ne_bytes());
    control.extend([1i32, 1, 0, 0].iter().flat_map(|it| it.to_ne_bytes()));
    let buffers = [std::io::IoSlice::new(bytes)];
    let message = socket2::MsgHdr::new()
        .with_buffers(&buffers)
        .with_control(&control);
    let sent = socket2::SockRef::from(stream).sendmsg(&message, 0).unwrap();
    assert_eq!(sent, bytes.len());
}

#[test]
fn what_is_behind_a_descriptor_that_is_passed_is_read() {
    let _deadline = deadline();
    for (from, unregistered) in EVERYWHERE
        .into_iter()
        .flat_map(|it| [(it, false), (it, true)])
    {
        let (mut here, there) = UnixStream::pair().unwrap();
        if unregistered {
            here = here.unregistered();
        }
        // The system ends a read at such a message, whatever room there is.
        (&there).write_all(b"one").unwrap();
        send_with_descriptor(&there, b"two");
        (&there).write_all(b"three").unwrap();
        let all = from.run(move || {
            let mut all = Vec::new();
            here.set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            while all.len() < 11 {
                let mut buffer = [0; 64];
                let n = here.read(&mut buffer).unwrap();
                all.extend_from_slice(&buffer[..n]);
            }
            all
        });
        assert_eq!(all, b"onetwothree");
    }
}

#[test]
fn waits_of_a_closed_socket_fail() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let (here, _there) = UnixStream::pair().unwrap();
        let theirs = here.clone();
        let waiting = from.start_waiting(move || theirs.wait_readable().unwrap_err());
        here.close();
        assert_eq!(waiting().raw_os_error(), Some(EBADF));
        from.run(move || {
            assert_eq!(
                here.wait_readable().unwrap_err().raw_os_error(),
                Some(EBADF)
            );
            assert_eq!(
                here.wait_writable().unwrap_err().raw_os_error(),
                Some(EBADF)
            );
        });
    }
}
