//! A client of a venue as a child process, at a replay that stands for the venue, and through fanline.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use kit::http::sum;
use kit::program::Program;
use kit::relay::Relay;
use kit::stock_client::StockClient;
use kit::subscriber::PATIENT;
use kit::{DEADLINE, eventually, project, skip_without_tool, tool};
use serde_json::Value;

/// A client that prints nothing for so long has printed what it had.
const PAUSE: Duration = Duration::from_millis(300);

/// A client, and what it asks for.
pub struct VenueClient {
    pub name: &'static str,
    /// What tests/setup has installed it with, in the target directory.
    pub home: ClientHome,
    pub profile: &'static str,
    /// As fanline's topics, which are what the feed is asked for.
    pub items: &'static [&'static str],
    /// Of the replay: some read no faster.
    pub speed: &'static str,
}

/// Where a client is installed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ClientHome {
    /// A virtual environment of Python.
    Python(&'static str),
    Node,
}

impl VenueClient {
    /// Compares what it sees at the venue, which is a replay of this file, and through fanline.
    pub fn compare(&self, file: &Path, count: usize) {
        self.compare_with(file, file, count);
    }

    /// The venue sends it what it has asked for, which is in the first file; fanline is sent the second one.
    pub fn compare_with(&self, asked_for: &Path, file: &Path, count: usize) {
        let venue = Program::replay(asked_for, &["--speed", self.speed]);
        let Some(mut direct) = self.start(&venue.ws("/")) else { return };
        self.see(file, &take(&mut direct, count));
    }

    /// The same, where the venue sends nothing until it has heard so many messages, and speaks any subprotocol.
    pub fn compare_with_patient(&self, asked_for: &Path, file: &Path, (after, count): (usize, usize)) {
        let Some(venue) = PatientVenue::open(asked_for, after) else { return };
        let Some(mut direct) = self.start(&venue.url) else { return };
        self.see(file, &take(&mut direct, count));
    }

    /// Through fanline it sees these events of the file.
    pub fn see(&self, file: &Path, expected: &[String]) {
        let gate = Relay::shut();
        let server = self.serve(&gate.ws("/stream"));
        let Some(mut client) = self.start(&server.ws("/")) else { return };
        self.await_subscriptions(&server);
        let venue = Program::replay(file, &["--speed", self.speed]);
        gate.open(venue.addr());
        let found = take(&mut client, expected.len());
        // Each item may have a connection of its own.
        let (found, expected) = (by_stream(found), by_stream(expected.to_vec()));
        let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert!(differs.is_none(), "{} sees something else through fanline: {differs:?}", self.name);
    }

    /// The feed is lost for a moment: a client that would miss trades is hung up on, comes back and goes on. At this pace
    /// the file should last for longer than that takes, because its numbers begin anew at its end.
    pub fn survive_a_loss(&self, file: &Path, pace: &str) {
        let gate = Relay::shut();
        let server = self.serve(&gate.ws("/stream"));
        let Some(client) = self.start(&server.ws("/")) else { return };
        self.go_on_after_a_loss(client, (&server, &gate), file, pace);
    }

    /// The same, of a client that is connected.
    pub fn go_on_after_a_loss(
        &self,
        mut client: StockClient,
        (server, gate): (&Program, &Relay),
        file: &Path,
        pace: &str,
    ) {
        self.await_subscriptions(server);
        let venue = Program::replay(file, &["--speed", pace, "--loop"]);
        gate.open(venue.addr());
        take(&mut client, 20);
        assert_eq!(gate.cut(), 1);
        gate.open(venue.addr());
        let begin = Instant::now();
        while client.line(DEADLINE).expect("the client goes on") != "lost" {
            assert!(begin.elapsed() < DEADLINE, "{} is not hung up on", self.name);
        }
        take(&mut client, 20);
        await_goodbye(server);
    }

    /// The feed is lost for a moment: a client that would miss trades, and does not say when its connection ends, is hung
    /// up on, comes back and goes on.
    pub fn come_back_after_a_loss(&self, file: &Path, pace: &str) {
        let gate = Relay::shut();
        let server = self.serve(&gate.ws("/stream"));
        let Some(mut client) = self.start(&server.ws("/")) else { return };
        self.await_subscriptions(&server);
        let venue = Program::replay(file, &["--speed", pace, "--loop"]);
        gate.open(venue.addr());
        take(&mut client, 20);
        assert_eq!(gate.cut(), 1);
        await_goodbye(&server);
        // What was on its way.
        while client.line(PAUSE).is_some() {}
        gate.open(venue.addr());
        take(&mut client, 20);
    }

