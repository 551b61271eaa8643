//! Clients show who they are, and what a session may do changes: at its beginning, by a fresh token, by an order.
//!
//! The gatekeeper verifies a credential elsewhere; the session's further commands wait for the verdict, its frames do not.
//! An outcome is taken up only when nothing is unsent, so that no answer overtakes what was sent before.

use std::time::Duration;

use crate::access::gatekeeper::{Admitted, AuthRefusal, AuthRequest, Credential};
use crate::access::grant::Grant;
use crate::access::identity::Identity;
use crate::access::shown_delay::shown_delay;
use crate::audit::event::AuditKind;
use crate::delivery::chunk::Compression;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::command_effect::{CommandEffect, RightsLimits, within};
use crate::delivery::sessions::session_access::QueryTerms;
use crate::delivery::sessions::verification::{Verdict, Verification, reply_to};
use crate::delivery::shard::Shard;
use crate::delivery::shard::departure::spread_by_number;
use crate::delivery::shard::subscriptions::SubscribeTerms;
use crate::delivery::transport::socket::Socket;
use crate::protocol::command::{Command, CommandId, CommandRefusal, Policy};
use crate::protocol::secret_token::SecretToken;
use crate::protocol::server_message::{InForce, RightsBounds, ServerMessage, Subscriptions};
use crate::words::goodbye::Goodbye;
use crate::words::stamp::Stamp;

/// How long before the end of its token a client is told, at least; a tenth of the token's life if that is more.
const WARN_MS_MIN: u64 = 60_000;
/// A session ends so long before its time is over, because a turn takes some milliseconds.
const EARLY_NS: u64 = 250_000_000;
/// Sessions whose time is about to be over end in parts, as long as that is not late.
const EXPIRED_PART: usize = 256;
/// Lanes that a session may hold that catches up while its rights change again and again; then it has to reconnect.
const LANES_HELD_MAX: usize = 8;
/// Clients with too many sessions are told to wait for 5 to 15 s, each for another time.
const RETRY_MS: u64 = 5_000;
const RETRY_SPREAD_MS: u64 = 10_000;

impl<S: Socket> Shard<S> {
    /// Whether the session may say this before it has shown a credential, where one is required.
    pub(super) fn check_authenticated(&self, id: SessionId, command: &Command) -> Result<(), CommandRefusal> {
        let is_free = matches!(command, Command::Ping | Command::Auth { .. });
        if is_free || self.sessions[id].access.grant().is_some() {
            return Ok(());
        }
        let message = "expected `auth` with a token before anything else, found another command; this server admits no \
                       anonymous clients";
        Err(CommandRefusal::new(Goodbye::Unauthenticated.label(), message))
    }

    /// Has a token verified; the session's further commands wait for the outcome.
    pub(super) fn authenticate(
        &mut self,
        id: SessionId,
        command_id: Option<&CommandId>,
        token: SecretToken,
    ) -> Result<CommandEffect, CommandRefusal> {
        if !self.gatekeeper.takes_credentials() {
            let message = "expected a server that knows tokens, found one without `[auth]`; leave out the token";
            return Err(CommandRefusal::new("bad_request", message));
        }
        if !self.settings.access.takes_command {
            let message = "expected a token in the upgrade request, found the command `auth` (auth.sources); reconnect";
            return Err(CommandRefusal::new("bad_request", message));
        }
        self.verify(id, command_id, Credential::Token(token.0), None);
        Ok(CommandEffect::PassedOn)
    }

    /// Gives a credential to the gatekeeper; `origin` is the page that the client shows it from.
    pub(super) fn verify(
        &mut self,
        id: SessionId,
        command_id: Option<&CommandId>,
        credential: Credential,
        origin: Option<Box<str>>,
    ) {
        self.verifications += 1;
        let number = self.verifications;
        let session = &mut self.sessions[id];
        let current = session.access.grant().and_then(|grant| grant.identity.clone());
        let (address, session_number) = (session.address, session.number);
        let auth = session.access.auth_or_new();
        auth.verification = Some(Verification::new(number, command_id.cloned()));
        let request = AuthRequest { credential, address, origin, current, session: Some(session_number) };
        self.gatekeeper.authenticate(request, reply_to(self.mailbox.clone(), id, number));
    }

    /// Takes a verdict from the mailbox. One for a session that is gone is dropped.
    pub(super) fn verified(&mut self, verdict: Verdict, now: Stamp) {
        let id = verdict.session();
        let Some(session) = self.sessions.get_mut(id).filter(|session| !session.is_leaving()) else { return };
        let auth = session.access.auth_mut();
        let Some(verification) = auth.and_then(|auth| auth.verification.as_mut()) else { return };
        if !verification.take(verdict) {
            return;
        }
        self.step_aside(id);
        let session = &self.sessions[id];
        if session.is_clear() && self.take_outcome(id, now) {
            self.flush_or_fall_behind(id, now);
        }
        self.sessions.enqueue(id);
    }

