//! A stream of server-sent events is a session like any other: the same frames, the same cursor, the same notices.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kit::account::{Account, PATTERNS, Request};
use kit::event_client::EventClient;
use kit::http::{self, sum};
use kit::program::Program;
use kit::relay::Relay;
use kit::tape::{PROFILE, Tape};
use kit::{DEADLINE, eventually, project, skip_without_tool, tool};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How often a client is killed, in all.
const KILLS: usize = 200;
/// Bytes after which a client is killed at the latest, and after what time.
const BYTES_MAX: usize = 128 * 1024;
const LIFE_MAX: Duration = Duration::from_millis(60);

/// A server on the tape in a loop.
struct Harness {
    tape: Tape,
    gate: Relay,
    server: Program,
    _venue: Program,
}

impl Harness {
    fn open(speed: &str, settings: &[(&str, &str)]) -> Harness {
        let tape = Tape::open();
        let venue = Program::replay(tape.path(), &["--loop", "--speed", speed]);
        let gate = Relay::shut();
        gate.open(venue.addr());
        let settings = [&[("UPSTREAM_IDLE_TIMEOUT", "10m")], settings].concat();
        let server = Program::serve(&[&gate.ws("/stream"), "--profile", PROFILE], &settings);
        let harness = Harness { tape, gate, server, _venue: venue };
        eventually("every topic has a value", || (harness.head() > harness.tape.end() / 20).then_some(()));
        harness
    }

    fn head(&self) -> u64 {
        self.server.get("/v1/topics").json()["offset"].as_u64().expect("an offset")
    }

    fn stream(&self, query: &str, headers: &str) -> EventClient {
        EventClient::connect(self.server.addr(), &format!("/v1/sse?{query}"), headers)
    }
}

#[test]
fn a_stream_opens_with_its_head_and_goes_on_with_welcome_subscribed_and_frames_with_their_cursor() {
    let harness = Harness::open("1", &[]);
    let mut stream = harness.stream("topics=*@trade", "Origin: https://page.example\r\n");
    let opening = stream.next_event().expect("an event");
    let retry = opening.retry.expect("it comes first");
    assert!((1_000..5_000).contains(&retry) && opening.data.is_none(), "{opening:?}");
    let head = stream.head().expect("it was read").to_owned();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for line in [
        "content-type: text/event-stream; charset=utf-8",
        "cache-control: no-cache, no-transform",
        "x-accel-buffering: no",
        "x-content-type-options: nosniff",
        "access-control-allow-origin: *",
        "connection: close",
    ] {
        assert!(head.contains(&format!("{line}\r\n")), "expected `{line}` in\n{head}");
    }
    assert!(!head.contains("content-length"), "{head}");
    let welcome = stream.next_event().expect("an event");
    assert_eq!((welcome.name.as_deref(), welcome.id.as_deref()), (Some("welcome"), None));
    let epoch = welcome.json()["epoch"].as_str().expect("an epoch").to_owned();
    assert_eq!(stream.next_event().and_then(|event| event.name).as_deref(), Some("subscribed"));
    for _ in 0..200 {
        let event = stream.next_event().expect("a frame");
        assert_eq!(event.name, None, "{event:?}");
        let text = event.data.clone().expect("data");
        harness.tape.locate(&text);
        assert_eq!(event.id, Some(format!("{epoch}:{}", event.json()["offset"])));
    }
    let metrics = harness.server.get("/metrics").body;
    assert!(sum(&metrics, "fanline_encodings_total", "encoding=\"events\"") >= 1.0);
    assert!(sum(&metrics, "fanline_http_requests_total", "route=\"/v1/sse\",status=\"200\"") >= 1.0);
}

