//! The feed of a server without a cluster: it runs until the stop, and pauses while another process may go on with it.
//!
//! Whoever publishes holds the archive, too. So the feed ends first, and then the archive is given up; if it is to go on
//! here, the archive is opened first, with what another process may have written there.

use std::io;

use tokio::sync::{mpsc, oneshot, watch};

use crate::app::archiving::ArchiveControl;
use crate::bus::archive::open::{ArchiveError, ArchiveTerms, OpenArchive};
use crate::bus::clock::Clock;
use crate::bus::demand::ClientInput;
use crate::bus::feed_state::{FeedState, StaleReason};
use crate::bus::publisher::Publisher;
use crate::bus::reader::Reader;
use crate::intake::upstream::{Upstream, UpstreamError};
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

/// For clients, while nobody holds the feed.
const PAUSED: &str = "the server hands over to its successor, which goes on with the feed in a moment";

/// Why the archive does not go on after a pause.
#[derive(Debug, thiserror::Error)]
enum ResumeError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("expected the archive to go on in the epoch {expected}, found {found}")]
    Epoch { expected: Epoch, found: Epoch },
}

/// Orders for the feed's thread.
#[derive(Clone)]
pub(super) struct FeedControl(mpsc::UnboundedSender<FeedCall>);

enum FeedCall {
    /// Answered once nothing is published any more, and the archive is given up.
    Pause(oneshot::Sender<()>),
    Resume,
}

impl FeedControl {
    pub(super) fn open() -> (FeedControl, FeedCalls) {
        let (calls, orders) = mpsc::unbounded_channel();
        (FeedControl(calls), FeedCalls(orders))
    }

    /// Returns once another process may have the feed and the archive, or the thread has ended.
    pub(super) async fn pause(&self) {
        let (paused, answer) = oneshot::channel();
        if self.0.send(FeedCall::Pause(paused)).is_ok() {
            // Without an answer the thread has ended, and the server with it.
            let _ = answer.await;
        }
    }

    pub(super) fn resume(&self) {
        // A thread that has ended ends the server.
        let _ = self.0.send(FeedCall::Resume);
    }
}

pub(super) struct FeedCalls(mpsc::UnboundedReceiver<FeedCall>);

impl FeedCalls {
    /// Never without a sender.
    async fn next(&mut self) -> FeedCall {
        match self.0.recv().await {
            Some(call) => call,
            None => std::future::pending().await,
        }
    }
}

/// What a feed goes on with after a pause.
pub(super) struct PausableFeed<C> {
    /// Makes the feed of a publisher.
    pub connect: C,
    pub clients: ClientInput,
    pub reader: Reader,
    pub archive: Option<(ArchiveTerms, ArchiveControl)>,
    /// Topics that a pause tells of, at most, where not every topic needs it.
    pub gaps_max: usize,
    pub clock: Clock,
    pub meters: Meters,
}

impl<C: Fn(Publisher, ClientInput) -> Result<Upstream, UpstreamError>> PausableFeed<C> {
    /// Feeds the bus until the stop. A feed that is given up does not end the server: clients keep the last values, marked
    /// as stale.
    ///
    /// # Errors
    /// The feed cannot go on after a pause.
    pub(super) async fn run(
        self,
        mut upstream: Upstream,
        mut calls: FeedCalls,
        mut stopped: watch::Receiver<bool>,
    ) -> io::Result<()> {
        loop {
            let (stop, told) = watch::channel(false);
            let mut running = std::pin::pin!(upstream.run_for_now(told));
            let (mut publisher, paused) = tokio::select! {
                (publisher, ended) = &mut running => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the feed is given up; clients keep the last values, marked as stale");
                        self.reader.pulse().rest();
                    }
                    (publisher, None)
                }
                call = calls.next() => {
                    stop.send_replace(true);
                    let (publisher, _) = running.await;
                    (publisher, Some(call))
                }
                _ = stopped.wait_for(|stopped| *stopped) => {
                    stop.send_replace(true);
                    let _ = running.await;
                    return Ok(());
                }
            };
            let mut call = paused;
            loop {
                match call.take() {
                    Some(FeedCall::Pause(paused)) => {
                        self.pause(&mut publisher).await;
                        // Who asked may have given up.
                        let _ = paused.send(());
                    }
                    Some(FeedCall::Resume) => break,
                    None => {}
                }
                tokio::select! {
                    next = calls.next() => call = Some(next),
                    _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
                }
            }
            upstream = self.resume(publisher).map_err(io::Error::other)?;
        }
    }

    async fn pause(&self, publisher: &mut Publisher) {
        let since_ms = self.clock.now().wall_ms;
        publisher.announce(FeedState::Stale { reason: StaleReason::UpstreamDown, since_ms, message: PAUSED.into() });
        self.reader.pulse().rest();
        if let Some((_, archive)) = &self.archive {
            archive.close().await;
        }
    }

    fn resume(&self, mut publisher: Publisher) -> Result<Upstream, UpstreamError> {
        let now = self.clock.now();
        let is_archived = match self.open_archive(&mut publisher, now) {
            Ok(is_archived) => is_archived,
            Err(error) => {
                tracing::error!(
                    %error,
                    "the archive cannot go on: from here on nothing is archived, and the next start begins another \
                     epoch; check the disk of archive.dir, then restart"
                );
                false
            }
        };
        if !is_archived {
            publisher.publish_gaps(&publisher.topics_or_those_of_deltas(self.gaps_max), now);
        }
        if let Some(interest) = &self.clients.interest {
            interest.start_over();
        }
        (self.connect)(publisher, self.clients.clone())
    }

    /// False without an archive.
    fn open_archive(&self, publisher: &mut Publisher, now: Stamp) -> Result<bool, ResumeError> {
        let Some((terms, control)) = &self.archive else { return Ok(false) };
        let archive = OpenArchive::open(terms.clone())?;
        let (expected, found) = (self.reader.epoch(), archive.epoch());
        if expected != found {
            return Err(ResumeError::Epoch { expected, found });
        }
        control.open(archive.restore((publisher, self.reader.clone()), now, &self.meters)?);
        Ok(true)
    }
}
