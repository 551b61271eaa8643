//! nats-server with JetStream, as a process that the test kills, stops and robs of its store.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct NatsProcess {
    child: Child,
    program: PathBuf,
    address: SocketAddr,
    folder: PathBuf,
}

/// Where `tests/setup` installs it, or on the path.
fn program() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(target.join("venv/bin")).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join("nats-server")).find(|file| file.is_file())
}

impl NatsProcess {
    /// With an empty store. None if there is no such program.
    pub fn start() -> Option<NatsProcess> {
        let Some(program) = program() else {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nats-server is missing: run tests/setup");
            eprintln!("SKIPPED: nats-server is missing; tests/setup installs it");
            return None;
        };
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nats-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let child = run(&program, address, &folder);
        Some(NatsProcess { child, program, address, folder })
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// The end of what it has logged.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn run_again(&mut self) {
        self.child = run(&self.program, self.address, &self.folder);
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// What is on its disk now. Only while it is killed is it whole.
    pub fn copy_store(&self) -> PathBuf {
        let copy = self.folder.with_extension("copy");
        let _ = std::fs::remove_dir_all(&copy);
        copy_folder(&self.folder, &copy).expect("a readable store");
        copy
    }

    /// Only while it is killed.
    pub fn put_store(&self, copy: &Path) {
        assert!(folder_bytes(copy) < folder_bytes(&self.folder), "the copy has less");
        std::fs::remove_dir_all(&self.folder).expect("a store");
        copy_folder(copy, &self.folder).expect("a writable folder");
    }
}

impl Drop for NatsProcess {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
        let _ = std::fs::remove_dir_all(self.folder.with_extension("copy"));
        let _ = std::fs::remove_file(self.folder.with_extension("log"));
    }
}

fn run(program: &Path, address: SocketAddr, folder: &Path) -> Child {
    let mut command = Command::new(program);
    command.args(["-js", "-a", "127.0.0.1", "-p", &address.port().to_string(), "-sd"]).arg(folder);
    command.arg("-l").arg(folder.with_extension("log"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("nats-server starts");
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nats-server does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a readable store").filter_map(Result::ok);
    entries
        .map(|entry| if entry.path().is_dir() { folder_bytes(&entry.path()) } else { file_bytes(&entry.path()) })
        .sum()
}

fn file_bytes(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |metadata| metadata.len())
}
