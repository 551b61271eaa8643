//! What sessions are sent: a chunk that many share, or bytes of their own; and what their sockets do not take at once.

use std::collections::HashSet;
use std::io::ErrorKind;

use bytes::Bytes;

use crate::delivery::chunk::{Chunk, Compression};
use crate::delivery::meters::ShardMeters;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::Sessions;
use crate::delivery::sessions::unsent::end_of;
use crate::delivery::transport::socket::Socket;
use crate::words::stamp::Stamp;

/// What a socket took of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Whole,
    /// This many bytes; or all of them, and the socket has not passed them on.
    Part(usize),
    /// The connection is lost.
    Lost,
}

/// Outcome of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing is left.
    Whole,
    /// The socket takes no more now.
    Part,
    /// The connection is lost.
    Lost,
}

impl<S: Socket> Sessions<S> {
    /// Writes a chunk to a session that has nothing unsent. What is not taken is for `keep_rest`.
    pub fn write(&mut self, id: SessionId, bytes: &[u8]) -> Taken {
        let socket = &mut self.sessions[id.0].socket;
        match socket.write(bytes) {
            Ok(taken) if taken == bytes.len() && !socket.has_unsent() => Taken::Whole,
            Ok(0) => Taken::Lost,
            Ok(taken) => Taken::Part(taken),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Taken::Part(0),
            Err(_) => Taken::Lost,
        }
    }

    /// The session keeps what its socket has not taken of the chunk.
    pub fn keep_rest(&mut self, id: SessionId, chunk: &Chunk, taken: usize, now: Stamp) {
        let session = &mut self.sessions[id.0];
        (session.unsent, session.unsent_compression) = (chunk.bytes.slice(taken..), chunk.compression);
        session.blocked_ns = now.mono_ns;
        self.count_unsent(id, chunk.bytes.len(), now);
    }

    /// Makes these bytes what `flush` writes. The session must have nothing unsent.
    pub fn send(&mut self, id: SessionId, bytes: impl Into<Bytes>, compression: Compression) {
        let session = &mut self.sessions[id.0];
        (session.unsent, session.unsent_compression) = (bytes.into(), compression);
    }

    /// Writes what is unsent.
    pub fn flush(&mut self, id: SessionId, meters: &ShardMeters, now: Stamp) -> Flushed {
        let session = &mut self.sessions[id.0];
        let (whole, end) = (session.unsent.len(), end_of(&session.unsent));
        loop {
            let is_taken = session.unsent.is_empty();
            if is_taken && std::mem::take(&mut session.unsent_counted) {
                self.unsent.release(end);
            }
            let written =
                if is_taken { session.socket.flush().map(|()| 0) } else { session.socket.write(&session.unsent) };
            match written {
                Ok(_) if is_taken => {
                    session.blocked_ns = 0;
                    return Flushed::Whole;
                }
                Ok(0) => return Flushed::Lost,
                Ok(bytes) => {
                    let _ = session.unsent.split_to(bytes);
                    session.blocked_ns = now.mono_ns;
                    meters.sent(session.format, session.unsent_compression, bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if session.blocked_ns == 0 {
                        session.blocked_ns = now.mono_ns;
                    }
                    self.count_unsent(id, whole, now);
                    return Flushed::Part;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Lost,
            }
        }
    }

    /// Counts what the session has not taken of a chunk of this size.
    fn count_unsent(&mut self, id: SessionId, bytes: usize, now: Stamp) {
        let session = &mut self.sessions[id.0];
        if !session.unsent.is_empty() && !std::mem::replace(&mut session.unsent_counted, true) {
            self.unsent.hold(end_of(&session.unsent), bytes, now);
        }
    }

    /// Bytes that are held for clients that have not taken them.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent.bytes()
    }

    /// The sessions that hold the oldest chunks, without which at most `bytes_max` are held.
    pub fn holding_oldest(&self, bytes_max: usize) -> Vec<SessionId> {
        let oldest: HashSet<usize> = self.unsent.oldest_beyond(bytes_max);
        let holds = self.sessions.iter().filter(|(_, it)| it.unsent_counted && oldest.contains(&end_of(&it.unsent)));
        holds.map(|(id, _)| SessionId(id)).collect()
    }
}

#[cfg(test)]
mod tests;
