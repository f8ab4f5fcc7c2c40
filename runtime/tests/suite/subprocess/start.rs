//! What a process is started with, and what refuses it.

use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::time::Duration;

use greenwood_runtime::signal::{SIGPIPE, SIGUSR1, Signals};
use greenwood_runtime::subprocess::{Popen, SubprocessError, check_call, check_output, run};
use greenwood_runtime::{BackdoorServer, FileObject, net, spawn};

use super::{piped, sh, zombies};
use crate::support::{EVERYWHERE, case, child, deadline, eventually};

#[test]
fn an_error_of_starting_names_the_program() {
    let _deadline = deadline();
    let error = Popen::new(&mut Command::new("/no/such/program")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    let error = check_call(&mut Command::new("/dev/null"), None).unwrap_err();
    assert!(error.to_string().contains("/dev/null"), "{error}");
}

#[test]
fn what_cannot_be_started_is_an_error() {
    let _deadline = deadline();
    let error = Popen::new(&mut Command::new("/nowhere/to/be/found")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = Popen::new(&mut Command::new("/")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(matches!(
        check_output(&mut Command::new("/nowhere/to/be/found"), None, None),
        Err(SubprocessError::Io(error)) if error.kind() == ErrorKind::NotFound
    ));
}

#[test]
fn without_descriptors_a_process_is_refused_or_ends_in_order() {
    const NAME: &str =
        "subprocess::start::without_descriptors_a_process_is_refused_or_ends_in_order";
    if case().is_none() {
        for hubs in [1, 2] {
            let program = std::env::current_exe().unwrap();
            let script = format!("ulimit -n 64; exec '{}' --exact {NAME}", program.display());
            let mut command = sh(&script);
            command.env("GREENWOOD_TEST_CASE", "alone");
            command
                .env("GREENWOOD_HUBS", hubs.to_string())
                .stdout(Stdio::piped());
            let done = run(command.stderr(Stdio::piped()), None, None).unwrap();
            let text = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{text}");
        }
        return;
    }
    let _deadline = deadline();
    spawn(|| ()).join().unwrap();
    let (mut refused, mut done) = (0, 0);
    for left in 0..30 {
        let mut taken = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
        taken.truncate(taken.len() - left);
        let output = spawn(|| check_output(&mut Command::new("cat"), Some(b"text"), None));
        match output.join().unwrap() {
            Ok(output) => {
                assert_eq!(output, b"text");
                done += 1;
            }
            Err(error) => {
                let SubprocessError::Io(error) = error else {
                    panic!("{error}");
                };
                let text = error.to_string();
                let limit = text.contains("RLIMIT_NOFILE") || text.contains("Too many open files");
                assert!(limit, "{text}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && done > 0, "{refused} refused, {done} done");
    eventually("all are waited for", || zombies() == 0);
}

#[test]
fn a_process_inherits_nothing_of_the_runtimes() {
    const NAME: &str = "subprocess::start::a_process_inherits_nothing_of_the_runtimes";
    let _deadline = deadline();
    if case().is_none() {
        return child(NAME, "alone", &[]).passed();
    }
    // Those that this process has inherited itself.
    let inherited: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // What it was started with; Rust ignores SIGPIPE, of which its children know nothing.
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let masks = [
        ("SigBlk", mask(&status, "SigBlk")),
        ("SigIgn", mask(&status, "SigIgn") & !(1 << (SIGPIPE - 1))),
    ];
    // Of every kind that the runtime opens.
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (_there, _) = listener.accept().unwrap();
    let (unix, _other) = net::UnixStream::pair().unwrap();
    let udp = net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let _file = FileObject::stdin().unwrap();
    let _signals = Signals::new([SIGUSR1]).unwrap();
    let _backdoor = BackdoorServer::tcp("127.0.0.1:0").unwrap();
    for from in EVERYWHERE {
        let (here, unix, udp) = (here.clone(), unix.clone(), udp.clone());
        let inherited = inherited.clone();
        from.run(move || {
            // Registered with the hub.
            let soon = Some(Duration::from_millis(1));
            here.wait_readable_timeout(soon).unwrap_err();
            unix.wait_readable_timeout(soon).unwrap_err();
            udp.wait_readable_timeout(soon).unwrap_err();
            let _another = piped("exec cat");
            let text = |command: &mut Command| {
                let text = check_output(command.stdin(Stdio::null()), None, None).unwrap();
                String::from_utf8(text).unwrap()
            };
            let fds = text(&mut sh("ls /proc/$$/fd"));
            assert!(
                fds.lines().all(|fd| inherited.iter().any(|it| it == fd)),
                "{fds}, and not only {inherited:?}"
            );
            // Not of a shell, which blocks signals now and then.
            let status = text(Command::new("cat").arg("/proc/self/status"));
            for (what, expected) in masks {
                assert_eq!(mask(&status, what), expected, "{what}");
            }
        });
    }
}

/// The signals in a line of a /proc/PID/status, without those that glibc has for itself.
fn mask(status: &str, name: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let mask = line.split_whitespace().last().unwrap();
    u64::from_str_radix(mask, 16).unwrap() & 0x7fff_ffff
}
