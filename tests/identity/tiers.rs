//! Whoever shows a good token gets the rights of its tier, for as long as token, tier and revocations allow.

use std::any::Any;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use fanline::access::gatekeeper::{Admitted, AuthRefusal, AuthRequest, Credential, Gatekeeper};
use fanline::access::identity::{Identity, TokenId};
use fanline::access::selector::{ReachedSessions, SessionOrder, SessionSelector};
use fanline::identity::keys::issuer_keys::FetchTimes;
use fanline::identity::revocations::RevocationTarget;
use fanline::identity::tables::{self, AuthTables};
use fanline::identity::token::issue::{TokenOrder, issue};
use fanline::identity::token_gatekeeper::{TokenGatekeeper, TokenGatekeeperParts};
use fanline::settings::table::AuthSettings;
use fanline::words::goodbye::Goodbye;
use fanline::words::metrics::Meters;
use kit::DEADLINE;
use serde_json::json;

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

const TIERS: &str = "[auth.tier.pro]\ntopics = ['>']\nsessions = 2\n[auth.tier.single]\ntopics = ['>']\nsessions = 1\n\
                     over_sessions = 'replace_oldest'\n[auth.tier.free]\ntopics = ['a.*']\nevery = '1s'\n";

type Orders = Arc<Mutex<Vec<(SessionSelector, SessionOrder)>>>;

/// A gatekeeper, and what it has ordered.
struct Harness {
    gatekeeper: TokenGatekeeper,
    orders: Orders,
}

fn read(tiers: &str) -> AuthTables {
    /// Written once: tests run side by side.
    static SECRET_FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("identity-secret");
        std::fs::write(&path, SECRET).expect("a writable folder");
        path
    });
    let issuers = ["development", "other"].map(|issuer| {
        format!(
            "[[auth.issuer]]\nissuer = '{issuer}'\naudience = ['fanline']\nalgorithms = ['HS256']\nsecret_file = '{}'\n",
            SECRET_FILE.display()
        )
    });
    let text = issuers.concat() + tiers;
    let root = toml::de::DeTable::parse(&text).expect("TOML").into_inner();
    let tables = tables::read(root.get("auth").and_then(|auth| auth.get_ref().as_table()).expect("[auth]"));
    tables.expect("good tables")
}

impl Harness {
    fn start(tiers: &str, settings: AuthSettings) -> Harness {
        let orders = Orders::default();
        let ordered = orders.clone();
        let parts = TokenGatekeeperParts {
            fetch_times: FetchTimes::with_stale_max(settings.jwks_stale_max),
            settings,
            tables: read(tiers),
            orders: Arc::new(move |selector, order| {
                ordered.lock().expect("no panic").push((selector, order));
                ReachedSessions::none()
            }),
            meters: Meters::unread(),
        };
        Harness { gatekeeper: TokenGatekeeper::start(parts).expect("a gatekeeper"), orders }
    }

    fn show(&self, token: &str, session: Option<u64>) -> Result<Admitted, AuthRefusal> {
        self.ask(AuthRequest {
            credential: Credential::Token(token.into()),
            address: None,
            origin: None,
            current: None,
            session,
        })
    }

    fn refresh(&self, token: &str, current: &Arc<Identity>) -> Result<Admitted, AuthRefusal> {
        let (credential, current) = (Credential::Token(token.into()), Some(current.clone()));
        self.ask(AuthRequest { credential, address: None, origin: None, current, session: Some(1) })
    }

    fn ask(&self, request: AuthRequest) -> Result<Admitted, AuthRefusal> {
        let (sender, receiver) = channel();
        self.gatekeeper.authenticate(request, Box::new(move |verdict| sender.send(verdict).expect("the test waits")));
        receiver.recv_timeout(DEADLINE).expect("an answer")
    }

    fn ticket(&self, token: &str, origin: Option<&str>) -> Result<Box<str>, AuthRefusal> {
        let (sender, receiver) = channel();
        let reply = Box::new(move |verdict| sender.send(verdict).expect("the test waits"));
        let address = "192.0.2.9".parse().ok();
        self.gatekeeper.issue_ticket(token.into(), address, origin.map(Into::into), reply);
        receiver.recv_timeout(DEADLINE).expect("an answer")
    }

    fn take_orders(&self) -> Vec<(SessionSelector, SessionOrder)> {
        std::mem::take(&mut self.orders.lock().expect("no panic"))
    }
}

