//! The fanline under test: a child process of the same program, on a free loopback port.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::BenchError;
use super::cpu::{self, Usage};

/// What the child prints once it listens, before its address.
const LISTENING: &str = "fanline listening on http://";

/// A running server. Dropping it kills it: it has no other clients.
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts this program with `arguments` and waits until it listens. Its log goes to stderr.
    pub fn start(arguments: &[OsString]) -> Result<ServerProcess, BenchError> {
        let failed = |error| BenchError::Start { error };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        // All clients of the load have one address.
        for (flag, value) in [("--log-level", "warn"), ("--limits-sessions-per-address-max", "0")] {
            if !arguments.iter().any(|argument| argument == flag) {
                command.args([flag, value]);
            }
        }
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()));
        let mut server = ServerProcess { child, address: ([127, 0, 0, 1], 0).into() };
        let mut line = String::new();
        BufReader::new(stdout?).read_line(&mut line).map_err(failed)?;
        let address = line.trim_end().strip_prefix(LISTENING).and_then(|address| address.parse().ok());
        server.address = address.ok_or(BenchError::NotListening)?;
        Ok(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// None where the system does not report it.
    pub fn usage(&self) -> Option<Usage> {
        cpu::usage(self.child.id())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
