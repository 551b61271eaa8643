//! What a session speaks.
//!
//! Frames and server messages are encodings (`protocol::encoding`): their content is the lane's, and all sessions of a
//! lane share the bytes, so delivery writes them to sockets without asking a transport. What belongs to one session is
//! here: its client's messages, pings, the end. A further transport is a file beside these, a variant of
//! `SessionTransport`, and where its bytes differ a `Framing`.

pub mod client_socket;
pub mod event_stream;
pub mod session_transport;
pub mod socket;
pub mod tls_socket;
pub mod websocket;

use crate::protocol::command::{Command, CommandId, CommandRefusal};
use crate::protocol::encoding::Framing;
use crate::words::goodbye::Goodbye;
use crate::words::ids::Epoch;
use shared_deflate::deflate::Inflater;

/// One session's side of what it and its client speak. It owns no socket.
pub trait ClientTransport {
    /// For the operator.
    fn name(&self) -> &'static str;

    /// How what it is sent stands in the byte stream.
    fn framing(&self) -> Framing;

    /// The session is sent frames of another log from here on.
    fn enter(&mut self, _epoch: Epoch) {}

    /// Whether its client can say anything, pongs included, once the session has begun.
    fn takes_commands(&self) -> bool {
        true
    }

    /// Takes received bytes.
    fn push(&mut self, bytes: &[u8]);

    /// The next message of the client, if it is whole. What the transport answers itself is appended to `answers`, such
    /// as a pong. After an error nothing more can be read.
    fn next(&mut self, reader: &mut InboundReader, answers: &mut Vec<u8>) -> Result<Option<Received>, InboundError>;

    /// Bytes taken and not read.
    fn pending_bytes(&self) -> usize;

    /// The first part of a message was read, and its last has not arrived.
    fn is_amid_message(&self) -> bool;

    /// Holds neither a part of a message nor messages that were not read.
    fn is_empty(&self) -> bool;

    /// Memory that it takes beyond its own size.
    fn held_bytes(&self) -> usize;

    /// Forgets what it holds; nothing more is read.
    fn clear(&mut self);

    /// Appends what a living client answers.
    fn put_ping(&self, out: &mut Vec<u8>);

    /// Appends the end of the session, where a client is there to read it.
    fn put_goodbye(&self, goodbye: Goodbye, sentence: &str, out: &mut Vec<u8>);
}

/// What reading takes that no session has of its own; one per shard.
pub struct InboundReader {
    pub inflater: Inflater,
    /// Patterns that a command may have.
    pub patterns_max: usize,
}

/// A message of a client.
pub struct Received {
    pub said: Said,
    /// Bytes of its content, inflated.
    pub bytes: usize,
}

pub enum Said {
    /// The id is given also for a refused command, if it could be read.
    Command(Option<CommandId>, Result<Command, CommandRefusal>),
    /// In the words of a dialect.
    Words(String),
    /// The transport has answered, or there is nothing to answer.
    Control,
    /// The client ends the session, with this code, and the transport has answered.
    Goodbye(Option<u16>),
}

/// The client has broken the rules of the transport: the session ends.
#[derive(Debug)]
pub struct InboundError {
    pub goodbye: Goodbye,
    pub sentence: String,
}
