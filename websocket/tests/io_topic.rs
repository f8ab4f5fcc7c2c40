//! Topics: who gets what, and what becomes of slow subscribers.
#![cfg(feature = "io")]

mod io_support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use greenwood_runtime::{self as runtime, Builder, Hub};
use greenwood_websocket::proto::{Decoder, Event, Extension, Limits, Role};
use greenwood_websocket::{
    Deflate, Disconnect, Topic, TopicPolicy, WebSocket, WebSocketConfig, WebSocketError,
};
use io_support::{
    BINARY, CLOSE, DEADLINE, News, Peer, Server, TEXT, close, handshake, news, pattern, serve,
    serve_with, text,
};

/// A server that hands its WebSockets to the test, and tells it how each has ended.
fn meeting(config: WebSocketConfig) -> (Server, News<WebSocket>, News<String>) {
    let (told, heard) = news();
    let (ended, ends) = news();
    let server = serve_with(config, move |ws| {
        told.send(ws.clone()).unwrap();
        loop {
            match ws.receive() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => {
                    ended.send(format!("{error:?}")).ok();
                    return Err(error.into());
                }
            }
        }
    });
    (server, heard, ends)
}

/// Reads numbered messages until the newest; what came.
fn numbers(peer: &mut Peer, newest: usize) -> Vec<usize> {
    let mut numbers = Vec::new();
    loop {
        let frame = peer.frame();
        assert_eq!(frame.opcode, BINARY);
        let number = u64::from_be_bytes(frame.payload[..8].try_into().unwrap()) as usize;
        assert!(frame.payload[8..] == vec![number as u8; frame.payload.len() - 8]);
        numbers.push(number);
        if number == newest {
            return numbers;
        }
    }
}

fn numbered(number: usize, size: usize) -> Vec<u8> {
    let mut message = vec![number as u8; size];
    message[..8].copy_from_slice(&(number as u64).to_be_bytes());
    message
}

#[test]
fn messages_go_to_those_who_are_subscribed() {
    let (server, heard, _) = meeting(WebSocketConfig::default());
    let topic = Topic::new(TopicPolicy::Block);
    assert!(topic.is_empty());
    assert_eq!(topic.publish("nobody").sent, 0);
    let mut peers: Vec<Peer> = Vec::new();
    let mut subscriptions = Vec::new();
    for _ in 0..3 {
        peers.push(server.open());
        subscriptions.push(topic.clone().subscribe(&heard.next()));
    }
    assert_eq!(topic.len(), 3);
    assert_eq!(topic.publish("three").sent, 3);
    drop(subscriptions.remove(1));
    assert_eq!(topic.len(), 2);
    assert_eq!(topic.publish(b"two").sent, 2);
    for (i, peer) in peers.iter_mut().enumerate() {
        peer.expect(TEXT, "three");
        if i != 1 {
            peer.expect(BINARY, b"two");
        }
    }
    for peer in peers {
        peer.close();
    }
}

#[test]
fn subscribed_twice_one_gets_each_message_once() {
    let (server, heard, _) = meeting(WebSocketConfig::default());
    let topic = Topic::new(TopicPolicy::Block);
    let mut peer = server.open();
    let ws = heard.next();
    let first = topic.subscribe(&ws);
    let second = topic.subscribe(&ws.clone());
    assert_eq!((topic.len(), topic.publish("1").sent), (1, 1));
    drop(first);
    assert_eq!(topic.publish("2").sent, 1);
    drop(second);
    assert_eq!(topic.publish("3").sent, 0);
    let _third = topic.subscribe(&ws);
    assert_eq!(topic.publish("4").sent, 1);
    for message in ["1", "2", "4"] {
        peer.expect(TEXT, message);
    }
    peer.close();
}

#[test]
fn closed_ones_leave_by_themselves() {
    let (server, heard, _) = meeting(WebSocketConfig::default());
    let topic = Topic::new(TopicPolicy::Block);
    let mut peers: Vec<Peer> = (0..4).map(|_| server.open()).collect();
    let sockets: Vec<WebSocket> = (0..4).map(|_| heard.next()).collect();
    let _subscriptions: Vec<_> = sockets.iter().map(|ws| topic.subscribe(ws)).collect();
    peers.remove(2).close();
    peers.remove(0).reset();
    let began = Instant::now();
    while topic.len() > 2 {
        assert!(began.elapsed() < DEADLINE);
        thread::yield_now();
    }
    let delivery = topic.publish("left");
    assert_eq!((delivery.sent, delivery.closed), (2, 2));
    let delivery = topic.publish("left");
    assert_eq!((delivery.sent, delivery.closed), (2, 0));
    for mut peer in peers {
        peer.expect(TEXT, "left");
        peer.expect(TEXT, "left");
        peer.close();
    }
}

