//! A server is alive or ended, never half of it. A part that ends also ends the process, one that hangs is reported, and
//! neither the log nor a lack of files nor a signal stops the working parts.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kit::client::Client;
use kit::http::{HANDSHAKE, refused_upgrade, sum};
use kit::program::{Program, command};
use kit::raw_client::RawClient;
use kit::relay::Relay;
use kit::{DEADLINE, eventually};

/// A server on the simulated market, with a fault that happens once a client has left.
fn serve_with(fault: &str) -> Program {
    Program::serve_knowing(&[], &[("SHARDS_COUNT", "2")], &[("INJECTED_FAULT", fault)])
}

/// Two clients, each on a shard of its own; the second leaves.
async fn subscribe_and_set_off(server: &Program) -> Client {
    let client = Client::of_quotes(server).await;
    drop(Client::of_quotes(server).await);
    client
}

/// The worst outcome of a part's end: clients take old values for current ones, for ever.
async fn a_panic_ends_it(part: &str, name_part: &str, first_notice: &str) {
    let mut server = serve_with(&format!("{part} panic"));
    let mut client = subscribe_and_set_off(&server).await;
    let set_off = Instant::now();
    let notices = client.notices_to_the_end().await;
    assert_eq!(server.wait().code(), Some(1), "a supervisor starts it again");
    assert!(set_off.elapsed() < Duration::from_secs(15), "it took {:?}", set_off.elapsed());
    let ops: Vec<&str> = notices.iter().filter_map(|notice| notice["op"].as_str()).collect();
    assert_eq!(ops.first(), Some(&first_notice), "{part}: {notices:?}");
    assert!(!ops.contains(&"live"), "{part}: {notices:?}");
    let goodbye = notices.last().expect("a goodbye");
    assert!(goodbye["op"] == "goodbye" && goodbye["reconnect_ms"].is_u64(), "{part}: {notices:?}");
    let parts = ["ERROR", &format!("`{name_part}` panicked: injected"), "the process ends"];
    let lines = || server.log().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
    tokio::task::block_in_place(|| eventually("one line that says why", || (lines() == 1).then_some(())));
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(debug_assertions), ignore = "faults are injected in debug builds only")]
async fn a_panic_of_a_shard_ends_the_process_and_clients_of_other_shards_receive_a_goodbye() {
    a_panic_ends_it("shard", "shard-1", "goodbye").await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(debug_assertions), ignore = "faults are injected in debug builds only")]
async fn a_panic_of_the_feed_ends_the_process_and_clients_learn_that_their_values_are_stale() {
    a_panic_ends_it("feed", "feed", "stale").await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(debug_assertions), ignore = "faults are injected in debug builds only")]
async fn a_panic_of_the_edge_ends_the_process() {
    a_panic_ends_it("edge", "edge", "goodbye").await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(debug_assertions), ignore = "faults are injected in debug builds only")]
async fn a_panic_of_the_supervisor_ends_the_process() {
    a_panic_ends_it("supervisor", "supervisor", "goodbye").await;
}

/// The feed sees the market go: clients may learn of that before anything else.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(debug_assertions), ignore = "faults are injected in debug builds only")]
async fn a_panic_of_the_simulated_market_ends_the_process() {
    let mut server = serve_with("simulator panic");
    let mut client = subscribe_and_set_off(&server).await;
    let notices = client.notices_to_the_end().await;
    assert_eq!(server.wait().code(), Some(1));
    assert_eq!(notices.last().map(|notice| &notice["op"]), Some(&"goodbye".into()), "{notices:?}");
    let logged = || server.log().contains("`simulator` panicked: injected").then_some(());
    tokio::task::block_in_place(|| eventually("the log says why", logged));
}

