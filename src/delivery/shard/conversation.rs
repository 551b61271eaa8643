//! Clients that speak a dialect: what they say is done, and answered in its words.
//!
//! They know no message of the server's own. What they lack and no word says ends their session: messages that the feed
//! has lost, and what they ask for and may not have.

use crate::delivery::chunk::{Chunk, Compression};
use crate::delivery::handoff::SessionOptions;
use crate::delivery::lanes::lane::Lane;
use crate::delivery::lanes::lane_key::LaneKey;
use crate::delivery::lanes::topic_index::LaneId;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::command_effect::CommandEffect;
use crate::delivery::sessions::dialect_session::DialectSession;
use crate::delivery::shard::Shard;
use crate::delivery::shard::subscriptions::SubscribeTerms;
use crate::delivery::transport::InboundError;
use crate::delivery::transport::socket::Socket;
use crate::profile::downstream::Dialect;
use crate::profile::downstream::conversation::{Deed, SaidOutcome, SaidRequest, Unspeakable};
use crate::profile::downstream::kept::KeptValues;
use crate::profile::downstream::session_items::{SaidChange, SessionItems};
use crate::protocol::command::CommandRefusal;
use crate::protocol::encoding::Format;
use crate::words::goodbye::Goodbye;
use crate::words::ids::Offset;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;
use shared_deflate::frame::{Opcode, put_frame};

/// Work for one item of a message, in bytes of a message that are as costly to read.
const ITEM_WORK: usize = 64;

impl<S: Socket> Shard<S> {
    /// What a session has besides that joins with these options; none if it speaks no dialect.
    pub(super) fn dialect_session(&self, options: &mut SessionOptions) -> Option<Box<DialectSession>> {
        let items = SessionItems::new(std::mem::take(&mut options.items));
        let (kept, losses) = (KeptValues::default(), self.log.losses());
        let session = DialectSession { items, kept, losses, since: self.log.offset() };
        options.format.is_form().then(|| Box::new(session))
    }

    /// What the dialect says first.
    pub(super) fn put_greeting(&self, id: SessionId, now: Stamp, out: &mut Vec<u8>) {
        let dialect = self.dialect.as_ref().filter(|_| self.sessions[id].is_told_nothing());
        for text in dialect.iter().flat_map(|dialect| dialect.greeting(now)) {
            put_frame(out, Opcode::Text, text.as_bytes());
        }
    }

    /// What the dialect says last, to a client that may come back.
    pub(super) fn put_last_words(&self, id: SessionId, goodbye: Goodbye, now: Stamp, out: &mut Vec<u8>) {
        let (Format::Form(form), Some(dialect)) = (self.sessions[id].format, &self.dialect) else { return };
        if let Some(text) = dialect.goodbye(form, now).filter(|_| goodbye.invites_back()) {
            put_frame(out, Opcode::Text, text.as_bytes());
        }
    }

    /// Does what the client says, and appends the answers; gives how values among them are compressed. The error ends the
    /// session.
    pub(super) fn converse(
        &mut self,
        id: SessionId,
        text: &str,
        answers: &mut Vec<u8>,
        now: Stamp,
    ) -> Result<Option<Compression>, InboundError> {
        let Some(dialect) = self.dialect.clone() else { return Ok(None) };
        let (mut compression, mut items) = (None, 0);
        for message in dialect.messages(text).map_err(end)? {
            let Some(request) = dialect.hear(message) else {
                self.meters.refused("unknown_op");
                continue;
            };
            items += request.items().len();
            if items > dialect.items_max {
                let max = dialect.items_max;
                return Err(end(Unspeakable(format!("expected at most {max} items in a message, found more"))));
            }
            compression = self.do_as_said(id, &request, &dialect, answers, now)?.or(compression);
        }
        Ok(compression)
    }

