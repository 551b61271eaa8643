//! Sessions come, and change what they see: adoption, `subscribe`, `unsubscribe`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::bus::feed::FeedState;
use crate::delivery::index::LaneId;
use crate::delivery::lane::{LaneKey, Scheme, SessionId};
use crate::delivery::newcomer::Terms;
use crate::delivery::session::{Session, Socket, Standing};
use crate::delivery::shard::Shard;
use crate::delivery::walk::{Behind, Form, Walk};
use crate::wire::command::{Command, CommandId, Refusal};
use crate::wire::encode::Format;
use crate::wire::frame::Decoder;
use crate::wire::notice::{Notice, Subscriptions};
use crate::words::ids::{Cursor, Offset};
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

/// What a command changed.
pub enum Done {
    Subscribed {
        patterns: Arc<[Pattern]>,
        offset: Offset,
        /// The cursor to resume from was of another epoch: everything before is skipped.
        other_epoch: bool,
    },
    Unsubscribed {
        patterns: Arc<[Pattern]>,
        offset: Offset,
    },
    Pong,
}

impl Done {
    /// Appends the answer; raw sessions get none.
    pub fn put(&self, id: Option<&CommandId>, format: Format, now: Stamp, out: &mut Vec<u8>) {
        if format == Format::Raw {
            return;
        }
        match self {
            Done::Subscribed { patterns, offset, other_epoch } => {
                let answer = Subscriptions { id, topics: patterns, offset: *offset };
                Notice::Subscribed { answer }.put(out);
                if *other_epoch {
                    Notice::Skipped { from: Offset::START, to: *offset, reason: "epoch" }.put(out);
                }
            }
            Done::Unsubscribed { patterns, offset } => {
                let answer = Subscriptions { id, topics: patterns, offset: *offset };
                Notice::Unsubscribed { answer }.put(out);
            }
            Done::Pong => Notice::Pong { id, ts: now.wall_ms }.put(out),
        }
    }
}

impl<S: Socket> Shard<S> {
    /// Takes over a client whose upgrade is done. `unread` came with the request.
    pub fn adopt(&mut self, socket: S, unread: &[u8], terms: Terms, now: Stamp) -> SessionId {
        let Terms { format, deflate, policy, .. } = terms;
        let mut decoder = Decoder::new(self.settings.message_bytes_max, deflate.is_some());
        let scheme = Scheme::of(deflate);
        decoder.push(unread);
        let is_stale = matches!(*self.feed, FeedState::Stale { .. });
        let id = SessionId(self.sessions.insert(Session {
            socket,
            decoder,
            lane: LaneId(0),
            standing: Standing::Behind(Box::new(Behind::at(self.cursor))),
            unsent: Bytes::new(),
            unsent_form: Form::Plain,
            blocked_ns: 0,
            heard_ns: now.mono_ns,
            pinged_ns: 0,
            readable: true,
            queued: false,
            messages: 0,
            feed_told: if is_stale { self.feed_version.wrapping_sub(1) } else { self.feed_version },
            format,
            policy,
            has_subscribed: false,
        }));
        self.behind += 1;
        self.meters.adopted.increment(1);
        self.enter_lane(id, LaneKey { patterns: Arc::new([]), format, scheme, every: None }, now);
        self.greet(id, terms, now);
        self.enqueue(id);
        id
    }

    /// The first messages: `welcome`, and the answer to what the query asked for.
    fn greet(&mut self, id: SessionId, terms: Terms, now: Stamp) {
        let mut out = Vec::new();
        if terms.format == Format::Envelope {
            Notice::Welcome {
                protocol: "fanline.v1",
                epoch: self.reader.epoch(),
                offset: self.cursor,
                ts: now.wall_ms,
                heartbeat_ms: self.settings.heartbeat_interval.as_millis() as u64,
            }
            .put(&mut out);
        }
        if !terms.patterns.is_empty() {
            let (every, since) = (terms.every, terms.since);
            match self.subscribe(id, terms.patterns, (every, since), now) {
                Ok(done) => done.put(None, terms.format, now, &mut out),
                Err(refusal) => self.refuse(None, &refusal, terms.format, &mut out),
            }
        }
        self.sessions[id.0].unsent = out.into();
    }

