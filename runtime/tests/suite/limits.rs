//! The system's limits: one spawn or one call fails, with an error that names the setting, and the
//! process lives.

use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{
    Builder, Detached, Event, Greenlet, Hub, JoinError, SpawnError, StreamServer, joinall, sleep,
    spawn, spawn_local,
};

use crate::support::{
    any_hub, case, child, child_with_hubs, deadline_of, eventually, open_descriptors, spawn_on,
    waiting,
};

const LIMIT: Duration = Duration::from_secs(240);

/// Spawns until that is refused. The greenlets wait for `go`.
fn fill(go: &Arc<Event>, most: usize) -> (Vec<Greenlet<()>>, Option<SpawnError>) {
    let mut greenlets = Vec::new();
    for i in 0..most {
        let go = Arc::clone(go);
        match Builder::new()
            .hub(any_hub(i))
            .spawn(move || assert!(go.wait()))
        {
            Ok(greenlet) => greenlets.push(greenlet),
            Err(error) => return (greenlets, Some(error)),
        }
    }
    (greenlets, None)
}

/// The process is well: greenlets run, panic and are killed, memory can be had, threads can be
/// started.
pub(crate) fn check_life() {
    assert_eq!(spawn(|| 1).join().unwrap(), 1);
    assert!(
        spawn(|| std::panic::resume_unwind(Box::new(1)))
            .join()
            .is_err()
    );
    assert_eq!(std::thread::spawn(|| 2).join().unwrap(), 2);
    assert_eq!(std::hint::black_box(vec![1_u8; 8 << 20]).len(), 8 << 20);
    let sleeper = spawn(|| sleep(Duration::MAX));
    sleeper.kill();
    assert!(sleeper.ready());
}

#[test]
fn spawn_past_the_mappings_is_refused() {
    let _deadline = deadline_of(LIMIT);
    if case().is_some() {
        let limits = Hub::limits();
        assert!(limits.greenlets < limits.max_map_count / 2);
        let go = Arc::new(Event::new());
        let (greenlets, error) = fill(&go, limits.max_map_count);
        let Some(error) = error else {
            panic!("{} greenlets, and no end", greenlets.len())
        };
        assert!(
            matches!(error, SpawnError::TooMany { alive, .. } if alive == greenlets.len()),
            "{error}"
        );
        let text = error.to_string();
        assert!(
            text.contains(&format!("vm.max_map_count is {}", limits.max_map_count)),
            "{text}"
        );
        assert!(text.contains("sysctl -w vm.max_map_count="), "{text}");
        assert!(
            greenlets.len() > limits.greenlets * 9 / 10,
            "{} only",
            greenlets.len()
        );
        let most = greenlets.len();
        go.set();
        assert!(joinall(&greenlets, None));
        drop(greenlets);
        check_life();
        // Room again, for about as many.
        go.clear();
        let (greenlets, _) = fill(&go, most);
        assert!(greenlets.len() > most * 9 / 10, "{} now", greenlets.len());
        go.set();
        assert!(joinall(&greenlets, None));
        return;
    }
    if Hub::limits().max_map_count > 300_000 {
        // A system whose limit is far away, as some distributions set it.
        return;
    }
    for hubs in [1, 2] {
        child_with_hubs("limits::spawn_past_the_mappings_is_refused", "x", hubs).passed();
    }
}