fn order(subject: &str, rights: serde_json::Value) -> TokenOrder {
    TokenOrder {
        issuer: "development".into(),
        audience: "fanline".into(),
        subject: subject.into(),
        rights: rights.as_object().expect("an object").clone(),
        life: Duration::from_secs(600),
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_millis() as u64
}

fn token(subject: &str, tier: &str) -> String {
    issue(SECRET, &order(subject, json!({ "tier": tier })), now_ms())
}

fn reason(verdict: &Result<Admitted, AuthRefusal>) -> &'static str {
    verdict.as_ref().err().map_or("accepted", |refusal| refusal.reason)
}

fn identity(admitted: &Result<Admitted, AuthRefusal>) -> Arc<Identity> {
    let admitted = admitted.as_ref().unwrap_or_else(|refusal| panic!("{refusal:?}"));
    admitted.grant.identity.clone().expect("an identity")
}

#[test]
fn a_refresh_is_of_the_same_subject_and_takes_no_further_place() {
    let harness = Harness::start(TIERS, AuthSettings::default());
    let first = harness.show(&token("alice", "pro"), Some(1));
    let alice = identity(&first);
    let refreshed = harness.refresh(&token("alice", "free"), &alice);
    let refreshed = refreshed.expect("a refresh");
    assert!(refreshed.place.is_none());
    assert_eq!(&*refreshed.grant.rights.tier, "free");
    assert_eq!(reason(&harness.refresh(&token("bob", "pro"), &alice)), "other_subject");
    let elsewhere = TokenOrder { issuer: "other".into(), ..order("alice", json!({ "tier": "pro" })) };
    assert_eq!(reason(&harness.refresh(&issue(SECRET, &elsewhere, now_ms()), &alice)), "other_subject");
    let _second = harness.show(&token("alice", "pro"), Some(2)).expect("the second of two places");
    let third = harness.show(&token("alice", "pro"), Some(3)).err().expect("no third place");
    assert_eq!(third, AuthRefusal { goodbye: Goodbye::TooManySubjectSessions, reason: "too_many_sessions" });
    assert!(harness.show(&token("alice", "pro"), None).is_ok(), "a single request takes no place");
    drop(first);
    assert!(harness.show(&token("alice", "pro"), Some(4)).is_ok(), "a place that was given back");
}

#[test]
fn the_oldest_session_ends_for_a_newer_one() {
    let harness = Harness::start(TIERS, AuthSettings::default());
    let _first = harness.show(&token("alice", "single"), Some(71)).expect("a place");
    assert_eq!(harness.take_orders(), []);
    let _second = harness.show(&token("alice", "single"), Some(72)).expect("a place");
    let end = SessionOrder::End { goodbye: Goodbye::Replaced, spread: Duration::ZERO };
    assert_eq!(harness.take_orders(), [(SessionSelector::Number(71), end)]);
}

#[test]
fn anonymous_clients_have_their_tier_unless_tokens_are_required() {
    let with_anonymous = format!("{TIERS}[auth.anonymous]\ntier = 'free'\n");
    let harness = Harness::start(&with_anonymous, AuthSettings::default());
    let grant = harness.gatekeeper.anonymous().expect("rights");
    assert!(grant.identity.is_none() && grant.rights.topics.allows("a.x") && !grant.rights.topics.allows("b.x"));
    let required = AuthSettings { required: true, ..AuthSettings::default() };
    assert!(Harness::start(&with_anonymous, required).gatekeeper.anonymous().is_none());
    assert!(Harness::start(TIERS, AuthSettings::default()).gatekeeper.anonymous().is_none());
    harness.gatekeeper.reload(&AuthSettings::default(), &read(TIERS)).expect("good tables");
    let withdrawn = harness.gatekeeper.reassess(&grant).expect_err("no anonymous clients any more");
    assert_eq!(withdrawn.goodbye, Goodbye::Unauthenticated, "one that has no token may come back with one");
}

