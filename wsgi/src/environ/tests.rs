use std::io::Read;

use super::*;

fn environ(target: &str, headers: &str) -> Environ {
    let request = format!("GET {target} HTTP/1.1\r\nHost: h:80\r\n{headers}\r\n");
    Environ::from_bytes(request.as_bytes()).unwrap()
}

fn get(environ: &Environ, key: &str) -> Option<String> {
    environ.get(key).map(Cow::into_owned)
}

#[test]
fn variables_are_those_of_cgi() {
    let environ = environ("/a/b?x=%20", "Content-Type: text/x\r\nX-Y: z\r\n");
    for (key, value) in [
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", "/a/b"),
        ("QUERY_STRING", "x=%20"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "127.0.0.1"),
        ("SERVER_PORT", "0"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_PORT", "0"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("CONTENT_TYPE", "text/x"),
        ("wsgi.url_scheme", "http"),
        ("HTTP_HOST", "h:80"),
        ("HTTP_X_Y", "z"),
    ] {
        assert_eq!(get(&environ, key).as_deref(), Some(value), "{key}");
    }
    for none in [
        "CONTENT_LENGTH",
        "HTTP_CONTENT_TYPE",
        "HTTP_x_y",
        "HTTP_",
        "X-Y",
        "",
    ] {
        assert_eq!(get(&environ, none), None, "{none}");
    }
    let all: Vec<_> = environ.iter().map(|(key, _)| key.into_owned()).collect();
    assert_eq!(all.len(), 15, "{all:?}");
    assert_eq!(all.iter().filter(|key| *key == "HTTP_HOST").count(), 1);
}

#[test]
fn repeated_headers_are_joined() {
    let environ = environ("/", "A-B: 1\r\nCookie: x=1\r\na-b: 2\r\ncookie: y=2\r\n");
    assert_eq!(get(&environ, "HTTP_A_B").as_deref(), Some("1,2"));
    assert_eq!(get(&environ, "HTTP_COOKIE").as_deref(), Some("x=1; y=2"));
    assert_eq!(environ.header("a-b"), Some("1"));
}

#[test]
fn names_with_an_underscore_are_dropped() {
    let environ = environ(
        "/",
        "X_Forwarded_For: evil\r\nX-Real: good\r\nX_Real: evil\r\n",
    );
    assert_eq!(get(&environ, "HTTP_X_FORWARDED_FOR"), None);
    assert_eq!(get(&environ, "HTTP_X_REAL").as_deref(), Some("good"));
    assert!(!environ.iter().any(|(_, value)| value == "evil"));
    assert_eq!(environ.header("x_real"), Some("evil"));
}

#[test]
fn path_is_decoded_as_utf8_or_else_latin1() {
    assert_eq!(environ("/caf%C3%A9", "").path(), "/café");
    assert_eq!(environ("/caf%E9", "").path(), "/café");
    assert_eq!(environ("/%", "").path(), "/%");
    assert_eq!(environ("/%4", "").path(), "/%4");
    assert_eq!(environ("/%zz%+1%41", "").path(), "/%zz%+1A");
    assert_eq!(environ("/a%2Fb+c", "").path(), "/a/b+c");
}

#[test]
fn host_is_the_absolute_targets() {
    let environ = environ("http://other:81/p", "");
    assert_eq!(get(&environ, "HTTP_HOST").as_deref(), Some("other:81"));
    assert_eq!((environ.host(), &*environ.path()), (Some("other:81"), "/p"));
}

#[test]
fn variables_set_by_a_middleware_win() {
    let mut environ = environ("/app/x", "");
    environ.set("SCRIPT_NAME", "/app");
    environ.set("PATH_INFO", "/x");
    environ.set("PATH_INFO", "/y");
    environ.set("my.own", "1");
    assert_eq!((environ.script_name(), &*environ.path()), ("/app", "/y"));
    assert_eq!(get(&environ, "PATH_INFO").as_deref(), Some("/y"));
    assert!(
        environ
            .iter()
            .any(|(key, value)| key == "my.own" && value == "1")
    );
}

#[test]
fn printed_environ_masks_secrets() {
    let text = format!(
        "{:?}",
        environ(
            "/",
            "Cookie: s3cret\r\nAuthorization: s3cret\r\nA: open\r\n"
        )
    );
    assert!(!text.contains("s3cret") && text.contains("<masked>") && text.contains("open"));
}

#[test]
fn extensions_are_found_by_type() {
    let mut environ = environ("/", "");
    assert_eq!(environ.insert(1u8), None);
    assert_eq!(environ.insert(2u8), Some(1));
    environ.insert(String::from("a"));
    *environ.extension_mut::<u8>().unwrap() += 1;
    assert_eq!(environ.extension::<u8>(), Some(&3));
    assert_eq!(environ.extension::<u16>(), None);
    assert_eq!(environ.remove::<String>().as_deref(), Some("a"));
    assert_eq!(environ.remove::<String>(), None);
}

#[test]
fn body_is_read_to_its_end() {
    let request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET";
    let mut environ = Environ::from_bytes(request).unwrap();
    let mut text = String::new();
    environ.input().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    let request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nhello";
    let mut environ = Environ::from_bytes(request).unwrap();
    let error = environ.input().read_to_string(&mut text).unwrap_err();
    assert_eq!(crate::Error::from(error).status_hint(), 400);
}

/// That of a WebSocket lies on its greenlet's stack, of which one page is to be enough.
#[test]
fn environ_leaves_room_on_the_stack() {
    assert!(size_of::<Environ>() <= 392, "{}", size_of::<Environ>());
}