/// Takes mappings until `left` are left: pages whose protections alternate can't be merged. Returns
/// where they are, and of how many pages.
fn eat_mappings(left: usize) -> Vec<(usize, usize)> {
    let mut eaten = Vec::new();
    let mut taken = std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count();
    let wanted = Hub::limits().max_map_count - left;
    while taken < wanted {
        let pages = (wanted - taken).min(4_096);
        // SAFETY: new mappings of no consequence, which are never touched.
        unsafe {
            let start = libc::mmap(
                std::ptr::null_mut(),
                pages * 4096,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            assert_ne!(start, libc::MAP_FAILED);
            for page in (1..pages).step_by(2) {
                libc::mprotect(start.byte_add(page * 4096), 4096, libc::PROT_READ);
            }
            eaten.push((start as usize, pages));
        }
        taken += pages;
    }
    eaten
}

fn give_mappings_back(eaten: Vec<(usize, usize)>) {
    for (start, pages) in eaten {
        // SAFETY: from `eat_mappings`; nobody uses them.
        assert_eq!(unsafe { libc::munmap(start as *mut _, pages * 4096) }, 0);
    }
}

#[test]
fn spawn_is_refused_when_others_have_taken_the_mappings() {
    let _deadline = deadline_of(LIMIT);
    if case().is_some() {
        let go = Arc::new(Event::new());
        let (first, none) = fill(&go, 50);
        assert!(none.is_none());
        eat_mappings(700);
        let (second, refused) = fill(&go, 5_000);
        let mut errors: Vec<_> = refused.map(|error| error.to_string()).into_iter().collect();
        // Before that, those that wait for their turn would need no stack of their own.
        eventually("all wait or are refused", || {
            let refused = second.iter().filter(|greenlet| greenlet.ready()).count();
            waiting(&*go) + refused == first.len() + second.len()
        });
        go.set();
        assert!(joinall(&first, None) && joinall(&second, None));
        for greenlet in first {
            greenlet.join().unwrap();
        }
        let mut ran = 0;
        for greenlet in second {
            match greenlet.join() {
                Ok(()) => ran += 1,
                Err(error @ JoinError::Refused { .. }) => {
                    let source = std::error::Error::source(&error).unwrap();
                    errors.push(source.to_string());
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(ran < 5_000 && !errors.is_empty());
        for error in errors {
            assert!(error.contains("vm.max_map_count"), "{error}");
        }
        assert_eq!(Hub::greenlets(), 0);
        // Those who ran have left their coroutines to the next.
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
        return;
    }
    if Hub::limits().max_map_count > 300_000 {
        return;
    }
    for hubs in [1, 2] {
        let test = "limits::spawn_is_refused_when_others_have_taken_the_mappings";
        let end = child_with_hubs(test, "x", hubs);
        end.passed();
        // The refusal is an error and no panic.
        end.did_not_say("panicked");
    }
}

/// A refusal holds as long as its reason, and not for ever.
#[test]
fn spawn_is_allowed_again_when_the_mappings_are_given_back() {
    let _deadline = deadline_of(LIMIT);
    if case().is_some() {
        let before = Hub::limits().greenlets;
        let eaten = eat_mappings(3_000);
        let go = Arc::new(Event::new());
        let mut greenlets = Vec::new();
        let mut refusals = 0;
        while refusals < 20 {
            let (more, refused) = fill(&go, 100);
            greenlets.extend(more);
            refusals += usize::from(refused.is_some());
            sleep(Duration::from_millis(1));
        }
        go.set();
        assert!(joinall(&greenlets, None));
        assert!(Hub::limits().greenlets < before / 2);
        give_mappings_back(eaten);
        // The mappings are not counted again for each refusal.
        eventually("none is refused", || {
            let go = Arc::new(Event::new());
            let (greenlets, refused) = fill(&go, 8_000);
            go.set();
            refused.is_none() && greenlets.into_iter().all(|it| it.join().is_ok())
        });
        return;
    }
    if Hub::limits().max_map_count > 300_000 {
        return;
    }
    for hubs in [1, 2] {
        let test = "limits::spawn_is_allowed_again_when_the_mappings_are_given_back";
        child_with_hubs(test, "x", hubs).passed();
    }
}

/// Connections that go on without a greenlet are bounded by descriptors alone.
#[test]
fn detached_connections_do_not_count_as_greenlets() {
    struct Waits;
    impl Detached for Waits {
        fn kill(&self) {}

        fn is_current(&self) -> bool {
            false
        }
    }

    let _deadline = deadline_of(LIMIT);
    if case().is_some() {
        let eaten = eat_mappings(3_000);
        // A refusal has the mappings counted.
        let go = Arc::new(Event::new());
        let mut greenlets = Vec::new();
        loop {
            let (more, refused) = fill(&go, 100);
            greenlets.extend(more);
            if refused.is_some() {
                break;
            }
            sleep(Duration::from_millis(1));
        }
        go.set();
        assert!(joinall(&greenlets, None));
        assert!(Hub::limits().greenlets < 1_400);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&kept);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = StreamServer::with_seats(listener, move |stream, _, seat| {
            seat.detach(Arc::new(Waits));
            theirs.lock().unwrap().push((stream, seat));
        })
        .unwrap();
        server.start().unwrap();
        let mut peers = Vec::new();
        for count in 1..=1_500 {
            peers.push(TcpStream::connect(server.local_addr()).unwrap());
            // It counts from before it is kept.
            eventually("it is served", || kept.lock().unwrap().len() == count);
            assert_eq!(server.connections(), count);
        }
        kept.lock().unwrap().clear();
        assert_eq!(server.connections(), 0);
        give_mappings_back(eaten);
        server.stop(Duration::from_secs(1));
        return;
    }
    if Hub::limits().max_map_count > 300_000 || Hub::limits().descriptors < 4_000 {
        return;
    }
    let test = "limits::detached_connections_do_not_count_as_greenlets";
    child_with_hubs(test, "x", 2).passed();
}

#[test]
fn stack_above_the_systems_limit_is_refused_with_its_name() {
    let _deadline = deadline_of(LIMIT);
    if case().is_some() {
        check_life();
        let limit = libc::rlimit {
            rlim_cur: 8 << 20,
            rlim_max: 8 << 20,
        };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_STACK, &limit) }, 0);
        let refused = Builder::new().stack_size(64 << 20).spawn(|| ());
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("RLIMIT_STACK (8388608 bytes)"), "{error}");
        assert!(Builder::new().stack_size(4 << 20).spawn(|| ()).is_ok());
        return;
    }
    let test = "limits::stack_above_the_systems_limit_is_refused_with_its_name";
    child(test, "x", &[]).passed();
}

