//! What is done with what happens on the connections.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::Message;

use crate::intake::arbitrate::arbiter::UpdateSource;
use crate::intake::assemble::Update;
use crate::intake::assemble::sequence::{Continuity, GapRemedy, Numbers, Sequence, read_number};
use crate::intake::classify::{Classified, Classifier, ClassifierSink, ConnectionGap, Incoming, UpstreamStatus};
use crate::intake::connection::protocol::Protocol;
use crate::intake::connection::transport::Event;
use crate::intake::pipeline::Pipeline;
use crate::intake::sample::excerpt;
use crate::intake::upstream::assignment::ConnectionId;
use crate::json::{Pointer, find};
use crate::profile::Profile;
use crate::profile::rule::MessageClass;
use crate::words::stamp::Stamp;

use crate::intake::upstream::connections::{ConnectionGapEnd, ConnectionRole};
use crate::intake::upstream::{Upstream, UpstreamError};

/// What a message said about its connection. Of several in one frame the gravest counts; they stand in that order.
enum ConnectionVerdict {
    Gap(ConnectionGap),
    Reconnect { rule: Arc<str> },
    Fatal { rule: Arc<str>, message: String },
}

impl ConnectionVerdict {
    fn weight(&self) -> u8 {
        match self {
            ConnectionVerdict::Gap(_) => 0,
            ConnectionVerdict::Reconnect { .. } => 1,
            ConnectionVerdict::Fatal { .. } => 2,
        }
    }
}

/// Between one connection's sorter and the outlet.
struct ConnectionSink<'a> {
    outlet: &'a mut Pipeline,
    dialogue: &'a mut Protocol,
    source: UpdateSource,
    data: &'a mut Option<(Stamp, Stamp)>,
    resume: Option<&'a Pointer>,
    cursor: &'a mut Sequence,
    outdated_ms: &'a mut Option<u64>,
    hole: &'a mut Option<ConnectionGapEnd>,
    verdict: Option<ConnectionVerdict>,
}

impl ConnectionSink<'_> {
    /// What the upstream says about the state of its own values.
    fn hear_state(&mut self, class: MessageClass, said: &UpstreamStatus, received: Stamp) {
        let since_ms = || said.number.unwrap_or(received.wall_ms);
        match (class, &said.topic) {
            (MessageClass::Stale, None) => *self.outdated_ms = Some(since_ms()),
            (MessageClass::Live, None) => *self.outdated_ms = None,
            (MessageClass::Stale, Some(topic)) => self.outlet.topic_outdated(topic, since_ms(), received),
            (MessageClass::Live, Some(topic)) => self.outlet.topic_current(topic, received),
            (MessageClass::Gap, Some(topic)) => self.outlet.topic_gap(topic, said.number, received),
            (_, None) => match said.number.zip(said.data_number.clone()) {
                Some((until, number)) => *self.hole = Some(ConnectionGapEnd { until, number }),
                None => {
                    self.judge(ConnectionVerdict::Gap(ConnectionGap { missed: said.number, remedy: GapRemedy::Mark }))
                }
            },
            (_, Some(_)) => {}
        }
    }

    /// Whether this message comes after what was left out, and is of its topic.
    fn follows_hole(&mut self, message: &[u8]) -> bool {
        let Some(ConnectionGapEnd { until, number }) = &*self.hole else { return false };
        let token = std::str::from_utf8(message).ok().and_then(|text| find(text, number));
        let follows = token.and_then(|token| token.parse().ok()).is_some_and(|number: u64| number <= *until);
        if !follows {
            *self.hole = None;
        }
        follows
    }

    fn judge(&mut self, verdict: ConnectionVerdict) {
        if self.verdict.as_ref().is_none_or(|graver| graver.weight() < verdict.weight()) {
            self.verdict = Some(verdict);
        }
    }
}

