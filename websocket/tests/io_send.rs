//! Sending: from anywhere, to peers that read slowly or not at all.
#![cfg(feature = "io")]

mod io_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use greenwood_runtime::{self as runtime, Builder, Event, Hub};
use greenwood_websocket::{
    CloseCode, Disconnect, SlowConsumer, WebSocket, WebSocketConfig, WebSocketError,
};
use greenwood_wsgi::Result;
use io_support::{
    BINARY, DEADLINE, PONG, Peer, TEXT, binary, close, echo, news, pattern, ping, serve,
    serve_with, text,
};

const SENDERS: usize = 8;
const MESSAGES: usize = 2_000;

/// Greenlets on all hubs and OS threads, each sending its numbered messages; ends when all have.
fn send_from_everywhere(ws: &WebSocket, size: usize) -> Result<()> {
    let send = move |ws: WebSocket, sender: usize| {
        for i in 0..MESSAGES {
            let mut message = format!("{sender} {i} ");
            let fill = (sender * 31 + i * 7) % size;
            message.extend(std::iter::repeat_n('x', fill));
            ws.send(message).unwrap();
        }
    };
    let mut greenlets = Vec::new();
    let mut threads = Vec::new();
    for sender in 0..SENDERS {
        let ws = ws.clone();
        if sender % 2 == 0 {
            let builder = Builder::new().hub(sender / 2 % Hub::count());
            greenlets.push(builder.spawn(move || send(ws, sender)).unwrap());
        } else {
            threads.push(thread::spawn(move || send(ws, sender)));
        }
    }
    for greenlet in greenlets {
        greenlet.join().unwrap();
    }
    while !threads.iter().all(thread::JoinHandle::is_finished) {
        runtime::sleep(Duration::from_millis(1));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    Ok(())
}

/// Every message of every sender, whole, in the sender's order; echoes of the peer's own in
/// between.
fn check_everything(peer: &mut Peer, size: usize, pause: impl Fn(usize)) -> usize {
    let mut next = [0; SENDERS];
    let mut others = 0;
    for count in 0.. {
        let frame = peer.frame();
        if frame.opcode != TEXT {
            assert_eq!(frame.opcode, 8);
            break;
        }
        let text = String::from_utf8(frame.payload).unwrap();
        if let Some(echo) = text.strip_prefix("echo ") {
            assert_eq!(echo, others.to_string());
            others += 1;
            continue;
        }
        let mut words = text.splitn(3, ' ');
        let mut number = || words.next().unwrap().parse::<usize>().unwrap();
        let (sender, i) = (number(), number());
        assert_eq!(i, next[sender], "sender {sender}");
        next[sender] += 1;
        let fill = words.next().unwrap();
        assert_eq!(fill.len(), (sender * 31 + i * 7) % size);
        assert!(fill.bytes().all(|b| b == b'x'));
        pause(count);
    }
    assert_eq!(next, [MESSAGES; SENDERS]);
    others
}

#[test]
fn eight_senders_at_once_keep_their_order() {
    let server = serve(|ws| send_from_everywhere(&ws, 50));
    let mut peer = server.open();
    check_everything(&mut peer, 50, |_| ());
    peer.write(close(1000));
    peer.expect_end();
}

#[test]
fn slow_reader_gets_everything_in_order() {
    const SIZE: usize = 12_000;
    let server = serve(|ws| send_from_everywhere(&ws, SIZE));
    let mut peer = server.open();
    // Until the senders are held up.
    peer.stream_pause();
    check_everything(&mut peer, SIZE, |count| {
        if count % 4_000 == 0 {
            thread::yield_now();
        }
    });
    peer.write(close(1000));
    peer.expect_end();
}

#[test]
fn receiving_and_sending_do_not_hold_each_other_up() {
    const ECHOES: usize = 5_000;
    let server = serve(|ws| {
        let other = ws.clone();
        let sending = runtime::spawn(move || send_from_everywhere(&other, 300).unwrap());
        for _ in 0..ECHOES {
            let message = ws.receive()?.expect("a message");
            ws.send(format!("echo {message}"))?;
        }
        sending.join().unwrap();
        Ok(())
    });
    let mut peer = server.open();
    let mut writer = Peer::new(peer.stream.try_clone().unwrap());
    let sender = thread::spawn(move || {
        for i in 0..ECHOES {
            writer.write(text(i.to_string()));
        }
    });
    assert_eq!(check_everything(&mut peer, 300, |_| ()), ECHOES);
    sender.join().unwrap();
    peer.write(close(1000));
    peer.expect_end();
}

/// A server that streams pieces until it is held up, and says how many went.
fn streaming(
    config: WebSocketConfig,
) -> (
    io_support::Server,
    io_support::News<String>,
    Arc<AtomicUsize>,
) {
    let (told, heard) = news();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let server = serve_with(config, move |ws| {
        loop {
            if let Err(error) = ws.send(vec![count.load(Ordering::SeqCst) as u8; PIECE]) {
                told.send(format!("{error:?}, {:?}", ws.disconnect()))
                    .unwrap();
                return Err(error.into());
            }
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (server, heard, sent)
}

const PIECE: usize = 32 * 1024;

/// Waits until a count has stopped growing; what it is then.
fn standstill(count: &AtomicUsize) -> usize {
    let began = Instant::now();
    let mut last = (count.load(Ordering::SeqCst), Instant::now());
    loop {
        thread::yield_now();
        let now = count.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        } else if now > 0 && last.1.elapsed() > Duration::from_millis(200) {
            return now;
        }
        assert!(began.elapsed() < DEADLINE, "it grows and grows: {now}");
    }
}

#[test]
fn sender_waits_for_a_peer_that_does_not_read() {
    let config = WebSocketConfig::default().high_water(256 * 1024);
    let (server, heard, sent) = streaming(config);
    let mut peer = server.open();
    let count = standstill(&sent);
    assert!(heard.is_empty());
    // It goes on when the peer does, and nothing is missing.
    for i in 0..count + 50 {
        peer.expect(BINARY, vec![i as u8; PIECE]);
    }
    assert!(sent.load(Ordering::SeqCst) > count);
    peer.reset();
    let end = heard.next();
    assert!(
        end == "Closed, Some(TransportError)"
            || end == "Disconnected(TransportError), Some(TransportError)",
        "{end}"
    );
}

#[test]
fn peer_that_takes_nothing_is_cut_after_the_write_timeout() {
    let config = WebSocketConfig::default().write_timeout(Duration::from_millis(300));
    let (server, heard, _) = streaming(config);
    let began = Instant::now();
    let mut peer = server.open();
    assert_eq!(
        heard.next(),
        "Disconnected(SlowConsumer), Some(SlowConsumer)"
    );
    assert!(began.elapsed() >= Duration::from_millis(300));
    peer.expect_cut();
}

#[test]
fn pinger_that_never_reads_is_held_up_and_then_cut() {
    let config = WebSocketConfig::default().write_timeout(Duration::from_millis(500));
    let (told, heard) = news();
    let server = serve_with(config, move |ws| {
        let end = ws.receive();
        told.send(format!("{end:?}")).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    let flood: Vec<u8> = (0..1000).flat_map(|_| ping([0; 125])).collect();
    let mut sent = 0;
    while peer.try_write(&flood).is_ok() {
        sent += flood.len();
        // What both sides' systems hold, and little more.
        assert!(sent < 64 << 20, "the server reads for ever");
    }
    assert_eq!(heard.next(), "Err(Disconnected(SlowConsumer))");
}

#[test]
fn slow_consumer_may_be_closed_at_once() {
    let config = WebSocketConfig::default()
        .slow_consumer(SlowConsumer::Close)
        .high_water(256 * 1024);
    let (server, heard, sent) = streaming(config);
    let mut peer = server.open();
    assert_eq!(
        heard.next(),
        "Disconnected(SlowConsumer), Some(SlowConsumer)"
    );
    // Slow, not dead: it learns why, behind what was sent before.
    for i in 0..sent.load(Ordering::SeqCst) + 1 {
        peer.expect(BINARY, vec![i as u8; PIECE]);
    }
    assert_eq!(peer.close_code(), 1008);
    peer.expect_end();
}

#[test]
fn receiver_learns_that_the_slow_consumer_was_closed() {
    let config = WebSocketConfig::default()
        .slow_consumer(SlowConsumer::Close)
        .close_timeout(Duration::from_millis(300))
        .high_water(64 * 1024);
    let (told, heard) = news();
    let server = serve_with(config, move |ws| {
        let other = ws.clone();
        let sender = runtime::spawn(move || while other.send(vec![0; PIECE]).is_ok() {});
        let end = ws.receive();
        sender.join().unwrap();
        told.send(format!("{end:?}")).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    assert_eq!(heard.next(), "Err(Disconnected(SlowConsumer))");
    peer.expect_cut();
}

#[test]
fn slow_echo_is_whole() {
    let server = serve_with(
        WebSocketConfig::default().max_message_size(16 << 20),
        |ws| {
            while let Some(message) = ws.receive()? {
                ws.send(&message)?;
                ws.send(message)?;
            }
            Ok(())
        },
    );
    let mut peer = server.open();
    let message = pattern(8 << 20);
    peer.write(binary(&message));
    peer.stream_pause();
    peer.expect(BINARY, &message);
    peer.expect(BINARY, &message);
    peer.close();
}

/// Killed or out of time while it waits for room: the frame is on its way all the same, whole.
#[test]
fn interrupted_sender_has_sent_its_frame_whole() {
    let (told, heard) = news();
    let server = serve_with(WebSocketConfig::default().high_water(1024), move |ws| {
        let timed = runtime::with_timeout(Duration::from_millis(50), || ws.send(pattern(8 << 20)));
        assert!(timed.is_err(), "{timed:?}");
        let other = ws.clone();
        let began = Arc::new(Event::new());
        let begun = Arc::clone(&began);
        let sender = runtime::spawn_local(move || {
            begun.set();
            other.send(pattern(1 << 20)).unwrap();
        });
        began.wait();
        sender.kill();
        told.send(()).unwrap();
        ws.send("last")?;
        echo(ws)
    });
    let mut peer = server.open();
    heard.next();
    peer.expect(BINARY, pattern(8 << 20));
    peer.expect(BINARY, pattern(1 << 20));
    peer.expect(TEXT, "last");
    peer.close();
}

/// The close frame queues behind what waits; a peer that does not read can't hold the connection
/// for longer than the time limit.
#[test]
fn close_behind_a_backlog_is_bounded() {
    let config = WebSocketConfig::default()
        .high_water(64 << 20)
        .close_timeout(Duration::from_millis(300));
    let (told, heard) = news();
    let server = serve_with(config, move |ws| {
        ws.send(pattern(32 << 20))?;
        ws.close(CloseCode::NORMAL, "")?;
        told.send(ws.disconnect()).unwrap();
        Ok(())
    });
    let mut peer = server.open();
    assert_eq!(heard.next(), Some(Disconnect::CloseTimeout));
    peer.expect_cut();
}

/// A peer that closes with much on its way to it, and does not read: its greenlet ends, and nothing
/// goes on behind it.
#[test]
fn end_with_a_backlog_is_bounded() {
    let config = WebSocketConfig::default()
        .high_water(64 << 20)
        .close_timeout(Duration::from_millis(300));
    let (told, heard) = news();
    let server = serve_with(config, move |ws| {
        ws.send(pattern(32 << 20))?;
        told.send(()).unwrap();
        while ws.receive()?.is_some() {}
        Ok(())
    });
    let mut closed = server.open();
    let mut wrong = server.open();
    let ended = server.open();
    closed.write(close(1000));
    wrong.write([0xff; 10]);
    ended.end_sending();
    for _ in 0..3 {
        heard.next();
    }
    let began = Instant::now();
    while server.server.handle().connections() > 0 {
        assert!(began.elapsed() < DEADLINE);
        thread::yield_now();
    }
    drop((closed, wrong, ended));
}

/// And one that does read gets it all, the close frame last.
#[test]
fn close_of_the_peer_does_not_drop_what_is_on_its_way() {
    let config = WebSocketConfig::default().high_water(64 << 20);
    let server = serve_with(config, |ws| {
        ws.send(pattern(16 << 20))?;
        while ws.receive()?.is_some() {}
        Ok(())
    });
    let mut peer = server.open();
    peer.write(close(4000));
    peer.expect(BINARY, pattern(16 << 20));
    assert_eq!(peer.close_code(), 4000);
    peer.expect_end();
}

/// A greenlet that has sent in a batch goes on computing; another reads on meanwhile, on another
/// hub. Its answer leaves when *it* blocks.
#[test]
fn batch_of_one_greenlet_does_not_hold_back_anothers() {
    if Hub::count() < 2 {
        return;
    }
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let server = serve(move |ws| {
        let first = ws.receive()?.expect("a message");
        ws.send(first)?;
        let other = ws.clone();
        let hub = (Hub::current().unwrap() + 1) % Hub::count();
        let second = Builder::new().hub(hub).spawn(move || {
            let second = other.receive().unwrap().unwrap();
            other.send(second).unwrap();
            runtime::sleep(Duration::from_millis(1));
        });
        // Blocks its hub, on purpose.
        let began = Instant::now();
        while !released.load(Ordering::SeqCst) {
            assert!(began.elapsed() < DEADLINE, "held back");
            std::hint::spin_loop();
        }
        second.unwrap().join().unwrap();
        echo(ws)
    });
    let mut peer = server.open();
    peer.write([text("1"), text("2"), text("3"), text("4")].concat());
    peer.expect(TEXT, "1");
    peer.expect(TEXT, "2");
    release.store(true, Ordering::SeqCst);
    peer.expect(TEXT, "3");
    peer.expect(TEXT, "4");
    peer.close();
}

#[test]
fn pongs_keep_their_place() {
    let server = serve(|ws| {
        while let Some(message) = ws.receive()? {
            ws.send(message)?;
        }
        Ok(())
    });
    let mut peer = server.open();
    let wire: Vec<u8> = (0..1000)
        .flat_map(|i| [text(format!("{i}")), ping(format!("{i}"))].concat())
        .collect();
    peer.write(wire);
    for i in 0..1000 {
        peer.expect(TEXT, format!("{i}"));
        peer.expect(PONG, format!("{i}"));
    }
    peer.close();
}

#[test]
fn senders_of_a_closed_connection_are_told() {
    let (told, heard) = news();
    let server = serve(move |ws| {
        let other = ws.clone();
        let told = told.clone();
        let sender = runtime::spawn(move || {
            loop {
                match other.send("tick") {
                    Ok(()) => runtime::sleep(Duration::from_millis(1)),
                    Err(error) => return told.send(error).unwrap(),
                }
            }
        });
        while ws.receive()?.is_some() {}
        sender.join().unwrap();
        Ok(())
    });
    let mut peer = server.open();
    peer.expect(TEXT, "tick");
    peer.write(close(1000));
    assert_eq!(peer.close_code(), 1000);
    assert!(matches!(heard.next(), WebSocketError::Closed));
    peer.expect_end();
}
