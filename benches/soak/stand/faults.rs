//! What is done to the servers: faults of the feed, reloads, kills.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kit::faulty_feed::{FaultyFeed, Mood};
use kit::program::Program;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::Plan;

const MOODS: [(Mood, &str); 6] = [
    (Mood::Cut, "feeds that were cut"),
    (Mood::Refusing, "feeds that refused"),
    (Mood::Silent, "feeds that were silent"),
    (Mood::Slow, "feeds byte by byte"),
    (Mood::GarbledText, "feeds with broken texts"),
    (Mood::GarbledBytes, "feeds with broken frames"),
];
const RELOADS: [&str; 2] = ["reloads that were applied", "reloads that were refused"];
const KILLS: &str = "kills of a server with an archive";

/// Of warnings and errors, what the faults explain.
const EXPLAINED: [&str; 9] = [
    "feed",
    "upstream",
    "reconnect",
    "connection",
    "reload",
    "SIGHUP",
    "could not be classified",
    "message",
    "archive",
];

/// The file of the server that is not killed.
pub struct Configuration {
    path: PathBuf,
    text: String,
}

impl Configuration {
    pub fn write(feed: &str) -> Configuration {
        let path = kit::scratch().join(format!("soak-{}.toml", std::process::id()));
        let text = format!(
            "[upstream]\nurl = '{feed}'\ntopic = '/topic'\nidle_timeout = '1s'\nbackoff_min = '20ms'\n\
             backoff_max = '200ms'\n[limits]\nsessions_per_address_max = 0\n[http]\nconnections_per_address_max = 0\n\
             pending_per_address_max = 0\n[slow]\nwrite_deadline = '10s'\n"
        );
        fs::write(&path, &text).expect("a writable target directory");
        Configuration { path, text }
    }

    pub fn serve(&self) -> Program {
        Program::serve(&["--config", self.path.to_str().expect("UTF-8")], &[])
    }

    /// Changes a limit, or breaks the file.
    fn change(&self, heartbeat_s: u64, is_broken: bool) {
        let broken = if is_broken { "[slow]\nreplay_maximum = '1s'\n" } else { "" };
        let text = format!("{}[heartbeat]\ninterval = '{heartbeat_s}s'\n{broken}", self.text);
        fs::write(&self.path, text).expect("a writable target directory");
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        // It lies in the target directory.
        let _ = fs::remove_file(&self.path);
    }
}

/// The other one goes on from its archive each time.
pub struct KilledServer {
    program: Program,
    address: SocketAddr,
    arguments: Vec<String>,
    archive: PathBuf,
    unexplained: Vec<String>,
}

impl KilledServer {
    pub fn start(feed: &str) -> KilledServer {
        let archive = kit::scratch().join(format!("soak-archive-{}", std::process::id()));
        // Of a run that was killed.
        let _ = fs::remove_dir_all(&archive);
        let arguments = [feed, "--topic", "/topic", "--archive-dir", archive.to_str().expect("UTF-8")];
        let arguments = arguments.map(str::to_owned).to_vec();
        let program = serve("127.0.0.1:0", &arguments);
        let address = program.addr();
        KilledServer { program, address, arguments, archive, unexplained: Vec::new() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn is_ready(&self) -> bool {
        self.program.get("/readyz").status == 200
    }

    fn kill(&mut self) {
        self.program.kill();
        self.unexplained.extend(unexplained(&self.program.log()));
        self.program = serve(&self.address.to_string(), &self.arguments);
    }

    pub fn unexplained(&self) -> Vec<String> {
        [self.unexplained.clone(), unexplained(&self.program.log())].concat()
    }
}

impl Drop for KilledServer {
    fn drop(&mut self) {
        self.program.kill();
        let _ = fs::remove_dir_all(&self.archive);
    }
}

fn serve(listen: &str, arguments: &[String]) -> Program {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let soon = [("UPSTREAM_IDLE_TIMEOUT", "1s"), ("UPSTREAM_BACKOFF_MIN", "20ms"), ("UPSTREAM_BACKOFF_MAX", "200ms")];
    Program::serve_on(listen, &arguments, &soon)
}

/// Warnings and errors that are not about what was done here.
pub fn unexplained(log: &str) -> Vec<String> {
    let is_loud = |line: &&str| [" WARN ", " ERROR "].iter().any(|level| line.contains(level));
    let is_explained = |line: &str| EXPLAINED.iter().any(|word| line.contains(word));
    log.lines().filter(is_loud).filter(|line| !is_explained(line)).map(str::to_owned).collect()
}

/// What comes when.
pub struct FaultSchedule {
    plan: Plan,
    rng: SmallRng,
    /// The feed is well again then.
    calm_at: Option<Duration>,
    fault_at: Duration,
    faults: usize,
    reload_at: Duration,
    kill_at: Duration,
    reloads: [u64; 2],
    kills: u64,
}

impl FaultSchedule {
    pub fn new(plan: Plan, seed: u64) -> FaultSchedule {
        FaultSchedule {
            plan,
            rng: SmallRng::seed_from_u64(seed),
            calm_at: None,
            fault_at: plan.fault_every,
            faults: 0,
            reload_at: plan.fault_every / 2,
            kill_at: plan.kill_every,
            reloads: [0; 2],
            kills: 0,
        }
    }

    /// Does what is due.
    pub fn step(
        &mut self,
        now: Duration,
        feed: &FaultyFeed,
        (server, configuration): (&Program, &Configuration),
        killed: &mut KilledServer,
    ) {
        if self.calm_at.is_some_and(|at| now >= at) {
            self.calm_at = None;
            feed.be(Mood::Flowing);
        } else if self.calm_at.is_none() && now >= self.fault_at {
            let (mood, _) = MOODS[self.faults % MOODS.len()];
            self.faults += 1;
            feed.be(mood);
            self.calm_at = Some(now + self.plan.fault_every / 2);
            self.fault_at = now + self.plan.fault_every;
        }
        if now >= self.reload_at {
            self.reload_at = now + self.plan.fault_every;
            let is_broken = self.reloads[0] > self.reloads[1];
            configuration.change(self.rng.random_range(5..60), is_broken);
            server.signal("HUP");
            self.reloads[usize::from(is_broken)] += 1;
        }
        if now >= self.kill_at {
            self.kill_at = now + self.plan.kill_every;
            self.kills += 1;
            killed.kill();
        }
    }

    /// All is well from now on.
    pub fn calm(&mut self, feed: &FaultyFeed) {
        feed.be(Mood::Flowing);
        self.calm_at = None;
    }

    pub fn counts(&self, feed: &FaultyFeed) -> Vec<(String, u64)> {
        let moods = MOODS.iter().map(|(mood, name)| ((*name).to_owned(), feed.faults(*mood)));
        let reloads = RELOADS.iter().zip(self.reloads).map(|(name, count)| ((*name).to_owned(), count));
        moods.chain(reloads).chain([(KILLS.to_owned(), self.kills)]).collect()
    }
}
