//! What gevent's own tests check and no other file here does, written anew.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenwood_runtime::net::TcpStream;
use greenwood_runtime::{
    AsyncResult, Builder, Channel, Event, Greenlet, Group, JoinAll, JoinError, Pool, Queue,
    SimpleQueue, StreamServer, ThreadPool, Timeout, Waitable, idle, joinall, sleep, spawn, wait,
    with_timeout,
};

use crate::support::{EVERYWHERE, any_hub, deadline, eventually, spawn_on, until_waits};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(5);

#[test]
fn who_swallows_a_time_out_again_and_again_does_not_keep_its_hub() {
    let _deadline = deadline();
    let end = Arc::new(Event::new());
    let told = Arc::clone(&end);
    let begun = Arc::new(Event::new());
    let begins = Arc::clone(&begun);
    let stubborn = spawn_on(0, move || {
        let timeout = Timeout::start_new(Duration::ZERO);
        while !told.is_set() {
            assert!(catch_unwind(|| sleep(LONG)).is_err());
            begins.set();
        }
        drop(timeout);
    });
    begun.wait();
    spawn_on(0, move || end.set()).join().unwrap();
    stubborn.join().unwrap();
}

#[test]
fn loop_of_time_outs_of_zero_does_not_keep_its_hub() {
    let _deadline = deadline();
    let end = Arc::new(Event::new());
    let told = Arc::clone(&end);
    let polling = spawn_on(0, move || {
        let queue = Queue::<u8>::new(0);
        while !told.is_set() {
            assert!(with_timeout(Duration::ZERO, || queue.get()).is_err());
        }
    });
    spawn_on(0, move || end.set()).join().unwrap();
    polling.join().unwrap();
}

/// test__api_timeout.py, `test_nested_timeout`.
#[test]
fn outer_limit_that_expires_leaves_the_inner_one_pending() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let outer = Timeout::new(SHORT);
            let inner = Timeout::new(LONG);
            outer.start();
            let elapsed = outer.catch(|| {
                inner.start();
                let payload = catch_unwind(AssertUnwindSafe(|| inner.catch(|| sleep(LONG))));
                let payload = payload.unwrap_err();
                assert!(outer.has_raised(&*payload) && !inner.has_raised(&*payload));
                // gevent's is over when it is raised; this one when it is caught.
                assert!(outer.pending() && inner.pending());
                std::panic::resume_unwind(payload);
            });
            assert!(elapsed.is_err());
            assert!(!outer.pending() && inner.pending());
            inner.cancel();
            assert!(!inner.pending());
            // And the other way round.
            outer.start();
            outer.cancel();
            let (outer, inner) = (Timeout::start_new(LONG), Timeout::start_new(SHORT));
            assert!(inner.catch(|| sleep(LONG)).is_err());
            assert!(outer.pending() && !inner.pending());
        });
    }
}

/// test__event.py, `test_gevent_wait_twice_when_already_set`.
#[test]
fn what_is_ready_can_be_waited_for_twice() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let event = Event::new();
            event.set();
            let result = AsyncResult::<u8, ()>::new();
            result.set(1).unwrap();
            for _ in 0..2 {
                assert_eq!(wait(&[&event], None, None), [0]);
                assert_eq!(wait(&[&event, &result], None, None).len(), 2);
            }
        });
    }
}

/// test__event.py, `TestAsyncResultAsLinkTarget`.
#[test]
fn result_is_set_by_the_links_of_its_kind_only() {
    let _deadline = deadline();
    let greenlet = spawn(|| 1);
    let (any, value, error) = (
        Arc::new(AsyncResult::new()),
        Arc::new(AsyncResult::<i32, ()>::new()),
        Arc::new(AsyncResult::<String, ()>::new()),
    );
    greenlet.link(any.setter());
    let theirs = Arc::clone(&value);
    greenlet.link_value(move |one| theirs.set(one).unwrap());
    let theirs = Arc::clone(&error);
    greenlet.link_exception(move |error| theirs.set(error.to_string()).unwrap());
    assert_eq!(any.get().unwrap(), &1);
    assert_eq!(value.get().unwrap(), &1);
    greenlet.join().unwrap();
    assert!(!error.ready());
}