impl ClassifierSink for ConnectionSink<'_> {
    fn piece(&mut self, piece: &Update<'_>) {
        self.dialogue.asking.data(piece.topic);
        if self.hole.is_some() && self.follows_hole(piece.message) {
            self.outlet.topic_gap(piece.topic, None, piece.received);
        }
        *self.data = Some((self.data.map_or(piece.received, |(first, _)| first), piece.received));
        self.outlet.piece(self.source, piece);
    }

    fn note(&mut self, sorted: &Classified, message: Incoming<'_>, received: Stamp) {
        self.outlet.note(sorted, message, received);
        if let Some(gap) = sorted.gap {
            self.judge(ConnectionVerdict::Gap(gap));
        }
        if let Some(said) = &sorted.said {
            return self.hear_state(sorted.class, said, received);
        }
        let Incoming::Text(text) = message else { return };
        if sorted.class == MessageClass::Data {
            if let Some(pointer) = self.resume
                && let Some(cursor) = find(text, pointer).and_then(|token| read_number(token.trim_matches('"')))
            {
                let numbers = Numbers { last: Some(cursor), ..Numbers::default() };
                self.cursor.step(Continuity::Monotonic, numbers, received.mono_ns);
            }
            return;
        }
        let Some(rule) = &sorted.rule else { return };
        match sorted.class {
            MessageClass::Ping => sorted.reply.iter().for_each(|reply| self.dialogue.reply(reply.clone())),
            MessageClass::Reconnect => self.judge(ConnectionVerdict::Reconnect { rule: rule.clone() }),
            MessageClass::Fatal => {
                self.judge(ConnectionVerdict::Fatal { rule: rule.clone(), message: excerpt(message) })
            }
            class => self.dialogue.learned(class, rule, text, &excerpt(message), received),
        }
    }
}

impl Upstream {
    /// Takes what was gathered. An error is the end of the feed.
    pub(super) fn take_events(&mut self) -> Result<(), UpstreamError> {
        let mut events = std::mem::take(&mut self.events);
        let mut ended = Ok(());
        for (id, event, received) in events.drain(..) {
            ended = ended.and_then(|()| self.take_event(id, event, received));
        }
        self.events = events;
        ended
    }

    fn take_event(&mut self, id: ConnectionId, event: Event, received: Stamp) -> Result<(), UpstreamError> {
        let message = match event {
            Event::Opened => {
                self.opened(id, received);
                return Ok(());
            }
            // What was heard before its end may have been the reason to give it up.
            Event::Lost(_) if self.is_given_up(id) => return Ok(()),
            Event::Lost(loss) => return self.lost(id, loss, received),
            Event::Left => {
                // Whoever is to be dialed again is so with the next turn.
                self.members.retain(|member| member.id != id || member.role != ConnectionRole::Leaving);
                return Ok(());
            }
            Event::Heard(message) => message,
        };
        match self.hear(id, &message, received) {
            None => Ok(()),
            Some(ConnectionVerdict::Gap(gap)) => {
                self.connection_gap(id, gap, received);
                Ok(())
            }
            Some(ConnectionVerdict::Reconnect { rule }) => self.asked_to_reconnect(id, &rule, received),
            Some(ConnectionVerdict::Fatal { rule, message }) => {
                Err(UpstreamError::Refused { profile: self.profile.name.clone(), rule: rule.to_string(), message })
            }
        }
    }

    fn is_given_up(&self, id: ConnectionId) -> bool {
        self.members.iter().any(|member| member.id == id && member.dial_at_ns.is_some())
    }

    fn hear(&mut self, id: ConnectionId, message: &Message, received: Stamp) -> Option<ConnectionVerdict> {
        if self.profile.is_fallback {
            self.recognise(message);
        }
        let member = self.members.iter_mut().find(|member| member.id == id)?;
        let source = member.source();
        let dialogue = member.dialogue.as_mut()?;
        let message = match message {
            Message::Text(text) => Incoming::Text(text),
            Message::Binary(bytes) => Incoming::Binary(bytes),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Close(_) => {
                dialogue.alive();
                return None;
            }
        };
        dialogue.heard(received);
        member.is_silent = false;
        if let Incoming::Text(text) = message
            && self.wishes.answers(&self.profile, id, text)
        {
            return None;
        }
        let mut tap = ConnectionSink {
            outlet: &mut self.outlet,
            dialogue,
            source,
            data: &mut member.data,
            resume: self.profile.resume.as_ref().map(|resume| &resume.cursor),
            cursor: &mut self.cursor,
            outdated_ms: &mut member.outdated_ms,
            hole: &mut member.hole,
            verdict: None,
        };
        let outdated_before = *tap.outdated_ms;
        member.sorter.sort(message, received, &mut tap);
        let verdict = tap.verdict;
        let is_outdated = member.outdated_ms;
        if is_outdated != outdated_before {
            self.judge_outdated(is_outdated.is_none());
        }
        verdict
    }