#[test]
fn a_ticket_stands_for_its_token_once_and_from_its_origin() {
    let harness = Harness::start(TIERS, AuthSettings::default());
    let page = Some("https://app.example.com");
    let redeem = |ticket: &str, origin: Option<&str>| {
        let credential = Credential::Ticket(ticket.into());
        let origin = origin.map(Into::into);
        harness.ask(AuthRequest { credential, address: None, origin, current: None, session: Some(1) })
    };
    let ticket = harness.ticket(&token("alice", "pro"), page).expect("a ticket");
    let admitted = redeem(&ticket, page);
    assert_eq!(&*identity(&admitted).subject, "alice");
    assert!(admitted.expect("admitted").place.is_some());
    assert_eq!(reason(&redeem(&ticket, page)), "ticket");
    let stolen = harness.ticket(&token("alice", "pro"), page).expect("a ticket");
    assert_eq!(reason(&redeem(&stolen, Some("https://evil.example.com"))), "ticket");
    assert_eq!(reason(&redeem(&token("alice", "pro"), page)), "ticket", "a token is no ticket");
    assert_eq!(harness.ticket("rubbish", page).err().map(|refusal| refusal.reason), Some("malformed"));
    let revoked = harness.ticket(&token("alice", "pro"), page).expect("a ticket");
    let target = RevocationTarget::Subject { issuer: None, subject: "alice".into(), issued_before_ms: now_ms() + 1 };
    harness.gatekeeper.revoke(target, None).expect("revoked");
    assert_eq!(reason(&redeem(&revoked, page)), "revoked");
}

#[test]
fn a_revocation_counts_at_once_for_tokens_and_live_sessions_and_after_a_restart() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("identity-revocations.jsonl");
    std::fs::remove_file(&file).ok();
    let settings = || AuthSettings { revocations_file: Some(file.display().to_string()), ..AuthSettings::default() };
    let harness = Harness::start(TIERS, settings());
    let (of_alice, of_bob) = (token("alice", "pro"), token("bob", "pro"));
    let alice = harness.show(&of_alice, None).expect("admitted").grant;
    let bob = harness.show(&of_bob, None).expect("admitted").grant;
    let target = RevocationTarget::Token(alice.identity.as_ref().expect("an identity").token_id);
    harness.gatekeeper.revoke(target.clone(), Some(now_ms() + 3_600_000)).expect("revoked");
    assert_eq!(harness.take_orders(), [(target.selector(), SessionOrder::Reassess)]);
    let refusal = AuthRefusal { goodbye: Goodbye::Forbidden, reason: "revoked" };
    assert_eq!(harness.gatekeeper.reassess(&alice).err(), Some(refusal));
    assert_eq!(harness.show(&of_alice, None).err(), Some(refusal));
    assert!(harness.gatekeeper.reassess(&bob).is_ok() && harness.show(&of_bob, None).is_ok());
    assert!(harness.show(&token("alice", "pro"), None).is_ok(), "another token of the same subject");
    assert_eq!(harness.gatekeeper.revocations().len(), 1);
    drop(harness);
    let restarted = Harness::start(TIERS, settings());
    assert_eq!(restarted.show(&of_alice, None).err(), Some(refusal));
    assert!(restarted.show(&of_bob, None).is_ok());
}

#[test]
fn a_reload_changes_the_rights_of_live_sessions_and_a_wrong_one_changes_nothing() {
    let harness = Harness::start(TIERS, AuthSettings::default());
    let grant = harness.show(&token("alice", "free"), None).expect("admitted").grant;
    harness.gatekeeper.reload(&AuthSettings::default(), &read(&TIERS.replace("'a.*'", "'b.*'"))).expect("good tables");
    assert_eq!(harness.take_orders(), [(SessionSelector::All, SessionOrder::Reassess)]);
    let reassessed = harness.gatekeeper.reassess(&grant).expect("still a tier");
    assert!(reassessed.rights.topics.allows("b.x") && !reassessed.rights.topics.allows("a.x"));
    let delayed = TIERS.replace("['a.*']", "['a.*']\ndelay = '15m'");
    let error = harness
        .gatekeeper
        .reload(&AuthSettings::default(), &read(&delayed))
        .expect_err("a view that there is not")
        .to_string();
    assert!(error.contains("restart"), "{error}");
    assert_eq!(harness.take_orders(), []);
    assert!(harness.gatekeeper.reassess(&grant).expect("as before").rights.topics.allows("b.x"));
    let without = "[auth.tier.pro]\ntopics = ['>']\n";
    harness.gatekeeper.reload(&AuthSettings::default(), &read(without)).expect("good tables");
    assert_eq!(harness.gatekeeper.reassess(&grant).expect_err("no tier").reason, "unknown_tier");
}

