//! What the server agrees to, whatever a client offers: nothing that is old or weak.
//!
//! Handshakes begin here by hand, so that no library on this side leaves out what it knows to be weak.

use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Stdio};

use kit::certificate;
use kit::tls_server::TlsServer;
use kit::{skip_without_tool, tool};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// Bits of a version on the wire.
const SSL3: u16 = 0x0300;
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;
/// Suites of AES-GCM and ChaCha20-Poly1305 (RFC 5289, 7905, 8446).
const TLS12_ECDSA: [u16; 3] = [0xC02B, 0xC02C, 0xCCA9];
const TLS12_RSA: [u16; 3] = [0xC02F, 0xC030, 0xCCA8];
const TLS13_SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];
/// What says nothing about encryption (RFC 5746, 7507).
const SIGNALS: [u16; 2] = [0x00FF, 0x5600];
/// Groups: P-256 and X25519, and those that nobody should use: sect163k1 to secp256k1 without P-256, finite fields.
const GOOD_GROUPS: [u16; 2] = [23, 29];
/// Signatures with SHA-256 by ECDSA, RSA-PSS and PKCS #1.
const GOOD_SIGNATURES: [u16; 3] = [0x0403, 0x0804, 0x0401];
/// `DOWNGRD` and 1, at the end of a ServerHello's random (RFC 8446 section 4.1.3).
const DOWNGRADE: &[u8] = b"DOWNGRD\x01";

/// A ClientHello.
#[derive(Clone)]
struct Hello {
    version: u16,
    suites: Vec<u16>,
    compressions: Vec<u8>,
    groups: Vec<u16>,
    signatures: Vec<u16>,
    /// In `supported_versions`, with a key share.
    offers_tls13: bool,
}

impl Hello {
    fn of(version: u16, suites: &[u16]) -> Hello {
        Hello {
            version,
            suites: suites.to_vec(),
            compressions: vec![0],
            groups: GOOD_GROUPS.to_vec(),
            signatures: GOOD_SIGNATURES.to_vec(),
            offers_tls13: false,
        }
    }

    fn record(&self) -> Vec<u8> {
        let numbers = |numbers: &[u16]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>();
        let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &sized16(body)].concat();
        let mut extensions = extension(10, &sized16(&numbers(&self.groups)));
        extensions.extend(extension(11, &[1, 0]));
        extensions.extend(extension(13, &sized16(&numbers(&self.signatures))));
        extensions.extend(extension(0xFF01, &[0]));
        if self.offers_tls13 {
            extensions.extend(extension(43, &[2, 3, 4]));
            // Any 32 bytes are a public key of X25519.
            let share = [&29u16.to_be_bytes()[..], &sized16(&[9; 32])].concat();
            extensions.extend(extension(51, &sized16(&share)));
        }
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        // No session.
        body.push(0);
        body.extend(sized16(&numbers(&self.suites)));
        body.push(u8::try_from(self.compressions.len()).expect("few"));
        body.extend(&self.compressions);
        body.extend(sized16(&extensions));
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        let message = [&[1], &length[1..], &body].concat();
        [&[HANDSHAKE], &self.version.min(0x0301).to_be_bytes()[..], &sized16(&message)].concat()
    }
}

/// With its length in two bytes before it.
fn sized16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

/// What the server answers first.
#[derive(Debug, PartialEq)]
enum Answer {
    Hello {
        suite: u16,
        compression: u8,
        random: Vec<u8>,
    },
    /// With its description. A fatal one, after which the connection ends.
    Refused(u8),
}

