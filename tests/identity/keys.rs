//! Keys behind a URL: whatever its server does, tokens with known keys are accepted, and nobody can make it be asked often.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanline::access::gatekeeper::{AuthRequest, Credential, Gatekeeper};
use fanline::access::selector::ReachedSessions;
use fanline::identity::keys::issuer_keys::FetchTimes;
use fanline::identity::tables::{self, AuthTables};
use fanline::identity::token_gatekeeper::{TokenGatekeeper, TokenGatekeeperParts};
use fanline::settings::table::AuthSettings;
use fanline::words::metrics::Meters;
use kit::{DEADLINE, eventually};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

const ISSUER: &str = "https://id.example.com/";

/// What the server of keys does with a request.
#[derive(Clone)]
enum Behaviour {
    Answer(String),
    Redirect(SocketAddr),
    Status(u16),
    /// Sends a first byte, and then nothing.
    Silent,
    Endless,
    Hangs,
}

/// A server of keys on this machine, whose behaviour can be changed at any time.
struct KeyServer {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<AtomicUsize>,
}

impl KeyServer {
    fn start(behaviour: Behaviour) -> KeyServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (behaviour, requests) = (Arc::new(Mutex::new(behaviour)), Arc::new(AtomicUsize::new(0)));
        let (shared, counted) = (behaviour.clone(), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let behaviour = shared.lock().expect("no panic").clone();
                counted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || serve(stream.expect("a connection"), behaviour));
            }
        });
        KeyServer { address, behaviour, requests }
    }

    fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("no panic") = behaviour;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Errors of the connection are its end.
fn serve(mut stream: TcpStream, behaviour: Behaviour) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        head.push(byte[0]);
    }
    let mut say = |text: &str| stream.write_all(text.as_bytes()).is_ok();
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    match behaviour {
        Behaviour::Answer(body) => {
            say(&format!("{ok}Content-Length: {}\r\n\r\n{body}", body.len()));
        }
        Behaviour::Redirect(address) => {
            say(&format!("HTTP/1.1 302 Found\r\nLocation: http://{address}/\r\nContent-Length: 0\r\n\r\n"));
        }
        Behaviour::Status(status) => {
            say(&format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"));
        }
        Behaviour::Endless => {
            let mut goes_on = say(&format!("{ok}\r\n"));
            while goes_on {
                goes_on = say(&" ".repeat(1 << 16));
            }
        }
        Behaviour::Silent | Behaviour::Hangs => {
            if matches!(behaviour, Behaviour::Silent) {
                say(&format!("{ok}Content-Length: 100\r\n\r\n{{"));
            }
            // Until the other side gives up.
            let _ = stream.read(&mut byte);
        }
    }
}

struct SigningKey {
    id: String,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    fn new(id: &str) -> SigningKey {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        SigningKey { id: id.into(), pair: Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key") }
    }

    fn token(&self) -> String {
        self.token_of(ISSUER)
    }

    fn token_of(&self, issuer: &str) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({ "alg": "EdDSA", "kid": self.id }));
        let payload = part(json!({
            "iss": issuer, "aud": "fanline", "sub": "alice", "iat": now, "exp": now + 60, "jti": "1",
            "fanline": { "tier": "pro" },
        }));
        let message = format!("{header}.{payload}");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

fn answer(keys: &[&SigningKey]) -> Behaviour {
    let jwk = |key: &&SigningKey| {
        let x = URL_SAFE_NO_PAD.encode(key.pair.public_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": key.id, "x": x })
    };
    Behaviour::Answer(json!({ "keys": keys.iter().map(jwk).collect::<Vec<_>>() }).to_string())
}

const QUICK: FetchTimes = FetchTimes {
    timeout: Duration::from_millis(500),
    pause: Duration::from_millis(200),
    first_pause: Duration::from_millis(50),
    interval: Duration::from_secs(3600),
    stale_max: Duration::from_secs(3600),
};

fn read(server: SocketAddr) -> AuthTables {
    read_all(&[(ISSUER, server)])
}

/// Issuers, each with its server of keys.
fn read_all(issuers: &[(&str, SocketAddr)]) -> AuthTables {
    let issuer = |(issuer, server): &(&str, SocketAddr)| {
        format!(
            "[[auth.issuer]]\nissuer = '{issuer}'\naudience = ['fanline']\nalgorithms = ['EdDSA']\n\
             jwks = 'http://{server}/keys'\n"
        )
    };
    let tables = issuers.iter().map(issuer).collect::<String>() + "[auth.tier.pro]\ntopics = ['>']\n";
    let text = toml::de::DeTable::parse(&tables).expect("TOML").into_inner();
    let tables = tables::read(text.get("auth").and_then(|auth| auth.get_ref().as_table()).expect("[auth]"));
    tables.expect("good tables")
}

fn gatekeeper(server: &KeyServer, fetch_times: FetchTimes) -> TokenGatekeeper {
    with_tables(read(server.address), fetch_times)
}

fn with_tables(tables: AuthTables, fetch_times: FetchTimes) -> TokenGatekeeper {
    let settings = AuthSettings { failures_per_address_max: 0, waiting_max: 10_000, ..AuthSettings::default() };
    let orders = Arc::new(|_, _| ReachedSessions::none());
    let parts = TokenGatekeeperParts { settings, tables, fetch_times, orders, meters: Meters::unread() };
    TokenGatekeeper::start(parts).expect("a gatekeeper")
}

fn verdict(gatekeeper: &TokenGatekeeper, token: &str) -> &'static str {
    verdicts(gatekeeper, &[token.to_owned()])[0]
}

/// Shows all at once; returns what became of them.
fn verdicts(gatekeeper: &TokenGatekeeper, tokens: &[String]) -> Vec<&'static str> {
    let (sender, receiver) = channel();
    for token in tokens {
        let sender = sender.clone();
        let credential = Credential::Token(token.as_str().into());
        let request = AuthRequest { credential, address: None, origin: None, current: None, session: None };
        let reply = move |admitted: Result<_, fanline::access::gatekeeper::AuthRefusal>| {
            sender.send(admitted.err().map_or("accepted", |refusal| refusal.reason)).expect("the test waits");
        };
        gatekeeper.authenticate(request, Box::new(reply));
    }
    tokens.iter().map(|_| receiver.recv_timeout(DEADLINE).expect("an answer")).collect()
}

