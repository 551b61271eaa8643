//! A hand-over: the program that is on disk now takes over from the process that runs, and nobody is refused.
//!
//! ```text
//! this process                                     its successor
//! starts the program again            ->
//! sockets                             ->           checks the configuration, starts
//! ends the feed, closes the archive   <- release   only where two must not have them
//!                             released ->
//! looks at its own feed               <- started   connects to the feed
//! accepts no more                     <- ready     has values, or the feed is quiet
//!                                   go ->          accepts
//! dismisses its clients in waves, ends             serves
//! ```
//!
//! Until `go` nothing is lost: if the successor fails, it is ended, and this process goes on, with feed and archive.
//!
//! The sockets travel over the successor's stdin, a socket, and not by `LISTEN_FDS` as the service manager's do
//! (`activation.rs`): its `LISTEN_PID` is known only between fork and exec, where nothing safe can be done.

pub(super) mod activation;
mod message;
pub(super) mod predecessor;
pub(super) mod requests;
pub(super) mod service_manager;
pub(super) mod successor;

use std::fs::File;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use metrics::Counter;
use tokio::sync::watch;

use crate::app::handover::message::HandoverMessage;
use crate::app::handover::service_manager::ServiceManager;
use crate::app::handover::successor::{ProgramStart, Successor};
use crate::app::pausable_feed::FeedControl;
use crate::bus::frame::FrameKind;
use crate::bus::reader::FrameLookup;
use crate::bus::shown_log::ShownLog;
use crate::edge::listen::inherited::HandedSocket;
use crate::edge::phase::Phase;
use crate::words::ids::Offset;
use crate::words::metrics::{self as names, Meters};

/// In the environment of a successor: the socket to its predecessor is its stdin.
const SOCKET_VARIABLE: &str = "HANDOVER_SOCKET";
const SOCKET_AT_STDIN: &str = "stdin";

/// Longest wait of a successor for values of its feed, before it takes over without any: a feed may be quiet.
const FEED_PATIENCE: Duration = Duration::from_secs(10);

/// Why a hand-over did not take place; this process goes on.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    #[error("expected one hand-over at a time, found another one under way; wait for its end")]
    UnderWay,
    #[error("expected a server that goes on, found one that is stopping; start the program again")]
    Stopping,
    #[error(
        "expected a process that may end while another goes on, found the first one of its container (process 1); \
         replace the container instead"
    )]
    FirstProcess,
    #[error("expected to start `{program}`, found: {error}; put the program there, and ask again")]
    Start { program: String, error: io::Error },
    #[error("expected the new process to take over, found that it has ended ({status}); its lines in the log say why")]
    Ended { status: ExitStatus },
    #[error(
        "expected the new process to be ready within {}, found that it is not; look for its lines in the log, or raise \
         drain.handover_timeout",
        humantime::format_duration(*.limit)
    )]
    Late { limit: Duration },
    #[error(
        "expected the new process to receive messages of the feed, found none in {}, while this one received some; \
         look for its lines in the log",
        humantime::format_duration(FEED_PATIENCE)
    )]
    NoData,
    #[error("expected to speak with the new process, found: {0}; ask again")]
    Channel(#[from] io::Error),
    #[error(
        "expected the new process to follow the protocol of a hand-over, found `{said}`; restart the server instead"
    )]
    Unexpected { said: String },
}

/// What a hand-over needs of the running server.
pub(super) struct Handover {
    pub program: ProgramStart,
    /// None in a cluster, where each process has its own place in the log.
    pub feed: Option<FeedControl>,
    /// Of the directory of spools, which both processes use for a while.
    pub spool_lock: Option<File>,
    pub shown: ShownLog,
    pub service: ServiceManager,
    pub meters: HandoverMeters,
}

pub(super) struct HandoverMeters {
    /// Counted by the successor, because nobody can ask its predecessor any more.
    pub done: Counter,
    failed: Counter,
}