fn ask(server: &TlsServer, hello: &Hello) -> Answer {
    let mut socket = server.dial();
    socket.write_all(&hello.record()).expect("the server reads");
    let mut head = [0; 5];
    socket.read_exact(&mut head).expect("an answer");
    let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    socket.read_exact(&mut body).expect("a whole record");
    match head[0] {
        ALERT => {
            assert_eq!(body[0], 2, "fatal");
            match socket.read(&mut [0]) {
                Ok(bytes) => assert_eq!(bytes, 0, "nothing follows an alert"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
            Answer::Refused(body[1])
        }
        HANDSHAKE => {
            assert_eq!(body[0], 2, "a ServerHello");
            let session_end = 39 + usize::from(body[38]);
            let suite = u16::from_be_bytes([body[session_end], body[session_end + 1]]);
            Answer::Hello { suite, compression: body[session_end + 2], random: body[6..38].to_vec() }
        }
        other => panic!("a record of type {other}"),
    }
}

fn agreed(server: &TlsServer, hello: &Hello) -> Option<u16> {
    match ask(server, hello) {
        Answer::Hello { suite, .. } => Some(suite),
        Answer::Refused(_) => None,
    }
}

/// Every suite that was ever registered, and some more.
fn all_suites() -> Vec<u16> {
    let ranges = [0x0000..=0x00FF, 0x1300..=0x13FF, 0xC000..=0xC0FF, 0xC100..=0xC1FF, 0xCC00..=0xCCFF, 0xD000..=0xD0FF];
    let suites = ranges.into_iter().flatten();
    suites.filter(|suite| !SIGNALS.contains(suite)).collect()
}

/// Takes what the server chooses out of the offer until it agrees to nothing more.
fn agreed_one_by_one(server: &TlsServer, mut hello: Hello) -> Vec<u16> {
    let mut agreed_to = Vec::new();
    while let Some(suite) = agreed(server, &hello) {
        assert!(hello.suites.contains(&suite), "{suite:#06x} was not offered");
        hello.suites.retain(|offered| *offered != suite);
        agreed_to.push(suite);
    }
    agreed_to.sort_unstable();
    agreed_to
}

#[test]
fn of_all_suites_only_those_with_forward_secrecy_and_authenticated_encryption_are_agreed_to() {
    let files = certificate::write("hello", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[]);
    assert_eq!(agreed_one_by_one(&server, Hello::of(TLS12, &all_suites())), TLS12_ECDSA);
    let tls13 = Hello { offers_tls13: true, ..Hello::of(TLS12, &all_suites()) };
    assert_eq!(agreed_one_by_one(&server, tls13), TLS13_SUITES);
    for suite in TLS12_RSA {
        assert_eq!(agreed(&server, &Hello::of(TLS12, &[suite])), None, "the certificate is of ECDSA");
    }
}

#[test]
fn no_version_before_tls_1_2_is_spoken_and_a_downgrade_is_visible() {
    let files = certificate::write("hello-version", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[]);
    const PROTOCOL_VERSION: u8 = 70;
    for version in SSL3..TLS12 {
        let answer = ask(&server, &Hello::of(version, &all_suites()));
        assert_eq!(answer, Answer::Refused(PROTOCOL_VERSION), "{version:#06x}");
    }
    // One that knows TLS 1.3 finds the mark, and knows that somebody took its offer away.
    match ask(&server, &Hello::of(TLS12, &all_suites())) {
        Answer::Hello { random, .. } => assert!(random.ends_with(DOWNGRADE), "{random:02x?}"),
        refused => panic!("{refused:?}"),
    }
    let only13 = TlsServer::start(&files.pair(), &[("TLS_MIN_VERSION", "1.3")]);
    let answer = ask(&only13, &Hello::of(TLS12, &all_suites()));
    assert_eq!(answer, Answer::Refused(PROTOCOL_VERSION), "tls.min_version");
    let tls13 = Hello { offers_tls13: true, ..Hello::of(TLS12, &TLS13_SUITES) };
    assert!(agreed(&only13, &tls13).is_some());
    // Versions that are not known yet are no reason to refuse.
    assert!(agreed(&server, &Hello::of(TLS13 + 1, &all_suites())).is_some());
}

#[test]
fn weak_groups_weak_signatures_and_compression_are_refused() {
    let files = certificate::write("hello-weak", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[]);
    let good = Hello::of(TLS12, &TLS12_ECDSA);
    assert!(agreed(&server, &good).is_some());
    // All curves of RFC 4492 but P-256 and P-384, and the finite fields of RFC 7919.
    let weak_groups: Vec<u16> = (1..=22).chain([256, 257, 258, 259, 260]).collect();
    // With MD5, SHA-1 and SHA-224.
    let weak_signatures: Vec<u16> = [1, 2, 3].iter().flat_map(|hash| [1, 2, 3].map(|key| hash << 8 | key)).collect();
    for (what, hello) in [
        ("groups", Hello { groups: weak_groups, ..good.clone() }),
        ("signatures", Hello { signatures: weak_signatures, ..good.clone() }),
        ("no way without compression", Hello { compressions: vec![1], ..good.clone() }),
    ] {
        assert_eq!(agreed(&server, &hello), None, "{what}");
    }
    match ask(&server, &Hello { compressions: vec![1, 0], ..good }) {
        Answer::Hello { compression, .. } => assert_eq!(compression, 0),
        refused => panic!("{refused:?}"),
    }
}

/// What `openssl s_client` says of connections that end with the server's answer.
fn openssl(server: &TlsServer, args: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &format!("localhost:{}", server.port), "-ign_eof"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    let mut input = child.stdin.take().expect("piped");
    // It may have ended already, if the handshake failed.
    let _ = input.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n");
    drop(input);
    let output = child.wait_with_output().expect("openssl ends");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_ticket_resumes_a_session_says_nothing_and_does_not_last() {
    const TEST: &str = "a_ticket_resumes_a_session_says_nothing_and_does_not_last";
    if tool("openssl").is_none() {
        return skip_without_tool(TEST, "openssl");
    }
    let files = certificate::write("hello-ticket", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[]);
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    for version in ["-tls1_3", "-tls1_2"] {
        let session = folder.join(format!("hello-session{version}"));
        let session = session.to_str().expect("a path in UTF-8");
        // Of the process before.
        let _ = std::fs::remove_file(session);
        let told = openssl(&server, &[version, "-sess_out", session]);
        assert!(told.contains("\"healthy\":true") && told.contains("New, TLSv1"), "{version}: {told}");
        let hint = told.split("TLS session ticket lifetime hint: ").nth(1).and_then(|rest| rest.split(' ').next());
        let seconds: u64 = hint.and_then(|hint| hint.parse().ok()).unwrap_or_else(|| panic!("{version}: {told}"));
        // RFC 8446 section 4.6.1: at most seven days.
        assert!((1..=604_800).contains(&seconds), "{version}: {seconds}");
        let told = openssl(&server, &[version, "-sess_in", session]);
        assert!(told.contains("\"healthy\":true") && told.contains("Reused, TLSv1"), "{version}: {told}");
        // A server that does not know its key begins anew, and says nothing else.
        let other = TlsServer::start(&files.pair(), &[]);
        let told = openssl(&other, &[version, "-sess_in", session]);
        assert!(told.contains("\"healthy\":true") && told.contains("New, TLSv1"), "{version}: {told}");
    }
    // A client without tickets resumes nothing: sessions are not kept here.
    for (tickets, resumes) in [(&[][..], true), (&["-no_ticket"], false)] {
        let told = openssl(&server, &[&["-tls1_2", "-reconnect"], tickets].concat());
        assert_eq!(told.matches("drop connection and then reconnect").count(), 5, "{told}");
        assert_eq!(told.contains("Reused, TLSv1.2"), resumes, "{tickets:?}: {told}");
        assert!(told.contains("Compression: NONE") && told.contains("Secure Renegotiation IS supported"), "{told}");
    }
}