#[test]
fn a_stream_that_is_cut_at_any_byte_and_resumes_has_every_message_once() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}; SEED={seed} draws the same moments again");
    let mut rng = StdRng::seed_from_u64(seed);
    let ring = [("RING_FRAMES_MAX", "1048576"), ("RING_BYTES_MAX", "1GiB"), ("HEARTBEAT_INTERVAL", "1ms")];
    let harness = Harness::open("40", &ring);
    let (mut torn, mut resumed) = (0, 0);
    let mut clients: Vec<Client> = (0..4).map(|index| Client::new(&harness, index)).collect();
    for client in &mut clients {
        for _ in 0..KILLS / 4 {
            resumed += usize::from(client.cursor.is_some());
            let mut stream = client.connect(&harness);
            let (mut bytes_left, end) =
                (rng.random_range(0..BYTES_MAX), Instant::now() + LIFE_MAX.mul_f64(rng.random()));
            while bytes_left > 0 && Instant::now() < end {
                let read = stream.read(bytes_left, end.saturating_duration_since(Instant::now()));
                bytes_left -= read.expect("the stream goes on");
                client.take(&mut stream);
            }
            torn += usize::from(stream.pending_bytes() > 0);
            client.account.lose();
        }
    }
    assert_eq!(harness.gate.cut(), 1, "one line to the venue");
    eventually("the feed is down", || (harness.server.get("/readyz").status == 503).then_some(()));
    let head = harness.head();
    for mut client in clients {
        let mut stream = client.connect(&harness);
        let start = Instant::now();
        while client.reached() < head {
            assert!(start.elapsed() < DEADLINE, "expected everything within {DEADLINE:?}");
            stream.read(usize::MAX, DEADLINE).expect("the stream goes on");
            client.take(&mut stream);
        }
        let totals = client.account.settle(head);
        assert_eq!((totals.missed, totals.skipped_slow, totals.skipped_expired), (0, 0, 0), "{totals:?}");
        assert_eq!(totals.received, totals.due, "{totals:?}");
    }
    assert!(torn > KILLS / 8 && resumed > KILLS / 2, "{torn} of {KILLS} were cut within an event, {resumed} resumed");
}

/// One that comes and goes as a browser does: it keeps the URL that it began with, and shows the newest id.
struct Client<'t> {
    account: Account<'t>,
    topics: String,
    cursor: Option<String>,
}

