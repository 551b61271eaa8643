//! The server under attack: a process of any fanline program, its memory watched all the time.
//!
//! | shared | written by | guarded by |
//! |---|---|---|
//! | `peak` | the watching thread; the owner, who sets it back | itself; a sample too many does no harm |
//! | `stop` | the owner, once | itself |

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fanline::bench::cpu::{Usage, usage};
use rustix::process::{Pid, Signal, kill_process};

use super::attack::Attack;

/// How often memory is looked at. Less than the time in which a loop of writes could take and free it.
const GLANCE: Duration = Duration::from_millis(20);

/// Killed when it is dropped.
pub struct Server {
    child: Mutex<Child>,
    process: u32,
    address: SocketAddr,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    watching: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it on a free port, and waits until it listens. Its log goes to a file in the build's folder.
    pub fn start(program: &Path, feed: &str, attack: &Attack) -> io::Result<Server> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(&folder)?;
        let log = folder.join(format!("hostile-{}.log", attack.name));
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--log-level", "warn", "--shards-spread-after", "1"]);
        // Honest clients and attackers share one address; attacks that a limit by address stops are not worth a measurement.
        command.args(["--limits-sessions-per-address-max", "0", "--limits-wanted-per-address-max", "0"]);
        match attack.profile {
            Some(profile) => {
                let path = folder.join(format!("hostile-{}.toml", attack.name));
                std::fs::write(&path, profile)?;
                command.arg("--profile").arg(path);
            }
            None => drop(command.args(["--profile", "simulated"])),
        }
        command.args(attack.settings).arg(feed).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(File::create(&log)?).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe was asked for")).read_line(&mut line)?;
        let address = line.trim().rsplit('/').next().and_then(|text| text.parse().ok());
        let address = address.ok_or_else(|| {
            io::Error::other(format!("expected the server to listen, found `{line}`; see {}", log.display()))
        })?;
        let (process, peak, stop) = (child.id(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let shared = (Arc::clone(&peak), Arc::clone(&stop));
        let watching = std::thread::Builder::new().name("memory".into()).spawn(move || {
            while !shared.1.load(Ordering::Relaxed) {
                let resident = usage(process).map_or(0, |usage| usage.resident_bytes);
                shared.0.fetch_max(resident, Ordering::Relaxed);
                std::thread::sleep(GLANCE);
            }
        })?;
        Ok(Server { child: Mutex::new(child), process, address, peak, stop, watching: Some(watching) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing once it is gone.
    pub fn usage(&self) -> Usage {
        usage(self.process).unwrap_or_default()
    }

    /// Most memory in RAM since it was last forgotten.
    pub fn peak_bytes(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    pub fn forget_peak(&self) {
        self.peak.store(0, Ordering::Relaxed);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let process = i32::try_from(self.process).ok().and_then(Pid::from_raw);
        // It may be gone already, which is what is wanted.
        let _ = kill_process(process.expect("the kernel's numbers of processes"), Signal::TERM);
    }

    pub fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watching) = self.watching.take() {
            // A panic of the thread has been printed.
            let _ = watching.join();
        }
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself, which the row shows.
        let _ = child.kill();
        let _ = child.wait();
    }
}