    /// The feed is outdated if all connections say so over which anything comes. `is_told`: one has just said that it is
    /// current again; without that word the next data tell.
    pub(super) fn judge_outdated(&mut self, is_told: bool) {
        let open = || self.members.iter().filter(|member| member.is_open() && !member.is_silent);
        let is_outdated = open().all(|member| member.outdated_ms.is_some());
        let since_ms = open().filter_map(|member| member.outdated_ms).min().filter(|_| is_outdated);
        self.outlet.outdated(since_ms, is_told);
    }

    /// If the first message that comes tells a profile, its rules are the ones from here on.
    fn recognise(&mut self, message: &Message) {
        let is_first = self.members.iter().all(|member| member.sorter.is_untouched());
        let Message::Text(text) = message else { return };
        let Some(profile) = self.profile.told_by(text).filter(|_| is_first) else { return };
        tracing::info!(profile = profile.name, "upstream: recognised by its first message");
        self.outlet.judge_topics(profile.keepalive.stale_after);
        // How to ask stays: what was asked for was written for the profile that was there.
        let Profile { name, rules, .. } = profile;
        self.profile = Arc::new(Profile { name, rules, is_fallback: false, ..Profile::clone(&self.profile) });
        self.members.iter_mut().for_each(|member| member.sorter = Classifier::new(&self.profile));
    }

    /// Makes all guesses that are still to be made, from what there is.
    pub(super) fn settle_guesses(&mut self) {
        self.with_sorters(|sorter, tap| sorter.settle(tap));
    }

    pub(super) fn tick_sorters(&mut self, now: Stamp) {
        for (id, verdict) in self.with_sorters(|sorter, tap| sorter.tick(now, tap)) {
            // Only data wait in a sorter, and they say no more than that others are missing.
            if let ConnectionVerdict::Gap(gap) = verdict {
                self.connection_gap(id, gap, now);
            }
        }
    }

    /// What was found out about connections meanwhile is given.
    fn with_sorters(
        &mut self,
        mut act: impl FnMut(&mut Classifier, &mut dyn ClassifierSink),
    ) -> Vec<(ConnectionId, ConnectionVerdict)> {
        let mut verdicts = Vec::new();
        for member in &mut self.members {
            let source = member.source();
            let Some(dialogue) = member.dialogue.as_mut() else {
                act(&mut member.sorter, &mut ClosedSink { outlet: &mut self.outlet, source });
                continue;
            };
            let mut tap = ConnectionSink {
                outlet: &mut self.outlet,
                dialogue,
                source,
                data: &mut member.data,
                resume: self.profile.resume.as_ref().map(|resume| &resume.cursor),
                cursor: &mut self.cursor,
                outdated_ms: &mut member.outdated_ms,
                hole: &mut member.hole,
                verdict: None,
            };
            act(&mut member.sorter, &mut tap);
            verdicts.extend(tap.verdict.map(|verdict| (member.id, verdict)));
        }
        verdicts
    }
}

/// Where pieces go that come out of a sorter after its connection has ended.
pub(super) struct ClosedSink<'a> {
    pub outlet: &'a mut Pipeline,
    pub source: UpdateSource,
}

impl ClassifierSink for ClosedSink<'_> {
    fn piece(&mut self, piece: &Update<'_>) {
        self.outlet.piece(self.source, piece);
    }

    fn note(&mut self, sorted: &Classified, message: Incoming<'_>, received: Stamp) {
        self.outlet.note(sorted, message, received);
    }
}