impl<'t> Client<'t> {
    fn new(harness: &'t Harness, index: usize) -> Client<'t> {
        let topics = PATTERNS[index].0.replace('>', "%3E");
        Client { account: Account::new(&harness.tape, [index].into()), topics, cursor: None }
    }

    fn connect(&mut self, harness: &Harness) -> EventClient {
        assert_eq!(self.cursor, self.account.since(), "the id is the cursor of any client");
        self.account.ask(Request::Opening);
        // The header counts.
        let old = self.cursor.as_ref().map(|_| "&since=0000000000000001:1").unwrap_or_default();
        let header = self.cursor.as_ref().map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        harness.stream(&format!("policy=lossless&topics={}{old}", self.topics), &header)
    }

    fn take(&mut self, stream: &mut EventClient) {
        while let Some(event) = stream.event() {
            if let Some(data) = &event.data {
                self.account.read(data);
            }
            self.cursor = event.id.or(self.cursor.take());
        }
    }

    fn reached(&self) -> u64 {
        self.cursor.as_ref().and_then(|id| id.split(':').nth(1)?.parse().ok()).unwrap_or(0)
    }
}

#[test]
fn a_stream_says_why_it_ends() {
    let harness = Harness::open("1", &[("SSE_AGE_MAX", "1s"), ("LIMITS_WILDCARDS_MAX", "1")]);
    let mut aged = harness.stream("topics=*@trade", "");
    let goodbye = aged.until("goodbye");
    assert_eq!((goodbye.json()["code"].as_str(), goodbye.retry.is_some()), (Some("max_age"), true));
    let close = aged.next_event().expect("an event");
    assert_eq!((close.name.as_deref(), close.json()["code"].as_u64()), (Some("close"), Some(1012)));
    assert_eq!(aged.next_event(), None, "nothing follows");

    let mut refused = harness.stream("topics=*@trade,*@depth", "");
    assert_eq!(refused.until("error").json()["code"], "too_many_wildcards");
    let close = refused.next_event().expect("an event");
    assert_eq!((close.json()["code"].as_u64(), close.retry), (Some(1008), Some(86_400_000)));
    assert_eq!(refused.next_event(), None);

    let mut talkative = harness.stream("topics=*@trade", "");
    talkative.until("subscribed");
    talkative.write(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(talkative.until("close").json()["code"], 1002);

    let mut stopped = harness.stream("topics=*@trade", "");
    stopped.until("subscribed");
    harness.server.terminate();
    let goodbye = stopped.until("goodbye");
    assert_eq!(
        (goodbye.json()["code"].as_str(), goodbye.retry),
        (Some("draining"), goodbye.json()["reconnect_ms"].as_u64())
    );
    assert_eq!(stopped.until("close").json()["code"], 1001);
}

#[test]
fn a_wrong_request_is_refused_before_the_stream_or_in_an_event() {
    let harness = Harness::open("1", &[]);
    for (query, status, code) in [
        ("", 400, "bad_request"),
        ("topics=a..b", 400, "bad_pattern"),
        ("topics=a&format=raw", 400, "bad_request"),
        ("topics=a&since=x", 400, "bad_cursor"),
        ("topics=a&errors=yes", 400, "bad_request"),
    ] {
        let answer = harness.server.get(&format!("/v1/sse?{query}"));
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{query}");
        if query.contains("errors") {
            continue;
        }
        let answer = harness.server.get(&format!("/v1/sse?errors=events&{query}"));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream; charset=utf-8")));
        let expected = format!("retry: 86400000\nevent: error\ndata: {{\"op\":\"error\",\"code\":\"{code}\",");
        assert!(answer.body.starts_with(&expected), "{query}: {}", answer.body);
    }
    let head = http::ask(
        harness.server.addr(),
        "HEAD /v1/sse?topics=a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert_eq!((head.status, &*head.body), (200, ""));
}

#[test]
fn a_client_that_does_not_read_skips_and_is_told() {
    let settings = [("RING_FRAMES_MAX", "256"), ("SLOW_REPLAY_MAX", "0s"), ("SLOW_UNSENT_BYTES_MAX", "16KiB")];
    let harness = Harness::open("max", &settings);
    let mut stream = harness.stream("topics=%3E", "");
    stream.until("subscribed");
    eventually("it falls behind", || {
        let metrics = harness.server.get("/metrics").body;
        (sum(&metrics, "fanline_sessions_behind", "") >= 1.0).then_some(())
    });
    let skipped = stream.until("skipped").json();
    assert!(skipped["from"].as_u64() < skipped["to"].as_u64() && skipped["reason"].is_string(), "{skipped}");
}

#[test]
fn lines_of_json_are_the_same_messages() {
    let harness = Harness::open("1", &[]);
    let Some(curl) = tool("curl") else { return skip_without_tool("sse", "curl") };
    let url = format!("http://{}/v1/sse?topics=*@trade", harness.server.addr());
    let mut command = Command::new(curl);
    command.args(["--silent", "--no-buffer", "--max-time", "5", "-H", "Accept: application/x-ndjson", &url]);
    let output = command.stdin(Stdio::null()).output().expect("curl starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    // What the time cut off is no line.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines: Vec<serde_json::Value> = whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&lines[0]["op"], &lines[1]["op"]), (&"welcome".into(), &"subscribed".into()));
    assert!(lines.len() > 5, "{text}");
    for line in whole.lines().skip(2) {
        harness.tape.locate(line);
    }
}

/// Programs that read 2,000 frames each, while they are cut off by the age of streams.
#[test]
fn stock_clients_read_a_stream_and_resume_it() {
    let harness = Harness::open("20", &[("SSE_AGE_MAX", "1s")]);
    let url = format!("http://{}/v1/sse?topics=*@trade", harness.server.addr());
    let python = tool("python").filter(|python| python.ends_with("venv/bin/python"));
    for (name, program, script) in [("Python", python, "events.py"), ("Node", tool("node"), "events.mjs")] {
        let Some(program) = program else {
            skip_without_tool("sse", name);
            continue;
        };
        let script = project("tests/stock").join(script);
        let output = Command::new(program).arg(script).arg(&url).arg("2000").stdin(Stdio::null()).output();
        let output = output.expect("the client starts");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let mut last = 0;
        let mut count = 0;
        for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
            harness.tape.locate(line);
            let frame: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let offset = frame["offset"].as_u64().expect("an offset");
            assert!(offset > last, "{name}: {offset} comes after {last}");
            (last, count) = (offset, count + 1);
        }
        assert_eq!(count, 2000, "{name}");
    }
    let ends = sum(&harness.server.get("/metrics").body, "fanline_goodbyes_total", "reason=\"max_age\"");
    assert!(ends >= 1.0, "expected streams that were ended by their age, found {ends}");
}
