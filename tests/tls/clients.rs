//! Stock clients over TLS decode the shared window through falling behind, and curl is answered over either version.

use std::process::{Command, Output, Stdio};

use kit::certificate::{self, CertificateFiles};
use kit::decoding::Harness;
use kit::stacks::{self, Launch};
use kit::tls_server::TlsServer;
use kit::{eventually, skip_without_tool, tool};
use serde_json::Value;

/// Messages that each client receives one by one.
const MESSAGES: u64 = 20_000;

const ONE: &str = "/v1/ws?policy=lossless&topics=btcusdt@*";

/// Joins in the middle of the stream, boards the window, falls behind with and without skips, and comes back.
fn check_window(name: &str, launch: &Launch) {
    let files = certificate::write(&format!("clients-{name}"), &["localhost"]);
    let (mut harness, company) = Harness::set_over_tls(files, 3, (launch, "window"), ONE, (ONE, 3));
    let extensions = &harness.puppet.extensions;
    assert!(extensions.starts_with("permessage-deflate"), "{name}: {extensions}");
    harness.until_boarded(4);
    harness.command(r#"{"op":"subscribe","topics":["btcusdt@*"],"policy":"conflate"}"#);
    harness.until_boarded(4);
    harness.stall();
    assert!(harness.ledger.skips > 0, "{name}: frames are skipped with `conflate`");
    harness.command(r#"{"op":"subscribe","topics":["btcusdt@*"],"policy":"lossless"}"#);
    harness.until_boarded(4);
    let skips = harness.ledger.skips;
    harness.stall();
    assert_eq!(harness.ledger.skips, skips, "{name}: a lossless client is replayed to");
    harness.until_boarded(4);
    harness.resume((launch, "window"));
    harness.until_boarded(4);
    let missing = MESSAGES.saturating_sub(harness.ledger.live);
    harness.flow(missing);
    drop(company);
    let (received, metrics) = harness.finish(name);
    assert!(received >= MESSAGES, "{name}: {received}");
    let (saved, sent) = (metrics.saved("window"), metrics.sent("envelope_window"));
    assert!(saved > sent && sent > 0.0, "{name}: {sent} bytes sent through the window, {saved} saved");
}

fn check_with(name: &str, launch: Option<Launch>, tool: &str) {
    match launch {
        Some(launch) => check_window(name, &launch),
        None => skip_without_tool("tls_clients", tool),
    }
}

#[test]
fn chromium_decodes_the_shared_window_over_tls() {
    check_with("chromium", stacks::chromium(), "Chromium, or Node with its package `playwright-core`");
}

#[test]
fn firefox_decodes_the_shared_window_over_tls() {
    check_with("firefox", stacks::firefox(), "Firefox, or Node");
}

#[test]
fn python_and_node_decode_the_shared_window_over_tls() {
    check_with("websockets", stacks::python("window_client.py", "websockets"), "`websockets` for Python");
    check_with("aiohttp", stacks::python("window_aiohttp.py", "aiohttp"), "`aiohttp` for Python");
    check_with("ws", stacks::node(), "Node with its package `ws`");
}

fn curl(args: &[&str], trusted: Option<&CertificateFiles>) -> Output {
    let mut command = Command::new("curl");
    // Without a proxy that the environment may name.
    command.args(["--silent", "--show-error", "--noproxy", "*"]).args(args).stdin(Stdio::null());
    if let Some(files) = trusted {
        command.arg("--cacert").arg(&files.certificate);
    }
    command.output().expect("curl starts")
}

#[test]
fn curl_is_answered_over_either_version_by_a_server_that_it_trusts() {
    if tool("curl").is_none() {
        return skip_without_tool("curl_is_answered_over_either_version_by_a_server_that_it_trusts", "curl");
    }
    let files = certificate::write("curl", &["localhost"]);
    let server = TlsServer::start(&files.pair(), &[("SIMULATE_RATE", "1000")]);
    eventually("values are current", || (server.program.get("/readyz").status == 200).then_some(()));
    // Also one that would rather speak HTTP/2.
    for (version, max, http) in [("--tlsv1.2", "1.2", "--http1.1"), ("--tlsv1.3", "1.3", "--http2")] {
        let ask = |path: &str| {
            let url = server.https(path);
            let written = "%{http_code} %{http_version}";
            let args = [version, "--tls-max", max, http, "--write-out", written, &url];
            let answer = curl(&args, Some(&files));
            let errors = String::from_utf8_lossy(&answer.stderr);
            assert!(answer.status.success(), "{version}, {path}: {errors}");
            let text = String::from_utf8(answer.stdout).expect("UTF-8");
            text.strip_suffix("200 1.1").unwrap_or_else(|| panic!("{version}, {path}: {text}")).to_owned()
        };
        assert!(ask("/readyz").contains("ready"), "{version}");
        let snapshot: Value = serde_json::from_str(&ask("/v1/snapshot?topics=quote.*")).expect("JSON");
        let frames = snapshot["frames"].as_array().expect("frames");
        assert!(!frames.is_empty(), "{version}: {snapshot}");
        assert!(frames.iter().all(|frame| frame["topic"].as_str().is_some_and(|name| name.starts_with("quote."))));
    }
    // (curl's exit codes: 35 no handshake, 60 no trust.)
    let url = server.https("/readyz");
    let stranger = curl(&[&url], None);
    assert_eq!(stranger.status.code(), Some(60), "{}", String::from_utf8_lossy(&stranger.stderr));
    let old = curl(&["--tlsv1.0", "--tls-max", "1.1", "--ciphers", "ALL:@SECLEVEL=0", &url], Some(&files));
    assert_eq!(old.status.code(), Some(35), "{}", String::from_utf8_lossy(&old.stderr));
    eventually("the refusal is counted", || (server.handshakes("result=\"failed\"") > 0.0).then_some(()));
}
