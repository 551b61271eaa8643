//! Reads the sockets of clients, has their commands done, and sends the answers.
//!
//! A client is read from only while there is nothing to send to it, so its answers need no queue: a client that does not
//! read is not listened to either, and TCP holds it back.

use crate::delivery::budget::{Budget, MESSAGES_PER_SESSION};
use crate::delivery::chunk::Compression;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::inbound::SocketRead;
use crate::delivery::sessions::sync_state::SyncState;
use crate::delivery::shard::Shard;
use crate::delivery::transport::Said;
use crate::delivery::transport::socket::Socket;
use crate::words::goodbye::Goodbye;
use crate::words::stamp::Stamp;

/// Answers gathered before they are sent: what a socket's buffer takes at once.
const ANSWER_BYTES: usize = 32 * 1024;
/// Reads of one turn: 4 of the read buffer's size, then it is the next one's turn.
const TURN_READS: usize = 4;

impl<S: Socket> Shard<S> {
    /// One turn of listening: what was received is answered, then the socket is read on, while there is nothing to send.
    pub(super) fn listen(&mut self, id: SessionId, now: Stamp) {
        let mut share = Budget::new(MESSAGES_PER_SESSION);
        for _ in 0..TURN_READS {
            let Some(session) = self.sessions.get_mut(id) else { return };
            if session.end_mut().is_some_and(|end| end.said) {
                if !self.read_end(id) {
                    return;
                }
                continue;
            }
            let (has_received, readable) = (session.has_received(), session.readable);
            if !session.takes_commands() || !(has_received || readable) {
                // It is heard again when all has been sent.
                return;
            }
            if session.is_throttled(&self.settings) {
                // It is heard again after the sweep.
                if has_received {
                    self.count_throttled(id);
                }
                return;
            }
            if share.is_spent() || self.budgets.messages.is_spent() {
                return self.sessions.await_hearing(id);
            }
            if has_received && !self.answer(id, &mut share, now) {
                return;
            }
            let Some(session) = self.sessions.get_mut(id).filter(|session| session.readable) else { return };
            if session.read(&mut self.read_buffer, now) == SocketRead::Lost {
                return self.end(id, Goodbye::ConnectionLost);
            }
        }
        self.sessions.enqueue(id);
    }

    /// Reads and forgets what still arrives from a client after its goodbye. False if there is nothing to read.
    fn read_end(&mut self, id: SessionId) -> bool {
        match self.sessions[id].read_and_forget(&mut self.read_buffer) {
            Ok(found) => found,
            Err(_) => {
                self.end(id, Goodbye::ConnectionLost);
                false
            }
        }
    }

    /// Answers what was received. True if all of it was answered and the session can be read from again.
    fn answer(&mut self, id: SessionId, share: &mut Budget, now: Stamp) -> bool {
        let (mut answers, mut compression) = (Vec::new(), Compression::Plain);
        let done = loop {
            let session = &mut self.sessions[id];
            let is_spent = answers.len() > ANSWER_BYTES || share.is_spent() || self.budgets.messages.is_spent();
            if is_spent || !session.takes_commands() || session.is_throttled(&self.settings) {
                break false;
            }
            let (encoding, lane, answered) = (session.encoding(), session.lane(), answers.len());
            let (mut work, received) = match session.next_message(&mut self.inbound, &mut answers) {
                Ok(next) => next,
                Err(error) => {
                    self.sessions.send(id, answers, Compression::Plain);
                    self.dismiss(id, error.goodbye, &error.sentence, now);
                    return false;
                }
            };
            match received.map(|received| received.said) {
                Some(Said::Command(command_id, command)) => {
                    let command_id = command_id.as_ref();
                    match command.and_then(|command| self.obey(id, command_id, command, now)) {
                        Ok(effect) => {
                            self.meters.commands_done.increment(1);
                            let topics = self.lanes.texts(self.sessions[id].lane());
                            effect.put(command_id, topics, (encoding, now), &mut answers);
                            compression = effect.compression().unwrap_or(compression);
                        }
                        Err(refusal) => self.refuse(command_id, &refusal, encoding, &mut answers),
                    }
                }
                Some(Said::Words(text)) => match self.converse(id, &text, &mut answers, now) {
                    Ok(values) => compression = values.unwrap_or(compression),
                    Err(end) => {
                        self.sessions.send(id, answers, Compression::Plain);
                        self.dismiss(id, end.goodbye, &end.sentence, now);
                        return false;
                    }
                },
                Some(Said::Control) | None => {}
                Some(Said::Goodbye(code)) => {
                    let sentence = code.map_or_else(
                        || "closed by the client, without a code".to_owned(),
                        |code| format!("closed by the client with code {code}"),
                    );
                    self.leave_with(id, Goodbye::ClientClosed, (&sentence, answers), now);
                    return false;
                }
            }
            let session = &self.sessions[id];
            work += answers.len() - answered;
            if session.lane() != lane {
                work += self.lanes[session.lane()].key().work();
            }
            share.spend(work);
            self.budgets.messages.spend(work);
            if work == 0 || !session.has_received() {
                break session.takes_commands();
            }
        };
        self.send_answers(id, (answers, compression), done, now)
    }

    /// True if they were taken, and there is nothing else that the session must wait for.
    pub(super) fn send_answers(
        &mut self,
        id: SessionId,
        (answers, compression): (Vec<u8>, Compression),
        done: bool,
        now: Stamp,
    ) -> bool {
        self.sessions.send(id, answers, compression);
        if self.flush(id, now) {
            match self.sessions[id].takes_commands() {
                _ if done => {}
                true => self.sessions.await_hearing(id),
                false => self.sessions.enqueue(id),
            }
            return done;
        }
        // The answers did not fit: the session leaves its step until they have.
        if self.sessions.get(id).is_some_and(|session| !matches!(session.state(), SyncState::Behind(_))) {
            self.fall_behind(id);
        }
        false
    }

    /// The client has sent more than is read in a second; that is counted once in that second.
    pub(super) fn count_throttled(&mut self, id: SessionId) {
        if !std::mem::replace(&mut self.sessions[id].counted_throttled, true) {
            self.meters.throttled.increment(1);
        }
    }
}

#[cfg(test)]
mod tests;
