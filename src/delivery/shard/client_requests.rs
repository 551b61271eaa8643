//! Client requests, and the way of the answers back.
//!
//! An answer is written in the session's place between two chunks, uncompressed, also to a session that is behind.

use crate::bus::demand::requests::RequestKind;
use crate::delivery::chunk::Compression;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::command_effect::CommandEffect;
use crate::delivery::sessions::pending_requests::Reply;
use crate::delivery::shard::Shard;
use crate::delivery::transport::socket::Socket;
use crate::protocol::command::{CommandId, CommandRefusal};
use crate::words::stamp::Stamp;

impl<S: Socket> Shard<S> {
    /// Passes a client request on to the feed; the answer follows later.
    pub(super) fn pass_on(
        &mut self,
        id: SessionId,
        command_id: Option<&CommandId>,
        kind: RequestKind,
    ) -> Result<CommandEffect, CommandRefusal> {
        let per_second_max = self.settings.limits.client_requests_per_second_max;
        let requests = &mut self.sessions[id].requests;
        match self.requests.pass_on((id, command_id), kind, requests, per_second_max) {
            Ok(()) => Ok(CommandEffect::PassedOn),
            Err(refusal) => {
                self.meters.requested(refusal.code);
                Err(refusal)
            }
        }
    }

    /// Takes an answer from the mailbox. One for a session that is gone is dropped.
    pub(super) fn answered(&mut self, reply: Reply, now: Stamp) {
        let id = reply.session();
        let session = self.sessions.get_mut(id).and_then(|session| {
            let encoding = session.encoding();
            Some((session.requests.as_deref_mut()?, encoding))
        });
        let (result, has_answer) = self.requests.take(reply, session);
        self.meters.requested(result);
        if !has_answer {
            return;
        }
        if self.sessions[id].is_clear() {
            self.write_answers(id, now);
        } else {
            self.sessions.enqueue(id);
        }
    }

    /// Writes the answers to a session that is in step and has nothing unsent.
    fn write_answers(&mut self, id: SessionId, now: Stamp) {
        while self.next_answer(id) {
            if !self.flush(id, now) {
                if self.sessions.contains(id) {
                    self.fall_behind(id);
                }
                return;
            }
        }
    }

    /// Makes the next answer what the session writes, if there is one. The session must have nothing unsent.
    pub(super) fn next_answer(&mut self, id: SessionId) -> bool {
        let Some(requests) = &mut self.sessions[id].requests else { return false };
        let Some(answer) = self.requests.next_answer(requests) else { return false };
        self.sessions.send(id, answer, Compression::Plain);
        true
    }
}

#[cfg(test)]
mod tests;