    /// Does what one message says.
    fn do_as_said(
        &mut self,
        id: SessionId,
        request: &SaidRequest<'_>,
        dialect: &Dialect,
        answers: &mut Vec<u8>,
        now: Stamp,
    ) -> Result<Option<Compression>, InboundError> {
        if let Some(spoken) = &mut self.sessions[id].dialect {
            spoken.kept.keep(request);
        }
        self.budgets.messages.spend(ITEM_WORK * request.items().len());
        let mut change = self.item_change(id, request, dialect);
        let mut values = None;
        match request.deed() {
            Deed::Subscribe => match self.subscribe_items(id, &change.names, dialect, now) {
                Ok(found) => values = found,
                Err(refusal) => refuse_all(request, &mut change, refusal),
            },
            Deed::Unsubscribe => self.unsubscribe_items(id, &change.names, dialect, now)?,
            Deed::Set(form) => self.change_form(id, Format::Form(form), now),
            Deed::Close => {
                let goodbye = Goodbye::ClientClosed;
                return Err(InboundError { goodbye, sentence: goodbye.sentence().to_string() });
            }
            Deed::List | Deed::Answer | Deed::Ignore | Deed::Refuse => {}
        }
        if change.refused.is_empty() && request.deed() != Deed::Refuse {
            self.meters.commands_done.increment(1);
        } else {
            self.meters.refused("bad_request");
        }
        let (refused, nothing) = (&change.refused, KeptValues::default());
        let spoken = self.sessions[id].dialect.as_deref();
        let (all, kept) = spoken.map_or((&[][..], &nothing), |spoken| (spoken.items.names(), &spoken.kept));
        let replies = request.replies(&SaidOutcome { refused, all, kept, now }).map_err(end)?;
        for reply in replies {
            put_frame(answers, Opcode::Text, reply.as_bytes());
        }
        let Some(Chunk { bytes, compression, .. }) = values else { return Ok(None) };
        answers.extend_from_slice(&bytes);
        Ok(Some(compression))
    }

    /// What the request changes, by what the client has and may have.
    fn item_change(&self, id: SessionId, request: &SaidRequest<'_>, dialect: &Dialect) -> SaidChange {
        let session = &self.sessions[id];
        let Some(spoken) = &session.dialect else { return SaidChange::default() };
        let filter = session.access.terms(None).filter;
        spoken.items.change(request, dialect.items_max, |name| {
            let filter = filter.as_ref()?;
            let is_allowed = dialect.topics_of(name).iter().any(|pattern| filter.admits(pattern));
            (!is_allowed).then(|| "forbidden".to_string())
        })
    }

    fn subscribe_items(
        &mut self,
        id: SessionId,
        names: &[String],
        dialect: &Dialect,
        now: Stamp,
    ) -> Result<Option<Chunk>, CommandRefusal> {
        if names.is_empty() {
            return Ok(None);
        }
        let wanted: Vec<Pattern> = names.iter().flat_map(|name| dialect.topics_of(name)).collect();
        let every = self.sessions[id].access.asked_every();
        let effect = self.subscribe(id, wanted, SubscribeTerms { every, since: None, brief: true }, now)?;
        if let Some(spoken) = &mut self.sessions[id].dialect {
            spoken.items.add(names.to_vec());
        }
        match effect {
            CommandEffect::Subscribed { values, .. } => Ok(values),
            _ => Ok(None),
        }
    }

    fn unsubscribe_items(
        &mut self,
        id: SessionId,
        names: &[String],
        dialect: &Dialect,
        now: Stamp,
    ) -> Result<(), InboundError> {
        let session = &mut self.sessions[id];
        let lane = session.lane();
        let Some(spoken) = session.dialect.as_mut().filter(|_| !names.is_empty()) else { return Ok(()) };
        let unwanted = spoken.items.patterns_left_by(names, dialect);
        spoken.items.remove(names);
        // What is not allowed is not in force, whatever the client asked for.
        let unwanted: Vec<Pattern> = unwanted
            .into_iter()
            .filter(|pattern| self.lanes.removing(lane, std::slice::from_ref(pattern)).is_ok())
            .collect();
        if unwanted.is_empty() {
            return Ok(());
        }
        // There may be no room for a lane with fewer patterns, and the client thinks that it has left them.
        let sentence =
            |refusal: CommandRefusal| InboundError { goodbye: Goodbye::Overloaded, sentence: refusal.message };
        self.unsubscribe(id, &unwanted, true, now).map(drop).map_err(sentence)
    }

    /// Messages go out in another form from now on.
    fn change_form(&mut self, id: SessionId, format: Format, now: Stamp) {
        let (lane, cursor) = (self.sessions[id].lane(), self.log.offset());
        let key = LaneKey { format, ..self.lanes[lane].key().clone() };
        if key == *self.lanes[lane].key() {
            return;
        }
        let lane = self.lanes.lane_to_join(key, (cursor, now));
        self.sessions[id].format = format;
        self.sessions.change_lane(id, lane, &mut self.lanes, cursor);
    }