async fn a_part_that_hangs_is_named(part: &str, name: &str) {
    let server = serve_with(&format!("{part} sleep"));
    assert_eq!(server.get("/healthz").status, 200);
    let _client = subscribe_and_set_off(&server).await;
    tokio::task::block_in_place(|| {
        let sick = eventually(&format!("/healthz misses the {part}"), || {
            Some(server.get("/healthz")).filter(|answer| answer.status == 503)
        });
        assert_eq!(sick.json()["part"], name, "{}", sick.body);
        let metrics = server.get("/metrics").body;
        let age = sum(&metrics, "fanline_liveness_age_seconds", &format!("part=\"{name}\""));
        assert!(age > 5.0, "{age}");
        let readiness = server.get("/readyz");
        assert_eq!((readiness.status, &readiness.json()["state"]), (503, &"unhealthy".into()));
        eventually("it is healthy again", || (server.get("/healthz").status == 200).then_some(()));
        eventually("the log reports both", || {
            let log = server.log();
            let lines = ["no sign of life for 5 s", "signs of life are back"];
            lines.iter().all(|line| log.contains(line)).then_some(())
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(debug_assertions), ignore = "faults are injected in debug builds only")]
async fn a_shard_that_hangs_is_named_and_healthy_again_afterwards() {
    a_part_that_hangs_is_named("shard", "shard-1").await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(debug_assertions), ignore = "faults are injected in debug builds only")]
async fn a_feed_that_hangs_is_named_and_healthy_again_afterwards() {
    a_part_that_hangs_is_named("feed", "feed").await;
}

/// Neither a retry nor a restart would help. The process works, and reports that its values are stale.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_given_up_is_not_ready_but_healthy() {
    let market = Program::simulate(&[]);
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("alive");
    std::fs::create_dir_all(&folder).expect("a writable target directory");
    let profile = folder.join("fatal.toml");
    let text = "profile = 1\nname = 'fatal'\n\n[[on]]\nname = 'no'\nas = 'fatal'\nwhen = ['/topic exists']\n";
    std::fs::write(&profile, text).expect("a writable target directory");
    let server = Program::serve(&[&market.ws("/"), "--profile", profile.to_str().expect("UTF-8")], &[]);
    tokio::task::block_in_place(|| {
        eventually("the feed is at rest", || {
            let metrics = server.get("/metrics").body;
            metrics.contains("fanline_liveness_age_seconds{part=\"feed\"} 0\n").then_some(())
        });
        let (health, readiness) = (server.get("/healthz"), server.get("/readyz"));
        assert_eq!((health.status, readiness.status), (200, 503), "{}", readiness.body);
        assert_eq!(readiness.json()["reason"], "upstream_down");
    });
}

/// A market that can be cut off, so that there is something to log.
struct Outages {
    market: Program,
    gate: Relay,
}

impl Outages {
    fn new() -> Outages {
        let outages = Outages { market: Program::simulate(&[]), gate: Relay::shut() };
        outages.gate.open(outages.market.addr());
        outages
    }

    fn url(&self) -> String {
        self.gate.ws("/")
    }

    /// An outage of several attempts, and the market again.
    async fn happen(&self) {
        let (passed, refused) = (self.gate.passed(), self.gate.refused());
        tokio::task::block_in_place(|| {
            self.gate.cut();
            eventually("attempts fail", || (self.gate.refused() >= refused + 5).then_some(()));
            self.gate.open(self.market.addr());
            eventually("the feed is back", || (self.gate.passed() > passed).then_some(()));
        });
    }
}

const SOON: [(&str, &str); 2] = [("UPSTREAM_BACKOFF_MIN", "10ms"), ("UPSTREAM_BACKOFF_MAX", "20ms")];

/// Clients get frames, outages are survived and a stop is obeyed, whatever becomes of the log.
async fn a_server_goes_on_without_its_log(log: impl Into<Stdio>, drops: bool) {
    let outages = Outages::new();
    let mut server = Program::serve_logging_to(log, &[&outages.url()], &SOON);
    let mut client = Client::of_quotes(&server).await;
    for _ in 0..3 {
        outages.happen().await;
        client.expect_live().await;
        client.frame().await;
    }
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get("/readyz").status, 200);
    let dropped = sum(&server.get("/metrics").body, "fanline_log_lines_dropped_total", "");
    assert_eq!(dropped > 0.0, drops, "{dropped}");
    server.terminate();
    let notices = client.notices_to_the_end().await;
    assert_eq!(notices.last().map(|notice| &notice["op"]), Some(&"goodbye".into()), "{notices:?}");
    assert_eq!(server.wait().code(), Some(0));
}

