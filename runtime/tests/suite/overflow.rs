//! Running over a stack: the process ends with a message, in whatever code the stack runs out.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use greenwood_runtime::{
    Builder, Event, Queue, Semaphore, idle, sleep, spawn, spawn_local, trim_stack, with_timeout,
};

use crate::support::{OnDrop, any_hub, case, child, child_with_hubs, deadline_of};

const LIMIT: Duration = Duration::from_secs(120);

/// Recurses until the stack is used up, and calls `leaf` at each depth: as the frames are small,
/// the stack runs out inside of it.
#[inline(never)]
#[expect(unconditional_recursion, reason = "it is to overflow the stack")]
fn recurse(depth: u64, leaf: &dyn Fn()) -> u64 {
    leaf();
    let deeper = recurse(black_box(depth) + 1, leaf);
    black_box(deeper) + 1
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "it is to overflow the stack")]
fn recurse_in_big_frames(depth: u64) -> u64 {
    let frame = [depth; 2_000];
    let deeper = recurse_in_big_frames(black_box(&frame)[7] + 1);
    black_box(&frame)[9] + deeper
}

/// Uses most of the default stack, and comes back.
#[inline(never)]
fn use_the_stack() {
    black_box([1_u8; 100 * 1024]);
}

fn sink(depth: u64) {
    black_box(depth);
}

fn overflow(shape: &str) {
    let forever = |leaf: &dyn Fn()| {
        sink(recurse(0, leaf));
    };
    match shape {
        "small frames" => forever(&|| ()),
        "big frames" => sink(recurse_in_big_frames(0)),
        "malloc" => forever(&|| drop(black_box(Box::new([0_u8; 100])))),
        "println" => forever(&|| println!("deeper")),
        "format" => forever(&|| drop(black_box(format!("{:?}", Some(1.5))))),
        "spawn" => forever(&|| drop(spawn(|| ()))),
        "spawn with a new stack" => forever(&|| {
            drop(
                Builder::new()
                    .stack_size(1 << 16)
                    .spawn_local(|| ())
                    .unwrap(),
            );
        }),
        "sleep" => forever(&|| sleep(Duration::ZERO)),
        "sleep for a while" => forever(&|| sleep(Duration::from_nanos(1))),
        "idle" => forever(&idle),
        "event" => forever(&|| assert!(!Event::new().wait_timeout(Duration::from_nanos(1)))),
        "semaphore" => forever(&|| assert!(Semaphore::new(1).acquire())),
        "with_timeout" => forever(&|| {
            assert!(with_timeout(Duration::ZERO, || Queue::<()>::new(1).get()).is_err());
        }),
        "catch_unwind" => forever(&|| {
            drop(catch_unwind(|| std::panic::resume_unwind(Box::new(1))));
        }),
        "panic" => forever(&|| drop(catch_unwind(|| panic!("again")))),
        "destructor while unwinding" => {
            let _deep = OnDrop(|| sink(recurse(0, &|| ())));
            std::panic::resume_unwind(Box::new(1));
        }
        "destructor while killed" => {
            let _deep = OnDrop(|| sink(recurse(0, &|| ())));
            greenwood_runtime::getcurrent().unwrap().kill_nowait();
        }
        "after another greenlet" => {
            spawn_local(use_the_stack).join().unwrap();
            // On the coroutine that the other has left behind.
            let second = Builder::new()
                .name("doomed")
                .spawn_local(|| sink(recurse(0, &|| ())));
            drop(second.unwrap().join());
        }
        "after a trim" => {
            use_the_stack();
            trim_stack();
            sleep(Duration::from_millis(1));
            forever(&|| ());
        }
        "after catching" => {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                use_the_stack();
                std::panic::resume_unwind(Box::new(1));
            }));
            assert!(caught.is_err());
            forever(&|| ());
        }
        shape => panic!("no shape {shape:?}"),
    }
}

