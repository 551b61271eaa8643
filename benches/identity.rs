//! What it costs to know the clients, and how soon access that is withdrawn has ended.
//!
//! `cargo bench --bench identity -- [--clients N] [--seconds N] [--runs N] [--sessions N]`, by default 1000, 5, 3 and
//! 10,000. A delivery with `[auth]` and one tier is compared with one without, in turns. Then all sessions of a subject
//! are ended, once by `disconnect` and once by `revoke`, while a feed runs: the time is that from the order to the last
//! close frame that a client has received. Sessions are reduced to what the limit of open files allows.

#[path = "support/machine.rs"]
mod machine;
#[path = "support/server.rs"]
mod server;
#[path = "support/stage.rs"]
mod stage;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use fanline::bench::dial::DialTarget;
use fanline::open_files::{open_files_limit, raise_open_files_limit};
use stage::{Stage, until};

/// One message is one write: the next one comes when the clients have it.
const RATE: f64 = 50.0;
const SYMBOLS: usize = 10;
/// Files of this process that are not these clients.
const OTHER_FILES: u64 = 300;
const SECRET: &str = "a secret of a benchmark, long enough for any hash";
const CONFIG: &str = r#"
[limits]
sessions_per_address_max = 0

[admin]
listen = "unix:ADMIN"

[[auth.issuer]]
issuer = "development"
audience = ["fanline"]
algorithms = ["HS256"]
secret_file = "SECRET"

[auth.tier.pro]
topics = [">"]
"#;

#[derive(Parser)]
#[command(name = "identity")]
struct Options {
    /// Clients whose deliveries are measured.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    clients: usize,
    /// Seconds of each measurement.
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u64,
    /// Measurements of each kind.
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Sessions that are ended at once.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sessions: usize,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    raise_open_files_limit().expect("a limit of open files");
    for (name, text) in machine::description() {
        println!("{name:<20} {text}");
    }
    let operator = Operator::new();
    println!("\n{:<44}{:>12}{:>12}{:>8}", "", "[auth]", "without", "ratio");
    let measured = (0..options.runs).map(|_| (delivery_us(&options, Some(&operator)), delivery_us(&options, None)));
    let (with, without): (Vec<f64>, Vec<f64>) = measured.unzip();
    let (with, without) = (median(with), median(without));
    println!("{:<44}{with:>12.3}{without:>12.3}{:>8.3}", "CPU us per delivery, one write", with / without);
    let sessions = options.sessions.min(open_files_limit().saturating_sub(OTHER_FILES) as usize);
    let mut stage = operator.stage();
    stage.begin();
    println!("\n{:<44}{:>12}", "", "ms");
    for (name, path, body) in [
        ("disconnect", "/admin/disconnect", r#"{"sub":"crowd","code":"kicked","reconnect_ms":30000}"#),
        ("revoke", "/admin/revoke", r#"{"sub":"crowd"}"#),
    ] {
        stage.join_by(&operator.target(&stage, "topics=none"), sessions);
        let began = Instant::now();
        operator.order(path, body);
        until("all are told", || stage.pool.totals(Vec::new()).ended == sessions as u64);
        let title = format!("{name} of {sessions} sessions");
        println!("{title:<44}{:>12.0}", began.elapsed().as_secs_f64() * 1e3);
        stage.pool.keep(0);
    }
    println!("load average after it: {}", machine::load());
}

/// CPU of the server for each delivery.
fn delivery_us(options: &Options, operator: Option<&Operator>) -> f64 {
    let mut stage = match operator {
        Some(operator) => operator.stage(),
        None => Stage::open_with("bench-identity", SYMBOLS, RATE, &[]),
    };
    let target = match operator {
        Some(operator) => operator.target(&stage, "topics=%3E"),
        None => plain(&stage, "topics=%3E"),
    };
    stage.join_by(&target, options.clients);
    stage.begin();
    let span = stage.during(|| std::thread::sleep(Duration::from_secs(options.seconds)));
    span.cpu.as_secs_f64() * 1e6 / span.totals.tally.deliveries as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn plain(stage: &Stage, query: &str) -> DialTarget {
    DialTarget { tls: None, ..stage::target(stage.plain(), query) }
}

/// The operator of a server that knows its clients: its files, and a token for everybody.
struct Operator {
    folder: PathBuf,
    token: String,
}

impl Operator {
    fn new() -> Operator {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-identity");
        std::fs::create_dir_all(&folder).expect("a writable target directory");
        let (secret, admin) = (folder.join("secret.txt"), folder.join("admin"));
        std::fs::write(&secret, SECRET).expect("a writable file");
        let config = CONFIG.replace("ADMIN", &admin.display().to_string());
        let config = config.replace("SECRET", &secret.display().to_string());
        std::fs::write(folder.join("fanline.toml"), config).expect("a writable file");
        let made = Command::new(env!("CARGO_BIN_EXE_fanline"))
            .args(["token", "--sub", "crowd", "--tier", "pro", "--secret-file"])
            .arg(&secret)
            .output()
            .expect("the program runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Operator { folder, token: String::from_utf8_lossy(&made.stdout).trim().to_owned() }
    }

    fn stage(&self) -> Stage {
        let config = self.folder.join("fanline.toml").display().to_string();
        Stage::open_with("bench-identity", SYMBOLS, RATE, &["--config", &config])
    }

    /// For clients with the token.
    fn target(&self, stage: &Stage, query: &str) -> DialTarget {
        DialTarget { headers: format!("Authorization: Bearer {}\r\n", self.token), ..plain(stage, query) }
    }

    fn order(&self, path: &str, body: &str) {
        let mut socket = UnixStream::connect(self.folder.join("admin")).expect("the operator's listener");
        let length = body.len();
        let head = "Host: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n";
        let request = format!("POST {path} HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{body}");
        socket.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
