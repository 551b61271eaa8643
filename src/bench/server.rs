//! The fanline under test: a child process of the same program, on a free loopback port.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::certificate;

use super::BenchError;
use super::cpu::{self, Usage};
use super::plan::ShownCertificate;

/// What the child prints once it listens, before its URL.
const LISTENING: &str = "fanline listening on http";

/// A running server. Dropping it kills it: it has no other clients.
pub struct ServerProcess {
    child: Child,
    url: String,
    _certificate: Option<MadeCertificate>,
}

/// A certificate with its key in a folder that only this user can enter. Removed when it is dropped.
struct MadeCertificate {
    folder: PathBuf,
    pair: String,
}

impl ServerProcess {
    /// Starts this program with `arguments` and waits until it listens; with a certificate it speaks TLS. Its log goes to
    /// stderr.
    pub fn start(arguments: &[OsString], shown: Option<ShownCertificate>) -> Result<ServerProcess, BenchError> {
        let failed = |error| BenchError::Start { error };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        let certificate = (shown == Some(ShownCertificate::Made)).then(MadeCertificate::make).transpose()?;
        let listen = if shown.is_some() { "tls://127.0.0.1:0" } else { "127.0.0.1:0" };
        command.args(["--listen", listen]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(made) = &certificate {
            command.args(["--tls-certificates", &made.pair]);
        }
        // All clients of the load have one address.
        for (flag, value) in [("--log-level", "warn"), ("--limits-sessions-per-address-max", "0")] {
            if !arguments.iter().any(|argument| argument == flag) {
                command.args([flag, value]);
            }
        }
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()));
        let mut server = ServerProcess { child, url: String::new(), _certificate: certificate };
        let mut line = String::new();
        BufReader::new(stdout?).read_line(&mut line).map_err(failed)?;
        let rest = line.trim_end().strip_prefix(LISTENING).ok_or(BenchError::NotListening)?;
        server.url = format!("ws{rest}");
        Ok(server)
    }

    /// `ws://ADDR`, or `wss://ADDR`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// None where the system does not report it.
    pub fn usage(&self) -> Option<Usage> {
        cpu::usage(self.child.id())
    }
}

impl MadeCertificate {
    fn make() -> Result<MadeCertificate, BenchError> {
        let folder = std::env::temp_dir().join(format!("fanline-bench-{:016x}", rand::random::<u64>()));
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(BenchError::system("make a folder for a certificate"))?;
        let mut made = MadeCertificate { folder, pair: String::new() };
        made.pair = certificate::write(&made.folder, &[], false)?.pair();
        Ok(made)
    }
}

impl Drop for MadeCertificate {
    fn drop(&mut self) {
        // Whoever cleans up temporary files has been faster.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
