//! A stock client as a child process that does what the test says, and hands back every message that it decoded.
//!
//! Orders go in by lines on its stdin: `send TEXT`, `pause` (read nothing more), `resume`, `close` (and end). On its
//! stdout come the extensions that were agreed on, then one line per message, as decoded.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::DEADLINE;

pub struct StockClient {
    child: Child,
    orders: ChildStdin,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
    /// As in the server's answer to the handshake.
    pub extensions: String,
}

impl StockClient {
    /// Starts the client and waits until it is connected.
    pub fn start(mut command: Command) -> StockClient {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the client starts");
        let mut stderr = child.stderr.take().expect("piped");
        let errors = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let stdout = child.stdout.take().expect("piped");
        let (heard, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::with_capacity(1 << 16, stdout).lines().map_while(Result::ok) {
                // The test may have ended already.
                let _ = heard.send(line);
            }
        });
        let orders = child.stdin.take().expect("piped");
        let mut puppet = StockClient { child, orders, lines, errors: Some(errors), extensions: String::new() };
        puppet.extensions = puppet.line(DEADLINE).expect("the client connects in time");
        puppet
    }

    pub fn order(&mut self, order: &str) {
        if let Err(error) = writeln!(self.orders, "{order}").and_then(|()| self.orders.flush()) {
            panic!("expected a client that listens ({error}): {}", self.last_words());
        }
    }

    /// The next message, if there is one within `patience`.
    pub fn line(&mut self, patience: Duration) -> Option<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the client has ended: {}", self.last_words()),
        }
    }

    /// Lets it close the connection. Gives what it received since.
    pub fn close(&mut self) -> Vec<String> {
        self.order("close");
        let rest = self.lines.iter().collect();
        let status = self.child.wait().expect("a child of ours");
        assert!(status.success(), "the client failed: {}", self.last_words());
        rest
    }

    fn last_words(&mut self) -> String {
        let _ = self.child.kill();
        self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default()
    }
}

impl Drop for StockClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
