//! The process that is to be taken over from, as its successor sees it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};

use crate::access::end_journal::EndJournal;
use crate::app::handover::message::{HandoverMessage, LINE_BYTES_MAX, SentListener, receive_with};
use crate::app::handover::{FEED_PATIENCE, SOCKET_AT_STDIN, SOCKET_VARIABLE};
use crate::bus::feed_state::FeedState;
use crate::bus::reader::Reader;
use crate::edge::listen::inherited::{InheritedSockets, SocketOrigin};
use crate::settings::listener::ListenAddress;

/// The sockets are sent at once; the feed and the archive are given up within seconds.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// Interval of looks at the feed.
const FEED_INTERVAL: Duration = Duration::from_millis(10);

/// Why this process does not take over; the other one goes on.
#[derive(Debug, thiserror::Error)]
pub enum PredecessorError {
    #[error(
        "expected {SOCKET_VARIABLE} from a running server that hands over, found no socket to it on stdin ({0}); remove \
         the variable"
    )]
    NoSocket(io::Error),
    #[error("expected to take over, found a signal to stop; the server before goes on")]
    Stopped,
    #[error("expected the server before to hand over, found: {0}; the server before goes on, if it is there")]
    Channel(#[from] io::Error),
    #[error(
        "expected the server before to follow the protocol of a hand-over, found `{said}`; restart the server instead"
    )]
    Unexpected { said: String },
}

/// The server before, until this one has taken over.
pub(in crate::app) struct Predecessor {
    stream: BufReader<UnixStream>,
    spool_lock: Option<File>,
}

impl Predecessor {
    /// The server that has started this process to take over, if one has, and its sockets.
    ///
    /// # Errors
    /// There is the variable, and no such server.
    pub(in crate::app) fn find(
        variables: &[(OsString, OsString)],
    ) -> Result<Option<(Predecessor, InheritedSockets)>, PredecessorError> {
        if !variables.iter().any(|(name, value)| name == SOCKET_VARIABLE && value == SOCKET_AT_STDIN) {
            return Ok(None);
        }
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        stream.set_read_timeout(Some(ANSWER_PATIENCE)).map_err(PredecessorError::NoSocket)?;
        // Nothing that this process starts is to have it.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)?;
        let (message, mut files) = receive_with(&stream).map_err(PredecessorError::NoSocket)?;
        let HandoverMessage::Sockets { listeners, has_spool_lock } = message else { return Err(unexpected(&message)) };
        let spool_lock = if has_spool_lock { files.pop().map(File::from) } else { None };
        let inherited = sockets(&listeners, files)?;
        Ok(Some((Predecessor { stream: BufReader::new(stream), spool_lock }, inherited)))
    }

    /// The lock of its directory of spools, which both processes use for a while.
    pub(in crate::app) fn spool_lock(&self) -> Option<&File> {
        self.spool_lock.as_ref()
    }

    /// Has it give up the feed and the archive; returns once it has.
    pub(in crate::app) fn release(&mut self) -> Result<(), PredecessorError> {
        self.say(&HandoverMessage::Release)?;
        self.expect(&HandoverMessage::Released)
    }

    /// Waits for the first values of the feed, and takes over then.
    pub(in crate::app) fn take_over(&mut self, reader: &Reader) -> Result<(), PredecessorError> {
        self.say(&HandoverMessage::Started)?;
        let begun = Instant::now();
        while !has_data(reader) && begun.elapsed() < FEED_PATIENCE {
            if self.has_ended() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            std::thread::sleep(FEED_INTERVAL);
        }
        self.say(&HandoverMessage::Ready { has_data: has_data(reader) })?;
        self.expect(&HandoverMessage::Go)
    }

    /// Takes in how the sessions of the server before have ended, which it says once they have.
    pub(in crate::app) fn keep_ends(mut self, journal: &EndJournal) {
        // It may take as long as its clients; its end is the end of what it says.
        if self.stream.get_ref().set_read_timeout(None).is_err() {
            return;
        }
        let mut line = Vec::new();
        while let Ok(1..) = (&mut self.stream).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line) {
            let Ok(HandoverMessage::End { row }) = HandoverMessage::read(&line) else { return };
            journal.keep_session(*row);
            line.clear();
        }
    }

    /// It says nothing before it is asked something.
    fn has_ended(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(recv(self.stream.get_ref(), &mut [0], flags), Ok((_, 0)))
    }

    fn say(&mut self, message: &HandoverMessage) -> Result<(), PredecessorError> {
        Ok(self.stream.get_mut().write_all(&message.line())?)
    }

    fn expect(&mut self, expected: &HandoverMessage) -> Result<(), PredecessorError> {
        let mut line = Vec::new();
        (&mut self.stream).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let message = HandoverMessage::read(&line)?;
        if message == *expected { Ok(()) } else { Err(unexpected(&message)) }
    }
}

/// Whether clients would find values here, or there are none before there are clients.
fn has_data(reader: &Reader) -> bool {
    matches!(&*reader.feed(), FeedState::Live | FeedState::Idle { .. })
}

fn sockets(listeners: &[SentListener], files: Vec<OwnedFd>) -> Result<InheritedSockets, PredecessorError> {
    if listeners.len() != files.len() {
        let said = format!("{} listeners with {} sockets", listeners.len(), files.len());
        return Err(PredecessorError::Unexpected { said });
    }
    let mut inherited = InheritedSockets::default();
    for (listener, socket) in listeners.iter().zip(files) {
        let SentListener { address, removes_file } = listener;
        let parsed = ListenAddress::parse(address);
        let parsed = parsed.map_err(|_| PredecessorError::Unexpected { said: address.clone() })?;
        let origin = if *removes_file { SocketOrigin::Predecessor } else { SocketOrigin::ServiceManager };
        inherited.add(socket, Some(parsed.endpoint), origin)?;
    }
    Ok(inherited)
}

fn unexpected(message: &HandoverMessage) -> PredecessorError {
    PredecessorError::Unexpected { said: format!("{message:?}") }
}
