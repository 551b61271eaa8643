//! The operator's listener does what the operator orders, and nothing for anybody else: no web page, no wrong key.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanline::access::cluster_status::ClusterStatus;
use fanline::access::grant::Grant;
use fanline::access::identity::TokenId;
use fanline::access::operator::{
    HandoverOutcome, OperatorCalls, OperatorError, ReloadOutcome, RevocationOutcome, RevokedCredentials,
};
use fanline::access::selector::{SessionOrder, SessionSelector};
use fanline::access::session_row::{SessionFilter, SessionRow, SessionState};
use fanline::audit::log::AuditLog;
use fanline::audit::verify::verify;
use fanline::edge::admin_key::AdminKey;
use fanline::edge::parts::AdminParts;
use fanline::settings::table::{Audit, OnAuditFull};
use fanline::words::goodbye::Goodbye;
use fanline::words::ids::Offset;
use fanline::words::metrics::Meters;
use kit::client::Client;
use kit::edge::{EdgeHarness, parts, settings};
use kit::http_client::{Answer, HttpClient};
use kit::program::{Program, run};
use serde_json::json;
use sha2::{Digest, Sha256};

const KEY: &str = "a-key-of-the-operator-0123456789";

/// Remembers what was ordered.
#[derive(Default)]
struct Recorded {
    orders: Mutex<Vec<(SessionSelector, SessionOrder)>>,
    revoked: Mutex<Vec<(RevokedCredentials, Option<u64>)>>,
    filters: Mutex<Vec<(SessionFilter, u64, usize)>>,
}

impl OperatorCalls for Recorded {
    fn sessions(&self, filter: SessionFilter, after: u64, limit: usize) -> Vec<SessionRow> {
        self.filters.lock().expect("no holder panics").push((filter, after, limit));
        let row = |number| SessionRow {
            number,
            grant: Some(Grant::unlimited()),
            address: Some([10, 0, 0, 1].into()),
            certificate: Some("CN=desk-7".into()),
            since_ms: 1_700_000_000_000,
            patterns: vec!["quote.*".into()],
            patterns_count: 1,
            lag: 3,
            offset: Offset(7),
            unsent_bytes: 4096,
            transport: "websocket",
            state: SessionState::Behind,
        };
        (after + 1..6).take(limit).map(row).collect()
    }

    fn order(&self, selector: &SessionSelector, order: &SessionOrder) -> usize {
        self.orders.lock().expect("no holder panics").push((selector.clone(), order.clone()));
        7
    }

    fn revoke(
        &self,
        credentials: RevokedCredentials,
        until_ms: Option<u64>,
    ) -> Result<RevocationOutcome, OperatorError> {
        self.revoked.lock().expect("no holder panics").push((credentials, until_ms));
        Ok(RevocationOutcome { until_ms: until_ms.unwrap_or(99), sessions: 2 })
    }

    fn revocations(&self) -> Vec<(RevokedCredentials, u64)> {
        self.revoked
            .lock()
            .expect("no holder panics")
            .iter()
            .map(|(it, until)| (it.clone(), until.unwrap_or(99)))
            .collect()
    }

    fn reload(&self) -> Result<ReloadOutcome, OperatorError> {
        Err(OperatorError::Refused("fanline.toml:7: expected a tier".into()))
    }

    fn hand_over(&self) -> Result<HandoverOutcome, OperatorError> {
        Ok(HandoverOutcome { pid: 4711 })
    }

    fn cluster(&self) -> Result<ClusterStatus, OperatorError> {
        Err(OperatorError::Unsupported("expected a cluster".into()))
    }
}

struct AdminHarness {
    edge: EdgeHarness,
    operator: Arc<Recorded>,
    audit: AuditLog,
    audit_dir: PathBuf,
}

fn directory(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("admin").join(name);
    // It may be there from an earlier run.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a writable target directory");
    dir
}

