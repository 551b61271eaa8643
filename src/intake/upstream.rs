//! The one feed: connects, listens, and connects again for as long as it is wanted.
//!
//! Each message is stamped once, on receipt, and sorted at once; messages that are there already are taken without
//! going back to the scheduler. A connection that is lost is replaced after a growing, random wait, which becomes
//! short again only after data has flowed for as long as the longest wait.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::bus::asks::AskQueue;
use crate::bus::clock::Clock;
use crate::bus::interest::Interest;
use crate::bus::publisher::Publisher;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;

use super::line::backoff::Backoff;
use super::line::connect::{Dialer, Socket, Target, TargetError, bytes_read, closed, loss};
use super::line::dialogue::{Dialogue, Step, Timing};
use super::line::loss::{Loss, in_s};
use super::outlet::{Outlet, Tally, excerpt};
use super::profile::Profile;
use super::profile::rule::Class;
use super::profile::subscribe::ItemTooLong;
use super::sorting::{Incoming, Sorter};

/// Ready messages taken in one go before deadlines and the stop signal are looked at again: some 100 us of work.
const BATCH_MESSAGES: usize = 256;
/// An upstream that names a time to stay away is obeyed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// How long a farewell may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How to reach one feed. Where the profile says something about a time or a limit, the profile counts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `ws://…` or `wss://…`.
    pub url: String,
    pub profile: Profile,
    /// What to subscribe to, in the words of the profile; may be empty.
    pub items: Vec<String>,
    /// For TCP, TLS and the handshake together.
    pub connect_timeout: Duration,
    /// Without a message for this long the feed is `stale`, after twice this it is connected anew. None: the profile's, else 30 s.
    pub idle_timeout: Option<Duration>,
    /// Between two WebSocket pings; zero: none are sent.
    pub ping_interval: Duration,
    /// For the answer to a WebSocket ping, and for the upstream to accept what is sent.
    pub pong_timeout: Duration,
    /// Longest wait before the first new attempt.
    pub backoff_min: Duration,
    /// Longest wait at all.
    pub backoff_max: Duration,
    /// Longest message, in bytes.
    pub message_bytes_max: usize,
    /// What clients want; none: the feed is not asked for topics.
    pub interest: Option<Arc<Interest>>,
    /// What clients say to the feed. Dropped, it answers `upstream_down`.
    pub asks: Option<AskQueue>,
}

/// Why there will be no feed; trying again is of no use before something was changed.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error(transparent)]
    BadUrl(#[from] TargetError),
    #[error(
        "expected nothing to subscribe to, since profile `{profile}` has no `[subscribe]`, found {items} items; \
         remove `--subscribe`, or put them into the URL"
    )]
    NoSubscribe { profile: String, items: usize },
    #[error(transparent)]
    ItemTooLong(#[from] ItemTooLong),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("refused for good by the upstream (rule `{rule}` of profile `{profile}`): {message}")]
    Refused { profile: String, rule: String, message: String },
}

/// The feed, before and while it is connected.
pub struct Upstream {
    dialer: Dialer,
    profile_name: String,
    requests: Vec<String>,
    /// Number of the last request.
    req: u64,
    timing: Timing,
    /// Data for this long show that a connection is worth having.
    sustained: Duration,
    backoff: Backoff,
    clock: Clock,
    sorter: Sorter,
    outlet: Outlet,
}

/// How a connection ended.
enum End {
    Stopped,
    Lost(Loss),
    Refused { rule: String, message: String },
}

