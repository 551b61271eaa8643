//! The real `fanline` binary as a child process on a free port, stopped with the test.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use super::http::{self, Answer};
use super::{DEADLINE, eventually};

/// What the process says on stdout once it listens, before the address.
const LISTENING: &str = "fanline listening on http://";
const SIMULATING: &str = "fanline simulating on ws://";
const REPLAYING: &str = "fanline replaying on ws://";

/// A running `fanline`. Killed on drop; if the test has failed, its log is printed.
pub struct Program {
    child: Child,
    addr: SocketAddr,
    log: Arc<Mutex<String>>,
    /// Further lines on stdout.
    lines: Mutex<mpsc::Receiver<String>>,
}

impl Program {
    /// Starts the server on a free port. `settings` are environment variables without their prefix:
    /// `("SLOW_REPLAY_MAX", "10s")`.
    pub fn serve(args: &[&str], settings: &[(&str, &str)]) -> Program {
        Program::serve_on("127.0.0.1:0", args, settings)
    }

    /// Starts the server on an address, for instance that of one that was lost.
    pub fn serve_on(listen: &str, args: &[&str], settings: &[(&str, &str)]) -> Program {
        Program::start(LISTENING, &[args, &["--listen", listen]].concat(), settings)
    }

    /// Starts a simulated market on a free port.
    pub fn simulate(args: &[&str]) -> Program {
        Program::start(SIMULATING, &[&["simulate", "--listen", "127.0.0.1:0"], args].concat(), &[])
    }

    /// Starts a replay on a free port.
    pub fn replay(capture: &std::path::Path, args: &[&str]) -> Program {
        let capture = capture.to_str().expect("a path in UTF-8");
        Program::start(REPLAYING, &[&["replay", capture, "--listen", "127.0.0.1:0"], args].concat(), &[])
    }

    /// As `serve`, with variables that are not fanline's own, such as a venue's key.
    pub fn serve_knowing(args: &[&str], settings: &[(&str, &str)], secrets: &[(&str, &str)]) -> Program {
        let args = [args, &["--listen", "127.0.0.1:0"]].concat();
        let mut command = command(&args, settings);
        command.envs(secrets.iter().copied());
        Program::spawn(LISTENING, &args, command)
    }

    /// As `serve`, with a log that goes elsewhere, and so is not known here.
    pub fn serve_logging_to(log: impl Into<Stdio>, args: &[&str], settings: &[(&str, &str)]) -> Program {
        let args = [args, &["--listen", "127.0.0.1:0"]].concat();
        let mut command = command(&args, settings);
        command.stderr(log);
        Program::spawn(LISTENING, &args, command)
    }

