//! A server listens at several places: TCP ports and unix sockets, all of which serve the same.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use kit::http::{HANDSHAKE, get};
use kit::program::{Program, run};
use kit::{DEADLINE, eventually};

/// A path for a socket: short, because of the bound of the system.
fn socket(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("fanline-{}-{name}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The answer to a request, over a connection that ends with it.
fn ask(mut socket: impl Read + Write, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn every_listener_serves_and_the_first_is_announced_as_ever() {
    let (open, admin) = (socket("open"), socket("admin"));
    let (at_open, at_admin) = (format!("unix:{}?mode=666", text(&open)), format!("unix:{}", text(&admin)));
    // The flag is repeated, and overrides the variable: the last one is `Program`'s own.
    let args = ["--listen", "127.0.0.1:0", "--listen", &at_open, "--admin-listen", &at_admin];
    let mut server = Program::serve(&args, &[("LISTEN", "127.0.0.1:1")]);
    assert_eq!(server.next_address(), format!("unix:{}", text(&open)));
    let further = server.next_address();
    let further: SocketAddr =
        further.strip_prefix("http://").and_then(|addr| addr.parse().ok()).expect("a TCP address");

    for addr in [server.addr(), further] {
        assert_eq!(get(addr, "/healthz").status, 200);
        assert_eq!(get(addr, "/metrics").status, 404, "the operator's listener has it");
    }
    let connect = |path: &Path| UnixStream::connect(path).expect("the server listens");
    assert!(ask(connect(&open), "/healthz").starts_with("HTTP/1.0 200"));
    let metrics = ask(connect(&admin), "/metrics");
    assert!(metrics.starts_with("HTTP/1.0 200") && metrics.contains("fanline_build_info"), "{metrics}");
    assert!(ask(connect(&admin), "/v1/snapshot").starts_with("HTTP/1.0 404"));
    assert_eq!((mode(&open), mode(&admin)), (0o666, 0o600));
    let (status, told, error) = run(&["health", &format!("unix:{}", text(&open))], &[]);
    assert_eq!((status.code(), &*told), (Some(0), "{\"healthy\":true}\n"), "{error}");
    let (status, _, error) = run(&["health", "unix:/nowhere/f.sock"], &[]);
    assert_eq!(status.code(), Some(1));
    assert!(error.contains("expected an answer from `unix:/nowhere/f.sock`"), "{error}");

    // A session, from the upgrade to the goodbye.
    let mut client = connect(&open);
    client.set_read_timeout(Some(DEADLINE)).expect("a deadline above 0");
    let request = format!("GET /v1/ws?topics=%3E HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n{HANDSHAKE}\r\n");
    client.write_all(request.as_bytes()).expect("the server reads");
    let mut received = Vec::new();
    let has = |received: &[u8], word: &str| received.windows(word.len()).any(|part| part == word.as_bytes());
    let mut read_until = |word: &str| {
        let mut buffer = [0; 4096];
        while !has(&received, word) {
            let bytes = client.read(&mut buffer).expect("the server writes");
            assert!(bytes > 0, "expected `{word}`, found the end: {}", received.escape_ascii());
            received.extend_from_slice(&buffer[..bytes]);
        }
    };
    read_until("101 Switching Protocols");
    read_until("\"topic\":\"trade.");
    server.terminate();
    read_until("\"op\":\"goodbye\"");
    assert!(server.wait().success());
    for path in [&open, &admin] {
        assert!(!path.exists(), "{} is removed", path.display());
    }
}

#[test]
fn a_socket_is_taken_over_only_from_a_server_that_is_gone() {
    let path = socket("stale");
    let listen = format!("unix:{}", text(&path));
    let mut first = Program::serve_on(&format!("127.0.0.1:0,{listen}"), &[], &[]);
    let (status, _, told) = run(&["--listen", &listen], &[]);
    assert_eq!(status.code(), Some(1));
    assert!(told.contains(&format!("`{listen}`, found it in use by another program")), "{told}");
    assert!(ask(UnixStream::connect(&path).expect("the first one stays"), "/healthz").contains("200 OK"));
    first.kill();
    assert!(path.exists(), "killed, it could not clean up");
    assert!(UnixStream::connect(&path).is_err());

    let mut second = Program::serve_on(&format!("127.0.0.1:0,{listen}"), &[], &[]);
    assert!(ask(UnixStream::connect(&path).expect("taken over"), "/healthz").contains("200 OK"));
    // What another program has put there in the meantime is not the server's to remove.
    std::fs::remove_file(&path).expect("it is there");
    let _other = UnixListener::bind(&path).expect("a free path");
    second.terminate();
    assert!(second.wait().success());
    assert!(UnixStream::connect(&path).is_ok(), "the other program still listens");
    std::fs::remove_file(&path).expect("it is there");
}

#[test]
fn what_cannot_be_listened_at_is_named_with_the_remedy() {
    let (file, folder) = (socket("file"), socket("folder"));
    std::fs::write(&file, "precious").expect("a writable folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("bound").to_string();
    let at = |path: &Path| format!("unix:{}", text(path));
    for (listen, code, parts) in [
        (at(&file), 1, &["found a file that is not a socket", "remove it"][..]),
        (at(&folder.join("f.sock")), 1, &["found no such directory", "create it"]),
        (format!("127.0.0.1:0,{taken}"), 1, &[&taken, "in use by another program", "--listen"]),
        (
            "tcp+proxy://127.0.0.1:0".into(),
            2,
            &["found no addresses in proxy.trusted", "proxy.trusted = [\"10.0.0.0/8\"]"],
        ),
        (format!("unix+proxy:{}", text(&folder)), 2, &["found no unix sockets in proxy.trusted", "[\"unix\"]"]),
        ("127.0.0.1:0,http://127.0.0.1:0".into(), 2, &["in `http://127.0.0.1:0`: try `127.0.0.1:0`"]),
        ("unix:".into(), 2, &["write the path of the socket"]),
    ] {
        let (status, _, told) = run(&["--listen", &listen], &[]);
        assert_eq!(status.code(), Some(code), "{listen}: {told}");
        for part in parts {
            assert!(told.contains(part), "`{part}` in: {told}");
        }
    }
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "precious");
    std::fs::remove_file(&file).expect("it is there");
    let (status, _, told) = run(&["--listen", "127.0.0.1:0", "--admin-listen", "tcp+proxy://127.0.0.1:0"], &[]);
    assert_eq!(status.code(), Some(2), "{told}");
    assert!(told.contains("--admin-listen") && told.contains("plain TCP or a unix socket"), "{told}");
}

#[test]
fn a_client_of_one_listener_finds_the_server_full_because_of_another() {
    let server = Program::serve_on("127.0.0.1:0,127.0.0.2:0", &[], &[("LIMITS_SESSIONS_MAX", "1")]);
    let second = server.next_address();
    let second: SocketAddr = second.strip_prefix("http://").and_then(|addr| addr.parse().ok()).expect("a TCP address");
    let request = |addr: SocketAddr| {
        let mut socket = TcpStream::connect(addr).expect("the server listens");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline above 0");
        let request = format!("GET /v1/ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\n{HANDSHAKE}\r\n");
        socket.write_all(request.as_bytes()).expect("the server reads");
        let mut status = [0; 12];
        socket.read_exact(&mut status).expect("an answer");
        (String::from_utf8_lossy(&status).into_owned(), socket)
    };
    let (status, held) = request(server.addr());
    assert_eq!(status, "HTTP/1.1 101");
    assert_eq!(request(second).0, "HTTP/1.1 503");
    drop(held);
    eventually("the place is free again", || (request(second).0 == "HTTP/1.1 101").then_some(()));
}
