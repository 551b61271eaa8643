//! What is wrong with how fanline is started, or with the files it is given, is reported with place and remedy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kit::eventually;
use kit::http::sum;
use kit::program::{Program, run, run_knowing};

/// Exit codes (src/cli.rs).
const FAILED: i32 = 1;
const WRONG: i32 = 2;

/// Writes a file for one test.
fn file(name: &str, text: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad_start");
    std::fs::create_dir_all(&folder).expect("a writable target directory");
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a writable target directory");
    path
}

/// Runs a command that must be refused: nothing on stdout, and each of the parts in one line on stderr.
#[track_caller]
fn check_refusal(args: &[&str], code: i32, parts: &[&str]) {
    let (status, stdout, stderr) = run(args, &[]);
    assert_eq!((status.code(), &*stdout), (Some(code), ""), "{args:?}: {stderr}");
    let told = stderr.lines().any(|line| line.starts_with("error: ") && parts.iter().all(|part| line.contains(part)));
    assert!(told, "{args:?}: expected {parts:?} in one line of:\n{stderr}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn a_typo_in_a_configuration_is_reported_with_its_line_and_the_nearest_name() {
    let path = file("typo.toml", "[slow]\nreplay_max = '2s'\nwrite_deadlin = '5s'\n");
    let parts = [&*format!("{}:3:", text(&path)), "`slow.write_deadlin`", "did you mean `slow.write_deadline`?"];
    let listen = ["--listen", "127.0.0.1:0"];
    check_refusal(&[&["--config", text(&path)][..], &listen].concat(), WRONG, &parts);
    check_refusal(&["check", text(&path)], WRONG, &parts);
    check_refusal(&["probe", "ws://127.0.0.1:9", "--config", text(&path)], WRONG, &parts);
}

#[test]
fn a_typo_in_a_profile_is_reported_with_its_line_and_the_nearest_name() {
    let profile = "profile = 1\nname = 'mine'\n\n[[on]]\nname = 'data'\nas = 'data'\ntopc = '${/s}'\n";
    let path = file("typo.profile.toml", profile);
    let parts = [&*format!("{}:7:", text(&path)), "`topc`", "did you mean `topic`?"];
    let listen = ["--listen", "127.0.0.1:0"];
    let url = "ws://127.0.0.1:9/feed";
    check_refusal(&[&[url, "--profile", text(&path)][..], &listen].concat(), WRONG, &parts);
    check_refusal(&["check", text(&path)], WRONG, &parts);
    check_refusal(&["probe", url, "--profile", text(&path)], WRONG, &parts);
    let parts = ["`binanse`", "did you mean `binance`?"];
    check_refusal(&[&[url, "--profile", "binanse"][..], &listen].concat(), WRONG, &parts);
}

#[test]
fn a_url_that_cannot_be_a_feed_is_refused_with_the_right_one() {
    for (url, parts) in [
        ("https://feed.example.com/ws", ["`https://feed.example.com/ws`", "try `wss://feed.example.com/ws`"]),
        ("http://127.0.0.1:9/ws", ["`http://127.0.0.1:9/ws`", "try `ws://127.0.0.1:9/ws`"]),
        ("feed.example.com/ws", ["`feed.example.com/ws`", "write it as `wss://feed.example.com/ws`"]),
    ] {
        check_refusal(&[url, "--listen", "127.0.0.1:0"], WRONG, &parts);
        check_refusal(&["probe", url], WRONG, &parts);
    }
}

#[test]
fn a_port_in_use_is_reported_with_the_address_and_the_remedy() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = holder.local_addr().expect("bound").to_string();
    let capture = file("sound.jsonl", "{\"t_ns\":1,\"dir\":\"in\",\"data\":\"{}\"}\n");
    let parts = [&*format!("`{address}`"), "--listen"];
    check_refusal(&["--listen", &address], FAILED, &parts);
    check_refusal(&["simulate", "--listen", &address], FAILED, &parts);
    check_refusal(&["replay", text(&capture), "--listen", &address], FAILED, &parts);
}

#[test]
fn an_unreadable_recording_is_named_in_the_error() {
    let folder = file("some_file", "").with_file_name("");
    for path in ["/nowhere/capture.jsonl", text(&folder)] {
        let parts = [&*format!("`{path}`"), "check the"];
        check_refusal(&["replay", path, "--listen", "127.0.0.1:0"], WRONG, &parts);
        check_refusal(&["check", path], WRONG, &parts);
    }
}

