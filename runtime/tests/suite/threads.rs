//! Plain OS threads: their destructors may use everything, and signals end no wait.

use std::cell::RefCell;
use std::io::{ErrorKind, Read};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenwood_runtime::net::{TcpListener, TcpStream};
use greenwood_runtime::{Event, Queue, sleep, spawn, with_timeout};

use crate::support::{OnDrop, case, child, deadline, eventually};

const LONG: Duration = Duration::from_secs(3_600);

type AtExit = OnDrop<Box<dyn FnMut()>>;

thread_local! {
    static EARLY: RefCell<Option<AtExit>> = const { RefCell::new(None) };
    static LATE: RefCell<Option<AtExit>> = const { RefCell::new(None) };
}

/// A thread's last words: the runtime's own thread-locals may be gone when they are spoken, and
/// must not be missed.
#[test]
fn destructors_of_a_thread_may_block() {
    let _deadline = deadline();
    // A child: what goes wrong in such a destructor ends the process.
    if case().is_none() {
        return child("threads::destructors_of_a_thread_may_block", "x", &[]).passed();
    }
    let words = Arc::new(Queue::new(0));
    let thread = {
        let words = Arc::clone(&words);
        std::thread::spawn(move || {
            let last_words = |word: &'static str| -> AtExit {
                let words = Arc::clone(&words);
                OnDrop(Box::new(move || {
                    let greenlet = spawn(|| sleep(Duration::from_millis(3)));
                    assert!(greenlet.join().is_ok());
                    sleep(Duration::from_millis(2));
                    assert!(!Event::new().wait_timeout(Duration::from_millis(1)));
                    assert!(with_timeout(Duration::from_millis(5), || sleep(LONG)).is_err());
                    assert!(with_timeout(LONG, || words.put(word)).is_ok());
                }))
            };
            // Destructors run in the reverse order of first use, or the same: one of the two is
            // after the runtime's.
            EARLY.set(Some(last_words("early")));
            sleep(Duration::from_millis(1));
            assert!(with_timeout(Duration::ZERO, || sleep(Duration::MAX)).is_err());
            LATE.set(Some(last_words("late")));
        })
    };
    thread.join().unwrap();
    eventually("both were spoken", || words.len() == 2);
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// A signal that the thread handles interrupts its system calls: none may pass for what is waited
/// for, or for the end of the time.
#[test]
fn signals_end_no_wait() {
    const WAIT: Duration = Duration::from_millis(60);
    let _deadline = deadline();
    // A child: the handler is the whole process's.
    if case().is_none() {
        return child("threads::signals_end_no_wait", "x", &[]).passed();
    }
    // SAFETY: all zero is a valid sigaction, without SA_RESTART; the handler only counts.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as *const () as usize;
        assert_eq!(
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()),
            0
        );
    }
    let listener = TcpListener::bind_with_backlog("127.0.0.1:0", 0).unwrap();
    let address = listener.local_addr().unwrap();
    let full: Vec<_> = (0..4)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.connect(&address.into()).ok();
            socket
        })
        .collect();
    let quiet = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut mute = TcpStream::connect(quiet.local_addr().unwrap()).unwrap();
    let _peer = quiet.accept().unwrap();
    mute.set_read_timeout(Some(WAIT)).unwrap();

    let waiter = std::thread::spawn(move || {
        let mut waits: [(&str, &mut dyn FnMut() -> bool); 6] = [
            ("connect", &mut || {
                let connected = TcpStream::connect_timeout(&address, WAIT);
                connected.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
            }),
            ("read", &mut || {
                let read = mute.read(&mut [0]);
                read.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
            }),
            ("accept", &mut || {
                with_timeout(WAIT, || quiet.accept()).is_err()
            }),
            ("event", &mut || !Event::new().wait_timeout(WAIT)),
            ("sleep", &mut || {
                sleep(WAIT);
                true
            }),
            ("get", &mut || {
                Queue::<u8>::new(0).get_timeout(WAIT).is_err()
            }),
        ];
        // On a slow machine they come seldom.
        while SIGNALS.load(Ordering::Relaxed) <= 20 {
            for (name, wait) in &mut waits {
                let start = Instant::now();
                assert!(wait(), "{name}");
                assert!(start.elapsed() >= WAIT, "{name}: {:?}", start.elapsed());
            }
        }
    });
    while !waiter.is_finished() {
        // SAFETY: the thread has not been joined, so its handle is valid.
        unsafe { libc::pthread_kill(waiter.as_pthread_t(), libc::SIGUSR1) };
        sleep(Duration::from_millis(2));
    }
    waiter.join().unwrap();
    drop(full);
}
