//! A credential on its way to the gatekeeper and back: one at a time for each session, whose input waits meanwhile.

use crate::access::gatekeeper::{Admitted, AuthRefusal, AuthReply};
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::mail::{Mail, Mailbox};
use crate::protocol::command::CommandId;
use crate::words::goodbye::Goodbye;

/// What a session waits for.
pub struct Verification {
    /// Tells it from those of sessions that had the same id.
    number: u64,
    /// Of the command; none for a credential of the upgrade.
    pub id: Option<CommandId>,
    /// The answer, until the session can be told of it.
    pub outcome: Option<Outcome>,
}

pub type Outcome = Result<Admitted, AuthRefusal>;

/// What the gatekeeper says of one credential.
pub struct Verdict {
    session: SessionId,
    number: u64,
    outcome: Outcome,
}

/// Where the verdict goes. Dropped unused, it refuses: no session waits for ever.
struct VerdictSender {
    mailbox: Mailbox,
    session: SessionId,
    number: u64,
    is_sent: bool,
}

impl Verification {
    pub fn new(number: u64, id: Option<CommandId>) -> Verification {
        Verification { number, id, outcome: None }
    }

    /// Takes the verdict, if it is the one that is waited for.
    pub fn take(&mut self, verdict: Verdict) -> bool {
        let is_awaited = self.number == verdict.number && self.outcome.is_none();
        if is_awaited {
            self.outcome = Some(verdict.outcome);
        }
        is_awaited
    }
}

impl Verdict {
    pub fn session(&self) -> SessionId {
        self.session
    }
}

/// Sends the gatekeeper's answer to the shard.
pub fn reply_to(mailbox: Mailbox, session: SessionId, number: u64) -> AuthReply {
    let sender = VerdictSender { mailbox, session, number, is_sent: false };
    Box::new(move |outcome| sender.give(outcome))
}

impl VerdictSender {
    fn give(mut self, outcome: Outcome) {
        self.send(outcome);
    }

    fn send(&mut self, outcome: Outcome) {
        self.is_sent = true;
        (self.mailbox)(Mail::Verdict(Verdict { session: self.session, number: self.number, outcome }));
    }
}

impl Drop for VerdictSender {
    fn drop(&mut self) {
        if !self.is_sent {
            self.send(Err(AuthRefusal { goodbye: Goodbye::Unauthenticated, reason: "unanswered" }));
        }
    }
}
