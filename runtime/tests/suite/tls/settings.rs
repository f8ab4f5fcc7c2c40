//! Certificates: their files, their names, and their renewal.

use std::io::{ErrorKind, Read, Write};

use greenwood_runtime::net::{ClientTls, Identity, ServerTls};

use super::{Authority, Folder, client, server, shake_hands};
use crate::support::deadline;

/// The certificate that a server shows to who asks for `name`. Whether it is for that name is not
/// looked at.
fn shown(server: &ServerTls, name: &str) -> Vec<u8> {
    let blind = client().dangerous_accept_any_certificate().build().unwrap();
    let (here, there) = shake_hands(&blind, server, name);
    there.unwrap();
    here.unwrap().info().peer_certificates[0].clone()
}

#[test]
fn certificate_is_chosen_by_the_name_that_is_asked_for() {
    let _deadline = deadline();
    let authority = Authority::trusted();
    let server = server()
        .sni("one.example.org", authority.identity(&["one.example.org"]))
        .sni("*.example.org", authority.identity(&["*.example.org"]))
        .sni("TWO.example.net", authority.identity(&["two.example.net"]))
        .build()
        .unwrap();
    let client = client().build().unwrap();
    for name in [
        "localhost",
        "one.example.org",
        "any.example.org",
        "two.EXAMPLE.net",
    ] {
        let (here, there) = shake_hands(&client, &server, name);
        here.unwrap();
        let asked = there.unwrap().info().server_name.clone();
        assert_eq!(asked, Some(name.to_ascii_lowercase()));
    }
    let default = shown(&server, "localhost");
    // The name itself goes before the pattern, which is for one label only.
    assert_ne!(
        shown(&server, "one.example.org"),
        shown(&server, "any.example.org")
    );
    assert_eq!(shown(&server, "127.0.0.1"), default);
    assert_eq!(shown(&server, "example.org"), default);
    assert_eq!(shown(&server, "a.b.example.org"), default);
}

#[test]
fn reload_serves_new_files_and_leaves_connections_alone() {
    let _deadline = deadline();
    let (folder, authority) = (Folder::new(), Authority::trusted());
    let renew = || {
        let (certificate, key) = authority.certify(&["localhost"]);
        folder.write("key.pem", &key);
        folder.write("cert.pem", &certificate)
    };
    let certfile = renew();
    let tls = ServerTls::from_files(&certfile, folder.0.join("key.pem")).unwrap();
    let trusting = client().build().unwrap();
    let (here, there) = shake_hands(&trusting, &tls, "localhost");
    let (mut here, mut there) = (here.unwrap(), there.unwrap());
    let first = shown(&tls, "localhost");

    renew();
    assert_eq!(shown(&tls, "localhost"), first, "nobody has reloaded yet");
    tls.reload().unwrap();
    let second = shown(&tls, "localhost");
    assert_ne!(second, first);

    // What can't be used changes nothing, and the error says where it is.
    folder.write("cert.pem", "no certificate");
    let error = tls.reload().unwrap_err();
    assert!(error.to_string().contains("cert.pem"), "{error}");
    std::fs::remove_file(&certfile).unwrap();
    assert_eq!(tls.reload().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(shown(&tls, "localhost"), second);

    here.write_all(b"still here").unwrap();
    let mut buffer = [0; 10];
    there.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"still here");
}

#[test]
fn unusable_files_are_named_with_what_is_wrong() {
    let _deadline = deadline();
    let (folder, authority) = (Folder::new(), Authority::trusted());
    let (certificate, key) = authority.certify(&["localhost"]);
    let (other, other_key) = authority.certify(&["localhost"]);
    let certfile = folder.write("cert.pem", &certificate);
    let keyfile = folder.write("key.pem", &key);
    let other_key = folder.write("other.key", &other_key);
    let empty = folder.write("empty.pem", "");
    let broken = folder.write(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    );
    let absent = folder.0.join("absent.pem");
    let both = folder.write("both.pem", &format!("{key}{certificate}{other}"));

    assert!(ServerTls::from_files(&certfile, &keyfile).is_ok());
    assert!(ServerTls::from_files(&both, &both).is_ok());
    for (certfile, keyfile, names, why) in [
        (&absent, &keyfile, "certfile", "absent.pem: No such file"),
        (&certfile, &absent, "keyfile", "absent.pem: No such file"),
        (
            &empty,
            &keyfile,
            "certfile",
            "empty.pem: there is no certificate",
        ),
        (&broken, &keyfile, "certfile", "broken.pem: "),
        (
            &certfile,
            &certfile,
            "keyfile",
            "cert.pem: there is no private key",
        ),
        (
            &certfile,
            &other_key,
            "keyfile",
            "other.key: the key is not that of",
        ),
    ] {
        let error = ServerTls::from_files(certfile, keyfile).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(names) && text.contains(why), "{text}");
    }
    let error = server().require_client_cert(&empty).build().unwrap_err();
    assert!(error.to_string().contains("ca_certs"), "{error}");
    let error = server()
        .sni("no name", Identity::files(&certfile, &keyfile))
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("no name"), "{error}");
    let error = ClientTls::builder().ca_certs(&absent).build().unwrap_err();
    assert!(error.to_string().contains("absent.pem"), "{error}");
    let error = ClientTls::builder()
        .system_roots(false)
        .build()
        .unwrap_err();
    assert!(error.to_string().contains("ca_certs"), "{error}");
}

#[test]
fn keys_are_never_printed() {
    let (certificate, key) = Authority::trusted().certify(&["localhost"]);
    let secret = key.lines().nth(1).unwrap().to_owned();
    let builder = ServerTls::builder(Identity::pem(certificate, key));
    let shown = format!("{builder:?}");
    let tls = builder.build().unwrap();
    assert!(!format!("{shown}{tls:?}").contains(&secret), "{shown}");
}