const SHAPES: [&str; 20] = [
    "small frames",
    "big frames",
    "malloc",
    "println",
    "format",
    "spawn",
    "spawn with a new stack",
    "sleep",
    "sleep for a while",
    "idle",
    "event",
    "semaphore",
    "with_timeout",
    "catch_unwind",
    "panic",
    "destructor while unwinding",
    "destructor while killed",
    "after another greenlet",
    "after a trim",
    "after catching",
];

fn check_shape(hubs: usize, shape: &str) {
    let end = child_with_hubs("overflow::overflow_of_any_shape_is_reported", shape, hubs);
    eprintln!("{shape} with {hubs} hubs: {}", end.status);
    end.died_of(libc::SIGABRT);
    end.said("greenlet 'doomed' (id ");
    end.said("has overflowed its stack of 256 KiB");
    end.said("Builder::stack_size");
    end.said("GREENWOOD_STACK_SIZE");
    end.said("fatal runtime error: stack overflow, aborting");
}

#[test]
fn overflow_of_any_shape_is_reported() {
    let _deadline = deadline_of(LIMIT);
    if let Some(shape) = case() {
        let hub = any_hub(1);
        // The hubs have other things to do meanwhile.
        drop(spawn(|| sleep(Duration::from_secs(3_600))));
        let doomed = Builder::new()
            .name("doomed")
            .hub(hub)
            .spawn(move || overflow(&shape));
        drop(doomed.unwrap().join());
        return;
    }
    for hubs in [1, 2] {
        for shape in SHAPES {
            check_shape(hubs, shape);
        }
    }
}

#[test]
fn message_tells_the_size_of_that_stack() {
    let _deadline = deadline_of(LIMIT);
    if let Some(part) = case() {
        let builder = match &*part {
            "builder" => Builder::new().name("large").stack_size(3 << 20),
            "least" => Builder::new().name("least").stack_size(16 * 1024),
            _ => Builder::new(),
        };
        drop(builder.spawn(|| overflow("small frames")).unwrap().join());
        return;
    }
    let test = "overflow::message_tells_the_size_of_that_stack";
    let end = child(test, "builder", &[]);
    end.died_of(libc::SIGABRT);
    end.said("greenlet 'large' (id ");
    end.said("its stack of 3072 KiB");
    let end = child(test, "least", &[]);
    end.died_of(libc::SIGABRT);
    end.said("its stack of 16 KiB");
    let end = child(test, "environment", &[("GREENWOOD_STACK_SIZE", "98304")]);
    end.died_of(libc::SIGABRT);
    end.said("greenlet 'greenlet-1' has overflowed its stack of 96 KiB");
}

#[test]
fn fault_that_is_no_overflow_is_a_segmentation_fault() {
    let _deadline = deadline_of(LIMIT);
    let fault = || {
        // SAFETY: none: the fault is what is tested, in a process that ends of it.
        unsafe { std::ptr::with_exposed_provenance::<u8>(16).read_volatile() };
    };
    match case().as_deref() {
        Some("greenlet") => return drop(spawn(fault).join()),
        Some("thread") => {
            spawn(|| ()).join().unwrap();
            return fault();
        }
        _ => {}
    }
    let test = "overflow::fault_that_is_no_overflow_is_a_segmentation_fault";
    for part in ["greenlet", "thread"] {
        let end = child(test, part, &[]);
        end.died_of(libc::SIGSEGV);
        end.did_not_say("overflow");
    }
}

#[test]
fn overflow_of_a_thread_is_reported_by_rust() {
    let _deadline = deadline_of(LIMIT);
    if let Some(part) = case() {
        spawn(|| ()).join().unwrap();
        match &*part {
            "here" => overflow("small frames"),
            _ => {
                let thread = std::thread::Builder::new().name("a thread".into());
                let thread = thread.spawn(|| overflow("small frames")).unwrap();
                drop(thread.join());
            }
        }
        return;
    }
    let test = "overflow::overflow_of_a_thread_is_reported_by_rust";
    for part in ["here", "a thread"] {
        let end = child(test, part, &[]);
        end.died_of(libc::SIGABRT);
        end.said("has overflowed its stack");
        end.did_not_say("greenlet '");
    }
}