/// test__greenlet.py, `test_link_to_queue`, `test_link_to_channel`.
#[test]
fn links_may_put_into_queues_and_channels() {
    let _deadline = deadline();
    let (queue, channel) = (Arc::new(Queue::new(1)), Arc::new(Channel::new()));
    let greenlets: Vec<Greenlet<usize>> = (0..3).map(|i| spawn_on(any_hub(i), move || i)).collect();
    for greenlet in &greenlets {
        for _ in 0..2 {
            let (queue, channel) = (Arc::clone(&queue), Arc::clone(&channel));
            greenlet.link_value(move |i| queue.put(i).unwrap());
            greenlet.link_value(move |i| channel.put(i).unwrap());
        }
    }
    let mut got: Vec<usize> = Vec::new();
    let theirs = Arc::clone(&channel);
    let others = spawn(move || (0..6).map(|_| theirs.get().unwrap()).collect::<Vec<_>>());
    for _ in 0..6 {
        got.push(queue.get().unwrap());
    }
    got.sort_unstable();
    assert_eq!(got, [0, 0, 1, 1, 2, 2]);
    let mut others = others.join().unwrap();
    others.sort_unstable();
    assert_eq!(others, [0, 0, 1, 1, 2, 2]);
    // Linked after the end.
    let late = Arc::clone(&channel);
    greenlets[1].link_value(move |i| late.put(i).unwrap());
    assert_eq!(channel.get(), Ok(1));
}

/// test__greenlet.py, `TestKill`, with an exception of its own.
#[test]
fn killed_before_it_runs_it_ends_once_with_the_payload() {
    let _deadline = deadline();
    let ways: [fn(&Greenlet<()>); 3] = [
        |_| (),
        |greenlet| greenlet.start().unwrap(),
        |greenlet| greenlet.start_later(LONG).unwrap(),
    ];
    for way in ways {
        for waits in [true, false] {
            let ran = Arc::new(AtomicUsize::new(0));
            let theirs = Arc::clone(&ran);
            let greenlet = Builder::new()
                .unstarted(move || {
                    theirs.fetch_add(1, Ordering::SeqCst);
                })
                .unwrap();
            let calls = Arc::new(AtomicUsize::new(0));
            let theirs = Arc::clone(&calls);
            greenlet.link(move |_| {
                theirs.fetch_add(1, Ordering::SeqCst);
            });
            // One that is started may have run before a kill from another thread: on its hub.
            let greenlet = Arc::new(Mutex::new(Some(greenlet)));
            let theirs = Arc::clone(&greenlet);
            let kill = move || {
                let greenlet = theirs.lock().unwrap().take().unwrap();
                way(&greenlet);
                for payload in [42, 43] {
                    if waits {
                        greenlet.kill_with(payload);
                    } else {
                        greenlet.throw(payload);
                    }
                }
                greenlet
            };
            let hub = greenlet.lock().unwrap().as_ref().unwrap().hub();
            let greenlet = spawn_on(hub, kill).join().unwrap();
            assert!(greenlet.join_timeout(LONG));
            assert!(greenlet.dead() && !greenlet.started() && !greenlet.successful());
            greenlet.start().ok();
            eventually("its link is called", || calls.load(Ordering::SeqCst) == 1);
            idle();
            assert_eq!(ran.load(Ordering::SeqCst), 0);
            assert_eq!(calls.load(Ordering::SeqCst), 1);
            let error = greenlet.join().unwrap_err();
            let JoinError::KilledWith { payload, .. } = error else {
                panic!("{error}");
            };
            assert_eq!(payload.into_inner().downcast_ref(), Some(&42));
        }
    }
}

/// test__pool.py, `test_terminate`.
#[test]
fn map_ends_when_its_pool_is_killed() {
    let _deadline = deadline();
    for size in [1, 2, 3, 10] {
        let pool = Pool::new(size);
        let result = pool.map_async(|_| sleep(LONG), 0..2 * size);
        eventually("it is full", || pool.full());
        let killing = pool.clone();
        let killer = spawn(move || killing.kill());
        assert!(killer.join_timeout(LONG));
        assert!(result.join().unwrap().unwrap_err().is_killed());
        pool.kill();
        assert_eq!((pool.len(), pool.free_count()), (0, size));
    }
}