    /// The client is told the outcome, if there is one, and the session goes on with what it has then. The session must
    /// have nothing unsent. False if it ends.
    pub(super) fn take_outcome(&mut self, id: SessionId, now: Stamp) -> bool {
        let Some((command_id, outcome)) = self.sessions[id].access.take_outcome() else { return true };
        // Tiers or revocations may have changed while the verdict was on its way; sessions were ordered to obey meanwhile.
        let outcome = outcome.and_then(|Admitted { grant, place }| {
            let grant = self.gatekeeper.reassess(&grant)?;
            let is_same = |known| grant.identity.as_ref().is_some_and(|identity| identity.is_same_subject(known));
            if !self.sessions[id].access.identity().is_none_or(is_same) {
                return Err(AuthRefusal { goodbye: Goodbye::Unauthenticated, reason: "other_subject" });
            }
            // By its leeway the gatekeeper may admit a token whose time of grace is over.
            if grant.identity.as_ref().is_some_and(|identity| self.has_ended(identity, now)) {
                return Err(AuthRefusal { goodbye: Goodbye::Unauthenticated, reason: "expired" });
            }
            Ok((grant, place))
        });
        match outcome {
            Ok((grant, place)) => {
                let is_known = self.sessions[id].access.identity().is_some();
                self.record_grant(id, if is_known { AuditKind::Refresh } else { AuditKind::Auth }, &grant);
                let auth = self.sessions[id].access.auth_or_new();
                auth.waiting_place = None;
                if place.is_some() {
                    auth.place = place;
                }
                let mut out = Vec::new();
                self.put_authenticated(id, command_id.as_ref(), &grant, now, &mut out);
                if !self.change_grant(id, grant, now, &mut out) {
                    return false;
                }
                let is_taken = self.take_query(id, now, &mut out);
                self.meters.commands_done.increment(1);
                self.sessions.send(id, out, Compression::Plain);
                if !is_taken {
                    self.dismiss_mute(id, now);
                }
                !self.sessions[id].is_leaving()
            }
            Err(refusal) => self.refuse_credential(id, command_id.as_ref(), refusal, now),
        }
    }

    fn put_authenticated(
        &mut self,
        id: SessionId,
        command_id: Option<&CommandId>,
        grant: &Grant,
        now: Stamp,
        out: &mut Vec<u8>,
    ) {
        let Some(identity) = &grant.identity else { return };
        let (filter, delay) = (self.lanes.filter_of(&grant.rights), shown_delay(&grant.rights));
        let answer = ServerMessage::Authenticated {
            id: command_id,
            sub: &identity.subject,
            tier: &grant.rights.tier,
            expires_ms: identity.expires_ms.saturating_sub(now.wall_ms),
            every_ms: grant.rights.pace_min.map(|every| every.as_millis() as u64),
            delay_ms: delay.as_ref(),
            within: filter.as_ref().map(within).unwrap_or_default(),
        };
        answer.put(self.sessions[id].encoding(), out);
    }

    /// A session that has an identity keeps it until its token ends; another one, which has shown a bad credential, ends.
    /// False if it does.
    fn refuse_credential(
        &mut self,
        id: SessionId,
        command_id: Option<&CommandId>,
        refusal: AuthRefusal,
        now: Stamp,
    ) -> bool {
        self.record_reason(id, AuditKind::AuthRefused, refusal.reason);
        let goodbye = refusal.goodbye;
        let session = &self.sessions[id];
        let (encoding, goes_on, number) = (session.encoding(), session.access.identity().is_some(), session.number);
        let mut out = Vec::new();
        let refusal = CommandRefusal::new(goodbye.label(), goodbye.sentence());
        self.refuse(command_id, &refusal, encoding, &mut out);
        if goes_on {
            self.sessions.send(id, out, Compression::Plain);
            return true;
        }
        if goodbye == Goodbye::TooManySubjectSessions {
            let reconnect_ms = RETRY_MS + spread_by_number(number, RETRY_SPREAD_MS);
            let (code, message) = (goodbye.label(), goodbye.sentence());
            ServerMessage::Goodbye { code, message, reconnect_ms }.put(encoding, &mut out);
        }
        self.sessions[id].transport().put_goodbye(goodbye, goodbye.sentence(), &mut out);
        self.leave_with(id, goodbye, (goodbye.sentence(), out), now);
        false
    }

