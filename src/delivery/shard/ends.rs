//! What the journal keeps of a session that ends: who it was, why, and how it stood.
//!
//! Decided ends are kept, before the session leaves its lane: once for each session, whatever views it has moved through.

use crate::access::end_row::{EndRow, EndStanding};
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::session::Session;
use crate::delivery::shard::Shard;
use crate::delivery::shard::draining::Draining;
use crate::delivery::transport::socket::Socket;
use crate::words::goodbye::Goodbye;

/// What a client that is sent away by a hand-over is not told, and the operator is.
const HANDED_OVER: &str = "the server was handed over to a new process, which serves its clients";

impl<S: Socket> Shard<S> {
    /// Keeps the end of a session that is on a lane.
    pub(super) fn keep_end(&self, id: SessionId, goodbye: Goodbye, sentence: &str) {
        if self.journal.is_on() && !self.sessions[id].is_canary {
            let row = self.end_row(&self.sessions[id], goodbye, sentence);
            self.journal.session_ended(EndRow { standing: Some(self.standing(id)), ..row });
        }
    }

    /// Keeps the end of a session that is on its way to another view.
    pub(super) fn keep_end_of(&self, session: &Session<S>, goodbye: Goodbye) {
        if self.journal.is_on() {
            self.journal.session_ended(self.end_row(session, goodbye, goodbye.sentence()));
        }
    }

    fn end_row(&self, session: &Session<S>, goodbye: Goodbye, sentence: &str) -> EndRow {
        let grant = session.access.grant();
        let identity = grant.and_then(|grant| grant.identity.as_ref());
        let tier = grant.map(|grant| &*grant.rights.tier).filter(|tier| !tier.is_empty());
        let is_handover = goodbye == Goodbye::Draining && self.draining.as_ref().is_some_and(Draining::is_handover);
        EndRow {
            sub: identity.map(|identity| (*identity.subject).into()),
            iss: identity.map(|identity| (*identity.issuer).into()),
            tier: tier.map(Box::from),
            address: session.address,
            transport: session.transport().name().into(),
            opened_ms: session.joined.wall_ms,
            ..EndRow::of_session(session.number, goodbye, if is_handover { HANDED_OVER } else { sentence })
        }
    }

    fn standing(&self, id: SessionId) -> EndStanding {
        let session = &self.sessions[id];
        let key = self.lanes[session.lane()].key();
        let offset = self.log.offset();
        let sent = self.sessions.sent(id, &self.lanes, offset);
        EndStanding {
            every_ms: key.every.map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
            sent_offset: sent.0,
            lag: offset.0.saturating_sub(sent.0),
            unsent_bytes: session.unsent_bytes(),
            skips: session.skips,
            ..EndStanding::subscribed_to(self.lanes.texts(session.lane()), key.patterns.totals().patterns)
        }
    }
}
