//! First steps.
use greenwood_runtime::*;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn many() {
    let gs: Vec<_> = (0..1000)
        .map(|i| {
            spawn(move || {
                sleep(Duration::from_millis(5));
                i
            })
        })
        .collect();
    let s: i32 = gs.into_iter().map(|g| g.join().unwrap()).sum();
    assert_eq!(s, 499500);
    let q = Arc::new(Queue::new(1));
    let q2 = Arc::clone(&q);
    let p = spawn(move || {
        for i in 0..10000 {
            q2.put(i).unwrap();
        }
    });
    for i in 0..10000 {
        assert_eq!(q.get().unwrap(), i);
    }
    p.join().unwrap();
    let g = spawn(|| sleep(Duration::from_secs(100)));
    g.kill();
    assert!(g.join().unwrap_err().is_killed());
    assert!(with_timeout(Duration::from_millis(5), || sleep(Duration::from_secs(5))).is_err());
    let g = spawn(|| with_timeout(Duration::from_millis(5), || sleep(Duration::from_secs(5))));
    assert!(g.join().unwrap().is_err());
    let g = spawn(|| panic!("ouch"));
    let e = g.join().unwrap_err();
    println!("{e}");
    assert!(e.is_panic());
    assert_eq!(Hub::greenlets(), 0);
}

#[test]
fn echo() {
    use std::io::{Read, Write};
    let server = StreamServer::new("127.0.0.1:0", |mut s, _| {
        let mut b = [0; 1024];
        while let Ok(n) = s.read(&mut b) {
            if n == 0 {
                break;
            }
            s.write_all(&b[..n]).unwrap();
        }
    })
    .unwrap();
    server.start().unwrap();
    let a = server.local_addr();
    let gs: Vec<_> = (0..50)
        .map(|_| {
            spawn(move || {
                let mut c = net::TcpStream::connect(a).unwrap();
                for i in 0..100u32 {
                    c.write_all(&i.to_le_bytes()).unwrap();
                    let mut b = [0; 4];
                    c.read_exact(&mut b).unwrap();
                    assert_eq!(u32::from_le_bytes(b), i);
                }
            })
        })
        .collect();
    for g in gs {
        g.join().unwrap();
    }
    let mut c = net::TcpStream::connect(a).unwrap();
    c.write_all(b"hello").unwrap();
    let mut b = [0; 5];
    c.read_exact(&mut b).unwrap();
    server.stop(Duration::from_millis(50));
    assert_eq!(c.read(&mut b).unwrap(), 0);
}
