//! TLS of the server's own: clients of all kinds are served as without it, and what is wrong ends only its own connection.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kit::certificate::{self, CertificateFiles};
use kit::http::{HANDSHAKE, sum};
use kit::program::{Program, run};
use kit::tls_server::TlsServer;
use kit::{eventually, project, skip_without_tool, tool};
use tls_record::ContentType;
use tls_record::keys::{Cipher, TlsVersion, TrafficKey};
use tls_record::sealing::Sealer;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// A client's side of TLS.
fn config(trusted: &[&CertificateFiles], version: &'static SupportedProtocolVersion) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots(trusted))
        .with_no_client_auth()
}

fn roots(trusted: &[&CertificateFiles]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for files in trusted {
        roots.add(CertificateDer::from(files.der())).expect("a root");
    }
    roots
}

fn client(server: &TlsServer, name: &str, config: &Arc<ClientConfig>) -> TlsClient {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    StreamOwned::new(ClientConnection::new(config.clone(), name).expect("a client"), server.dial())
}

/// Whether the handshake succeeds; the error if not.
fn shake_hands(client: &mut TlsClient) -> std::io::Result<()> {
    while client.conn.is_handshaking() {
        client.conn.complete_io(&mut client.sock)?;
    }
    Ok(())
}

/// Asks for a session on all topics.
fn upgrade(client: &mut TlsClient, query: &str) {
    let request = format!("GET /v1/ws?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n{HANDSHAKE}\r\n");
    client.write_all(request.as_bytes()).expect("the server reads");
}

/// Reads until `word` has come; returns all that was read.
fn read_until(client: &mut TlsClient, word: &str) -> Vec<u8> {
    let (mut received, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while !received.windows(word.len()).any(|part| part == word.as_bytes()) {
        let bytes = client.read(&mut buffer).expect("the server writes");
        assert!(bytes > 0, "expected `{word}`, found the end");
        received.extend_from_slice(&buffer[..bytes]);
    }
    received
}

/// A masked frame with a short text.
fn frame(opcode: u8, text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short text");
    [&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0], text].concat()
}

/// Values of `offset` in frames, in their order.
fn offsets(received: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(received);
    let frames = text.split("{\"topic\":").skip(1);
    let offsets = frames.filter_map(|frame| frame.split_once("\"offset\":")?.1.split(',').next()?.parse().ok());
    offsets.collect()
}

