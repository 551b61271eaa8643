//! What clients have begun to send and not ended: bounded in time for each, in bytes for all of a shard together.
//!
//! The time is that of the client alone: it stands still while the shard does not read on, because the client is
//! written to, has used up its second, or waits for its turn.

use std::io::{self, ErrorKind};

use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::Sessions;
use crate::delivery::sessions::session::Session;
use crate::delivery::settings::Settings;
use crate::delivery::transport::socket::Socket;
use crate::delivery::transport::{InboundError, InboundReader, Received};
use crate::words::stamp::Stamp;

/// Work is counted in bytes: those received, inflated and answered, those of the patterns that a lane is opened for,
/// and this constant for each message.
const MESSAGE_WORK: usize = 512;

/// Outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketRead {
    Bytes,
    /// There is nothing to read now.
    Nothing,
    /// The connection is lost.
    Lost,
}

impl<S: Socket> Session<S> {
    /// Reads what there is, up to the size of the buffer, and gives it to the transport.
    pub fn read(&mut self, buffer: &mut [u8], now: Stamp) -> SocketRead {
        match self.read_bytes(buffer) {
            Ok(0) => SocketRead::Lost,
            Ok(bytes) => {
                self.heard_ns = now.mono_ns;
                self.pinged_ns = 0;
                self.transport.push(&buffer[..bytes]);
                SocketRead::Bytes
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                SocketRead::Nothing
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => SocketRead::Nothing,
            Err(_) => SocketRead::Lost,
        }
    }

    /// Reads and forgets. True if there was something.
    pub fn read_and_forget(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.read_bytes(buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read_bytes(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }

    /// Something has been received that was not read yet.
    pub fn has_received(&self) -> bool {
        self.transport.pending_bytes() > 0
    }

    /// The next message, if there is one, and the work that it was to read so far. Control messages are answered at once.
    pub fn next_message(
        &mut self,
        reader: &mut InboundReader,
        answers: &mut Vec<u8>,
    ) -> Result<(usize, Option<Received>), InboundError> {
        let pending_bytes = self.transport.pending_bytes();
        let received = self.transport.next(reader, answers)?;
        let bytes = pending_bytes - self.transport.pending_bytes();
        let Some(received) = received else {
            self.message_bytes = self.message_bytes.saturating_add(bytes as u32);
            return Ok((bytes, None));
        };
        self.messages += 1;
        self.message_bytes = self.message_bytes.saturating_add(bytes.max(received.bytes) as u32);
        if !self.transport.is_amid_message() {
            // What follows is another message, with a time of its own.
            self.inbound_ns = 0;
        }
        Ok((MESSAGE_WORK + bytes + received.bytes, Some(received)))
    }

    /// Work that was done for the client counts like this many messages of it.
    pub fn count_messages(&mut self, messages: u32) {
        self.messages = self.messages.saturating_add(messages);
    }

    /// The client has had its share of this second of the shard's time.
    pub fn has_spent_messages(&self, settings: &Settings) -> bool {
        self.messages >= settings.limits.messages_per_second_max
    }

    /// It has used up what is read from one client in a second.
    pub fn is_throttled(&self, settings: &Settings) -> bool {
        self.has_spent_messages(settings) || self.message_bytes >= settings.limits.inbound_bytes_per_second_max
    }

    /// A second has passed. True if it may be heard again that could not.
    pub fn pass_second(&mut self, settings: &Settings) -> bool {
        let was_throttled = self.is_throttled(settings);
        (self.messages, self.message_bytes, self.counted_throttled) = (0, 0, false);
        was_throttled
    }

    /// The rest of a message is the client's to send, and has been for longer than it may be.
    pub fn is_late(&mut self, settings: &Settings, now: Stamp) -> bool {
        if self.inbound_ns == 0 {
            return false;
        }
        if !self.takes_commands() || self.awaits_hearing || self.is_throttled(settings) {
            self.inbound_ns = now.mono_ns;
        }
        u128::from(now.mono_ns.saturating_sub(self.inbound_ns)) > settings.limits.message_timeout.as_nanos()
    }
}

impl<S: Socket> Sessions<S> {
    /// Counts what the session's transport holds, once it has taken or given something.
    pub fn count_inbound(&mut self, id: SessionId, now: Stamp) {
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        // Bounded by the message limit, 1 MiB, and what a turn reads.
        let bytes = (session.transport.held_bytes() + session.socket.pending_bytes()) as u32;
        self.inbound_bytes = self.inbound_bytes + bytes as usize - session.inbound_bytes as usize;
        session.inbound_bytes = bytes;
        if session.transport.is_empty() && session.socket.pending_bytes() == 0 {
            session.inbound_ns = 0;
        } else if session.inbound_ns == 0 {
            session.inbound_ns = now.mono_ns;
        }
    }

    /// Forgets what the client has sent: nothing more is read from it.
    pub fn forget_inbound(&mut self, id: SessionId, now: Stamp) {
        let session = &mut self.sessions[id.0];
        session.transport.clear();
        session.socket.forget_inbound();
        self.count_inbound(id, now);
    }

    /// Bytes that clients have sent and that are not read.
    pub fn inbound_bytes(&self) -> usize {
        self.inbound_bytes
    }

    /// The sessions that hold such bytes, those that began first in front.
    pub fn by_age_of_inbound(&self) -> Vec<SessionId> {
        let holds = self.sessions.iter().filter(|(_, it)| it.inbound_bytes > 0);
        let mut by_age: Vec<(u64, SessionId)> = holds.map(|(id, it)| (it.inbound_ns, SessionId(id))).collect();
        by_age.sort_unstable_by_key(|(since_ns, _)| *since_ns);
        by_age.into_iter().map(|(_, id)| id).collect()
    }
}

#[cfg(test)]
mod tests;