#[test]
fn slow_one_misses_old_messages_but_no_part_of_one() {
    const SIZE: usize = 60_000;
    const COUNT: usize = 400;
    const KEEP: usize = 5;
    let (server, heard, _) = meeting(WebSocketConfig::default());
    let topic = Topic::new(TopicPolicy::DropOldest { keep: KEEP });
    assert_eq!(topic.policy(), TopicPolicy::DropOldest { keep: KEEP });
    let mut slow = server.open();
    let slow_socket = heard.next();
    let slow_subscription = topic.subscribe(&slow_socket);
    let mut well = server.open();
    let well_subscription = topic.subscribe(&heard.next());
    let mut dropped = 0;
    for number in 0..COUNT {
        let began = Instant::now();
        let delivery = topic.publish(numbered(number, SIZE));
        assert_eq!((delivery.sent, delivery.slow), (2, 0));
        dropped += delivery.dropped as u64;
        // In time, whatever the other does.
        assert!(numbers(&mut well, number) == [number]);
        assert!(began.elapsed() < DEADLINE);
    }
    assert!(dropped > 0);
    assert_eq!(well_subscription.dropped(), 0);
    assert_eq!(slow_subscription.dropped(), dropped);
    assert_eq!(topic.dropped(), dropped);
    // Others' messages have their place behind it, and are not dropped.
    let told = runtime::spawn(move || slow_socket.send("now you"));
    let got = numbers(&mut slow, COUNT - 1);
    slow.expect(TEXT, "now you");
    told.join().unwrap().unwrap();
    assert_eq!(got.len() as u64, COUNT as u64 - dropped);
    assert!(got.is_sorted_by(|a, b| a < b));
    // The last ones it got are the newest there were.
    assert!(got.ends_with(&Vec::from_iter(COUNT - KEEP..COUNT)));
    slow.close();
    well.close();
}

/// What waits for the end of the message waits like what is behind the socket, and counts with it.
#[test]
fn old_messages_are_dropped_behind_an_open_message_too() {
    const KEEP: usize = 5;
    const SIZE: usize = 60_000;
    let (server, heard, _) = meeting(WebSocketConfig::default().high_water(64 << 20));
    let topic = Topic::new(TopicPolicy::DropOldest { keep: KEEP });
    let mut slow = server.open();
    let socket = heard.next();
    let subscription = topic.subscribe(&socket);
    let mut count = 0;
    let mut publish = || {
        count += 1;
        topic.publish(numbered(count - 1, SIZE)).dropped
    };
    while publish() == 0 {}
    let mut message = socket.text_writer().unwrap();
    message.write_all(b"in between").unwrap();
    message.flush().unwrap();
    // So many wait already, and the socket has room for none.
    let dropped: usize = (0..2 * KEEP).map(|_| publish()).sum();
    assert!(dropped > KEEP, "{dropped}");
    message.finish().unwrap();
    let told = runtime::spawn(move || socket.send("now you"));
    let mut got = Vec::new();
    loop {
        let frame = slow.frame();
        match frame.payload {
            end if end == b"now you" => break,
            part if part.len() == SIZE => {
                got.push(u64::from_be_bytes(part[..8].try_into().unwrap()) as usize);
            }
            part => assert!(part.is_empty() || part == b"in between"),
        }
    }
    told.join().unwrap().unwrap();
    assert_eq!(got.len() as u64, count as u64 - subscription.dropped());
    assert!(got.is_sorted_by(|a, b| a < b));
    assert!(got.ends_with(&Vec::from_iter(count - KEEP..count)));
    slow.close();
}

