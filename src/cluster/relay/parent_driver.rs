//! Keeps a connection to one of the parents, and goes to the next one when it is lost or silent.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::time::Duration;

use backbone::log::{CallId, LogReply, LogRequest, StoredBytes};
use backbone::node::NodeEvent;
use backbone::parents::{NextParent, ParentChoice};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::bus::clock::Clock;
use crate::cluster::relay::greeting::ParentGreeting;
use crate::cluster::relay::meters::ParentMeters;
use crate::cluster::relay::parent_connection::{ParentAddress, ParentConnection, ParentFault};
use crate::cluster::relay::wire::{ParentMessage, RelayRequest};
use crate::words::rate_limited_log::RateLimitedLog;

/// An attempt gets this long before the next parent is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);
/// Calls to the log without a reply: the node has one, and forgets it when it gives it up.
const CALLS_MAX: usize = 8;
/// A parent of which no entry comes for this long is itself cut off; where there are others, they are tried.
const STANDSTILL: Duration = Duration::from_secs(3);
/// Of entries that are read at once.
const READ_BYTES_MAX: usize = 4 << 20;

/// What the node wants of its parent.
pub(super) enum ParentOrder {
    Log { call: CallId, request: LogRequest },
    Snapshot { request: Bytes, answer: oneshot::Sender<Bytes> },
}

pub(super) struct ParentDriver {
    pub addresses: Vec<ParentAddress>,
    pub choice: ParentChoice,
    pub silence_max: Duration,
    pub orders: mpsc::UnboundedReceiver<ParentOrder>,
    pub events: mpsc::Sender<NodeEvent>,
    /// What this server says to relays of its own; none before it has a parent.
    pub greeting: watch::Sender<Option<ParentGreeting>>,
    /// The parent that was followed last.
    pub followed: Option<usize>,
    /// Of the log that is followed; none before there was one.
    pub epoch: Option<u64>,
    pub clock: Clock,
    pub meters: ParentMeters,
    pub log: Vec<RateLimitedLog>,
}

/// A connection, and what is asked on it.
struct FollowedParent {
    number: usize,
    connection: ParentConnection,
    /// Entries that have come for a call.
    reading: BTreeMap<CallId, Vec<StoredBytes>>,
    snapshots: HashMap<u64, oneshot::Sender<Bytes>>,
    snapshot_calls: u64,
    heard_at: Instant,
    /// When an entry came last, if one has come.
    moved_at: Instant,
    has_moved: bool,
}

type ParentAttempt = BoxFuture<'static, (usize, Result<ParentConnection, ParentFault>)>;

impl ParentDriver {
    /// For as long as the node is there.
    pub async fn run(mut self) -> Option<Infallible> {
        loop {
            let mut parent = self.connect().await;
            let (number, greeting) = (parent.number, parent.connection.greeting.clone());
            self.meters.up.set(1.0);
            self.greet(&greeting, self.addresses[number].node);
            self.events.send(NodeEvent::Reconnected).await.ok()?;
            let lost = self.follow(&mut parent, greeting.epoch).await;
            self.meters.up.set(0.0);
            for call in parent.reading.into_keys() {
                self.events.send(NodeEvent::Replied { call, reply: LogReply::Unavailable }).await.ok()?;
            }
            if !parent.has_moved {
                // As if it had not been reached: it must not be tried again and again.
                self.tell(number, &lost);
                continue;
            }
            tracing::warn!(parent = %self.addresses[number].url, reason = %lost, "this relay has lost its parent");
            self.choice.connected();
            self.choice.lost(number);
        }
    }