#[test]
fn stack_that_the_memory_limit_forbids_is_one_refusal() {
    let _deadline = deadline_of(LIMIT);
    if case().is_some() {
        check_life();
        let limit = libc::rlimit {
            rlim_cur: 4 << 30,
            rlim_max: 4 << 30,
        };
        // SAFETY: a valid limit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
        let large = || {
            let builder = Builder::new().name("large").stack_size(1 << 30);
            builder.spawn(|| sleep(Duration::MAX)).unwrap()
        };
        let greenlets: Vec<_> = (0..8).map(|_| large()).collect();
        let refused = greenlets.last().unwrap();
        assert!(refused.join_timeout(Duration::from_secs(30)));
        for greenlet in &greenlets {
            greenlet.kill();
        }
        let errors: Vec<_> = greenlets
            .into_iter()
            .filter_map(|greenlet| match greenlet.join().unwrap_err() {
                JoinError::Refused { name, source } => {
                    assert_eq!(&*name, "large");
                    Some(source.to_string())
                }
                error => {
                    assert!(error.is_killed(), "{error}");
                    None
                }
            })
            .collect();
        assert!(!errors.is_empty());
        for error in errors {
            assert!(
                error.contains("1048576 KiB") && error.contains("memory limit"),
                "{error}"
            );
        }
        // The closure of a refused greenlet may do anything as it is dropped.
        spawn(|| {
            for _ in 0..8 {
                let spawns = crate::support::OnDrop(|| {
                    drop(spawn_local(|| sleep(Duration::ZERO)));
                    sleep(Duration::from_millis(1));
                });
                let refused = Builder::new().stack_size(1 << 30).spawn_local(move || {
                    let _spawns = &spawns;
                    sleep(Duration::from_millis(10));
                });
                drop(refused);
            }
        })
        .join()
        .unwrap();
        // It is dropped by the hub itself, which does not wait for a peer.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ballast: Vec<_> = (0..8).map(|_| large()).collect();
        let accepts = crate::support::OnDrop(move || drop(listener.accept()));
        let refused = Builder::new().stack_size(1 << 30).spawn(move || {
            let _accepts = &accepts;
            sleep(Duration::MAX);
        });
        assert!(refused.unwrap().join_timeout(Duration::from_secs(30)));
        assert!(greenwood_runtime::killall(&ballast, None));
        return check_life();
    }
    for hubs in [1, 2] {
        let test = "limits::stack_that_the_memory_limit_forbids_is_one_refusal";
        child_with_hubs(test, "x", hubs).passed();
    }
}

fn limit_descriptors(to: usize) {
    let limit = libc::rlimit {
        rlim_cur: to as u64,
        rlim_max: to as u64,
    };
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

pub(crate) fn processor_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a valid place for the answer, and all zero is a valid rusage.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 256];
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 || stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

pub(crate) fn check_echo(stream: &mut TcpStream) {
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");
}