    /// The feed is lost for a moment: a client to which newest values are enough goes on with them.
    pub fn stay_through_a_loss(&self, file: &Path) {
        let gate = Relay::shut();
        let server = self.serve(&gate.ws("/stream"));
        let Some(mut client) = self.start(&server.ws("/")) else { return };
        self.await_subscriptions(&server);
        let venue = Program::replay(file, &["--speed", "1", "--loop"]);
        gate.open(venue.addr());
        take(&mut client, 20);
        assert_eq!(gate.cut(), 1);
        gate.open(venue.addr());
        eventually("the feed is back", || (gate.passed() >= 2).then_some(()));
        take(&mut client, 20);
        assert_eq!(sum(&server.get("/metrics").body, "fanline_goodbyes_total", ""), 0.0);
    }

    /// None, and it is said, if it is not installed.
    pub fn start(&self, base: &str) -> Option<StockClient> {
        self.command(base).map(StockClient::start)
    }

    /// Its command line, if it is installed.
    pub fn command(&self, base: &str) -> Option<Command> {
        let (program, script) = match self.home {
            ClientHome::Python(home) => (Some(installed(home).join("bin/python")), "venue_client.py"),
            ClientHome::Node => {
                let is_there = project("tests/stock/node_modules/tmi.js").is_dir();
                (tool("node").filter(|_| is_there), "venue_client.mjs")
            }
        };
        let Some(program) = program.filter(|program| program.is_file()) else {
            skip_without_tool("stock_clients", &format!("the client `{}`", self.name));
            return None;
        };
        let mut command = Command::new(program);
        command.arg(project("tests/stock").join(script)).args([self.name, base]).args(self.items);
        Some(command)
    }

    /// A fanline that asks the feed for what clients want.
    pub fn serve(&self, feed: &str) -> Program {
        let settings = [&PATIENT[..], &[DEMAND]].concat();
        Program::serve_knowing(&[feed, "--profile", self.profile], &settings, &[("POLYGON_KEY", "a key")])
    }

    /// The client has asked for all its items, and fanline for all of them.
    pub fn await_subscriptions(&self, server: &Program) {
        eventually("the client has subscribed", || {
            let wanted = sum(&server.get("/metrics").body, "fanline_wanted_topics", "");
            (wanted == self.items.len() as f64).then_some(())
        });
    }
}

/// The feed is asked for what clients want.
pub const DEMAND: (&str, &str) = ("UPSTREAM_DEMAND", "on");

fn installed(home: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target directory").join(home)
}

/// The next events, each as its JSON with sorted names.
pub fn take(client: &mut StockClient, count: usize) -> Vec<String> {
    let mut events = Vec::new();
    while events.len() < count {
        let line = client.line(DEADLINE).unwrap_or_else(|| panic!("expected {count} events, found {}", events.len()));
        if line.starts_with('{') {
            events.push(line);
        }
    }
    events
}

fn await_goodbye(server: &Program) {
    eventually("its session has ended because the feed was lost", || {
        (sum(&server.get("/metrics").body, "fanline_goodbyes_total", "\"feed_lost\"") > 0.0).then_some(())
    });
}

/// Events of one stream in their order, one stream after the other.
fn by_stream(mut events: Vec<String>) -> Vec<String> {
    events.sort_by_key(|event| {
        serde_json::from_str::<Value>(event).expect("an event is JSON")["stream"].as_str().map(str::to_string)
    });
    events
}

/// A venue that waits until it is spoken to.
struct PatientVenue {
    child: Child,
    url: String,
    /// It says there what it has agreed on with each client.
    _stdout: BufReader<ChildStdout>,
}

impl PatientVenue {
    fn open(file: &Path, after: usize) -> Option<PatientVenue> {
        let Some(node) = tool("node").filter(|_| project("tests/stock/node_modules/ws").is_dir()) else {
            skip_without_tool("stock_clients", "Node with its package `ws`");
            return None;
        };
        let mut venue = Command::new(node);
        venue.arg(project("tests/stock/venue.mjs")).arg(file).args(["{}", &after.to_string()]);
        let mut child = venue.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the venue starts");
        let mut port = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut port).expect("a port");
        Some(PatientVenue { child, url: format!("ws://127.0.0.1:{}/", port.trim()), _stdout: stdout })
    }
}

impl Drop for PatientVenue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