    /// As `serve`, where the system allows so many open files.
    pub fn serve_within(open_files: usize, args: &[&str], settings: &[(&str, &str)]) -> Program {
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -n {open_files} && exec \"$0\" \"$@\"")]);
        Program::serve_through(limited, &[args, &["--listen", "127.0.0.1:0"]].concat(), settings)
    }

    /// Starts the server by another program, which becomes the one of the arguments that follow its own.
    pub fn serve_through(mut other: Command, args: &[&str], settings: &[(&str, &str)]) -> Program {
        let bare = command(args, settings);
        other.arg(bare.get_program()).args(bare.get_args());
        for (name, value) in bare.get_envs() {
            match value {
                Some(value) => other.env(name, value),
                None => other.env_remove(name),
            };
        }
        other.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program::spawn(LISTENING, args, other)
    }

    fn start(announcement: &str, args: &[&str], settings: &[(&str, &str)]) -> Program {
        Program::spawn(announcement, args, command(args, settings))
    }

    fn spawn(announcement: &str, args: &[&str], mut command: Command) -> Program {
        let mut child = command.spawn().expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        if let Some(stderr) = child.stderr.take() {
            keep(stderr, log.clone());
        }
        let (announced, announcements) = mpsc::channel();
        let stdout = child.stdout.take().expect("piped");
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The test may have ended already.
                let _ = announced.send(line);
            }
        });
        let Ok(line) = announcements.recv_timeout(DEADLINE) else {
            let _ = child.kill();
            panic!("expected `{announcement}…` on stdout of fanline {args:?}, found nothing; log:\n{}", read(&log));
        };
        let addr = line.strip_prefix(announcement).and_then(|addr| addr.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("expected `{announcement}ADDR`, found `{line}`"));
        Program { child, addr, log, lines: Mutex::new(announcements) }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Of the process that was started, not of one that has taken over from it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next address that the server listens on besides the first, as announced: `http://ADDR`, `unix:PATH`.
    pub fn next_address(&self) -> String {
        let line = self.lines.lock().expect("no holder panics").recv_timeout(DEADLINE);
        let line = line.unwrap_or_else(|_| panic!("expected a further address on stdout, found nothing"));
        line.strip_prefix("fanline listening on ").expect("an announcement").to_owned()
    }

    /// Of the operator's listener, as the log says it.
    pub fn admin_address(&self) -> String {
        super::eventually("the operator's address is logged", || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("the operator's listener serves"))?;
            Some(line.split("address=").nth(1)?.split_whitespace().next()?.trim_matches('"').to_owned())
        })
    }

    /// A WebSocket URL on this program; `path` starts with `/`.
    pub fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    pub fn get(&self, path: &str) -> Answer {
        http::get(self.addr, path)
    }

    /// What the program has written to its log so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Whether the process that was started is still there: not ended, and so not started anew either.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// Memory that the process holds; none where the system has no /proc.
    pub fn resident_bytes(&self) -> Option<u64> {
        fanline::bench::cpu::usage(self.child.id()).map(|usage| usage.resident_bytes)
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends SIG`name`.
    pub fn signal(&self, name: &str) {
        assert!(send_signal(self.child.id(), name), "expected the process to be there");
    }

    /// Has another process take over from the one that serves, by SIGUSR2; gives its number once it serves.
    pub fn hand_over(&self) -> u32 {
        let before = self.successors();
        assert!(send_signal(*before.last().unwrap_or(&self.child.id()), "USR2"), "expected the process to be there");
        eventually("another process serves", || self.successors().get(before.len()).copied())
    }

    /// Numbers of the processes that have taken over, one from the other, as the log says it.
    pub fn successors(&self) -> Vec<u32> {
        let number = |line: &str| line.rsplit_once(" pid=")?.1.split_whitespace().next()?.parse().ok();
        self.log().lines().filter(|line| line.contains("the new process serves")).filter_map(number).collect()
    }

    /// Ends the process that serves by SIGTERM, if it is another one than at first, and waits for its end.
    pub fn end_successor(&self) {
        let pid = *self.successors().last().expect("another process has taken over");
        assert!(send_signal(pid, "TERM"), "expected the process to be there");
        eventually("the new process ends", || has_ended(pid).then_some(()));
    }

    /// Waits until the program has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the program ends", || self.child.try_wait().expect("a child of ours"))
    }

    /// Ends the program at once, without a goodbye.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        // A process that has taken over outlives the one that was started here.
        for pid in self.successors().into_iter().filter(|pid| !has_ended(*pid)) {
            send_signal(pid, "KILL");
        }
        if thread::panicking() {
            println!("log of fanline on {}:\n{}", self.addr, self.log());
        }
    }
}

/// A command line of `fanline` that ends by itself: exit status, stdout, stderr.
pub fn run(args: &[&str], settings: &[(&str, &str)]) -> (ExitStatus, String, String) {
    let output = command(args, settings).output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status, text(output.stdout), text(output.stderr))
}

/// As `run`, with variables that are not fanline's own.
pub fn run_knowing(args: &[&str], secrets: &[(&str, &str)]) -> (ExitStatus, String, String) {
    let output = command(args, &[]).envs(secrets.iter().copied()).output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status, text(output.stdout), text(output.stderr))
}

/// A command line of `fanline` that is yet to be started.
pub fn command(args: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(super::server_binary());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("FANLINE_")) {
            command.env_remove(name);
        }
    }
    // The few clients of a test are on all shards, and all of them have one address.
    let usual = [("SHARDS_SPREAD_AFTER", "1"), ("LIMITS_SESSIONS_PER_ADDRESS_MAX", "0")];
    for (name, value) in usual.iter().chain(settings) {
        command.env(format!("FANLINE_{name}"), value);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Sends SIG`name`; false if there is no such process.
pub(super) fn send_signal(pid: u32, name: &str) -> bool {
    let script = format!("kill -{name} {pid} 2>/dev/null");
    Command::new("sh").args(["-c", &script]).status().expect("sh runs").success()
}

/// Whether the process does nothing any more. Its parent may have ended before it, and nobody asks for its status.
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('Z'))
}

/// Collects a log, so that the child never blocks on a full pipe.
fn keep(source: impl Read + Send + 'static, log: Arc<Mutex<String>>) {
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("no holder panics");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

fn read(log: &Mutex<String>) -> String {
    log.lock().expect("no holder panics").clone()
}