/// test__pool.py, `final_sleep`, `test_imap_no_stop`.
#[test]
fn items_may_come_late_and_end_late() {
    let _deadline = deadline();
    for size in [1, 2, 10] {
        let pool = Pool::new(size);
        for ordered in [true, false] {
            let last = std::iter::from_fn(|| {
                sleep(SHORT);
                None
            });
            let items = (0..3).chain(last);
            let results = match ordered {
                true => pool.imap(|n| n * n, items, 0),
                false => pool.imap_unordered(|n| n * n, items, 0),
            };
            let mut results: Vec<_> = results.map(Result::unwrap).collect();
            results.sort_unstable();
            assert_eq!(results, [0, 1, 4]);

            let queue = Arc::new(Queue::with_items(0, [123]));
            let theirs = Arc::clone(&queue);
            let items = std::iter::from_fn(move || theirs.get().ok());
            let mut results = match ordered {
                true => pool.imap(|n| n, items, 0),
                false => pool.imap_unordered(|n| n, items, 0),
            };
            assert_eq!(results.next().unwrap().unwrap(), 123);
            queue.shutdown(false);
            assert!(results.next().is_none());
        }
    }
}

/// test__pool.py, `test_discard`.
#[test]
fn discarded_member_frees_one_place_only() {
    let _deadline = deadline();
    let pool = Pool::new(1);
    let member = pool.spawn(|| sleep(LONG));
    assert!(pool.discard(&member));
    member.kill();
    assert!(!pool.discard(&member));
    assert_eq!((pool.len(), pool.free_count()), (0, 1));
    assert!(pool.join(Some(Duration::ZERO)));
}

/// test__greenletset.py, `test_kill_noblock`.
#[test]
fn killed_members_belong_to_the_group_until_they_have_ended() {
    let _deadline = deadline();
    spawn_on(0, || {
        let group = Group::new();
        let members = [(); 2].map(|()| group.spawn(|| sleep(LONG)));
        members.iter().for_each(|member| until_waits(member.id()));
        group.kill_nowait();
        assert_eq!(group.len(), 2);
        assert!(group.join(None) && group.is_empty());
    })
    .join()
    .unwrap();
}

/// test__threadpool.py, `TestRef`.
#[test]
fn job_leaves_nothing_of_its_function_and_its_arguments() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        from.run(|| {
            let pool = ThreadPool::new(2);
            let (argument, result) = (Arc::new(()), Arc::new(()));
            let (taken, given) = (Arc::clone(&argument), Arc::clone(&result));
            let back = pool.apply(move || {
                assert_eq!(Arc::strong_count(&taken), 2);
                Arc::clone(&given)
            });
            drop(back.unwrap());
            eventually("they are gone", || {
                Arc::strong_count(&argument) == 1 && Arc::strong_count(&result) == 1
            });
            // Those of a job that panics as well.
            let taken = Arc::clone(&argument);
            let error = pool.apply(move || {
                assert_eq!(Arc::strong_count(&taken), 1, "expected");
            });
            assert!(error.unwrap_err().is_panic());
            eventually("it is gone", || Arc::strong_count(&argument) == 1);
        });
    }
}

/// test__queue.py, `test_peek_multi_greenlet`, `test_max_size`.
#[test]
fn simple_queue_peeks_and_holds_no_more_than_its_bound() {
    let _deadline = deadline();
    let queue = Arc::new(SimpleQueue::new(2));
    let theirs = Arc::clone(&queue);
    let peeking = spawn(move || theirs.peek());
    until_waits(peeking.id());
    let theirs = Arc::clone(&queue);
    let putting = spawn(move || ["a", "b", "c"].map(|item| theirs.put(item)));
    until_waits(putting.id());
    assert_eq!(peeking.join().unwrap(), Ok("a"));
    assert_eq!((queue.len(), queue.is_full()), (2, true));
    assert_eq!(queue.get(), Ok("a"));
    assert_eq!(putting.join().unwrap(), [Ok(()); 3]);
    assert_eq!((queue.get(), queue.get()), (Ok("b"), Ok("c")));
}