#[test]
fn a_session_over_either_version_is_as_one_without_tls() {
    let files = certificate::write("either", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[("SIMULATE_RATE", "2000")]);
    for version in [&TLS13, &TLS12] {
        let mut client = client(&server, "localhost", &Arc::new(config(&[&files], version)));
        // In one record with the request, so that it is read ahead.
        let request =
            format!("GET /v1/ws?topics=%3E HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n{HANDSHAKE}\r\n");
        let ahead = [request.as_bytes(), &frame(1, br#"{"op":"ping","id":1}"#)].concat();
        client.write_all(&ahead).expect("the server reads");
        let mut received = read_until(&mut client, "\"op\":\"pong\"");
        assert!(received.starts_with(b"HTTP/1.1 101 "), "{}", received.escape_ascii());
        client.write_all(&frame(1, br#"{"op":"ping","id":2}"#)).expect("the server reads");
        received.extend(read_until(&mut client, "\"id\":2"));
        let offsets = offsets(&received);
        assert!(offsets.len() > 10, "{}", offsets.len());
        assert!(offsets.is_sorted_by(|a, b| a < b), "each frame once, in order");
        client.write_all(&frame(8, &[3, 232])).expect("the server reads");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("a clean end, with close_notify");
        assert!(rest.ends_with(&[0x88, 2, 3, 232]), "the close frame is the last");
    }
    assert_eq!(server.handshakes("result=\"done\""), 2.0);
}

#[test]
fn a_client_that_only_listens_holds_nothing_of_its_handshake_and_stays() {
    let files = certificate::write("listens", &["localhost"]);
    let settings = [("SIMULATE_RATE", "100"), ("LIMITS_MESSAGE_TIMEOUT", "1s")];
    let server = TlsServer::start(&files.pair(), &settings);
    for version in [&TLS13, &TLS12] {
        let mut client = client(&server, "localhost", &Arc::new(config(&[&files], version)));
        upgrade(&mut client, "topics=%3E");
        let mut received = Vec::new();
        // Three seconds of the market: what is held of a message that has not ended ends the session after one.
        while offsets(&received).len() < 360 {
            received.extend(read_until(&mut client, "\"offset\":"));
        }
        assert_eq!(sum(&server.program.get("/metrics").body, "fanline_inbound_bytes", ""), 0.0);
    }
}

#[test]
fn keys_are_renewed_in_tls_1_3_and_a_session_of_tls_1_2_ends_before_its_key_is_worn_out() {
    let files = certificate::write("renewed", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[("TLS_RECORDS_PER_KEY", "100"), ("SIMULATE_RATE", "100")]);
    let mut new = client(&server, "localhost", &Arc::new(config(&[&files], &TLS13)));
    upgrade(&mut new, "topics=%3E");
    let (mut received, mut renewed) = (Vec::new(), 0);
    // Several hundred records, and so several keys; the client begins some of its own, fewer than it may in a minute.
    while offsets(&received).len() < 400 {
        received.extend(read_until(&mut new, "\"topic\""));
        if offsets(&received).len() > 20 * renewed {
            renewed += 1;
            new.conn.refresh_traffic_keys().expect("TLS 1.3");
            new.write_all(&frame(9, b"")).expect("the server reads");
        }
    }
    assert!((5..32).contains(&renewed), "{renewed}");
    assert!(offsets(&received).is_sorted_by(|a, b| a < b));

    let mut old = client(&server, "localhost", &Arc::new(config(&[&files], &TLS12)));
    upgrade(&mut old, "topics=%3E");
    let mut received = Vec::new();
    old.read_to_end(&mut received).expect("an end with close_notify");
    let close = [&[0x03, 0xF4][..], b"the connection needs new encryption keys"].concat();
    assert!(received.windows(close.len()).any(|part| part == close), "1012");
    let told = String::from_utf8_lossy(&received);
    let (_, goodbye) = told.split_once(r#"{"op":"goodbye","code":"worn_out""#).expect("told before the close frame");
    assert!(goodbye.contains("\"reconnect_ms\":"), "{goodbye}");
    assert!(offsets(&received).is_sorted_by(|a, b| a < b));
}

#[test]
fn a_client_that_stalls_receives_every_byte_or_is_told() {
    let files = certificate::write("stalls", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[("SIMULATE_RATE", "20000"), ("SLOW_UNSENT_BYTES_MAX", "4KiB")]);
    let mut client = client(&server, "localhost", &Arc::new(config(&[&files], &TLS13)));
    socket2::SockRef::from(&client.sock).set_recv_buffer_size(4096).expect("an open socket");
    upgrade(&mut client, "topics=%3E");
    read_until(&mut client, "\"topic\"");
    eventually("the session is behind", || {
        (sum(&server.program.get("/metrics").body, "fanline_sessions_behind", "") > 0.0).then_some(())
    });
    // It reads on in small parts, and whatever was cut in a record is continued there.
    let received = read_until(&mut client, "\"op\":\"skipped\"");
    let offsets = offsets(&received);
    assert!(offsets.is_sorted_by(|a, b| a < b), "no byte is lost, none comes twice");
    client.write_all(&frame(1, br#"{"op":"ping","id":1}"#)).expect("the server reads");
    read_until(&mut client, "\"op\":\"pong\"");
}

#[test]
fn stock_clients_are_served_over_tls() {
    let files = certificate::write("stock", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[("SIMULATE_RATE", "2000")]);
    let url = server.wss("/v1/ws");
    let python = tool("python").filter(|python| python.ends_with("venv/bin/python"));
    let node = tool("node").filter(|_| project("tests/stock/node_modules/ws").is_dir());
    for (name, program, script) in
        [("`websockets` for Python", python, "client.py"), ("Node with its package `ws`", node, "client.mjs")]
    {
        let Some(program) = program else {
            skip_without_tool("stock_clients_are_served_over_tls", name);
            continue;
        };
        for mode in ["deflate", "plain"] {
            let script = project("tests/stock").join(script);
            let mut client = Command::new(&program);
            client.arg(&script).args([&url, mode, "trade.*,quote.*", "400"]).stdin(Stdio::null());
            files.trust(&mut client);
            let output = client.output().expect("the client starts");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}, {mode}: {errors}");
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
            for way in ["query", "command", "raw"] {
                assert_eq!(report[way]["texts"].as_array().map(Vec::len), Some(400), "{name}, {mode}, {way}");
                assert_eq!(report[way]["increasing"], true, "{name}, {mode}, {way}");
            }
        }
    }
}

/// What `openssl s_client` says, with these lines typed one second after the other.
fn openssl(server: &TlsServer, args: &[&str], lines: &[&str]) -> String {
    let connect = format!("localhost:{}", server.port);
    // A file, because nobody reads a pipe meanwhile.
    let told = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("openssl-told");
    let file = std::fs::File::create(&told).expect("writable");
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &connect, "-msg"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(file.try_clone().expect("descriptors"))
        .stderr(file)
        .spawn()
        .expect("openssl starts");
    let mut input = child.stdin.take().expect("piped");
    for line in lines {
        // Each line is a command if it comes alone.
        std::thread::sleep(Duration::from_secs(1));
        if input.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    drop(input);
    child.wait().expect("openssl ends");
    String::from_utf8_lossy(&std::fs::read(&told).expect("readable")).into_owned()
}

#[test]
fn openssl_renews_keys_and_finds_nothing_that_is_weak() {
    if Command::new("openssl").arg("version").output().is_err() {
        return skip_without_tool("openssl_renews_keys_and_finds_nothing_that_is_weak", "openssl");
    }
    let files = certificate::write("openssl", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[]);
    let request =
        format!("GET /v1/ws?topics=%3E HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n{HANDSHAKE}\r\n");
    // `k` renews its own key, `K` asks for ours too.
    let told = openssl(&server, &["-tls1_3"], &[&request, "k\n", "K\n", "Q\n"]);
    let (before, after) = told.rsplit_once("<<< TLS 1.3, Handshake [length 0005], KeyUpdate").expect("our KeyUpdate");
    assert!(before.contains("101 Switching Protocols") && before.contains(">>> TLS 1.3, Handshake [length 0005]"));
    assert!(offsets(after.as_bytes()).len() > 10, "data with the new key");
    assert!(offsets(told.as_bytes()).is_sorted_by(|a, b| a < b), "nothing is lost on the way");

    for (args, expected) in [
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..], "alert"),
        (&["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"], "alert"),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"], "alert"),
        (&["-tls1_2"], "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"),
        (&["-tls1_3", "-alpn", "http/1.1"], "ALPN protocol: http/1.1"),
        (&["-tls1_3", "-alpn", "h2"], "alert"),
        (&["-tls1_3"], "Max Early Data: 0"),
    ] {
        let told = openssl(&server, args, &["Q\n"]);
        assert!(told.contains(expected), "{args:?}: {told}");
    }
    let told = openssl(&server, &["-tls1_2"], &["R\n", "Q\n"]);
    assert!(told.contains("RENEGOTIATING") && told.contains("no renegotiation"), "{told}");
}

#[test]
fn each_name_has_its_certificate_and_others_get_the_first() {
    let (first, second) = (
        certificate::write("first", &["feed.example.com"]),
        certificate::write("second", &["*.example.org", "example.org"]),
    );
    let server = TlsServer::start(&format!("{},{}", first.pair(), second.pair()), &[]);
    let shown = |name: &str| {
        // Trusts both, so that names decide.
        let mut client = client(&server, name, &Arc::new(config(&[&first, &second], &TLS13)));
        let shaken = shake_hands(&mut client);
        let shown = client.conn.peer_certificates().map(|chain| chain[0].to_vec());
        shaken.map(|()| shown.expect("a certificate"))
    };
    for (name, files) in [("feed.example.com", &first), ("a.example.org", &second), ("example.org", &second)] {
        assert_eq!(shown(name).expect("a certificate of that name"), files.der(), "{name}");
    }
    for name in ["example.net", "a.b.example.org"] {
        let error = shown(name).expect_err("no certificate has this name");
        assert!(error.to_string().contains("not valid for name"), "{name}: {error}");
    }
}

#[test]
fn a_new_certificate_is_shown_at_once_and_a_bad_one_changes_nothing() {
    let files = certificate::write("reload", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[("TLS_RELOAD_INTERVAL", "50ms"), ("LOG_LEVEL", "info")]);
    let old = Arc::new(config(&[&files], &TLS13));
    let mut session = client(&server, "localhost", &old);
    upgrade(&mut session, "topics=%3E");
    read_until(&mut session, "\"topic\"");

    // The key of another certificate.
    let other = certificate::write("reload-other", &["localhost"]);
    std::fs::copy(&other.key, &files.key).expect("writable");
    eventually("the log names what does not fit", || {
        server.program.log().contains("found another one in").then_some(())
    });
    let mut unchanged = client(&server, "localhost", &old);
    shake_hands(&mut unchanged).expect("the former certificate is still shown");

    std::fs::copy(&other.certificate, &files.certificate).expect("writable");
    let new = Arc::new(config(&[&other], &TLS13));
    eventually("the new certificate is shown", || shake_hands(&mut client(&server, "localhost", &new)).ok());
    assert!(shake_hands(&mut client(&server, "localhost", &old)).is_err(), "the former one is gone");

    std::fs::write(&files.certificate, "nothing").expect("writable");
    server.program.signal("HUP");
    let told = "expected a valid certificate in PEM, found none";
    eventually("the log names the file", || server.program.log().contains(told).then_some(()));
    shake_hands(&mut client(&server, "localhost", &new)).expect("the certificate before it is still shown");
    // All the while the session has stayed.
    read_until(&mut session, "\"topic\"");
}

#[test]
fn a_reload_takes_another_list_of_certificates_and_the_former_ones_expire_no_more() {
    let [first, second] = ["first", "second"].map(|subject| {
        let files = certificate::write(&format!("list-{subject}"), &["localhost"]);
        let key = std::fs::read_to_string(&files.key).expect("readable");
        let key = rcgen::KeyPair::from_pem(&key).expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.distinguished_name.push(rcgen::DnType::CommonName, subject);
        let certificate = params.self_signed(&key).expect("signed");
        std::fs::write(&files.certificate, certificate.pem()).expect("writable");
        files
    });
    let list = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("list-of-certificates");
    std::fs::write(&list, first.pair()).expect("writable");
    let listen = "127.0.0.1:0,tls://127.0.0.1:0";
    let settings = [("TLS_CERTIFICATES_FILE", list.to_str().expect("UTF-8")), ("TLS_RELOAD_INTERVAL", "1h")];
    let program = Program::serve_on(listen, &[], &settings);
    let port = program.next_address().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let server = TlsServer { program, port };
    let ends = |subject: &str| {
        let metrics = server.program.get("/metrics").body;
        sum(&metrics, "fanline_tls_certificate_not_after_timestamp_seconds", &format!("CN={subject}"))
    };
    assert!(ends("first").is_finite() && ends("first") > 0.0);
    std::fs::write(&list, second.pair()).expect("writable");
    server.program.signal("HUP");
    let trusted = Arc::new(config(&[&second], &TLS13));
    eventually("the new certificate is shown", || shake_hands(&mut client(&server, "localhost", &trusted)).ok());
    assert!(ends("second").is_finite() && ends("second") > 0.0);
    assert_eq!(ends("first"), f64::INFINITY, "no alert for what nobody shows");
}

#[test]
fn files_that_cannot_be_used_are_named_at_the_start_and_no_key_is_shown() {
    let (files, other) =
        (certificate::write("start", &["localhost"]), certificate::write("start-other", &["localhost"]));
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (tickets, empty) = (folder.join("start-tickets"), folder.join("start-empty"));
    std::fs::write(&tickets, "5ec2e7").expect("writable");
    std::fs::write(&empty, "").expect("writable");
    let crossed = format!("{}:{}", files.certificate.display(), other.key.display());
    let keyless = files.certificate.display().to_string();
    let (tickets, empty) = (tickets.display().to_string(), empty.display().to_string());
    for (settings, expected) in [
        (vec![], "found none in tls.certificates"),
        (vec![("TLS_CERTIFICATES", "/nowhere.pem")], "expected a readable file, found `/nowhere.pem`"),
        (vec![("TLS_CERTIFICATES", &crossed)], "found another one in"),
        (vec![("TLS_CERTIFICATES", &keyless)], "expected a private key in PEM"),
        (vec![("TLS_CERTIFICATES", &empty)], "expected a valid certificate in PEM, found none"),
        (vec![("TLS_CERTIFICATES", &files.pair()), ("TLS_TICKET_KEY_FILE", &tickets)], "in line 1"),
        (vec![("TLS_CERTIFICATES", &files.pair()), ("TLS_CLIENT_CA", &empty)], "found none"),
    ] {
        let (status, _, told) = run(&["--listen", "tls://127.0.0.1:0"], &settings);
        assert_eq!(status.code(), Some(2), "{settings:?}: {told}");
        assert!(told.contains(expected), "{settings:?}: {told}");
        assert!(!told.contains("5ec2e7") && !told.contains("PRIVATE"), "{told}");
    }
}

#[test]
fn clients_without_a_certificate_are_refused_where_one_is_required() {
    let (files, mine) = (certificate::write("mutual", &["localhost"]), certificate::write("mutual-client", &["desk"]));
    let issuers = mine.certificate.display().to_string();
    let audit = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutual-audit");
    // It may be there from an earlier run.
    let _ = std::fs::remove_dir_all(&audit);
    let audit_dir = audit.display().to_string();
    let settings = [("TLS_CLIENT_CA", &*issuers), ("ADMIN_LISTEN", "127.0.0.1:0"), ("AUDIT_DIR", &audit_dir)];
    let server = TlsServer::start(&files.pair(), &settings);
    let known = |files: &CertificateFiles, own: &CertificateFiles| {
        let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("a version")
            .with_root_certificates(roots(&[files]))
            .with_client_auth_cert(vec![CertificateDer::from(own.der())], key);
        Arc::new(config.expect("a pair"))
    };
    let mut known_client = client(&server, "localhost", &known(&files, &mine));
    upgrade(&mut known_client, "topics=%3E");
    read_until(&mut known_client, "\"topic\"");
    let subject = "CN=rcgen self signed cert";
    let (status, sessions, error) = run(&["admin", "--address", &server.program.admin_address(), "sessions"], &[]);
    assert!(status.success() && sessions.contains("CERTIFICATE") && sessions.contains(subject), "{sessions}{error}");
    eventually("the certificate is in the audit log", || {
        let files = fanline::audit::files::list(&audit).expect("readable");
        let text: String = files.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
        text.contains(&format!("\"certificate\":\"{subject}\"")).then_some(())
    });
    for stranger in [Arc::new(config(&[&files], &TLS13)), known(&files, &files)] {
        let mut client = client(&server, "localhost", &stranger);
        // In TLS 1.3 the client learns of it with the first read.
        let _ = shake_hands(&mut client);
        let error = client.read(&mut [0; 1]).expect_err("refused");
        assert!(error.to_string().to_lowercase().contains("alert"), "{error}");
    }
}

#[test]
fn a_connection_ends_cleanly_amid_a_handshake_message_of_its_client() {
    let files = certificate::write("amid", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[]);
    let mut config = config(&[&files], &TLS13);
    config.enable_secret_extraction = true;
    let mut client = client(&server, "localhost", &Arc::new(config));
    shake_hands(&mut client).expect("a handshake");
    let TlsClient { conn, mut sock } = client;
    let (sequence, secrets) = conn.dangerous_extract_secrets().expect("keys").tx;
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("another cipher") };
    let iv = iv.as_ref().try_into().expect("12 bytes");
    let key = TrafficKey::new(TlsVersion::Tls13, Cipher::Aes128Gcm, key.as_ref(), iv).expect("16 bytes");
    let (mut sealer, mut sealed) = (Sealer::new(&key, sequence), Vec::new());
    sealer.seal(ContentType::Data, b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n", &mut sealed);
    // Two bytes of a KeyUpdate, each in a record of its own.
    sealer.seal(ContentType::Handshake, &[24], &mut sealed);
    sealer.seal(ContentType::Handshake, &[0], &mut sealed);
    sock.write_all(&sealed).expect("the server reads");
    let mut received = Vec::new();
    sock.read_to_end(&mut received).expect("an end");
    // An alert is two bytes, its type and a tag.
    let last = received.len().checked_sub(24).map(|at| &received[at..at + 5]);
    assert_eq!(last, Some(&[23, 3, 3, 0, 19][..]), "close_notify is the last record");
}

#[test]
fn a_client_resumes_on_a_server_with_the_same_ticket_keys() {
    let files = certificate::write("tickets", &["localhost"]);
    let keys = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("ticket-keys");
    std::fs::write(&keys, "11".repeat(32)).expect("writable");
    let keys_file = keys.display().to_string();
    let start = || TlsServer::start(&files.pair(), &[("TLS_TICKET_KEY_FILE", &keys_file)]);
    for version in [&TLS13, &TLS12] {
        std::fs::write(&keys, "11".repeat(32)).expect("writable");
        let mut client_config = config(&[&files], version);
        client_config.resumption = Resumption::in_memory_sessions(8);
        let client_config = Arc::new(client_config);
        let visit = |server: &TlsServer| {
            let mut client = client(server, "localhost", &client_config);
            // The ticket comes with the answer.
            client.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("the server reads");
            client.read_to_end(&mut Vec::new()).expect("a clean end");
            client.conn.handshake_kind()
        };
        assert_eq!(visit(&start()), Some(HandshakeKind::Full));
        let second = start();
        assert_eq!(visit(&second), Some(HandshakeKind::Resumed), "after a restart");
        assert_eq!(second.handshakes("resumed=\"true\""), 1.0);
        // Rotated: the former key still opens.
        std::fs::write(&keys, format!("{}\n{}\n", "22".repeat(32), "11".repeat(32))).expect("writable");
        assert_eq!(visit(&start()), Some(HandshakeKind::Resumed));
        std::fs::write(&keys, "33".repeat(32)).expect("writable");
        assert_eq!(visit(&start()), Some(HandshakeKind::Full), "keys that nobody knows");
    }
}

#[test]
fn what_is_no_handshake_or_none_in_time_ends_its_own_connection_alone() {
    let files = certificate::write("hostile", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[("TLS_HANDSHAKE_TIMEOUT", "300ms")]);
    let config = Arc::new(config(&[&files], &TLS13));
    let mut bystander = client(&server, "localhost", &config);
    upgrade(&mut bystander, "topics=%3E");
    read_until(&mut bystander, "\"topic\"");
    let mut hello = Vec::new();
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(config.clone(), name).expect("a client").write_tls(&mut hello).expect("a vector");
    for (what, sent) in [
        ("a request without TLS", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("noise", vec![0xA5; 20_000]),
        ("a record that is too long", vec![22, 3, 1, 0xFF, 0xFF]),
        ("half of a ClientHello", hello[..hello.len() / 2].to_vec()),
        ("a ClientHello, and no more", hello.clone()),
        ("a ClientHello with a flaw", [&hello[..50], &[0xFF; 30][..], &hello[80..]].concat()),
        ("data before the end of the handshake", [&hello[..], &[23, 3, 3, 0, 5, 1, 2, 3, 4, 5]].concat()),
    ] {
        let mut socket = server.dial();
        // The server may close it before all is written.
        let _ = socket.write_all(&sent);
        match socket.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{what}"),
        }
    }
    assert!(server.handshakes("result=\"timeout\"") >= 2.0);
    assert!(server.handshakes("result=\"failed\"") >= 4.0);

    // Byte by byte, but in time.
    let mut slow = server.dial();
    for byte in &hello {
        slow.write_all(&[*byte]).expect("the server reads");
    }
    let mut answer = [0; 3];
    slow.read_exact(&mut answer).expect("a ServerHello");
    assert_eq!(answer, [22, 3, 3]);
    read_until(&mut bystander, "\"topic\"");
}