    /// What the query of the upgrade asked for. False if it is refused.
    pub(super) fn take_query(&mut self, id: SessionId, now: Stamp, out: &mut Vec<u8>) -> bool {
        let session = &mut self.sessions[id];
        let (encoding, every) = (session.encoding(), session.access.asked_every());
        let waiting = session.access.auth_mut().and_then(|auth| auth.waiting_query.take());
        let Some(QueryTerms { patterns, since }) = waiting else { return true };
        let terms = SubscribeTerms { every, since, brief: false };
        match self.subscribe(id, patterns, terms, now) {
            Ok(effect) => {
                effect.put(None, self.lanes.texts(self.sessions[id].lane()), (encoding, now), out);
                !(effect.is_partial() && self.sessions[id].is_told_nothing())
            }
            Err(refusal) => {
                self.refuse(None, &refusal, encoding, out);
                false
            }
        }
    }

    /// The session may do what the grant says, and nothing else, from now on. Appends what that changes of its
    /// subscription. False if the session is not here any more: it ends, because it cannot be done, or sees another view.
    pub(super) fn change_grant(&mut self, id: SessionId, grant: Grant, now: Stamp, out: &mut Vec<u8>) -> bool {
        if grant.rights.view != self.view {
            self.move_to_view(id, grant, std::mem::take(out), now);
            return false;
        }
        let filter = self.lanes.filter_of(&grant.rights);
        self.schedule_end(id, &grant, now);
        let session = &mut self.sessions[id];
        session.access.set_grant(grant, filter.clone());
        let (lane, encoding) = (session.lane(), session.encoding());
        let terms = session.access.terms(session.access.asked_every());
        let forbidden = filter.as_ref().map(|filter| self.lanes.forbidden(lane, filter)).unwrap_or_default();
        if !forbidden.is_empty() && self.sessions[id].is_told_nothing() {
            self.withdraw(id, Goodbye::Forbidden, now);
            return false;
        }
        let change = self.lanes.removing(lane, &forbidden).unwrap_or_default();
        if change.is_empty() && self.lanes[lane].key().is_on(&terms) {
            return true;
        }
        if self.sessions.lanes_held(id) >= LANES_HELD_MAX {
            self.dismiss(id, Goodbye::Kicked, Goodbye::Kicked.sentence(), now);
            return false;
        }
        let wanted = change.totals.wanted;
        // What a session that is behind had before it is not sent one by one any more: it goes on with what is kept.
        let (sent, cursor) = (self.sessions.sent(id, &self.lanes, self.log.offset()), self.log.offset());
        let on = &self.lanes[lane];
        // What is newest on a lane that is not matched yet is not known.
        let skips = sent < cursor && !on.is_paced() && (on.newest() > sent || !on.is_matched());
        if skips && self.sessions[id].policy == Policy::Disconnect {
            self.dismiss(id, Goodbye::TooSlow, Goodbye::TooSlow.sentence(), now);
            return false;
        }
        if skips {
            self.meters.skips_slow.increment(1);
            self.sessions[id].skips += 1;
            ServerMessage::Skipped { from: sent.next(), to: cursor, reason: "slow" }.put(encoding, out);
        }
        if self.change_patterns(id, (change, terms.clone()), now).is_err() {
            // There is no room for a lane with the topics that are left, and it must not stay on the one it has.
            self.dismiss(id, Goodbye::Overloaded, Goodbye::Overloaded.sentence(), now);
            return false;
        }
        self.record_forbidden(id, AuditKind::Unsubscribe, &forbidden);
        self.sessions.enqueue(id);
        if let Some(share) = self.sessions[id].share.as_deref_mut() {
            // Fewer are never too many.
            let _ = self.demand.count(wanted, Some(share));
        }
        let lane = self.sessions[id].lane();
        let topics: Vec<&str> = self.lanes.texts(lane).collect();
        let limits = RightsLimits {
            within: self.lanes[lane].key().filter.clone(),
            every: self.sessions[id].access.pace_min().and(terms.every),
            delay: self.sessions[id].access.grant().and_then(|grant| shown_delay(&grant.rights)),
            forbidden,
        };
        let bounds = RightsBounds { reason: Some(Goodbye::Forbidden.label()), ..limits.bounds() };
        let answer = |bounds| Subscriptions {
            id: None,
            in_force: InForce::Topics(&topics),
            offset: self.log.offset(),
            pending: None,
            bounds,
        };
        if bounds.forbidden.is_some() {
            ServerMessage::Unsubscribed { answer: answer(bounds) }.put(encoding, out);
        }
        if !topics.is_empty() {
            // Values of topics that were not allowed before may follow, as after a command.
            let bounds = RightsBounds { forbidden: None, reason: Some("rights"), ..bounds };
            ServerMessage::Subscribed { answer: answer(bounds) }.put(encoding, out);
        }
        true
    }