#[test]
fn a_broken_line_of_a_recording_is_reported_with_its_number_and_the_expected_form() {
    let good = "{\"t_ns\":1,\"dir\":\"in\",\"data\":\"{}\"}\n";
    for (name, bad, part) in [
        ("torn.jsonl", "{\"t_ns\":2,\"dir\":\"in\",\"da", "EOF"),
        ("direction.jsonl", "{\"t_ns\":2,\"dir\":\"up\",\"data\":\"x\"}\n", "`up`"),
        ("nothing.jsonl", "{\"t_ns\":2,\"dir\":\"in\"}\n", "neither `data` nor `b64`"),
    ] {
        let path = file(name, &format!("{good}\n{bad}"));
        let parts =
            [&*format!("{}:3:", text(&path)), "expected one JSON object per line like", part, "repair this line"];
        check_refusal(&["replay", text(&path), "--listen", "127.0.0.1:0"], WRONG, &parts);
        check_refusal(&["check", text(&path)], WRONG, &parts);
    }
    let empty = file("empty.jsonl", "");
    check_refusal(&["check", text(&empty)], WRONG, &["expected at least one line with `\"dir\":\"in\"`"]);
}

const GENERIC: &str = include_str!("../../src/profile/built_in/generic.toml");

#[test]
fn check_warns_of_a_profile_without_messages_of_its_feed() {
    let profile = file("bare.toml", GENERIC);
    let messages = profile.with_extension("messages.jsonl");
    let _ = std::fs::remove_file(&messages);
    let warned = |stderr: &str| {
        let part = format!("warning: expected messages of the feed in `{}`, found no such file", text(&messages));
        stderr.contains(&part) && stderr.contains(r#"such as `{"gets":{"s":"A"},"class":"data","topics":["A"]}`"#)
    };
    let (status, _, stderr) = run(&["check", text(&profile)], &[]);
    assert!(status.success() && warned(&stderr), "{stderr}");
    std::fs::write(&messages, r#"{"items":["x"],"sends":["x"]}"#).expect("a writable folder");
    let (_, _, stderr) = run(&["check", text(&profile)], &[]);
    assert!(!warned(&stderr), "{stderr}");
}

#[test]
fn check_describes_a_valid_file() {
    for (name, content, part) in [
        ("right.toml", "[slow]\nreplay_max = '2s'\n[simulate]\n", "a valid configuration, settings: 1"),
        ("right.profile.toml", GENERIC, "a valid profile, `generic`"),
        (
            "right.jsonl",
            "{\"t_ns\":0,\"dir\":\"in\",\"data\":\"{}\"}\n{\"t_ns\":2500000000,\"dir\":\"in\",\"data\":\"{}\"}\n",
            "a valid recording, frames: 2, seconds: 2.5",
        ),
    ] {
        let path = file(name, content);
        let (status, stdout, stderr) = run(&["check", text(&path)], &[]);
        assert!(status.success(), "{stderr}");
        assert_eq!(stdout, format!("{}: {part}\n", text(&path)));
    }
}

/// Runs `fanline check` on what comes through a pipe.
fn check_pipe(text: &str, rows: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanline"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FANLINE_")) {
        command.env_remove(name);
    }
    command.args(["check", "/dev/stdin"]).envs(rows.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("the program reads");
    let output = child.wait_with_output().expect("the program ends");
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
    (output.status.code(), told)
}

#[test]
fn check_reads_a_pipe_once_and_refuses_what_the_start_refuses() {
    let feed = "[upstream]\nurl = 'ws://127.0.0.1:9'\n";
    let known = "profile = 'binance'\nsubscribe = ['btcusdt@trade']\n";
    for (text, rows, code, part) in [
        ("lisen = 1\n".into(), &[][..], WRONG, "did you mean `listen`?"),
        (
            String::new(),
            &[],
            WRONG,
            "/dev/stdin: expected a configuration, a profile or a recording, found an empty file",
        ),
        ("[limits]\nsessions_max = 5\n".into(), &[], WRONG, "expected a feed, found none"),
        ("[limits]\nsessions_max = 5\n".into(), &[("FANLINE_UPSTREAM_URL", "ws://127.0.0.1:9")], 0, "settings: 1"),
        (format!("{feed}{known}"), &[], 0, "a valid configuration, settings: 3"),
        (format!("{feed}profile = 'binanse'\n"), &[], WRONG, "did you mean `binance`?"),
        (format!("{feed}profile = './nowhere.toml'\n"), &[], WRONG, "`./nowhere.toml`"),
        ("[upstream]\nprofile = 'generic'\n".into(), &[], WRONG, "found none in the settings and none in profile"),
        (format!("{feed}profile = 'simulated'\nsubscribe = ['a']\n"), &[], WRONG, "expected no items"),
        (format!("{feed}legs = 4\nconnections = 256\n"), &[], WRONG, "lower `upstream.legs`"),
        (format!("{feed}topic = '/a~2'\n"), &[], WRONG, "--topic"),
        (format!("{feed}[log]\nlevel = 'loud'\n"), &[], WRONG, "log.level: expected a log filter, found `loud`"),
        (format!("{feed}[log]\nlevel = 'warm'\n"), &[], WRONG, "did you mean `warn`?"),
        (feed.into(), &[("FANLINE_SLOW_REPLAY_MAX", "2")], WRONG, "FANLINE_SLOW_REPLAY_MAX: expected a duration"),
        (format!("{feed}profile = 'alpaca'\n"), &[], WRONG, "needs the environment variable"),
        ("{\"t_ns\":1,\"dir\":\"in\",\"data\":\"{}\"}\n".into(), &[], 0, "a valid recording, frames: 1"),
        ("profile = 1\nname = 'x'\ncolour = 1\n".into(), &[], WRONG, "`colour`"),
    ] {
        let (found, told) = check_pipe(&text, rows);
        assert_eq!(found, Some(code), "{text}{rows:?}\n{told}");
        assert!(told.contains(part), "{text}{rows:?}: expected {part} in {told}");
    }
}

/// An HTTP server that gives everyone the same answer.
struct Website {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Website {
    fn open(answer: &'static str) -> Website {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        // Ends with the test process.
        thread::spawn(move || {
            for mut guest in listener.incoming().filter_map(Result::ok) {
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && guest.read(&mut byte).is_ok_and(|bytes| bytes > 0) {
                    request.push(byte[0]);
                }
                counter.fetch_add(1, Ordering::SeqCst);
                // The guest may have left.
                let _ = guest.write_all(answer.as_bytes());
            }
        });
        Website { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[test]
fn a_feed_that_is_not_a_websocket_is_logged_with_the_remedy_and_retried() {
    for (answer, status, parts) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            200,
            ["found HTTP status 200", "look up the feed's WebSocket path"],
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            404,
            ["found HTTP status 404", "check the URL's path and parameters"],
        ),
    ] {
        let website = Website::open(answer);
        let url = format!("ws://{}/feed", website.address);
        let mut server = Program::serve(&[&url], &[("UPSTREAM_BACKOFF_MIN", "20ms"), ("UPSTREAM_BACKOFF_MAX", "50ms")]);
        let expected = [&*format!("expected a WebSocket at `{url}`"), parts[0], parts[1]];
        let told = |text: &str| expected.iter().all(|part| text.contains(part));

        let answer = eventually("/readyz gives the reason", || {
            Some(server.get("/readyz")).filter(|answer| answer.json()["reason"] == "upstream_down")
        });
        assert_eq!(answer.status, 503);
        let message = answer.json()["message"].clone();
        assert_eq!(message, format!("the feed refuses the connection with HTTP status {status}"), "no more than that");
        eventually("it is tried again", || (website.asked() >= 3).then_some(()));
        let log = eventually("the log tells", || Some(server.log()).filter(|log| log.lines().any(told)));
        assert!(log.contains("reconnecting in"), "{log}");
        let metrics = server.get("/metrics").body;
        assert!(sum(&metrics, "fanline_upstream_reconnects_total", r#"reason="not_websocket""#) >= 2.0);
        assert_eq!(server.get("/healthz").status, 200, "the server is up all the same");
        assert!(server.is_running());
        check_refusal(&["probe", &url, "--seconds", "1"], FAILED, &expected);
    }
}

/// A profile that puts a variable into a header and into a message.
const KEYED: &str = "profile = 1\nname = 'keyed'\n[connect]\nheaders = { 'X-Key' = '${env.BAD_START_KEY}' }\n\
                     [[on]]\nname = 'data'\nas = 'data'\ntopic = '${/s}'\n";

#[test]
fn a_secret_that_cannot_be_sent_is_named_at_the_start_and_not_shown() {
    let profile = file("keyed.profile.toml", KEYED);
    for value in ["ge\nheim", "ge\u{1b}heim", "ge\r\nX-Evil: heim"] {
        let args = ["ws://127.0.0.1:9/feed", "--profile", text(&profile), "--listen", "127.0.0.1:0"];
        let (status, _, stderr) = run_knowing(&args, &[("BAD_START_KEY", value)]);
        assert_eq!(status.code(), Some(WRONG), "{stderr}");
        let part = "expected a value of one line without control characters in `BAD_START_KEY`";
        assert!(stderr.contains(part) && !stderr.contains("heim"), "{stderr}");
    }
}

#[test]
fn headers_that_cannot_be_sent_are_refused_at_the_start_and_by_check() {
    for (line, part) in [
        ("X-Key", "expected a header such as `X-Api-Key: ${env.MY_KEY}`"),
        ("Upgrade: h2c", "expected a header other than those of the handshake itself, found `Upgrade`"),
        ("X-Key: ${evn.KEY}", "found `evn.KEY`"),
    ] {
        let path = file("headers.toml", &format!("[upstream]\nurl = 'ws://127.0.0.1:9/'\nheaders = ['{line}']\n"));
        let parts = [&*format!("{}:3:", text(&path)), "upstream.headers", part];
        check_refusal(&["check", text(&path)], WRONG, &parts);
        check_refusal(&["--config", text(&path), "--listen", "127.0.0.1:0"], WRONG, &parts);
    }
    let (_, stdout, _) = run(&["config", "--upstream-headers", "X-Key: geheim", "ws://127.0.0.1:9"], &[]);
    assert!(stdout.contains("X-Key: ***") && !stdout.contains("geheim"), "{stdout}");
}

#[test]
fn client_requests_need_a_profile_that_defines_them() {
    let args = ["ws://127.0.0.1:9/feed", "--upstream-send", "chat.*", "--listen", "127.0.0.1:0"];
    check_refusal(&args, WRONG, &["expected `[client] send` in profile `generic`", "leave `upstream.send` empty"]);
}

#[test]
fn doctor_names_what_hurts_with_a_remedy_below_it() {
    let venue = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}/feed?key=geheim", venue.local_addr().expect("bound"));
    let file = file("doctor.toml", &format!("listen = '127.0.0.1:0'\n[upstream]\nurl = '{url}'\n"));
    let args = ["doctor", "--config", text(&file)];
    let (status, stdout, stderr) = run(&args, &[]);
    let has = |verdict: &str, subject: &str| {
        let mut lines = stdout.lines();
        lines.any(|line| line.strip_prefix(verdict).is_some_and(|rest| rest.trim_start().starts_with(subject)))
    };
    assert_eq!(status.code(), Some(0), "{stdout}{stderr}");
    assert!(
        has("ok", "configuration") && has("ok", "listener `127.0.0.1:0`") && has("ok", "feed `127.0.0.1:"),
        "{stdout}"
    );
    assert!(has("hint", "proxy in front") && !stdout.contains("geheim"), "{stdout}");

    drop(venue);
    let (status, stdout, stderr) = run(&[&args[..], &["--json"]].concat(), &[]);
    assert_eq!(status.code(), Some(FAILED), "{stdout}{stderr}");
    assert!(stderr.starts_with("error: expected a machine without faults, found 1, "), "{stderr}");
    let examination: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let facts = examination["facts"].as_array().expect("a list");
    let faults: Vec<_> = facts.iter().filter(|fact| fact["severity"] == "fault").collect();
    assert!(matches!(&faults[..], [fault] if fault["remedy"].is_string()), "{stdout}");

    let refused = file.with_file_name("doctor-refused.toml");
    std::fs::write(&refused, "[upstream]\nurl = 'ws://127.0.0.1:9/'\nprofile = 'no-such'\n")
        .expect("a writable folder");
    let (_, stdout, _) = run(&["doctor", "--config", text(&refused)], &[]);
    assert!(stdout.starts_with("fault    configuration "), "{stdout}");
}

#[test]
fn doctor_sees_a_running_server_as_it_is() {
    let server = Program::serve_within(300, &[], &[]);
    let (_, stdout, _) = run(&["doctor", "--pid", &server.pid().to_string()], &[]);
    assert!(stdout.contains("the limit is 300: room for "), "{stdout}");
    assert!(stdout.contains("-> set LimitNOFILE="), "{stdout}");
    assert!(!stdout.contains("listener `"), "its listeners are its own: {stdout}");
}