/// What is compressed in view of a dropped message could not be read.
#[test]
fn dropped_messages_are_no_context_for_others() {
    let settings = Deflate::default().context_takeover(true, true);
    for offer in [settings, Deflate::default()] {
        let (server, heard, _) = meeting(WebSocketConfig::default().deflate(settings));
        let topic = Topic::new(TopicPolicy::DropOldest { keep: 2 });
        let mut peer = server.connect();
        let line = format!("Sec-WebSocket-Extensions: {}\r\n", offer.offer());
        peer.write(handshake(&line));
        let head = peer.accepted();
        let answer = head
            .split("\r\n")
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "))
            .unwrap();
        let answer = Extension::parse_list(answer.as_bytes()).unwrap();
        let inflater = offer.accepted(&answer[0]).unwrap().inflater(Role::Client);
        let mut decoder = Decoder::new(Role::Client, Limits::default()).with_deflate(inflater);
        let subscription = topic.subscribe(&heard.next());
        let mut count = 0;
        while subscription.dropped() < 20 {
            count += 1;
            // Half of it does not compress, so that a slow peer's buffers are full soon.
            let mut message = pattern(200_000 + count % 7);
            message.extend(b"the same each time".repeat(5_000));
            message.extend((count as u64).to_be_bytes());
            topic.publish(message);
        }
        let (mut wire, mut got, mut compressed) = (Vec::new(), 0, 0);
        let mut last = 0;
        while last < count {
            // Frame by frame: `more` reads whatever there is.
            let head = peer.exactly(2);
            wire.extend(&head);
            let len = match head[1] {
                126 => {
                    let wide = peer.exactly(2);
                    wire.extend(&wide);
                    usize::from(u16::from_be_bytes([wide[0], wide[1]]))
                }
                127 => {
                    let wide = peer.exactly(8);
                    wire.extend(&wide);
                    u64::from_be_bytes(wide.try_into().unwrap()) as usize
                }
                len => len.into(),
            };
            wire.extend(peer.exactly(len));
            let message = loop {
                let (used, event) = decoder.decode(&mut wire);
                wire.drain(..used);
                match event.unwrap() {
                    Some(Event::Message(message)) => break message,
                    other => assert!(other.is_none() && used > 0),
                }
            };
            let bytes = message.as_bytes();
            let number = u64::from_be_bytes(bytes[bytes.len() - 8..].try_into().unwrap());
            assert!(number as usize > last);
            last = number as usize;
            got += 1;
            compressed += usize::from(head[0] & 0x40 != 0);
        }
        assert_eq!(got as u64 + subscription.dropped(), count as u64);
        assert!(compressed > 0);
    }
}

#[test]
fn slow_one_is_disconnected_with_1013() {
    let (server, heard, ends) = meeting(WebSocketConfig::default());
    let topic = Topic::new(TopicPolicy::Disconnect);
    let mut slow = server.open();
    let slow_socket = heard.next();
    let _slow = topic.subscribe(&slow_socket);
    let mut well = server.open();
    let _well = topic.subscribe(&heard.next());
    let mut number = 0;
    loop {
        let delivery = topic.publish(numbered(number, 50_000));
        assert_eq!(numbers(&mut well, number), [number]);
        if delivery.slow > 0 {
            assert_eq!((delivery.sent, delivery.slow), (1, 1));
            break;
        }
        assert_eq!(delivery.sent, 2);
        number += 1;
    }
    assert_eq!(ends.next(), "Disconnected(SlowSubscriber)");
    assert_eq!(slow_socket.disconnect(), Some(Disconnect::SlowSubscriber));
    assert!(matches!(
        slow_socket.send("late"),
        Err(WebSocketError::Closed)
    ));
    assert_eq!(topic.len(), 1);
    // It has missed nothing up to then, and is told why.
    assert_eq!(numbers(&mut slow, number), (0..=number).collect::<Vec<_>>());
    assert_eq!(slow.close_code(), 1013);
    slow.expect_end();
    well.close();
}

#[test]
fn publisher_waits_for_a_slow_one_when_all_others_have_it() {
    const SIZE: usize = 100_000;
    let (server, heard, _) = meeting(WebSocketConfig::default());
    let topic = Topic::new(TopicPolicy::Block);
    let mut slow = server.open();
    let _slow = topic.subscribe(&heard.next());
    let mut well = server.open();
    let _well = topic.subscribe(&heard.next());
    let published = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (count, stopped) = (Arc::clone(&published), Arc::clone(&stop));
    let publisher = runtime::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            let number = count.load(Ordering::SeqCst);
            assert_eq!(topic.publish(numbered(number, SIZE)).sent, 2);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    // Until it is held up.
    let began = Instant::now();
    let (mut last, mut got) = (began, 0);
    well.stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let held_up = loop {
        if let Ok(Some(_)) = well.try_frame() {
            got += 1;
            last = Instant::now();
        }
        assert!(began.elapsed() < DEADLINE, "{got} and no end");
        // The message for which it waits is with the other.
        let held_up = published.load(Ordering::SeqCst);
        if last.elapsed() >= Duration::from_millis(300) && got == held_up + 1 {
            break held_up;
        }
    };
    stop.store(true, Ordering::SeqCst);
    assert_eq!(
        numbers(&mut slow, held_up),
        (0..=held_up).collect::<Vec<_>>()
    );
    publisher.join().unwrap();
    slow.close();
    well.close();
}