impl Upstream {
    /// Checks everything that can be checked without connecting.
    pub fn new(
        settings: Settings,
        publisher: Publisher,
        clock: Clock,
        meters: &Meters,
    ) -> Result<Upstream, UpstreamError> {
        let profile = &settings.profile;
        let target = Target::parse(&settings.url)?;
        let mut req = 0;
        let requests = match &profile.subscribe {
            Some(subscribe) => subscribe.messages(&settings.items, &mut req)?,
            None if settings.items.is_empty() => Vec::new(),
            None => {
                return Err(UpstreamError::NoSubscribe { profile: profile.name.clone(), items: settings.items.len() });
            }
        };
        let timing = Timing {
            idle_timeout: settings.idle_timeout,
            ws_ping: Some(settings.ping_interval).filter(|interval| !interval.is_zero()),
            pong_timeout: settings.pong_timeout,
            send_spacing: Duration::ZERO,
            heartbeat: None,
        };
        let bytes_max = profile.message_bytes_max.unwrap_or(settings.message_bytes_max);
        Ok(Upstream {
            dialer: Dialer::new(target, settings.connect_timeout, bytes_max)?,
            profile_name: profile.name.clone(),
            requests,
            req,
            timing: timing.with_profile(profile),
            sustained: settings.backoff_max,
            backoff: Backoff::new(settings.backoff_min, settings.backoff_max),
            clock,
            sorter: Sorter::new(profile),
            outlet: Outlet::new(publisher, meters),
        })
    }