    /// A gap has been sent to those in step of a lane: if they cannot know of it, they end.
    pub(super) fn end_at_gap(&mut self, lane: LaneId, from: Offset, now: Stamp) {
        let Some(open) = self.lanes.get(lane) else { return };
        if !open.key().format.is_form() || open.gap() < from {
            return;
        }
        for id in open.everyone_in_step().collect::<Vec<_>>() {
            self.dismiss(id, Goodbye::FeedLost, Goodbye::FeedLost.sentence(), now);
        }
    }

    /// Whether a session that has caught up lacks something that it would not know of; then it ends.
    pub(super) fn ends_for_loss(&mut self, id: SessionId, now: Stamp) -> bool {
        let session = &self.sessions[id];
        let Some(spoken) = &session.dialect else { return false };
        let lane = session.lane();
        let is_broken = self.lanes[lane].gap() > spoken.since || self.lanes.holds_gap(lane);
        if is_broken || self.lacks_events(id) {
            self.dismiss(id, Goodbye::FeedLost, Goodbye::FeedLost.sentence(), now);
            return true;
        }
        false
    }

    /// The feed is back: those end that lack events which nobody has received meanwhile.
    pub(super) fn end_after_loss(&mut self, now: Stamp) {
        if self.dialect.is_none() || !self.log.is_live() {
            return;
        }
        let speaks = self.lanes.iter().filter(|(_, lane)| lane.key().format.is_form());
        let needs_events = speaks.filter(|(id, _)| self.lanes.misses_events(*id, Offset::START));
        let everyone: Vec<SessionId> = needs_events.flat_map(|(_, lane)| lane.everyone_in_step()).collect();
        for id in everyone {
            if self.lacks_events(id) {
                self.dismiss(id, Goodbye::FeedLost, Goodbye::FeedLost.sentence(), now);
            }
        }
    }

    /// The feed was lost and is back since the client was up to date, and newest values are not enough for it.
    fn lacks_events(&mut self, id: SessionId) -> bool {
        let (losses, is_live) = (self.log.losses(), self.log.is_live());
        let session = &mut self.sessions[id];
        let lane = session.lane();
        let Some(spoken) = session.dialect.as_mut().filter(|spoken| is_live && spoken.losses != losses) else {
            return false;
        };
        spoken.losses = losses;
        self.lanes.misses_events(lane, Offset::START)
    }

    /// Whether skipping to the newest values would leave a hole that the client does not know of.
    pub(super) fn would_miss_events(&self, id: SessionId, from: Offset) -> bool {
        let session = &self.sessions[id];
        session.is_told_nothing()
            && (self.lanes.misses_events(session.lane(), from) || self.log.reader().forgotten() > from)
    }

    /// The message that the dialect repeats.
    pub(super) fn announce_dialect_heartbeat(&mut self, now: Stamp) {
        let Some(dialect) = self.dialect.clone() else { return };
        let Some(heartbeat) = &dialect.heartbeat else { return };
        if now.mono_ns < self.heartbeat_due_ns {
            return;
        }
        let every_ns = heartbeat.every.as_nanos() as u64;
        if !heartbeat.when_idle {
            self.heartbeat_due_ns = now.mono_ns + every_ns;
        }
        let is_wanted = |lane: &Lane| {
            heartbeat.topics.as_ref().is_none_or(|topics| lane.key().patterns.wildcards().contains(topics))
        };
        let is_due = |sent_ns: u64| !heartbeat.when_idle || now.mono_ns.saturating_sub(sent_ns) >= every_ns;
        let lanes = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.key().format.is_form() && lane.audience() > 0 && is_due(lane.sent_ns()))
            .filter(|(_, lane)| is_wanted(lane));
        let lanes: Vec<_> = lanes.map(|(lane, _)| lane).collect();
        let mut message = Vec::new();
        put_frame(&mut message, Opcode::Text, heartbeat.message(self.heartbeats_sent, now).as_bytes());
        self.heartbeats_sent += 1;
        for lane in lanes {
            self.deliver_messages(lane, message.clone(), now);
        }
    }
}

fn end(Unspeakable(sentence): Unspeakable) -> InboundError {
    InboundError { goodbye: Goodbye::Refused, sentence }
}

/// None of what was to come has come.
fn refuse_all(request: &SaidRequest<'_>, change: &mut SaidChange, refusal: CommandRefusal) {
    for (place, item) in request.items().iter().enumerate() {
        if change.names.contains(&item.name) {
            change.refused.push((place, refusal.message.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