    /// Does what a command says. The answer must be sent before anything else is.
    pub(super) fn obey(&mut self, id: SessionId, command: Command, now: Stamp) -> Result<Done, Refusal> {
        match command {
            Command::Ping => Ok(Done::Pong),
            Command::Unsubscribe { patterns } => self.unsubscribe(id, &patterns, now),
            Command::Subscribe { patterns, every, since, policy } => {
                let pace_now = self.lane_key(id).every;
                let pace = every.map_or(pace_now, |every| Some(every).filter(|every| !every.is_zero()));
                let done = self.subscribe(id, patterns, (pace, since), now)?;
                if let Some(policy) = policy {
                    self.sessions[id.0].policy = policy;
                }
                Ok(done)
            }
        }
    }

    fn subscribe(
        &mut self,
        id: SessionId,
        wanted: Vec<Pattern>,
        (every, since): (Option<Duration>, Option<Cursor>),
        now: Stamp,
    ) -> Result<Done, Refusal> {
        let key = self.lane_key(id);
        let mut patterns = key.patterns.to_vec();
        patterns.extend(wanted);
        patterns.sort_unstable();
        patterns.dedup();
        let max = self.settings.patterns_max;
        if patterns.len() > max {
            let message = format!(
                "expected at most {max} patterns in one session (limits.patterns_max), found {}; use wildcards",
                patterns.len()
            );
            return Err(Refusal::new("too_many_patterns", message));
        }
        let resume = since.map(|since| self.resume_point(id, since)).transpose()?;
        let patterns: Arc<[Pattern]> = patterns.into();
        self.resettle(id, LaneKey { patterns: patterns.clone(), every, ..key }, now)?;
        self.sessions[id.0].has_subscribed = true;
        let mut offset = self.cursor;
        if let Some(Some(cursor)) = resume {
            offset = offset.max(cursor);
            self.stand(id, Standing::Behind(Box::new(Behind::resuming(cursor))));
        }
        let other_epoch = resume == Some(None);
        if other_epoch {
            self.meters.skips_epoch.increment(1);
        }
        Ok(Done::Subscribed { patterns, offset, other_epoch })
    }

    /// Where a replay for `since` starts; none if the cursor is of another epoch.
    fn resume_point(&self, id: SessionId, since: Cursor) -> Result<Option<Offset>, Refusal> {
        if self.sessions[id.0].has_subscribed {
            let message = "`since` is possible only in the first subscription of a connection; reconnect to resume";
            return Err(Refusal::new("bad_request", message));
        }
        if since.epoch != self.reader.epoch() {
            return Ok(None);
        }
        let head = self.reader.head();
        if since.offset > head {
            let message =
                format!("expected a cursor of at most offset {head}, found `{since}`, which is still to come");
            return Err(Refusal::new("bad_cursor", message));
        }
        Ok(Some(since.offset))
    }

    fn unsubscribe(&mut self, id: SessionId, unwanted: &[Pattern], now: Stamp) -> Result<Done, Refusal> {
        let key = self.lane_key(id);
        if let Some(stranger) = unwanted.iter().find(|pattern| !key.patterns.contains(pattern)) {
            let message =
                format!("expected patterns as they were subscribed, found `{stranger}`, which is not in force");
            return Err(Refusal::new("not_subscribed", message));
        }
        let patterns: Arc<[Pattern]> =
            key.patterns.iter().filter(|pattern| !unwanted.contains(pattern)).cloned().collect();
        self.resettle(id, LaneKey { patterns: patterns.clone(), ..key }, now)?;
        Ok(Done::Unsubscribed { patterns, offset: self.cursor })
    }

    fn lane_key(&self, id: SessionId) -> LaneKey {
        self.lanes[self.sessions[id.0].lane.0 as usize].key.clone()
    }

    /// Moves the session to another lane. What it has been sent already is not repeated, what it has not follows.
    fn resettle(&mut self, id: SessionId, key: LaneKey, now: Stamp) -> Result<(), Refusal> {
        let old = self.lane_key(id);
        if key == old {
            return Ok(());
        }
        let max = self.settings.lanes_max;
        if self.lanes.len() >= max && !self.lane_by_key.contains_key(&key) {
            let message = format!(
                "expected at most {max} different sets of patterns on a shard (limits.lanes_max); \
                 subscribe to the same patterns as others do"
            );
            return Err(Refusal::new("too_many_lanes", message));
        }
        let sent = self.unseat(id);
        self.quit_lane(id);
        self.enter_lane(id, key, now);
        let known = (!old.patterns.is_empty()).then_some((old.patterns, sent));
        let walk = Walk { reached: Offset::START, until: self.cursor, known };
        self.stand(id, Standing::Behind(Box::new(Behind::walking(self.cursor, walk))));
        Ok(())
    }
}
