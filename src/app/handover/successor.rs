//! The process that is to take over, as its predecessor sees it: started, spoken with, ended unless it has taken over.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as BlockingStream;
use std::process::{Child, Command};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::access::end_journal::EndJournal;
use crate::app::handover::message::{HandoverMessage, LINE_BYTES_MAX, SentListener, send_with};
use crate::app::handover::{HandoverError, SOCKET_AT_STDIN, SOCKET_VARIABLE};
use crate::edge::listen::inherited::HandedSocket;
use crate::settings::listener::ListenAddress;

/// Variables by which a service manager hands over sockets: they were for this process.
const ACTIVATION_VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
/// A process that has closed its end has ended, or is about to.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// For the journal of ends, ten thousand rows of which take a tenth of a second.
const ENDS_PATIENCE: Duration = Duration::from_secs(2);
/// Ends taken from the journal at a time.
const ENDS_PART: usize = 256;
/// Characters of foreign text in an error.
const SHOWN_MAX: usize = 80;
/// Interval of looks whether it has ended.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// How this process was started: the program as it was named, and its arguments.
#[derive(Clone, Debug)]
pub struct ProgramStart {
    pub program: OsString,
    pub arguments: Vec<OsString>,
}

impl ProgramStart {
    /// From the arguments of the process, of which the first is the program.
    pub(in crate::app) fn of(arguments: &[OsString]) -> ProgramStart {
        let (program, arguments) =
            arguments.split_first().map_or_else(Default::default, |(program, rest)| (program.clone(), rest.to_vec()));
        ProgramStart { program, arguments }
    }
}

impl fmt::Display for ProgramStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.program.display().fmt(f)
    }
}

/// Killed when it is dropped, unless it was let go.
pub(in crate::app) struct Successor {
    process: SuccessorProcess,
    lines: BufReader<UnixStream>,
}

struct SuccessorProcess {
    child: Child,
    is_let_go: bool,
}

impl Successor {
    /// Starts the program, and sends it the sockets.
    pub(super) fn start(
        start: &ProgramStart,
        sockets: &[HandedSocket],
        spool_lock: Option<&File>,
    ) -> Result<Successor, HandoverError> {
        let (ours, theirs) = BlockingStream::pair()?;
        let mut command = Command::new(&start.program);
        command.args(&start.arguments).env(SOCKET_VARIABLE, SOCKET_AT_STDIN).stdin(OwnedFd::from(theirs));
        for variable in ACTIVATION_VARIABLES {
            command.env_remove(variable);
        }
        let spawned = command.spawn();
        // Whoever else has their end would hide that the process has ended.
        drop(command);
        let child = spawned.map_err(|error| HandoverError::Start { program: start.to_string(), error })?;
        let process = SuccessorProcess { child, is_let_go: false };
        let listeners = sockets.iter().map(|socket| {
            let address = ListenAddress { endpoint: socket.wanted.clone(), tls: false, proxy: false };
            SentListener { address: address.to_string(), removes_file: socket.file.is_some() }
        });
        let message = HandoverMessage::Sockets { listeners: listeners.collect(), has_spool_lock: spool_lock.is_some() };
        let files = sockets.iter().map(|socket| socket.socket.as_fd()).chain(spool_lock.map(AsFd::as_fd));
        send_with(&ours, &message, &files.collect::<Vec<BorrowedFd<'_>>>())?;
        ours.set_nonblocking(true)?;
        let lines = BufReader::new(UnixStream::from_std(ours)?);
        Ok(Successor { process, lines })
    }

    pub(in crate::app) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// What it says next.
    pub(super) async fn next(&mut self) -> Result<HandoverMessage, HandoverError> {
        let mut line = Vec::new();
        let read = (&mut self.lines).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await;
        match read {
            Ok(_) if line.ends_with(b"\n") => {
                let shown = || line.trim_ascii().escape_ascii().take(SHOWN_MAX).map(char::from).collect();
                HandoverMessage::read(&line).map_err(|_| HandoverError::Unexpected { said: shown() })
            }
            // It has closed its end, perhaps in the middle of a line.
            Ok(_) | Err(_) => Err(self.ended().await),
        }
    }

    pub(super) async fn say(&mut self, message: &HandoverMessage) -> Result<(), HandoverError> {
        match self.lines.get_mut().write_all(&message.line()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// Hands over the journal, of which the ends come last. One that does not listen misses it.
    pub(in crate::app) async fn tell_ends(&mut self, journal: &EndJournal) {
        let telling = async {
            let mut last = 0;
            loop {
                let rows = journal.sessions_after(last, ENDS_PART);
                let Some((serial, _)) = rows.last() else { return Ok(()) };
                last = *serial;
                for (_, row) in &rows {
                    let line = HandoverMessage::End { row: Box::new((**row).clone()) }.line();
                    self.lines.get_mut().write_all(&line).await?;
                }
            }
        };
        let told: Result<io::Result<()>, _> = tokio::time::timeout(ENDS_PATIENCE, telling).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::warn!("the new process has not taken the whole journal of ends; `fanline why` misses some");
        }
    }

    /// It goes on whatever becomes of this process.
    pub(super) fn let_go(&mut self) {
        self.process.is_let_go = true;
    }

    async fn ended(&mut self) -> HandoverError {
        let waited = tokio::time::timeout(END_PATIENCE, async {
            loop {
                match self.process.child.try_wait() {
                    Ok(Some(status)) => return HandoverError::Ended { status },
                    Ok(None) => tokio::time::sleep(END_INTERVAL).await,
                    Err(error) => return HandoverError::Channel(error),
                }
            }
        });
        let closed = || HandoverError::Unexpected { said: "the end of its messages".into() };
        waited.await.unwrap_or_else(|_| closed())
    }
}

impl Drop for SuccessorProcess {
    fn drop(&mut self) {
        if !self.is_let_go {
            // What it has locked is free afterwards. One that has ended already stays as it is.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