#[test]
fn until_there_are_keys_tokens_are_refused_and_the_operator_sees_why() {
    let (key, elsewhere) = (SigningKey::new("k"), KeyServer::start(Behaviour::Hangs));
    for (behaviour, trouble) in [
        (Behaviour::Redirect(elsewhere.address), "redirects are not followed"),
        (Behaviour::Status(503), "status 503"),
        (Behaviour::Silent, "no answer within"),
        (Behaviour::Hangs, "no answer within"),
        (Behaviour::Endless, "larger than"),
        (Behaviour::Answer("<html>".into()), "JWK Set"),
        (Behaviour::Answer(r#"{"keys":[]}"#.into()), "found none"),
    ] {
        let server = KeyServer::start(behaviour);
        let gatekeeper = gatekeeper(&server, QUICK);
        assert_eq!(verdict(&gatekeeper, &key.token()), "keys_missing", "{trouble}");
        let sees = || gatekeeper.key_troubles().iter().any(|it| it.issuer == ISSUER && it.message.contains(trouble));
        eventually(trouble, || sees().then_some(()));
        assert!(gatekeeper.key_troubles()[0].message.starts_with("keys not there yet"));
        assert!(!gatekeeper.admits_anybody());
        server.set(answer(&[&key]));
        eventually("keys", || (verdict(&gatekeeper, &key.token()) == "accepted").then_some(()));
        assert!(gatekeeper.key_troubles().is_empty() && gatekeeper.admits_anybody());
    }
    assert_eq!(elsewhere.requests(), 0, "no redirect was followed");
}

#[test]
fn a_new_key_is_fetched_when_a_token_names_it_and_all_that_wait_share_the_fetch() {
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let server = KeyServer::start(answer(&[&old]));
    let gatekeeper = gatekeeper(&server, QUICK);
    eventually("keys", || (verdict(&gatekeeper, &old.token()) == "accepted").then_some(()));
    thread::sleep(QUICK.pause);
    server.set(answer(&[&old, &new]));
    let before = server.requests();
    let found = verdicts(&gatekeeper, &vec![new.token(); 50]);
    assert!(found.iter().all(|verdict| *verdict == "accepted"), "{found:?}");
    assert_eq!(server.requests() - before, 1);
    thread::sleep(QUICK.pause);
    server.set(answer(&[&new]));
    assert_eq!(verdict(&gatekeeper, &SigningKey::new("unknown").token()), "unknown_key");
    assert_eq!(verdict(&gatekeeper, &old.token()), "unknown_key", "a key that the issuer withdrew counts no more");
}

#[test]
fn many_tokens_with_unknown_keys_cause_one_fetch_and_hold_up_nobody() {
    let key = SigningKey::new("k");
    let server = KeyServer::start(answer(&[&key]));
    let slow = FetchTimes { pause: Duration::from_secs(30), timeout: Duration::from_secs(5), ..QUICK };
    let gatekeeper = gatekeeper(&server, slow);
    eventually("keys", || (verdict(&gatekeeper, &key.token()) == "accepted").then_some(()));
    assert_eq!(server.requests(), 1);
    // The first fetch was less than 30 s ago.
    let unknown: Vec<String> = (0..1000).map(|number| SigningKey::new(&format!("u{number}")).token()).collect();
    let began = Instant::now();
    let found = verdicts(&gatekeeper, &unknown);
    assert!(found.iter().all(|verdict| *verdict == "unknown_key"));
    println!("1000 tokens with unknown keys: {:.0?}, fetches: {}", began.elapsed(), server.requests() - 1);
    assert_eq!(server.requests(), 1);
}

#[test]
fn a_fetch_that_hangs_does_not_hold_up_tokens_with_known_keys() {
    let key = SigningKey::new("k");
    let server = KeyServer::start(answer(&[&key]));
    let slow = FetchTimes { pause: Duration::ZERO, timeout: DEADLINE, ..QUICK };
    let gatekeeper = Arc::new(gatekeeper(&server, slow));
    eventually("keys", || (verdict(&gatekeeper, &key.token()) == "accepted").then_some(()));
    server.set(Behaviour::Hangs);
    let unknown: Vec<String> = (0..500).map(|_| SigningKey::new("u").token()).collect();
    let waiting = gatekeeper.clone();
    let asked = thread::spawn(move || verdicts(&waiting, &unknown));
    eventually("a fetch that hangs", || (server.requests() == 2).then_some(()));
    assert_eq!(verdict(&gatekeeper, &key.token()), "accepted");
    assert!(!asked.is_finished(), "some still wait for the fetch");
    drop(server);
}

#[test]
fn fetched_keys_stay_in_force_while_fetches_fail_and_no_longer_than_allowed() {
    let key = SigningKey::new("k");
    let server = KeyServer::start(answer(&[&key]));
    let times = FetchTimes {
        interval: Duration::from_millis(50),
        pause: Duration::from_millis(50),
        stale_max: Duration::from_secs(2),
        ..QUICK
    };
    let gatekeeper = gatekeeper(&server, times);
    eventually("keys", || (verdict(&gatekeeper, &key.token()) == "accepted").then_some(()));
    server.set(Behaviour::Status(500));
    let failed = Instant::now();
    eventually("a trouble", || (!gatekeeper.key_troubles().is_empty()).then_some(()));
    if failed.elapsed() < Duration::from_secs(1) {
        assert_eq!(verdict(&gatekeeper, &key.token()), "accepted", "stale keys count");
    }
    eventually("the end of stale keys", || (verdict(&gatekeeper, &key.token()) == "keys_missing").then_some(()));
    server.set(answer(&[&key]));
    eventually("keys again", || (verdict(&gatekeeper, &key.token()) == "accepted").then_some(()));
}

#[test]
fn a_reload_keeps_what_was_fetched_and_an_issuer_that_is_gone_is_not_asked_any_more() {
    let key = SigningKey::new("k");
    let server = KeyServer::start(answer(&[&key]));
    let gatekeeper = gatekeeper(&server, FetchTimes { interval: Duration::from_millis(50), ..QUICK });
    eventually("keys", || (verdict(&gatekeeper, &key.token()) == "accepted").then_some(()));
    server.set(Behaviour::Hangs);
    gatekeeper.reload(&AuthSettings::default(), &read(server.address)).expect("the same tables");
    assert_eq!(verdict(&gatekeeper, &key.token()), "accepted");
    let anonymous = Some("pro".into());
    let without = AuthTables { issuers: Vec::new(), anonymous, ..read(server.address) };
    gatekeeper.reload(&AuthSettings::default(), &without).expect("no issuer");
    assert_eq!(verdict(&gatekeeper, &key.token()), "unknown_issuer");
    let mut last = server.requests();
    eventually("no further request", || {
        thread::sleep(Duration::from_secs(1));
        let before = std::mem::replace(&mut last, server.requests());
        (before == last).then_some(())
    });
}

#[test]
fn keys_of_two_issuers_with_one_id_are_not_mistaken_for_each_other() {
    const OTHER: &str = "https://other.example.com/";
    let (own, others) = (SigningKey::new("k"), SigningKey::new("k"));
    let (server, other) = (KeyServer::start(answer(&[&own])), KeyServer::start(answer(&[&others])));
    let gatekeeper = with_tables(read_all(&[(ISSUER, server.address), (OTHER, other.address)]), QUICK);
    eventually("keys", || (verdict(&gatekeeper, &own.token()) == "accepted").then_some(()));
    eventually("keys", || (verdict(&gatekeeper, &others.token_of(OTHER)) == "accepted").then_some(()));
    for (key, issuer) in [(&own, OTHER), (&others, ISSUER)] {
        assert_eq!(verdict(&gatekeeper, &key.token_of(issuer)), "signature", "{issuer}");
    }
    let strangers = own.token_of("https://id.example.com");
    assert_eq!(verdict(&gatekeeper, &strangers), "unknown_issuer", "without the slash it is another name");
}
