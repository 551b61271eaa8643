//! What is done when time has come: connections are dialed, and what is to be said on them is said.

use std::sync::Arc;
use std::time::Duration;

use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};

use crate::intake::assemble::sequence::Number;
use crate::intake::classify::Classifier;
use crate::intake::connection::dial::Endpoint;
use crate::intake::connection::loss::{Loss, in_s};
use crate::intake::connection::protocol::{Protocol, ProtocolAction};
use crate::profile::placeholders::{Context, Missing};
use crate::profile::subscribe::FeedItem;
use crate::profile::target::{FeedUrl, FeedUrlError, without_secrets};
use crate::words::stamp::Stamp;

use crate::intake::upstream::connections::{Connection, ConnectionRole};
use crate::intake::upstream::{Upstream, plain_target};

/// Most feeds speak sooner than this after they were asked; what follows at once needs no word before.
const WAITING_TOLD_NS: u64 = 1_000_000_000;

impl Upstream {
    /// Everything that is due now.
    pub(super) fn act(&mut self, now: Stamp) {
        self.tick_sorters(now);
        self.share_guess();
        self.outlet.tick(now, self.polled);
        self.mend(now);
        self.tick_wishes(now);
        self.tell_waiting(now);
        self.tick_awaited(now);
        for index in 0..self.members.len() {
            self.dial(index, now);
            self.speak(index, now);
            self.learn(index, now);
        }
        self.rotate_due(now);
        self.promote(now);
        self.judge_merging(now);
        self.judge_idleness(now);
    }