    /// Notes when the session's token ends.
    pub(super) fn schedule_end(&mut self, id: SessionId, grant: &Grant, now: Stamp) {
        self.forget_end(id);
        let Some(identity) = &grant.identity else { return };
        let left_ms = identity.expires_ms.saturating_add(self.grace_ms()).saturating_sub(now.wall_ms);
        let ends_ns = now.mono_ns.saturating_add(left_ms.saturating_mul(1_000_000)).max(1);
        let auth = self.sessions[id].access.auth_or_new();
        (auth.ends_ns, auth.is_warned) = (ends_ns, false);
        self.ends.insert((ends_ns, id));
    }

    /// The session ends by itself, or its token has changed.
    pub(super) fn forget_end(&mut self, id: SessionId) {
        let Some(auth) = self.sessions[id].access.auth_mut() else { return };
        let ends_ns = std::mem::take(&mut auth.ends_ns);
        if ends_ns > 0 {
            self.ends.remove(&(ends_ns, id));
        }
    }

    /// Whether the time of the token is over, and that of grace after it.
    fn has_ended(&self, identity: &Identity, now: Stamp) -> bool {
        identity.expires_ms.saturating_add(self.grace_ms()) <= now.wall_ms
    }

    fn grace_ms(&self) -> u64 {
        self.settings.access.expiry_grace.as_millis() as u64
    }

    /// Ends the sessions whose token has expired, before anything is sent to them. To be called before each step that
    /// sends.
    pub(super) fn expire(&mut self, now: Stamp) {
        let mut ended = 0;
        while let Some((ends_ns, id)) = self.ends.first().copied() {
            let is_over = ends_ns <= now.mono_ns;
            if !is_over && (ends_ns.saturating_sub(EARLY_NS) > now.mono_ns || ended >= EXPIRED_PART) {
                return;
            }
            ended += 1;
            self.ends.pop_first();
            self.record_reason(id, AuditKind::Expire, "token");
            self.withdraw(id, Goodbye::Unauthenticated, now);
        }
    }

    /// Ends a session that must be sent nothing more. One in the middle of a chunk is cut: what is left of it is not sent.
    pub(super) fn withdraw(&mut self, id: SessionId, goodbye: Goodbye, now: Stamp) {
        let Some(session) = self.sessions.get(id) else { return };
        if session.has_unsent() {
            self.end(id, goodbye);
        } else {
            self.dismiss(id, goodbye, goodbye.sentence(), now);
        }
    }

    /// What time alone brings about for a session that has shown a credential, or has not. False if it ends.
    pub(super) fn look_after_access(&mut self, id: SessionId, now: Stamp) -> bool {
        let (deadline, grace_ms) = (self.settings.access.deadline, self.grace_ms());
        let Some(session) = self.sessions.get_mut(id).filter(|session| !session.is_leaving()) else { return true };
        let Some(grant) = session.access.grant() else {
            let waited = Duration::from_nanos(now.ns_since(session.joined));
            if waited > deadline {
                self.dismiss(id, Goodbye::Unauthenticated, Goodbye::Unauthenticated.sentence(), now);
            }
            return waited <= deadline;
        };
        let Some(identity) = &grant.identity else { return true };
        let (issued_ms, expires_ms) = (identity.issued_ms, identity.expires_ms);
        // The clock of the world may have moved forward.
        if expires_ms.saturating_add(grace_ms) <= now.wall_ms {
            self.record_reason(id, AuditKind::Expire, "token");
            self.withdraw(id, Goodbye::Unauthenticated, now);
            return false;
        }
        let life_ms = expires_ms.saturating_sub(issued_ms);
        let warn_ms = (life_ms / 10).max(WARN_MS_MIN).min(life_ms / 2);
        if now.wall_ms.saturating_add(warn_ms) < expires_ms || !session.is_clear() {
            return true;
        }
        let encoding = session.encoding();
        let Some(auth) = session.access.auth_mut().filter(|auth| !auth.is_warned) else { return true };
        auth.is_warned = true;
        let mut out = Vec::new();
        let (expires_ms, ts) = (expires_ms.saturating_sub(now.wall_ms), now.wall_ms);
        ServerMessage::TokenExpiring { expires_ms, ts }.put(encoding, &mut out);
        self.step_aside(id);
        self.sessions.send(id, out, Compression::Plain);
        self.flush_or_fall_behind(id, now);
        self.sessions.contains(id)
    }

    /// Writes a message of the session's own. One that does not take it leaves its step until it has.
    pub(super) fn flush_or_fall_behind(&mut self, id: SessionId, now: Stamp) {
        if !self.flush(id, now) && self.sessions.get(id).is_some_and(|session| session.state().is_settled()) {
            self.fall_behind(id);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
