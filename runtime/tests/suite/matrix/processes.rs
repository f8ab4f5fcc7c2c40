//! Child processes and signals.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use greenwood_runtime::signal::{SIGUSR2, Signals, raise};
use greenwood_runtime::subprocess::{PipeReader, PipeWriter, Popen, run};
use greenwood_runtime::wait;

use super::{Call, LONG, play, row};
use crate::support::OnDrop;

/// A `cat`, which ends with its input.
struct Cat {
    process: Popen,
    input: Mutex<Option<PipeWriter>>,
}

/// What is lent to the call, which may not come to its end.
type Lent<T> = Mutex<Option<T>>;

/// Calls `f` with what is lent, and puts it back, however `f` ends.
fn with<T, R>(lent: &Lent<T>, f: impl FnOnce(&mut T) -> R) -> R {
    let taken = RefCell::new(lent.lock().unwrap().take());
    let _back = OnDrop(|| *lent.lock().unwrap() = taken.take());
    let mut borrowed = taken.borrow_mut();
    f(borrowed.as_mut().expect("one at a time has it"))
}

fn cat() -> Cat {
    let mut command = Command::new("cat");
    let mut process = Popen::new(command.stdin(Stdio::piped()).stdout(Stdio::null())).unwrap();
    let input = Mutex::new(process.stdin.take());
    Cat { process, input }
}

#[test]
fn ends_of_processes() {
    play("matrix::processes::ends_of_processes", || {
        let on_cat = |name, call: Call<Cat>| {
            row(
                name,
                cat,
                call,
                |it| drop(it.input.lock().unwrap().take()),
                |it, _| assert!(it.process.wait_timeout(LONG).unwrap().unwrap().success()),
            )
            .slower(30)
        };
        vec![
            on_cat("Popen wait", |it, limit| match limit {
                Some(limit) => it.process.wait_timeout(limit).unwrap().is_some(),
                None => it.process.wait().unwrap().success(),
            }),
            on_cat("wait for a Popen", |it, limit| {
                wait(&[&it.process], limit, None) == [0]
            }),
        ]
    });
}

/// A `cat` both ends of which are at hand.
struct Echo {
    input: PipeWriter,
    output: Lent<PipeReader>,
    process: Popen,
}

fn echo() -> Echo {
    let mut command = Command::new("cat");
    let mut process = Popen::new(command.stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap();
    Echo {
        input: process.stdin.take().unwrap(),
        output: Mutex::new(process.stdout.take()),
        process,
    }
}

impl Echo {
    fn end(&self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A `cat`, and the other end of what it reads.
struct Talk {
    process: Lent<Popen>,
    input: Mutex<Option<std::io::PipeWriter>>,
}

fn talk() -> Talk {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new("cat");
    let process = Popen::new(command.stdin(reader).stdout(Stdio::piped())).unwrap();
    Talk {
        process: Mutex::new(Some(process)),
        input: Mutex::new(Some(writer)),
    }
}

#[test]
fn pipes_of_processes() {
    play("matrix::processes::pipes_of_processes", || {
        vec![
            row(
                "PipeReader read",
                echo,
                |it, limit| {
                    with(&it.output, |output| {
                        output.set_timeout(limit.or(Some(LONG)));
                        output.read(&mut [0; 9]).is_ok()
                    })
                },
                |it| assert_eq!({ &it.input }.write(b"x").unwrap(), 1),
                |it, read| {
                    with(&it.output, |output| {
                        output.set_timeout(Some(LONG));
                        assert!(read || output.read(&mut [0; 9]).unwrap() == 1);
                    });
                    it.end();
                },
            )
            .slower(30),
            row(
                "Popen communicate",
                talk,
                |it, limit| {
                    with(&it.process, |process| {
                        process.communicate(None, limit).is_ok()
                    })
                },
                |it| {
                    let writer = it.input.lock().unwrap().take();
                    writer.unwrap().write_all(b"text").unwrap();
                },
                // It goes on where it was.
                |it, done| {
                    with(&it.process, |process| {
                        let out = process.communicate(None, Some(LONG)).unwrap().0;
                        let rest: &[u8] = if done { b"" } else { b"text" };
                        assert_eq!(out, rest);
                    });
                },
            )
            .slower(30),
            // Its process ends with the caller's wait, if not before.
            row(
                "run",
                || {
                    let (reader, writer) = std::io::pipe().unwrap();
                    (Mutex::new(Some(reader)), Mutex::new(Some(writer)))
                },
                |(reader, _), limit| {
                    let mut command = Command::new("cat");
                    let input = reader.lock().unwrap().take().unwrap();
                    run(command.stdin(input).stdout(Stdio::piped()), None, limit).is_ok()
                },
                |(_, writer)| drop(writer.lock().unwrap().take()),
                |_, _| {},
            )
            .slower(30),
        ]
    });
}

#[test]
fn signals() {
    play("matrix::processes::signals", || {
        vec![
            row(
                "Signals next",
                || Mutex::new(Some(Signals::new([SIGUSR2]).unwrap())),
                |it, limit| {
                    with(it, |signals| match limit {
                        Some(limit) => signals.next_timeout(limit) == Some(SIGUSR2),
                        None => signals.next() == Some(SIGUSR2),
                    })
                },
                |_| raise(SIGUSR2).unwrap(),
                |it, got| {
                    with(it, |signals| {
                        assert!(got || signals.next_timeout(LONG) == Some(SIGUSR2));
                    });
                },
            )
            .slower(2),
        ]
    });
}
