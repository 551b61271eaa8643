//! What clients say: reads their sockets, answers their commands, moves them between lanes.
//!
//! A client is read from only while there is nothing to send to it, so its answers need no queue: a client that does not
//! read is not listened to either, and TCP holds it back.

use std::io::ErrorKind;

use crate::delivery::lane::SessionId;
use crate::delivery::session::{Socket, Standing};
use crate::delivery::shard::Shard;
use crate::delivery::walk::Form;
use crate::wire::command::{CommandId, Refusal, parse};
use crate::wire::encode::Format;
use crate::wire::frame::{DecodeError, Message, Opcode, put_frame};
use crate::wire::notice::Notice;
use crate::words::goodbye::Goodbye;
use crate::words::stamp::Stamp;

/// Answers gathered before they are sent: what a socket's buffer takes at once.
const ANSWER_BYTES: usize = 32 * 1024;
/// Reads of one turn: 4 of the read buffer's size, then it is the next one's turn.
const TURN_READS: usize = 4;

impl<S: Socket> Shard<S> {
    /// One turn of listening: decodes what was received, then reads on, while there is nothing to send.
    pub(super) fn listen(&mut self, id: SessionId, now: Stamp) {
        for _ in 0..TURN_READS {
            let Some(session) = self.sessions.get_mut(id.0) else { return };
            if matches!(session.standing, Standing::Leaving { said: true, .. }) {
                if !self.hear_end(id) {
                    return;
                }
                continue;
            }
            if !session.takes_commands() || session.messages >= self.settings.messages_per_second_max {
                // It is heard again when all has been sent, or when the sweep has come by.
                return;
            }
            if session.decoder.pending_bytes() > 0 && !self.converse(id, now) {
                return;
            }
            let Some(session) = self.sessions.get_mut(id.0).filter(|session| session.readable) else { return };
            match session.socket.read(&mut self.read_buffer) {
                Ok(0) => return self.end(id, Goodbye::ConnectionLost),
                Ok(bytes) => {
                    session.heard_ns = now.mono_ns;
                    session.pinged_ns = 0;
                    session.decoder.push(&self.read_buffer[..bytes]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => session.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.end(id, Goodbye::ConnectionLost),
            }
        }
        self.enqueue(id);
    }

    /// Reads and forgets what still comes from a client to whom goodbye was said. False if there is nothing to read.
    fn hear_end(&mut self, id: SessionId) -> bool {
        let session = &mut self.sessions[id.0];
        match session.socket.read(&mut self.read_buffer) {
            Ok(bytes) if bytes > 0 => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            _ => {
                self.end(id, Goodbye::ConnectionLost);
                false
            }
        }
    }

    /// Answers what the decoder holds. True if all of it was answered and the session can be read from again.
    fn converse(&mut self, id: SessionId, now: Stamp) -> bool {
        let mut answers = Vec::new();
        let done = loop {
            let session = &mut self.sessions[id.0];
            if !session.takes_commands() || answers.len() > ANSWER_BYTES {
                break false;
            }
            if session.messages >= self.settings.messages_per_second_max {
                self.meters.throttled.increment(1);
                break false;
            }
            session.messages += 1;
            match session.decoder.next(&mut self.inflater) {
                Ok(None) => break true,
                Ok(Some(Message::Close(code))) => {
                    self.answer_close(id, code, answers, now);
                    return false;
                }
                Ok(Some(message)) => self.answer(id, message, &mut answers, now),
                Err(error) => {
                    self.sessions[id.0].unsent = answers.into();
                    self.dismiss(id, goodbye_for(&error), &error.to_string(), now);
                    return false;
                }
            }
        };
        let session = &mut self.sessions[id.0];
        (session.unsent, session.unsent_form) = (answers.into(), Form::Plain);
        if self.flush(id, now) {
            if !done {
                self.enqueue(id);
            }
            return done;
        }
        // The answers did not fit: the session leaves its step until they have.
        let blocked = self.sessions.get(id.0).is_some_and(|session| !matches!(session.standing, Standing::Behind(_)));
        if blocked {
            self.fall_behind(id);
        }
        false
    }

    fn answer(&mut self, id: SessionId, message: Message, out: &mut Vec<u8>, now: Stamp) {
        let format = self.sessions[id.0].format;
        let text = match message {
            Message::Ping(payload) => return put_frame(out, Opcode::Pong, &payload),
            Message::Pong | Message::Close(_) => return,
            Message::Text(text) => text,
            Message::Binary(_) => {
                let refusal = Refusal::new("not_text", "expected a command in a text message, found a binary one");
                return self.refuse(None, &refusal, format, out);
            }
        };
        let (command_id, command) = parse(&text);
        let command_id = command_id.as_ref();
        match command.and_then(|command| self.obey(id, command_id, command, now)) {
            Ok(done) => {
                self.meters.commands_done.increment(1);
                done.put(command_id, format, now, out);
            }
            Err(refusal) => self.refuse(command_id, &refusal, format, out),
        }
    }

    pub(super) fn refuse(&mut self, id: Option<&CommandId>, refusal: &Refusal, format: Format, out: &mut Vec<u8>) {
        self.meters.commands_refused.increment(1);
        if format == Format::Envelope {
            Notice::Error { id, code: refusal.code, message: &refusal.message }.put(out);
        }
    }
}

fn goodbye_for(error: &DecodeError) -> Goodbye {
    match error {
        DecodeError::NotUtf8 | DecodeError::BadDeflate(_) => Goodbye::InvalidPayload,
        DecodeError::TooBig { .. } => Goodbye::MessageTooBig,
        _ => Goodbye::ProtocolError,
    }
}