    /// What relays of this server are told from now on.
    fn greet(&self, parent: &ParentGreeting, own: u64) {
        let greeting = ParentGreeting { path: parent.path.with(own), ..parent.clone() };
        self.meters.depth.set(greeting.path.depth() as f64);
        self.greeting.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&greeting);
            *known = Some(greeting);
            is_new
        });
    }

    /// Waits until a parent is there that may be followed.
    async fn connect(&mut self) -> FollowedParent {
        let mut attempts: FuturesUnordered<ParentAttempt> = FuturesUnordered::new();
        let mut next_at = Instant::now();
        loop {
            let now = self.clock.now().mono();
            let due = match self.choice.next(now) {
                NextParent::Try(number) if attempts.is_empty() || Instant::now() >= next_at => {
                    self.choice.begin(number);
                    let address = self.addresses[number].clone();
                    attempts.push(Box::pin(async move { (number, ParentConnection::open(&address).await) }));
                    next_at = Instant::now() + HEAD_START;
                    continue;
                }
                NextParent::Try(_) => next_at,
                NextParent::At(at) => Instant::now() + at.saturating_sub(now),
                NextParent::Wait if attempts.is_empty() => {
                    self.choice.round_failed(now, rand::random());
                    continue;
                }
                NextParent::Wait => Instant::now() + HEAD_START,
            };
            tokio::select! {
                Some((number, outcome)) = attempts.next() => match self.check(outcome) {
                    Ok(connection) => return FollowedParent::new(number, connection),
                    Err(fault) => self.tell(number, &fault),
                },
                Some(order) = self.orders.recv() => self.put_off(order).await,
                () = sleep_until(due) => {}
            }
        }
    }

    fn check(&self, outcome: Result<ParentConnection, ParentFault>) -> Result<ParentConnection, ParentFault> {
        let connection = outcome?;
        if self.choice.takes(connection.greeting.epoch, self.epoch) {
            Ok(connection)
        } else {
            Err(ParentFault::OtherEpoch)
        }
    }

    fn tell(&mut self, number: usize, fault: &ParentFault) {
        if self.log[number].take(self.clock.now()).is_some() {
            let parent = &self.addresses[number].url;
            tracing::warn!(%parent, reason = %fault, "a parent of this relay cannot be followed");
        }
    }

    /// There is no parent at the moment.
    async fn put_off(&self, order: ParentOrder) {
        if let ParentOrder::Log { call, .. } = order {
            // Without a node the server is ending.
            let _ = self.events.send(NodeEvent::Replied { call, reply: LogReply::Unavailable }).await;
        }
    }

    /// Until it is lost.
    async fn follow(&mut self, parent: &mut FollowedParent, mut epoch: u64) -> ParentFault {
        let own = self.addresses[parent.number].node;
        // Entries follow from here on, whatever the node is about: they are the parent's sign of life.
        if let Err(fault) = parent.connection.send(RelayRequest::Tail { call: CallId::default() }).await {
            return fault;
        }
        loop {
            let silent_at = parent.heard_at + self.silence_max;
            let stands_at = parent.moved_at + STANDSTILL;
            let step = tokio::select! {
                message = parent.connection.next() => match message {
                    Ok(ParentMessage::Greeting(json)) => {
                        parent.heard_at = Instant::now();
                        self.greeted(&json, &mut epoch, own)
                    }
                    Ok(message) => match parent.take(message) {
                        Ok(event) => {
                            if parent.has_moved && self.followed != Some(parent.number) {
                                self.begin(parent.number);
                            }
                            if parent.has_moved {
                                self.epoch = Some(epoch);
                            }
                            if let Some(event) = event {
                                // Without a node the server is ending.
                                let _ = self.events.send(event).await;
                            }
                            parent.heard_at = Instant::now();
                            Ok(())
                        }
                        Err(fault) => Err(fault),
                    },
                    Err(fault) => Err(fault),
                },
                Some(order) = self.orders.recv() => parent.ask(order).await,
                () = sleep_until(silent_at) => Err(ParentFault::Silent(self.silence_max)),
                () = sleep_until(stands_at), if self.addresses.len() > 1 => Err(ParentFault::Standstill),
            };
            if let Err(fault) = step {
                return fault;
            }
        }
    }

    /// The first entry of this parent has come.
    fn begin(&mut self, number: usize) {
        tracing::info!(parent = %self.addresses[number].url, "this relay follows a parent");
        if self.followed.replace(number).is_some() {
            self.meters.changes.increment(1);
        }
        self.choice.connected();
    }

    /// The parent has another parent, or its log another epoch.
    fn greeted(&self, json: &[u8], epoch: &mut u64, own: u64) -> Result<(), ParentFault> {
        let greeting = ParentGreeting::read(json).ok_or(ParentFault::Malformed)?;
        greeting.path.check_child(own)?;
        *epoch = greeting.epoch;
        self.greet(&greeting, own);
        Ok(())
    }
}

impl FollowedParent {
    fn new(number: usize, connection: ParentConnection) -> FollowedParent {
        let (reading, snapshots, now) = (BTreeMap::new(), HashMap::new(), Instant::now());
        FollowedParent {
            number,
            connection,
            reading,
            snapshots,
            snapshot_calls: 0,
            heard_at: now,
            moved_at: now,
            has_moved: false,
        }
    }

    async fn ask(&mut self, order: ParentOrder) -> Result<(), ParentFault> {
        let request = match order {
            ParentOrder::Log { call, request } => {
                let request = match request {
                    LogRequest::Tail => RelayRequest::Tail { call },
                    LogRequest::Read(range) => RelayRequest::Read { call, range },
                    // A reader does neither.
                    LogRequest::Append { .. } | LogRequest::Create => return Ok(()),
                };
                if self.reading.len() >= CALLS_MAX {
                    self.reading.pop_first();
                }
                self.reading.insert(call, Vec::new());
                request
            }
            ParentOrder::Snapshot { request, answer } => {
                self.snapshot_calls += 1;
                self.snapshots.retain(|_, waiting| !waiting.is_closed());
                self.snapshots.insert(self.snapshot_calls, answer);
                RelayRequest::Snapshot { call: self.snapshot_calls, request }
            }
        };
        self.connection.send(request).await
    }

    /// What the node is told of it. What nobody has asked for is left out.
    fn take(&mut self, message: ParentMessage) -> Result<Option<NodeEvent>, ParentFault> {
        Ok(match message {
            ParentMessage::Greeting(_) | ParentMessage::Beat => None,
            ParentMessage::Tailed(stored) => {
                (self.moved_at, self.has_moved) = (Instant::now(), true);
                Some(NodeEvent::Tailed(stored))
            }
            ParentMessage::Bounds { call, bounds } => {
                let reply = LogReply::Bounds(bounds);
                self.reading.remove(&call).map(|_| NodeEvent::Replied { call, reply })
            }
            ParentMessage::Entry { call, stored } => {
                if let Some(entries) = self.reading.get_mut(&call) {
                    entries.push(stored);
                    if entries.iter().map(|entry| entry.bytes.len()).sum::<usize>() > READ_BYTES_MAX {
                        return Err(ParentFault::Malformed);
                    }
                }
                None
            }
            ParentMessage::ReadTo { call, read_to } => self
                .reading
                .remove(&call)
                .map(|entries| NodeEvent::Replied { call, reply: LogReply::Entries { entries, read_to } }),
            ParentMessage::Snapshot { call, answer } => {
                if let Some(asked) = self.snapshots.remove(&call) {
                    // Whoever asked may have given up.
                    let _ = asked.send(answer);
                }
                None
            }
        })
    }
}