/// A pipe with room for not one more byte.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let room = rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("a smaller pipe");
    writer.write_all(&vec![b'.'; room]).expect("room");
    (reader, writer.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_a_reader_stops_nothing() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    a_server_goes_on_without_its_log(writer, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_a_full_disk_stops_nothing() {
    let disk = File::options().write(true).open("/dev/full").expect("a full disk");
    a_server_goes_on_without_its_log(disk, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_log_stops_nothing() {
    let (_reader, log) = full_pipe();
    a_server_goes_on_without_its_log(log, false).await;
}

#[test]
fn a_stdout_that_is_full_or_never_read_does_not_stop_the_start() {
    let disk = File::options().write(true).open("/dev/full").expect("a full disk");
    let (_reader, pipe) = full_pipe();
    for stdout in [Stdio::from(disk), pipe] {
        let mut command = command(&["--listen", "127.0.0.1:0"], &[]);
        let mut child = command.stdout(stdout).spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let told = stderr.lines().map_while(Result::ok).find(|line| line.contains("could not write to stdout"));
        let line = told.unwrap_or_else(|| panic!("expected a warning, found the end: {:?}", child.wait()));
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
        let answer = kit::http::get(address.parse().expect(address), "/healthz");
        assert_eq!(answer.status, 200, "{line}");
        child.kill().expect("a child of ours");
        child.wait().expect("a child of ours");
    }
}

/// With a log that nobody reads even the error that ends it reaches nobody.
#[test]
fn a_failed_start_ends_even_if_nobody_reads_the_reason() {
    let (_reader, log) = full_pipe();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = holder.local_addr().expect("bound").to_string();
    let mut child = command(&["--listen", &address], &[]).stderr(log).spawn().expect("the binary starts");
    let status = eventually("it ends", || child.try_wait().expect("a child of ours"));
    assert_eq!(status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_without_a_meaning_end_nothing_and_sigquit_says_goodbye() {
    let mut server = Program::serve(&[], &[]);
    let mut client = Client::of_quotes(&server).await;
    for (signal, line) in [("HUP", "SIGHUP: read again: settings"), ("USR1", "SIGUSR1")] {
        server.signal(signal);
        tokio::task::block_in_place(|| eventually(line, || server.log().contains(line).then_some(())));
    }
    client.frame().await;
    server.signal("QUIT");
    let notices = client.notices_to_the_end().await;
    assert_eq!(notices.last().map(|notice| &notice["op"]), Some(&"goodbye".into()), "{notices:?}");
    assert_eq!(server.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_all_files_they_can_leave_those_that_the_feed_needs() {
    let outages = Outages::new();
    let settings = [SOON[0], SOON[1], ("SHARDS_COUNT", "2")];
    let server = Program::serve_within(64, &[&outages.url()], &settings);
    let told = || server.log().contains("limit=64 sessions_max=17 wanted=100000").then_some(());
    tokio::task::block_in_place(|| eventually("both numbers are reported", told));
    let mut clients: Vec<RawClient> = Vec::new();
    tokio::task::block_in_place(|| {
        for _ in 0..17 {
            clients.push(RawClient::connect(server.addr(), "/v1/ws?topics=quote.%3E", ""));
        }
        for _ in 17..100 {
            let refused = refused_upgrade(server.addr(), "/v1/ws", HANDSHAKE);
            assert_eq!((refused.status, &refused.json()["code"]), (503, &"too_many_sessions".into()));
        }
        assert_eq!(server.get("/readyz").status, 200);
    });
    outages.happen().await;
    tokio::task::block_in_place(|| {
        eventually("/readyz tells that the feed is live", || (server.get("/readyz").status == 200).then_some(()));
    });

    // Those that say nothing at all hold places before the upgrade, but no more than these.
    let _silent: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect_timeout(&server.addr(), DEADLINE).expect("a place in the queue")).collect();
    outages.happen().await;
    assert!(!server.log().contains("Too many open files"), "{}", server.log());
    assert!(!server.log().contains("cannot accept"), "{}", server.log());
}