    /// When `act` may have something to do although nothing has happened.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let of_member = |member: &Connection| {
            let ready_ns = self.dials.as_ref().map_or(0, |dials| dials.ready_ns());
            let dial = member.dial_at_ns.filter(|_| member.link.is_empty() && self.is_wanted(member));
            let dialogue = member.dialogue.as_ref().filter(|_| member.link.takes_more());
            let stuck = member.link.stuck_since().map(|since| since.mono_ns + self.patience_ns());
            let due = [
                dial.map(|at| at.max(ready_ns)),
                dialogue.and_then(Protocol::deadline_ns),
                stuck,
                Self::takes_over_ns(member),
                member.rotate_at_ns.filter(|_| member.role == ConnectionRole::Regular),
                waiting_ns(member),
                member.sorter.deadline_ns(),
            ];
            due.into_iter().flatten().min()
        };
        let merging = (self.merging_until_ns > 0).then_some(self.merging_until_ns);
        let members = self.members.iter().filter_map(of_member).min();
        let outlet = self.outlet.deadline_ns();
        let waiting = [self.wishes.deadline_ns(), self.awaited.deadline_ns(), self.idle_deadline_ns()];
        [members, outlet, merging].into_iter().chain(waiting).flatten().min()
    }

    fn patience_ns(&self) -> u64 {
        u64::try_from(self.script.timing.pong_timeout.as_nanos()).unwrap_or(u64::MAX / 2)
    }

    /// Without anything to ask for there is no reason to connect, if the venue wants to be asked soon.
    fn is_wanted(&self, member: &Connection) -> bool {
        let hurries = self.script.subscribe.as_ref().is_some_and(|how| how.deadline.is_some());
        !hurries || !self.roster.is_idle(member.carries_for())
    }

    fn dial(&mut self, index: usize, now: Stamp) {
        let ready_ns = self.dials.as_ref().map_or(0, |dials| dials.ready_ns());
        let Some(member) = self.members.get(index) else { return };
        let is_due = member.dial_at_ns.is_some_and(|at| at.max(ready_ns) <= now.mono_ns);
        if !is_due || !member.link.is_empty() || !self.is_wanted(member) {
            return;
        }
        let door = self.door(index, now);
        let member = &mut self.members[index];
        member.dial_at_ns = None;
        match door {
            Ok(door) => {
                member.link.dial(&self.dialer, door);
                self.dials.iter_mut().for_each(|dials| dials.take(now.mono_ns));
            }
            Err(error) => {
                let id = member.id;
                // No loss of this kind is for good.
                self.lost(id, Loss::Address(error), now).ok();
            }
        }
    }

    /// Makes every address once, so that what cannot be is found out before anything is connected.
    pub(super) fn check_doors(&self, now: Stamp) -> Result<(), FeedUrlError> {
        let Some(member) = self.members.first() else { return Ok(()) };
        (0..self.urls.len()).try_for_each(|place| {
            let door = self.door_at(place, member, now)?;
            if self.says_secrets && door.target.is_overheard() {
                let url = door.target.shown();
                tracing::warn!("keys and passwords go to {url} without encryption; use `wss://` if the feed has it");
            }
            Ok(())
        })
    }

    /// The address of a member, with everything filled in.
    fn door(&self, index: usize, now: Stamp) -> Result<Endpoint, FeedUrlError> {
        let member = &self.members[index];
        self.door_at(member.place, member, now)
    }

    fn door_at(&self, place: usize, member: &Connection, now: Stamp) -> Result<Endpoint, FeedUrlError> {
        let items = self.items_for(member);
        let names: Vec<String> = items.iter().map(|item| item.venue.clone()).collect();
        let rewind = self.profile.resume.as_ref().map_or(0, |resume| resume.rewind);
        let cursor = self.cursor.newest().map(|cursor| (cursor - Number::from(rewind)).to_string());
        let filling =
            Context { items: &names, resume: cursor.as_deref(), ..Context::plain(&self.script.secrets, now, 0) };
        let unfilled = |wanting: Missing| FeedUrlError::Unreadable {
            found: without_secrets(self.urls[place].source()),
            error: wanting.to_string(),
        };
        let target = FeedUrl::parse(&filling.fill(&self.urls[place]).map_err(unfilled)?)?;
        let mut headers = Vec::new();
        for (name, value) in &self.profile.connect.headers {
            let value = HeaderValue::try_from(filling.fill(value).map_err(unfilled)?);
            headers.push((name.clone(), value.map_err(|_| FeedUrlError::Header { name: name.to_string() })?));
        }
        let subprotocol = self.profile.connect.subprotocol.as_ref();
        headers.extend(subprotocol.and_then(|name| Some((SEC_WEBSOCKET_PROTOCOL, HeaderValue::try_from(name).ok()?))));
        Ok(Endpoint { target, headers })
    }

    pub(super) fn target(&self, place: usize) -> Result<FeedUrl, FeedUrlError> {
        plain_target(&self.urls[place], &self.script.secrets)
    }

    pub(super) fn items_for(&self, member: &Connection) -> Vec<Arc<FeedItem>> {
        self.roster.items_of(member.carries_for())
    }

    /// Says what is to be said on a connection now.
    fn speak(&mut self, index: usize, now: Stamp) {
        let patience_ns = self.patience_ns();
        let Some(member) = self.members.get_mut(index) else { return };
        let Some(dialogue) = member.dialogue.as_mut() else { return };
        if member.link.has_heard() {
            dialogue.alive();
        }
        let mut end = None;
        if member.link.stuck_since().is_some_and(|since| now.ns_since(since) >= patience_ns) {
            end = Some(Loss::Stuck { after: self.script.timing.pong_timeout });
        }
        let mut silent_since = None;
        while end.is_none() && member.link.takes_more() {
            match dialogue.next(now, &|item| bound_key(&member.sorter, item)) {
                None => break,
                Some(ProtocolAction::Send(text)) => member.link.send(Message::text(text)),
                Some(ProtocolAction::Ping) => member.link.send(Message::Ping(Default::default())),
                Some(ProtocolAction::TellSilence { since }) => {
                    member.is_silent = true;
                    silent_since = Some(since);
                }
                Some(ProtocolAction::End(loss)) => end = Some(loss),
            }
        }
        let id = member.id;
        if let Some(since) = silent_since {
            self.tell_silence(since);
            // Where others carry the same, they are believed from now on.
            self.renew_orphans(id, now);
        }
        if let Some(loss) = end {
            // No loss of this kind is for good.
            self.lost(id, loss, now).ok();
        }
    }

    /// Connections that stand again and have brought nothing: what was told of the loss is not so any more.
    fn tell_waiting(&mut self, now: Stamp) {
        for member in &mut self.members {
            if waiting_ns(member).is_some_and(|at| at <= now.mono_ns) {
                member.told_waiting = true;
                self.outlet.waits();
            }
        }
    }

    /// One connection is silent; the feed is, if all others are as well.
    fn tell_silence(&mut self, since: Stamp) {
        let timeout = in_s(self.script.timing.idle_timeout.unwrap_or_default());
        let message = format!("no message for {timeout}; reconnecting after another {timeout} without one");
        if self.members.iter().all(|member| member.is_silent || !member.is_open()) {
            self.outlet.silent(since, message);
        } else {
            tracing::warn!("upstream: on one connection {message}");
        }
    }
}

/// When it is to be told that a connection stands and has brought nothing.
fn waiting_ns(member: &Connection) -> Option<u64> {
    let is_waiting = member.is_open() && member.data.is_none() && !member.told_waiting;
    member.opened.filter(|_| is_waiting).map(|opened| opened.mono_ns + WAITING_TOLD_NS)
}

/// What the venue calls the subscription of this item on this connection, if it has said so.
fn bound_key(sorter: &Classifier, item: &FeedItem) -> Option<String> {
    sorter.bound_key(&[("channel", &item.channel), ("symbol", &item.symbol)]).map(str::to_string)
}

pub(super) fn in_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}
