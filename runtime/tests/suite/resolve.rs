//! Looking up names.

use std::net::SocketAddr;
use std::time::Duration;

use greenwood_runtime::net::getaddrinfo;
use greenwood_runtime::{self as runtime, Builder};

#[test]
fn addresses_need_no_lookup() {
    for host in ["127.0.0.1", "::1"] {
        let expected = SocketAddr::new(host.parse().unwrap(), 80);
        let found = getaddrinfo(host, 80, Some(Duration::from_nanos(1)));
        assert_eq!(found.unwrap(), [expected]);
    }
}

#[test]
fn names_are_looked_up_in_greenlets_and_threads() {
    let look_up = || getaddrinfo("localhost", 8000, None).unwrap();
    let there = look_up();
    assert!(
        there
            .iter()
            .all(|address| address.ip().is_loopback() && address.port() == 8000)
    );
    assert_eq!(runtime::spawn(look_up).join().unwrap(), there);
}

#[test]
fn the_hub_goes_on_during_a_lookup() {
    // As many lookups as wait for a thread, and one greenlet beside them on the same hub.
    let lookups: Vec<_> = (0..30)
        .map(|_| {
            Builder::new()
                .hub(0)
                .spawn(|| getaddrinfo("localhost", 1, None).map(drop))
                .unwrap()
        })
        .collect();
    let beside = Builder::new().hub(0).spawn(|| 1).unwrap();
    assert_eq!(beside.join().unwrap(), 1);
    for lookup in lookups {
        lookup.join().unwrap().unwrap();
    }
}

#[test]
fn lookups_end_in_time_and_by_kills() {
    // The answer may be there before one looks at the time.
    if let Err(late) = getaddrinfo("localhost", 1, Some(Duration::from_nanos(1))) {
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
    }
    let killed = runtime::spawn(|| getaddrinfo("localhost", 1, None));
    killed.kill();
    getaddrinfo("localhost", 1, None).unwrap();
}

#[test]
fn names_without_an_address_are_errors() {
    assert!(getaddrinfo("no-such-host.invalid", 1, None).is_err());
    assert!(getaddrinfo("", 1, Some(Duration::from_secs(5))).is_err());
}

#[test]
fn errors_name_the_host_on_one_line() {
    for host in ["no.such.host.invalid", "a\0b", "two\nlines"] {
        let error = getaddrinfo(host, 80, None).unwrap_err().to_string();
        let shown = host.escape_debug().to_string();
        assert!(error.contains(&shown) && !error.contains('\n'), "{error}");
    }
}