impl HandoverMeters {
    pub(super) fn new(meters: &Meters) -> HandoverMeters {
        let counter = |result| meters.counter(&names::HANDOVERS, &[("result", result)]);
        HandoverMeters { done: counter("done"), failed: counter("failed") }
    }
}

impl Handover {
    /// Has another process take over; returns it once it serves. Nothing has changed, if there is none.
    ///
    /// If this is dropped before, the other process is ended, and the feed stays paused if it was: the server stops.
    ///
    /// # Errors
    /// The other process did not take over.
    pub(super) async fn run(
        &self,
        cause: &str,
        (sockets, limit): (&[HandedSocket], Duration),
        phase: &watch::Sender<Phase>,
    ) -> Result<Successor, HandoverError> {
        tracing::info!(program = %self.program, "{cause}: the program is started again, to take over");
        let mut is_released = false;
        let outcome = tokio::time::timeout(limit, self.converse(sockets, phase, &mut is_released)).await;
        let error = match outcome.unwrap_or(Err(HandoverError::Late { limit })) {
            Ok(successor) => {
                tracing::info!(
                    pid = successor.pid(),
                    "{cause}: the new process serves; this one dismisses its clients"
                );
                return Ok(successor);
            }
            Err(error) => error,
        };
        if let Some(feed) = self.feed.as_ref().filter(|_| is_released) {
            feed.resume();
        }
        phase.send_replace(Phase::Serving);
        self.meters.failed.increment(1);
        tracing::error!("{cause}: {error}; this process goes on");
        Err(error)
    }

    async fn converse(
        &self,
        sockets: &[HandedSocket],
        phase: &watch::Sender<Phase>,
        is_released: &mut bool,
    ) -> Result<Successor, HandoverError> {
        if std::process::id() == 1 {
            return Err(HandoverError::FirstProcess);
        }
        let mut successor = Successor::start(&self.program, sockets, self.spool_lock.as_ref())?;
        let mut started_at = self.shown.reader().head();
        loop {
            match successor.next().await? {
                HandoverMessage::Release => {
                    // Whoever comes now is better served by the one that will have the feed.
                    phase.send_replace(Phase::Waiting);
                    *is_released = true;
                    if let Some(feed) = &self.feed {
                        feed.pause().await;
                    }
                    successor.say(&HandoverMessage::Released).await?;
                }
                HandoverMessage::Started => started_at = self.shown.reader().head(),
                HandoverMessage::Ready { has_data } => {
                    if !has_data && !*is_released && self.received_since(started_at) {
                        return Err(HandoverError::NoData);
                    }
                    self.let_go(&mut successor, sockets, phase).await?;
                    return Ok(successor);
                }
                other => return Err(HandoverError::Unexpected { said: format!("{other:?}") }),
            }
        }
    }

    /// The point of no return.
    async fn let_go(
        &self,
        successor: &mut Successor,
        sockets: &[HandedSocket],
        phase: &watch::Sender<Phase>,
    ) -> Result<(), HandoverError> {
        phase.send_replace(Phase::Waiting);
        // It may say something to the service manager only once that knows it.
        self.service.tell(&format!("MAINPID={}", successor.pid()));
        if let Err(error) = successor.say(&HandoverMessage::Go).await {
            self.service.tell(&format!("MAINPID={}", std::process::id()));
            return Err(error);
        }
        successor.let_go();
        sockets.iter().filter_map(|socket| socket.file.as_ref()).for_each(|file| file.leave());
        Ok(())
    }

    /// Whether messages of the feed have come after this offset.
    fn received_since(&self, offset: Offset) -> bool {
        let reader = self.shown.reader();
        let is_message = |offset| match reader.frame(Offset(offset)) {
            FrameLookup::Hot(frame) => !matches!(frame.kind, FrameKind::Status(_) | FrameKind::Expired(_)),
            // So many came that it is overwritten.
            FrameLookup::Gone => true,
        };
        (offset.0 + 1..=reader.head().0).any(is_message)
    }
}
