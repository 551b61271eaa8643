//! The canary sees what a client sees, through the listener of clients, and counts nowhere as one.

use std::net::SocketAddr;
use std::path::Path;

use fanline::audit::files;
use fanline::edge::admin_key::AdminKey;
use kit::client::Client;
use kit::edge::{EdgeHarness, HANDSHAKE, parts, settings};
use kit::http::{self, sum};
use kit::program::{Program, run};
use kit::tiers::TierFolder;
use kit::{certificate, eventually};

const LATENCY: &str = "fanline_canary_receipt_to_delivery_seconds_count";
const KEY: &str = "a-key-that-the-process-has-made";

fn admin(server: &Program) -> SocketAddr {
    server.admin_address().parse().expect("an address")
}

/// Waits until there are more measurements than these; gives their number and all metrics.
fn measured(admin: SocketAddr, before: f64) -> (f64, String) {
    eventually("the canary measures", || {
        let metrics = http::get(admin, "/metrics").body;
        let count = sum(&metrics, LATENCY, "");
        (count > before).then_some((count, metrics))
    })
}

/// Sessions that the audit log has seen open, and the number of its lines.
fn opened(audit: &Path) -> (usize, usize) {
    let texts = files::list(audit).expect("a directory").into_iter().map(std::fs::read_to_string);
    let text: String = texts.map(|text| text.expect("a readable file")).collect();
    (text.matches("\"session_open\"").count(), text.lines().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_measures_what_a_client_sees_and_takes_no_place_and_is_on_no_list() {
    let audit = Path::new(env!("CARGO_TARGET_TMPDIR")).join("canary-audit");
    let _ = std::fs::remove_dir_all(&audit);
    std::fs::create_dir_all(&audit).expect("a writable target directory");
    let dir = audit.to_str().expect("UTF-8").to_owned();
    let serve = move || {
        let settings = [
            ("CANARY_ENABLED", "true"),
            ("LIMITS_SESSIONS_MAX", "1"),
            ("LIMITS_SESSIONS_PER_ADDRESS_MAX", "1"),
            ("ADMIN_LISTEN", "127.0.0.1:0"),
            ("AUDIT_DIR", &*dir),
        ];
        Program::serve(&[], &settings)
    };
    let server = tokio::task::spawn_blocking(serve).await.expect("a server");
    let admin = admin(&server);
    let (before, metrics) = measured(admin, 0.0);
    for name in ["fanline_sessions", "fanline_sessions_adopted_total", "fanline_goodbyes_total"] {
        assert_eq!(sum(&metrics, name, ""), 0.0, "{name}");
    }
    assert!(metrics.contains("fanline_liveness_age_seconds{part=\"canary\"}"), "{metrics}");
    assert_eq!(http::get(server.addr(), "/healthz").status, 200);

    let mut client = Client::of_quotes(&server).await;
    client.frame().await;
    let refused = http::refused_upgrade(server.addr(), "/v1/ws", http::HANDSHAKE);
    assert_eq!((refused.status, &refused.json()["code"]), (503, &"too_many_sessions".into()), "one place, one client");
    let listed = http::get(admin, "/admin/sessions").json();
    assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(1), "{listed}");
    let (_, metrics) = measured(admin, before);
    assert_eq!(sum(&metrics, "fanline_sessions", ""), 1.0);
    let recorded =
        eventually("the client is in the audit log", || Some(opened(&audit)).filter(|(opened, _)| *opened > 0));
    assert_eq!(recorded.0, 1, "and nobody else");
}

#[test]
fn it_needs_no_token_and_no_certificate_and_no_allowed_name() {
    let tables = "[simulate]\n[auth]\nrequired = true\n[auth.tier.all]\ntopics = ['>']\n";
    let tiers = TierFolder::new("canary", tables);
    let pair = certificate::write("canary", &["feed.example.com"]).pair();
    let settings =
        [("CANARY_ENABLED", "true"), ("TLS_CERTIFICATES", &*pair), ("HTTP_ALLOWED_HOSTS", "feed.example.com")];
    // The first of these speaks the PROXY protocol, which the canary does not.
    let config = tiers.path("fanline.toml");
    let args = ["--config", &*config, "--admin-listen", "127.0.0.1:0", "--proxy-trusted", "10.0.0.1"];
    let server = Program::serve_on("tcp+proxy://127.0.0.1:0,tls://127.0.0.1:0", &args, &settings);
    let (_, metrics) = measured(admin(&server), 0.0);
    assert_eq!(sum(&metrics, "fanline_auth_credentials_total", ""), 0.0, "it shows no token");
    assert!(sum(&metrics, "fanline_tls_handshakes_total", "result=\"done\"") >= 1.0, "through TLS");
}

#[tokio::test]
async fn its_place_is_there_for_its_key_alone_and_needs_no_permit() {
    let (mut edge_parts, publisher, newcomers) = parts();
    edge_parts.canary_key = Some(AdminKey::of(KEY));
    let mut bounds = settings();
    bounds.sessions_max = 0;
    bounds.visitors.allowed_hosts = vec!["feed.example.com".into()];
    let mut edge = EdgeHarness::with_parts(bounds, (edge_parts, publisher, newcomers));
    let path = "/v1/canary?topics=quote.%3E";
    for key in ["", "Authorization: Bearer another\r\n", "Authorization: Basic a-key-that-the-process-has-made\r\n"] {
        let answer = edge.get(path, &format!("{HANDSHAKE}{key}")).await;
        answer.check_refusal(404, "not_found", "/v1/canary");
    }
    let answer = edge.get(path, &format!("{HANDSHAKE}Authorization: Bearer {KEY}\r\n")).await;
    assert_eq!(answer.status, 101);
    let handoff = edge.newcomers.recv().await.expect("a session");
    let patterns: Vec<&str> = handoff.options.patterns.iter().map(|pattern| pattern.as_str()).collect();
    assert_eq!((handoff.options.is_canary, handoff.permit.is_none(), patterns), (true, true, vec!["quote.>"]));
    assert_eq!(handoff.options.address, None, "it is nobody's");
    let without = EdgeHarness::open(settings());
    let answer = without.get(path, &format!("{HANDSHAKE}Authorization: Bearer {KEY}\r\n")).await;
    answer.check_refusal(404, "not_found", "/v1/canary");
}

#[test]
fn settings_with_which_it_could_not_see_anything_are_refused_with_the_remedy() {
    for (settings, told) in [
        (&[("LISTEN", "tcp+proxy://127.0.0.1:0"), ("PROXY_TRUSTED", "10.0.0.1")][..], "add `127.0.0.1:8081` to listen"),
        (
            &[("UPSTREAM_DEMAND", "on"), ("UPSTREAM_URL", "ws://127.0.0.1:1")],
            "expected canary.topic with upstream.demand",
        ),
        (&[("CANARY_TOPIC", "a..b")], "FANLINE_CANARY_TOPIC"),
    ] {
        let (status, _, log) = run(&[], &[settings, &[("CANARY_ENABLED", "true")]].concat());
        assert_eq!(status.code(), Some(2), "{settings:?}: {log}");
        assert!(log.contains(told), "{settings:?}: {log}");
    }
}