#[test]
fn an_address_that_shows_many_bad_tokens_is_not_listened_to_and_others_are() {
    let settings = AuthSettings { failures_per_address_max: 5, ..AuthSettings::default() };
    let harness = Harness::start(TIERS, settings);
    let show = |token: &str, address: &str| {
        let address: IpAddr = address.parse().expect("an address");
        let credential = Credential::Token(token.into());
        harness.ask(AuthRequest { credential, address: Some(address), origin: None, current: None, session: None })
    };
    let good = token("alice", "pro");
    for _ in 0..5 {
        assert_eq!(reason(&show("rubbish", "192.0.2.1")), "malformed");
    }
    assert_eq!(reason(&show(&good, "192.0.2.1")), "too_many_failures");
    assert_eq!(reason(&show(&good, "192.0.2.2")), "accepted");
    for _ in 0..20 {
        assert_eq!(reason(&show(&good, "192.0.2.2")), "accepted", "good tokens are no failures");
    }
    let refused = || harness.ticket("rubbish", None).expect_err("no token").reason;
    assert_eq!([(); 6].map(|()| refused()), [["malformed"; 5].as_slice(), &["too_many_failures"]].concat()[..]);
}

#[test]
fn no_refusal_tells_a_client_which_check_its_token_failed() {
    let harness = Harness::start(TIERS, AuthSettings::default());
    let expired = issue(SECRET, &order("alice", json!({ "tier": "pro" })), now_ms() - 3_600_000);
    let forged = issue(b"another secret of more than 32 bytes", &order("alice", json!({ "tier": "pro" })), now_ms());
    let wrong = [expired, forged, token("alice", "gold"), "rubbish".into()];
    let refusals: Vec<AuthRefusal> = wrong.iter().filter_map(|token| harness.show(token, None).err()).collect();
    let reasons: Vec<&str> = refusals.iter().map(|refusal| refusal.reason).collect();
    assert_eq!(reasons, ["expired", "signature", "unknown_tier", "malformed"]);
    assert!(refusals.iter().all(|refusal| refusal.goodbye == Goodbye::Unauthenticated));
}

#[test]
fn a_gatekeeper_that_ends_answers_everyone_who_waits() {
    let harness = Harness::start(TIERS, AuthSettings::default());
    let (sender, receiver) = channel();
    for _ in 0..500 {
        let sender = sender.clone();
        let credential = Credential::Token(token("alice", "pro").into());
        let request = AuthRequest { credential, address: None, origin: None, current: None, session: None };
        harness.gatekeeper.authenticate(request, Box::new(move |verdict| sender.send(verdict.is_ok()).expect("waits")));
    }
    drop(harness);
    for _ in 0..500 {
        receiver.recv_timeout(DEADLINE).expect("an answer to each");
    }
}

#[test]
fn files_that_cannot_be_used_are_named_and_a_secret_is_not_shown() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let write = |name: &str, text: &str| -> PathBuf {
        std::fs::write(folder.join(name), text).expect("a writable folder");
        folder.join(name)
    };
    let short = write("identity-short", "hunter2");
    let rubbish = write("identity-rubbish", "hunter2");
    let missing = folder.join("identity-missing");
    for (line, part) in [
        (
            format!("algorithms = ['HS256']\nsecret_file = '{}'", short.display()),
            "at least 32 bytes for HS256, found 7",
        ),
        (format!("algorithms = ['HS256']\nsecret_file = '{}'", missing.display()), "identity-missing"),
        (format!("algorithms = ['ES256']\nkeys_file = '{}'", rubbish.display()), "JWK Set"),
    ] {
        let text =
            format!("[[auth.issuer]]\nissuer = 'i'\naudience = ['a']\n{line}\n[auth.tier.pro]\ntopics = ['>']\n");
        let root = toml::de::DeTable::parse(&text).expect("TOML").into_inner();
        let tables = tables::read(root.get("auth").and_then(|auth| auth.get_ref().as_table()).expect("[auth]"));
        let error = fanline::identity::token_gatekeeper::check(&AuthSettings::default(), &tables.expect("good tables"));
        let error = error.expect_err("a file that cannot be used").to_string();
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_place_can_be_dropped_anywhere() {
    let harness = Harness::start(TIERS, AuthSettings::default());
    let place: Box<dyn Any + Send> =
        harness.show(&token("alice", "pro"), Some(1)).expect("admitted").place.expect("a place");
    drop(harness);
    std::thread::spawn(move || drop(place)).join().expect("no panic");
    assert_ne!(TokenId::of("a"), TokenId::of("b"));
}