    /// Feeds the publisher until `stop` becomes true or its sender is gone. Every other end is an error that trying
    /// again would not mend.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), UpstreamError> {
        self.serve(&mut stop).await
    }

    /// As `run`, so that what happened can be asked for afterwards.
    pub(super) async fn serve(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), UpstreamError> {
        let ended = self.reconnect_until_stopped(stop).await;
        // Stopping early is no reason to keep back what was received.
        self.sorter.settle(&mut self.outlet);
        ended
    }

    pub(super) fn tally(&self) -> &Tally {
        self.outlet.tally()
    }

    pub(super) fn sorter(&self) -> &Sorter {
        &self.sorter
    }

    /// The URL without what may be secret.
    pub(super) fn shown_url(&self) -> String {
        self.dialer.target().shown()
    }

    async fn reconnect_until_stopped(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), UpstreamError> {
        loop {
            let connected = tokio::select! {
                biased;
                () = stopped(stop) => return Ok(()),
                connected = self.dialer.connect() => connected,
            };
            let end = match connected {
                Ok(socket) => self.converse(socket, stop).await,
                Err(loss) => End::Lost(loss),
            };
            match end {
                End::Stopped => return Ok(()),
                End::Lost(loss) => {
                    let until_ns = self.plan(&loss);
                    if !self.rest(until_ns, stop).await {
                        return Ok(());
                    }
                }
                End::Refused { rule, message } => {
                    let error = UpstreamError::Refused { profile: self.profile_name.clone(), rule, message };
                    self.outlet.refused(&error.to_string(), self.clock.now());
                    return Err(error);
                }
            }
        }
    }

    /// Decides when to try again, and says so.
    fn plan(&mut self, loss: &Loss) -> u64 {
        if Duration::from_millis(self.outlet.data_ms()) >= self.sustained {
            self.backoff.reset();
        }
        let wait = self.backoff.wait(&mut rand::rng());
        let wait = wait.max(loss.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX));
        let now = self.clock.now();
        let plan = format!("reconnecting in {} (attempt {})", in_s(wait), self.backoff.attempts());
        self.outlet.lost(loss, plan, now);
        now.mono_ns.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Waits without a connection; false if the feed is no longer wanted.
    async fn rest(&mut self, until_ns: u64, stop: &mut watch::Receiver<bool>) -> bool {
        loop {
            let now = self.clock.now();
            if now.mono_ns >= until_ns {
                return true;
            }
            self.sorter.tick(now, &mut self.outlet);
            let deadline_ns = earlier(Some(until_ns), self.sorter.deadline_ns());
            tokio::select! {
                biased;
                () = stopped(stop) => return false,
                () = sleep_until(now, deadline_ns) => {}
            }
        }
    }

    /// One connection, from its first request to its end.
    async fn converse(&mut self, mut socket: Socket, stop: &mut watch::Receiver<bool>) -> End {
        self.outlet.connected();
        tracing::info!(profile = self.profile_name, "connected to {}", self.dialer.target().shown());
        let mut dialogue = Dialogue::open(self.timing.clone(), self.requests.clone(), self.req, self.clock.now());
        let mut seen_bytes = 0;
        loop {
            let now = self.clock.now();
            let bytes = bytes_read(&socket);
            if bytes != std::mem::replace(&mut seen_bytes, bytes) {
                dialogue.alive();
            }
            if let Err(loss) = self.speak(&mut socket, &mut dialogue, now).await {
                return End::Lost(loss);
            }
            self.sorter.tick(now, &mut self.outlet);
            let deadline_ns = earlier(dialogue.deadline_ns(), self.sorter.deadline_ns());
            let heard = tokio::select! {
                biased;
                () = stopped(stop) => {
                    // The upstream may be gone as well; then there is nobody to take leave of.
                    tokio::time::timeout(CLOSE_TIMEOUT, socket.close(None)).await.ok();
                    return End::Stopped;
                }
                heard = socket.next() => heard,
                () = sleep_until(now, deadline_ns) => continue,
            };
            if let Some(end) = self.listen(heard, &mut socket, &mut dialogue) {
                return end;
            }
        }
    }

    /// Says what is to be said now.
    async fn speak(&mut self, socket: &mut Socket, dialogue: &mut Dialogue, now: Stamp) -> Result<(), Loss> {
        while let Some(step) = dialogue.next(now) {
            let message = match step {
                Step::Send(text) => Message::text(text),
                Step::Ping => Message::Ping(Default::default()),
                Step::TellSilence { since } => {
                    let timeout = in_s(self.timing.idle_timeout.unwrap_or_default());
                    let message = format!("no message for {timeout}; reconnecting after another {timeout} without one");
                    self.outlet.silent(since, message);
                    continue;
                }
                Step::End(loss) => return Err(loss),
            };
            let after = self.timing.pong_timeout;
            match tokio::time::timeout(after, socket.send(message)).await {
                Ok(sent) => sent.map_err(loss)?,
                Err(_) => return Err(Loss::Stuck { after }),
            }
        }
        Ok(())
    }

    /// Takes what was heard, and what else is there already.
    fn listen(
        &mut self,
        first: Option<Result<Message, Error>>,
        socket: &mut Socket,
        dialogue: &mut Dialogue,
    ) -> Option<End> {
        let mut heard = first;
        for taken in 1.. {
            let end = match heard {
                Some(Ok(message)) => self.take(message, dialogue),
                Some(Err(error)) => Some(End::Lost(loss(error))),
                None => Some(End::Lost(closed(None))),
            };
            if end.is_some() || taken == BATCH_MESSAGES {
                return end;
            }
            heard = socket.next().now_or_never()?;
        }
        None
    }

    fn take(&mut self, message: Message, dialogue: &mut Dialogue) -> Option<End> {
        match message {
            Message::Text(text) => self.receive(Incoming::Text(&text), dialogue),
            Message::Binary(bytes) => self.receive(Incoming::Binary(&bytes), dialogue),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                dialogue.alive();
                None
            }
            Message::Close(frame) => Some(End::Lost(closed(frame.map(|frame| (u16::from(frame.code), frame.reason))))),
        }
    }

    fn receive(&mut self, message: Incoming<'_>, dialogue: &mut Dialogue) -> Option<End> {
        let received = self.clock.now();
        dialogue.heard(received);
        let sorted = self.sorter.sort(message, received, &mut self.outlet)?;
        let rule = sorted.rule.as_deref().unwrap_or_default();
        match sorted.class {
            Class::Ping => {
                sorted.reply.into_iter().for_each(|reply| dialogue.reply(reply));
                None
            }
            Class::Pong => {
                dialogue.answered(rule);
                None
            }
            Class::Reconnect => Some(End::Lost(Loss::Asked { rule: rule.to_string() })),
            Class::Fatal => Some(End::Refused { rule: rule.to_string(), message: excerpt(message) }),
            _ => None,
        }
    }
}

/// Returns once `stop` is true or nobody can make it so any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// Sleeps to a time on the clock that now says `now`; without one, for ever.
async fn sleep_until(now: Stamp, deadline_ns: Option<u64>) {
    match deadline_ns {
        Some(deadline_ns) => tokio::time::sleep(Duration::from_nanos(deadline_ns.saturating_sub(now.mono_ns))).await,
        None => std::future::pending().await,
    }
}