/// test__server.py, `test_serve_forever_after_start`, `test_server_closes_client_sockets`.
#[test]
fn server_that_has_started_serves_for_ever_until_it_is_stopped() {
    let _deadline = deadline();
    let server = StreamServer::new("127.0.0.1:0", |_, _| ()).unwrap();
    let address = server.local_addr();
    assert!(!server.started());
    server.start().unwrap();
    server.start().unwrap();
    assert!(server.started());
    let theirs = server.clone();
    let serving = spawn(move || theirs.serve_forever());
    until_waits(serving.id());
    let mut client = TcpStream::connect(address).unwrap();
    // Its handler has returned: the connection is closed.
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    server.stop(SHORT);
    serving.join().unwrap().unwrap();
    server.stop(SHORT);
    assert!(!server.started() && server.closed());
    assert!(server.start().is_err() && server.serve_forever().is_err());
    assert!(!server.started());
}

/// test__greenlet.py, `test_joinall_count_raise_error`, `test_wait_error`.
#[test]
fn error_can_be_raised_by_every_joinall() {
    let _deadline = deadline();
    let sleeper = spawn(|| sleep(LONG));
    let failing = spawn(|| panic!("expected"));
    let both = || JoinAll::new([&sleeper, &failing]).count(1);
    let ended = both().wait();
    assert!(ended.len() == 1 && ended[0].id() == failing.id());
    assert!(!sleeper.ready());
    for _ in 0..2 {
        assert!(both().raise_error().unwrap_err().is_panic());
    }
    sleeper.kill();
    assert!(joinall([&sleeper, &failing], None));
}

/// test__queue.py, `Channel`'s `test_send`: a putter whose getter waits goes on behind it.
#[test]
fn putter_goes_on_behind_the_getter_that_waits() {
    let _deadline = deadline();
    let order = spawn_on(0, || {
        let (channel, order) = (Arc::new(Channel::new()), Arc::new(Mutex::new(Vec::new())));
        let (theirs, noted) = (Arc::clone(&channel), Arc::clone(&order));
        let getter = spawn(move || {
            for _ in 0..2 {
                let item = theirs.get().unwrap();
                noted.lock().unwrap().push(item);
            }
        });
        let note = |what| order.lock().unwrap().push(what);
        for (before, item, after) in [("sends", "1", "has sent 1"), ("sends", "2", "has sent 2")] {
            note(before);
            channel.put(item).unwrap();
            note(after);
        }
        getter.join().unwrap();
        order.lock().unwrap().clone()
    });
    assert_eq!(
        order.join().unwrap(),
        ["sends", "1", "has sent 1", "sends", "2", "has sent 2"]
    );
}

/// test__event.py, `TestWait_count1`, `TestWait_count2`.
#[test]
fn count_of_a_wait_is_met_by_whoever_comes_first() {
    let _deadline = deadline();
    for from in EVERYWHERE {
        let events = Arc::new([const { Event::new() }; 5]);
        let results = Arc::new([(); 5].map(|()| AsyncResult::<usize, ()>::new()));
        let (theirs, given) = (Arc::clone(&events), Arc::clone(&results));
        let waiting = from.start(move || {
            let objects: Vec<&dyn Waitable> = (theirs.iter().map(|event| event as _))
                .chain(given.iter().map(|result| result as _))
                .collect();
            [
                wait(&objects, None, Some(1)),
                wait(&objects, None, Some(3)),
                wait(&objects, Some(LONG), Some(4)),
            ]
        });
        for i in [4, 2] {
            events[i].set();
            results[i].set(i).unwrap();
        }
        let [one, three, all] = waiting();
        assert_eq!((one.len(), three.len(), all.len()), (1, 3, 4));
    }
}

/// test__threadpool.py, `test_caller_gets_exception_and_slot_is_released`: no place is lost.
#[test]
fn killed_waiter_of_a_full_thread_pool_leaves_its_place() {
    let _deadline = deadline();
    let pool = ThreadPool::new(1);
    let (end, gate) = std::sync::mpsc::channel::<()>();
    let first = pool.spawn(move || gate.recv().is_err());
    let second = pool.spawn(|| 2);
    for _ in 0..100 {
        let theirs = pool.clone();
        let third = spawn(move || theirs.spawn(|| 3).join());
        until_waits(third.id());
        third.kill();
        assert!(pool.spawn_nowait(|| ()).is_err());
    }
    drop(end);
    assert!(first.join().unwrap());
    assert_eq!(second.join().unwrap(), 2);
    assert_eq!(pool.apply(|| 4).unwrap(), 4);
    assert!(pool.join(None) && pool.is_empty());
}