/// The server's process runs out of descriptors; the clients are in it too, but were made before,
/// so only accepting fails.
fn exhausted_server() {
    let server = StreamServer::new("127.0.0.1:0", |stream, _| echo(stream)).unwrap();
    server.start().unwrap();
    let mut connected: Vec<_> = (0..20)
        .map(|i| {
            let address = server.local_addr();
            spawn_on(any_hub(i), move || TcpStream::connect(address).unwrap())
                .join()
                .unwrap()
        })
        .collect();
    connected.iter_mut().for_each(check_echo);
    // From now on no number above those in use.
    let mut late: Vec<_> = (0..5).map(|_| unconnected()).collect();
    let highest = open_descriptors() + 40;
    let mut ballast: Vec<_> = Vec::new();
    limit_descriptors(highest);
    while let Ok(file) = std::fs::File::open("/dev/null") {
        ballast.push(file);
    }
    for socket in &late {
        let address = server.local_addr();
        socket.connect(&address.into()).unwrap();
    }
    let (before, begun) = (processor_time(), Instant::now());
    sleep(Duration::from_millis(400));
    // A spin would take all of it.
    assert!(processor_time() - before < begun.elapsed() / 2);
    connected.iter_mut().for_each(check_echo);
    let error = TcpStream::connect(server.local_addr()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("RLIMIT_NOFILE allows this process {highest}")),
        "{error}"
    );
    let error = TcpListener::bind("127.0.0.1:0").unwrap_err();
    assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
    ballast.clear();
    for socket in late.drain(..) {
        let mut stream = TcpStream::from_fd(socket.into()).unwrap();
        check_echo(&mut stream);
    }
    server.stop(Duration::ZERO);
}

fn unconnected() -> socket2::Socket {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap()
}

/// `accept` by hand: an error that names the limit, and no connection is lost.
fn exhausted_accept() {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    for hub in 0..Hub::count() {
        let theirs = Arc::clone(&listener);
        let socket = unconnected();
        let mut ballast: Vec<_> = Vec::new();
        limit_descriptors(open_descriptors() + 30);
        while let Ok(file) = std::fs::File::open("/dev/null") {
            ballast.push(file);
        }
        socket.connect(&address.into()).unwrap();
        let accepted = spawn_on(hub, move || {
            let error = theirs.accept().unwrap_err();
            assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
            assert_ne!(error.kind(), ErrorKind::WouldBlock);
            // One is free: enough to accept, not always to move it to this hub's numbers.
            drop(ballast.pop());
            let (stream, _) = theirs.accept().unwrap();
            ballast.clear();
            echo(stream);
        });
        let mut stream = TcpStream::from_fd(socket.into()).unwrap();
        check_echo(&mut stream);
        drop(stream);
        accepted.join().unwrap();
    }
}

#[test]
fn descriptors_that_run_out_stop_accepting_for_a_while_only() {
    let _deadline = deadline_of(LIMIT);
    match case().as_deref() {
        Some("server") => return exhausted_server(),
        Some("accept") => return exhausted_accept(),
        _ => {}
    }
    for hubs in [1, 2, 4] {
        for part in ["server", "accept"] {
            let test = "limits::descriptors_that_run_out_stop_accepting_for_a_while_only";
            child_with_hubs(test, part, hubs).passed();
        }
    }
}

#[test]
fn hubs_that_find_no_descriptors_say_so_and_start_later() {
    let _deadline = deadline_of(LIMIT);
    if case().is_some() {
        let mut ballast = Vec::new();
        let open = open_descriptors();
        // The last number that is left belongs to each of the four hubs once.
        for limit in (open + 9..open + 13).rev() {
            ballast.clear();
            limit_descriptors(limit);
            while let Ok(file) = std::fs::File::open("/dev/null") {
                ballast.push(file);
            }
            for spare in 0..8 {
                ballast.truncate(ballast.len() - spare);
                let error = Hub::config().hubs(4).start().unwrap_err();
                assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
                let source = std::error::Error::source(&error).unwrap();
                assert!(source.to_string().contains("os error 24"), "{source}");
                while let Ok(file) = std::fs::File::open("/dev/null") {
                    ballast.push(file);
                }
            }
        }
        drop(ballast);
        Hub::config().hubs(1).start().unwrap();
        return check_life();
    }
    child(
        "limits::hubs_that_find_no_descriptors_say_so_and_start_later",
        "x",
        &[],
    )
    .passed();
}