#[test]
fn one_that_takes_nothing_holds_a_publisher_up_no_longer_than_its_write_timeout() {
    let limit = Duration::from_millis(300);
    let (server, heard, ends) = meeting(WebSocketConfig::default().write_timeout(limit));
    for policy in [
        TopicPolicy::Block,
        TopicPolicy::DropOldest { keep: 1 },
        TopicPolicy::Disconnect,
    ] {
        let topic = Topic::new(policy);
        let mut peer = server.open();
        let ws = heard.next();
        let _subscription = topic.subscribe(&ws);
        let began = Instant::now();
        while ws.disconnect().is_none() {
            topic.publish(pattern(1 << 20));
            assert!(began.elapsed() < DEADLINE, "{policy:?}");
        }
        let end = ends.next();
        assert!(end.starts_with("Disconnected(Slow"), "{policy:?}: {end}");
        peer.expect_cut();
        assert!(topic.is_empty());
    }
}

/// As slow as to stay behind for ever, and yet taking a little all the time.
#[test]
fn one_that_stays_behind_is_disconnected_too() {
    let config = WebSocketConfig::default().write_timeout(Duration::from_secs(3));
    let (server, heard, _) = meeting(config);
    let topic = Topic::new(TopicPolicy::Block);
    let mut peer = server.open();
    let ws = heard.next();
    let _subscription = topic.subscribe(&ws);
    let publisher = runtime::spawn(move || topic.publish(pattern(32 << 20)));
    let mut end = None;
    let began = Instant::now();
    while end.is_none() {
        // Takes something, and never for long nothing.
        peer.stream_pause();
        peer.more().ok();
        end = ws.disconnect();
        assert!(began.elapsed() < DEADLINE);
    }
    assert_eq!(end, Some(Disconnect::SlowSubscriber));
    assert_eq!(publisher.join().unwrap().slow, 1);
    peer.reset();
}

/// Publishers on all hubs and on threads, while subscribers come, go, are killed and close.
#[test]
fn everybody_gets_each_publishers_messages_in_order() {
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 400;
    let topic = Topic::new(TopicPolicy::Block);
    let theirs = topic.clone();
    let server = serve(move |ws| {
        let _subscription = theirs.subscribe(&ws);
        ws.send("subscribed")?;
        while let Some(message) = ws.receive()? {
            match message.as_text() {
                Some("kill") => runtime::getcurrent().unwrap().kill_nowait(),
                Some("error") => return Err("on purpose".into()),
                _ => {}
            }
        }
        Ok(())
    });
    let open = |server: &Server| {
        let mut peer = server.open();
        loop {
            if peer.frame().payload == b"subscribed" {
                return peer;
            }
        }
    };
    let mut stay: Vec<Peer> = (0..6).map(|_| open(&server)).collect();
    let go = Arc::new(AtomicBool::new(false));
    let publishing = move |topic: Topic, publisher: usize, go: Arc<AtomicBool>| {
        while !go.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        for i in 0..MESSAGES {
            topic.publish(format!("{publisher} {i}"));
        }
    };
    let threads: Vec<_> = (0..PUBLISHERS / 2)
        .map(|publisher| {
            let (topic, go) = (topic.clone(), Arc::clone(&go));
            thread::spawn(move || publishing(topic, publisher, go))
        })
        .collect();
    go.store(true, Ordering::SeqCst);
    let greenlets: Vec<_> = (PUBLISHERS / 2..PUBLISHERS)
        .map(|publisher| {
            let (topic, go) = (topic.clone(), Arc::clone(&go));
            let builder = Builder::new().hub(publisher % Hub::count());
            builder
                .spawn(move || publishing(topic, publisher, go))
                .unwrap()
        })
        .collect();
    // These come and go meanwhile.
    for round in 0..60 {
        let mut peer = open(&server);
        match round % 5 {
            0 => drop(peer),
            1 => peer.reset(),
            2 => peer.write(text("kill")),
            3 => peer.write(text("error")),
            _ => {
                peer.write(close(1000));
                while peer.frame().opcode != CLOSE {}
            }
        }
    }
    for peer in &mut stay {
        let mut next = [0; PUBLISHERS];
        while next != [MESSAGES; PUBLISHERS] {
            let text = String::from_utf8(peer.frame().payload).unwrap();
            let (publisher, i) = text.split_once(' ').unwrap();
            let publisher: usize = publisher.parse().unwrap();
            assert_eq!(i.parse(), Ok(next[publisher]), "of {publisher}");
            next[publisher] += 1;
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    for greenlet in greenlets {
        greenlet.join().unwrap();
    }
    let began = Instant::now();
    while topic.len() > stay.len() {
        assert!(began.elapsed() < DEADLINE);
        thread::yield_now();
    }
    for peer in stay {
        peer.close();
    }
}

#[test]
#[should_panic(expected = "keeps no message")]
fn topic_keeps_at_least_one_message() {
    Topic::new(TopicPolicy::DropOldest { keep: 0 });
}