impl AdminHarness {
    fn open(name: &str, with_key: bool) -> AdminHarness {
        let dir = directory(name);
        let key_file = dir.join("key");
        fs::write(&key_file, format!("{KEY}\n")).expect("writable");
        let key = with_key.then(|| AdminKey::read("admin.key_file", &key_file).expect("a key"));
        let audit_dir = dir.join("audit");
        let on = Audit { dir: Some(audit_dir.to_str().expect("UTF-8").into()), on_full: OnAuditFull::Drop };
        let audit = AuditLog::open(&on, "digest", &Meters::unread()).expect("writable");
        let operator = Arc::new(Recorded::default());
        let (mut edge_parts, publisher, adopted) = parts();
        edge_parts.audit = audit.clone();
        edge_parts.admin = Some(AdminParts { operator: operator.clone(), key, audit_dir: Some(audit_dir.clone()) });
        let settings = fanline::edge::settings::Settings {
            admin: Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()),
            ..settings()
        };
        let edge = EdgeHarness::with_parts(settings, (edge_parts, publisher, adopted));
        AdminHarness { edge, operator, audit, audit_dir }
    }

    async fn call(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let host = if headers.contains("Host: ") { "" } else { "Host: localhost\r\n" };
        let mut client = HttpClient::connect(self.edge.admin.expect("bound")).await;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\n\r\n{body}");
        client.write_some(head.as_bytes()).await;
        client.answer(method).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.call("POST", path, "Content-Type: application/json\r\n", body).await
    }

    /// The text of the audit log, once everything is written.
    fn audited(&self) -> String {
        self.audit.close();
        let files = fanline::audit::files::list(&self.audit_dir).expect("readable");
        verify(&files, None).expect("unbroken");
        files.iter().map(|path| fs::read_to_string(path).expect("readable")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_web_page_drives_the_operators_port() {
    let harness = AdminHarness::open("pages", false);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let json = "Content-Type: application/json\r\n";
    for (method, path, headers, status, code) in [
        ("POST", "/admin/disconnect", format!("Origin: https://evil.example\r\n{json}"), 403, "origin_not_allowed"),
        ("POST", "/admin/disconnect", format!("Origin: null\r\n{json}"), 403, "origin_not_allowed"),
        ("POST", "/admin/disconnect", format!("Origin: http://localhost\r\n{json}"), 403, "origin_not_allowed"),
        ("GET", "/admin/sessions", "Sec-Fetch-Site: cross-site\r\n".into(), 403, "origin_not_allowed"),
        ("DELETE", "/admin/sessions/7", "Sec-Fetch-Site: same-site\r\n".into(), 403, "origin_not_allowed"),
        ("DELETE", "/admin/sessions/7", "Sec-Fetch-Site: same-origin\r\n".into(), 403, "origin_not_allowed"),
        ("POST", "/admin/disconnect", format!("Sec-Fetch-Site: same-origin\r\n{json}"), 403, "origin_not_allowed"),
        ("POST", "/admin/disconnect", form.into(), 415, "bad_request"),
        ("POST", "/admin/disconnect", "Content-Type: text/plain\r\n".into(), 415, "bad_request"),
        ("POST", "/admin/disconnect", String::new(), 415, "bad_request"),
        // DNS rebinding: the page's own name resolves to the loopback.
        ("GET", "/admin/sessions", "Host: evil.example\r\n".into(), 421, "host_not_allowed"),
        ("GET", "/admin/sessions", "Host: localhost.evil.example\r\n".into(), 421, "host_not_allowed"),
        ("GET", "/admin/sessions", "Host: 127.0.0.1@evil.example\r\n".into(), 421, "host_not_allowed"),
        ("GET", "/admin/sessions", "Host: \r\n".into(), 421, "host_not_allowed"),
    ] {
        let answer = harness.call(method, path, &headers, r#"{"all":true}"#).await;
        answer.check_refusal(status, code, "expected");
    }
    for host in ["localhost:9090", "LOCALHOST", "127.0.0.1:9090", "[::1]:9090", "10.0.0.7"] {
        let answer = harness.call("GET", "/admin/sessions", &format!("Host: {host}\r\n"), "").await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.text());
    }
    let own_page = harness.call("GET", "/admin/sessions", "Sec-Fetch-Site: same-origin\r\n", "").await;
    assert_eq!(own_page.status, 200, "the page of this listener may read: {}", own_page.text());
    for (path, status) in [("/", 200), ("/v1/ws", 404), ("/v1/snapshot", 404), ("/v1/topics", 404)] {
        let answer = harness.call("GET", path, "", "").await;
        assert_eq!(answer.status, status, "{path}: the page, and no value of the feed");
    }
    assert_eq!(*harness.operator.orders.lock().expect("no holder panics"), [], "nothing was ordered");
    let public = HttpClient::connect(harness.edge.address).await.request("GET", "/admin/sessions", "").await;
    assert_eq!(public.status, 404, "clients have no such listener");
    let audited = harness.audited();
    assert_eq!(audited.matches("\"event\":\"admin\"").count(), 14 + 6, "{audited}");
    assert!(audited.contains("\"reason\":\"403 POST /admin/disconnect\""), "{audited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_only_its_holder_is_heard_and_it_is_written_nowhere() {
    let harness = AdminHarness::open("key", true);
    let other = format!("{}8", &KEY[..KEY.len() - 1]);
    for wrong in ["", &other, &KEY[1..], &format!("{KEY}0"), &KEY.to_uppercase()] {
        let answer = harness.call("GET", "/admin/sessions", &format!("Authorization: Bearer {wrong}\r\n"), "").await;
        answer.check_refusal(401, "unauthenticated", "admin.key_file");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for headers in [String::new(), format!("Authorization: {KEY}\r\n"), format!("Authorization: Basic {KEY}\r\n")] {
        assert_eq!(harness.call("GET", "/admin/sessions", &headers, "").await.status, 401, "{headers}");
    }
    let by_query = harness.call("GET", &format!("/admin/sessions?key={}", &KEY[..5]), "", "").await;
    assert_eq!(by_query.status, 401);
    let answer = harness.call("GET", "/admin/sessions", &format!("Authorization: Bearer {KEY}\r\n"), "").await;
    assert_eq!(answer.status, 200);
    let health = harness.call("GET", "/healthz", "", "").await;
    assert_eq!(health.status, 200, "probes need no key");
    let audited = harness.audited();
    assert!(!audited.contains(KEY) && !audited.contains(&other), "{audited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_what_was_meant_or_refused() {
    let harness = AdminHarness::open("calls", false);
    let token = TokenId(Sha256::digest("t-1").into());
    let subject =
        |issuer: Option<&str>| SessionSelector::Subject { issuer: issuer.map(Into::into), subject: "ann".into() };
    let end = |goodbye, ms| SessionOrder::End { goodbye, spread: Duration::from_millis(ms) };
    let (kicked, revoked) = (Goodbye::Kicked, Goodbye::Forbidden);
    let hex = hex::encode(token.0);
    let orders = [
        (r#"{"sub":"ann"}"#.to_owned(), subject(None), end(kicked, 5000)),
        (r#"{"sub":"ann","iss":"i","code":"revoked"}"#.into(), subject(Some("i")), end(revoked, 5000)),
        (
            r#"{"tier":"free","code":"kicked","reconnect_ms":60000}"#.into(),
            SessionSelector::Tier("free".into()),
            end(kicked, 60_000),
        ),
        (r#"{"jti":"t-1","reconnect_ms":0}"#.into(), SessionSelector::Token(token), end(kicked, 0)),
        (format!(r#"{{"jti_sha256":"{hex}"}}"#), SessionSelector::Token(token), end(kicked, 5000)),
        (r#"{"all":true}"#.into(), SessionSelector::All, end(kicked, 5000)),
    ];
    for (body, selector, order) in orders {
        let answer = harness.post("/admin/disconnect", &body).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"ordered": true, "sessions": 7})), "{body}");
        let ordered = harness.operator.orders.lock().expect("no holder panics").pop();
        assert_eq!(ordered, Some((selector, order)), "{body}");
    }
    let answer = harness.call("DELETE", "/admin/sessions/1099511627777?reconnect_ms=7", "", "").await;
    assert_eq!(answer.status, 200);
    let ordered = harness.operator.orders.lock().expect("no holder panics").pop();
    assert_eq!(ordered, Some((SessionSelector::Number((1 << 40) | 1), end(kicked, 7))));

    let long = format!(r#"{{"sub":"{}"}}"#, "a".repeat(20_000));
    for (path, body, status) in [
        ("/admin/disconnect", "{}", 400),
        ("/admin/disconnect", "", 400),
        ("/admin/disconnect", "[]", 400),
        ("/admin/disconnect", r#"{"all":false}"#, 400),
        ("/admin/disconnect", r#"{"sub":"a","tier":"b"}"#, 400),
        ("/admin/disconnect", r#"{"sub":"a","all":true}"#, 400),
        ("/admin/disconnect", r#"{"iss":"i","all":true}"#, 400),
        ("/admin/disconnect", r#"{"jti":"a","jti_sha256":"b"}"#, 400),
        ("/admin/disconnect", r#"{"jti_sha256":"00"}"#, 400),
        ("/admin/disconnect", r#"{"sub":"a","colour":1}"#, 400),
        ("/admin/disconnect", r#"{"sub":"a","sub":"b"}"#, 400),
        ("/admin/disconnect", r#"{"sub":"a"} {"all":true}"#, 400),
        ("/admin/disconnect", r#"{"sub":"a","code":"banned"}"#, 400),
        ("/admin/disconnect", r#"{"sub":"a","reconnect_ms":3600001}"#, 400),
        ("/admin/disconnect", r#"{"sub":7}"#, 400),
        ("/admin/disconnect", &long, 413),
        ("/admin/revoke", "{}", 400),
        ("/admin/revoke", r#"{"issued_before_ms":5}"#, 400),
        ("/admin/revoke", r#"{"jti":"a","sub":"b"}"#, 400),
        ("/admin/reload", r#"{"now":true}"#, 400),
        ("/admin/handover", r#"{"now":true}"#, 400),
    ] {
        let answer = harness.post(path, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    assert_eq!(*harness.operator.orders.lock().expect("no holder panics"), []);
    let by_mistake = harness.post("/admin/disconnect", r#"{"sub":{"token":"eyJhbGciOi"}}"#).await;
    by_mistake.check_refusal(400, "bad_request", "expected a JSON object");
    assert!(!by_mistake.text().contains("eyJ"), "{}", by_mistake.text());

    let before =
        RevokedCredentials::IssuedBefore { issuer: Some("i".into()), subject: Some("ann".into()), before_ms: 5 };
    let answer = harness.post("/admin/revoke", r#"{"iss":"i","sub":"ann","issued_before_ms":5,"until_ms":77}"#).await;
    assert_eq!(answer.json(), json!({"ordered": true, "sessions": 2, "until_ms": 77}));
    assert_eq!(
        harness.post("/admin/revoke", r#"{"jti":"t-1"}"#).await.json(),
        json!({"ordered": true, "sessions": 2, "until_ms": 99})
    );
    let ordered = harness.operator.revoked.lock().expect("no holder panics").clone();
    assert_eq!(ordered, [(before, Some(77)), (RevokedCredentials::Token(token), None)]);
    let listed = harness.call("GET", "/admin/revocations", "", "").await.json();
    let rows =
        json!([{"iss": "i", "sub": "ann", "issued_before_ms": 5, "until_ms": 77}, {"jti_sha256": hex, "until_ms": 99}]);
    assert_eq!(listed["revocations"], rows);
    assert_eq!(harness.post("/admin/handover", "{}").await.json(), json!({"handed_over": true, "pid": 4711}));
    harness.post("/admin/reload", "{}").await.check_refusal(409, "refused", "fanline.toml:7: expected a tier");

    let page =
        harness.call("GET", "/admin/sessions?sub=ann&tier=free&topic=quote.X&limit=3&after=1", "", "").await.json();
    assert_eq!(page["next"], 4);
    assert_eq!(page["sessions"].as_array().map(Vec::len), Some(3));
    let row = json!({
        "number": 2, "tier": "", "address": "10.0.0.1", "certificate": "CN=desk-7", "since_ms": 1_700_000_000_000_u64, "patterns": ["quote.*"],
        "patterns_count": 1, "lag": 3, "unsent_bytes": 4096, "transport": "websocket", "state": "behind"
    });
    assert_eq!(page["sessions"][0], row);
    let filter =
        SessionFilter { subject: Some("ann".into()), tier: Some("free".into()), topic: Some("quote.X".into()) };
    assert_eq!(harness.operator.filters.lock().expect("no holder panics").pop(), Some((filter, 1, 3)));
    for query in ["limit=0", "limit=1001", "limit=x", "after=-1", "colour=1", "sub=a&sub=b"] {
        let answer = harness.call("GET", &format!("/admin/sessions?{query}"), "", "").await;
        assert_eq!(answer.status, 400, "{query}");
    }
    let usage = harness.call("GET", "/admin/usage?from=2027-01-01&to=2027-01-31", "", "").await;
    assert_eq!((usage.status, &usage.json()["subjects"]), (200, &json!(0)), "{}", usage.text());
    for query in ["from=2027-01-01", "from=2027-01-02&to=2027-01-01", "from=x&to=y"] {
        let answer = harness.call("GET", &format!("/admin/usage?{query}"), "", "").await;
        assert_eq!(answer.status, 400, "{query}");
    }
    let audited = harness.audited();
    for expected in [
        "\"event\":\"kick\",\"reason\":\"admin: sub ann of i\"",
        "\"event\":\"kick\",\"session\":1099511627777,\"reason\":\"admin\"",
        "\"event\":\"revoke\",\"reason\":\"admin: issued before 5 by i for ann\"",
        "\"reason\":\"409 POST /admin/reload\"",
    ] {
        assert!(audited.contains(expected), "{expected} in {audited}");
    }
}

#[test]
fn a_listener_for_other_machines_needs_a_key_and_a_key_that_cannot_be_guessed() {
    let dir = directory("start");
    let key = dir.join("key");
    fs::write(&key, "short\n").expect("writable");
    let key = key.to_str().expect("UTF-8");
    for (settings, expected) in [
        (&[("ADMIN_LISTEN", "0.0.0.0:0")][..], "expected admin.key_file with an address that other machines may reach"),
        (
            &[("ADMIN_LISTEN", "127.0.0.1:0"), ("ADMIN_KEY_FILE", key)],
            "expected a key of at least 16 printable characters",
        ),
        (&[("ADMIN_LISTEN", "127.0.0.1:0"), ("ADMIN_KEY_FILE", "/nowhere")], "found `/nowhere`: No such file"),
    ] {
        let (status, _, error) = run(&["--listen", "127.0.0.1:0"], settings);
        assert_eq!(status.code(), Some(2), "{error}");
        assert!(error.contains(expected) && !error.contains("short"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lists_and_ends_the_sessions_of_a_running_server() {
    let dir = directory("command");
    let (key, audit) = (dir.join("key"), dir.join("audit"));
    fs::write(&key, KEY).expect("writable");
    let (key, audit) = (key.to_str().expect("UTF-8").to_owned(), audit.to_str().expect("UTF-8").to_owned());
    let settings = [("ADMIN_LISTEN", "127.0.0.1:0"), ("ADMIN_KEY_FILE", key.as_str()), ("AUDIT_DIR", audit.as_str())];
    let mut server = Program::serve(&[], &settings);
    let address = server.admin_address();
    let admin = |arguments: &[&str]| run(&[&["admin", "--address", &address], arguments].concat(), &[]);
    let (status, _, error) = admin(&["sessions"]);
    assert_eq!(
        (status.code(), error.contains("found 401: expected the key of admin.key_file")),
        (Some(1), true),
        "{error}"
    );
    let with_key = |arguments: &[&str]| {
        let (status, told, error) = admin(&[&["--key-file", key.as_str()], arguments].concat());
        assert!(status.success() && error.is_empty(), "{error}");
        told
    };
    let mut client = Client::connect(&server.ws("/v1/ws?topics=quote.*")).await;
    client.expect_op("welcome").await;
    let table = with_key(&["sessions"]);
    assert!(table.starts_with("NUMBER ") && table.contains(" SUBJECT "), "{table}");
    assert!(table.lines().count() == 2 && table.contains("websocket") && table.contains("quote.*"), "{table}");
    let listed: serde_json::Value = serde_json::from_str(&with_key(&["--json", "sessions"])).expect("JSON");
    let number = listed["sessions"][0]["number"].as_u64().expect("a number").to_string();
    let told = with_key(&["disconnect", &number, "--reconnect", "1s"]);
    assert_eq!(told.trim(), "sessions that end: 1");
    assert_eq!(with_key(&["disconnect", "7"]).trim(), "sessions that end: 0");
    while !client.text().await.starts_with(r#"{"op":"goodbye""#) {}
    let day = fanline::audit::files::timestamp(1_700_000_000_000)[..10].to_owned();
    let usage = with_key(&["usage", "--from", &day, "--to", "2999-01-01"]);
    assert!(usage.contains("TIER") && usage.contains("peak of one subject"), "{usage}");
    let read = with_key(&["reload"]);
    assert!(read.starts_with("read anew: settings\ndigest: "), "without identities and certificates: {read}");
    server.terminate();
    assert!(server.wait().success());
    let (status, told, error) = run(&["audit", "verify", &audit], &[]);
    assert!(status.success() && told.starts_with("unbroken"), "{told}{error}");
    let files = fanline::audit::files::list(Path::new(&audit)).expect("readable");
    let text: String = files.iter().map(|path| fs::read_to_string(path).expect("readable")).collect();
    for expected in ["\"event\":\"start\"", "\"event\":\"kick\"", "\"event\":\"admin\"", "\"event\":\"stop\""] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(!text.contains(KEY) && !server.log().contains(KEY));
}

#[test]
fn names_for_clients_do_not_lock_the_operator_out() {
    let server = Program::serve(&[], &[("ADMIN_LISTEN", "127.0.0.1:0"), ("HTTP_ALLOWED_HOSTS", "feed.example.com")]);
    assert_eq!(server.get("/v1/snapshot").status, 421, "clients come by name");
    let address = server.admin_address();
    for call in ["reload", "sessions"] {
        let (status, _, error) = run(&["admin", "--address", &address, call], &[]);
        assert!(status.success(), "{error}");
    }
    let metrics = kit::http::get(address.parse().expect("an address"), "/metrics");
    assert_eq!(metrics.status, 200, "{}", metrics.body);
}
