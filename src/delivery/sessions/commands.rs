//! What clients say: reads their sockets, answers their commands, moves them between lanes.
//!
//! A client is read from only while there is nothing to send to it, so its answers need no queue: a client that does not
//! read is not listened to either, and TCP holds it back.

use std::io::ErrorKind;

use crate::delivery::catch_up::path::Compression;
use crate::delivery::lanes::lane::SessionId;
use crate::delivery::sessions::session::{Session, Socket, SyncState};
use crate::delivery::shard::Shard;
use crate::protocol::command::{CommandId, CommandRefusal, parse};
use crate::protocol::encoding::Format;
use crate::protocol::server_message::ServerMessage;
use crate::wire::deflate::Inflater;
use crate::wire::frame::{DecodeError, Message, Opcode, put_frame};
use crate::words::goodbye::Goodbye;
use crate::words::stamp::Stamp;

/// Answers gathered before they are sent: what a socket's buffer takes at once.
const ANSWER_BYTES: usize = 32 * 1024;
/// Reads of one turn: 4 of the read buffer's size, then it is the next one's turn.
const TURN_READS: usize = 4;

/// What is done for messages is counted in bytes: those received, those inflated, those answered, those of the patterns
/// that a lane is opened for, and so many for each message besides.
const MESSAGE_WORK: usize = 512;
/// Work for one session in a turn, before it is the next one's turn: some 200 small commands, or one of 64 KiB.
const SESSION_WORK: usize = 128 * 1024;
/// Work for all sessions of a shard in a turn, before frames are looked for again. A message is never divided, so a
/// turn may end one message later: of 1 MiB at most, the bound of limits.message_bytes_max.
pub(in crate::delivery) const TURN_WORK: usize = 2 * SESSION_WORK;

impl<S: Socket> Shard<S> {
    /// One turn of listening: decodes what was received, then reads on, while there is nothing to send.
    pub(in crate::delivery) fn listen(&mut self, id: SessionId, now: Stamp) {
        self.hear(id, now);
        self.count_inbound(id, now);
    }

    fn hear(&mut self, id: SessionId, now: Stamp) {
        let mut work_left = SESSION_WORK;
        for _ in 0..TURN_READS {
            let Some(session) = self.sessions.get_mut(id.0) else { return };
            if matches!(&session.standing, SyncState::Leaving(leaving) if leaving.said) {
                if !self.hear_end(id) {
                    return;
                }
                continue;
            }
            let (has_pending, readable) = (session.decoder.pending_bytes() > 0, session.readable);
            if !session.takes_commands() || !(has_pending || readable) {
                // It is heard again when all has been sent.
                return;
            }
            if session.is_throttled(&self.settings) {
                // It is heard again when the sweep has come by.
                if has_pending {
                    self.tell_throttled(id);
                }
                return;
            }
            if work_left == 0 || self.hearing_left == 0 {
                return self.await_hearing(id);
            }
            if has_pending && !self.converse(id, &mut work_left, now) {
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

    /// Answers what the decoder holds. True if all of it was answered and the session can be read from again.
    fn converse(&mut self, id: SessionId, work_left: &mut usize, now: Stamp) -> bool {
        let mut answers = Vec::new();
        let done = loop {
            let session = &mut self.sessions[id.0];
            let is_spent = answers.len() > ANSWER_BYTES || *work_left == 0 || self.hearing_left == 0;
            if is_spent || !session.takes_commands() || session.is_throttled(&self.settings) {
                break false;
            }
            let (work, message) = match session.next_message(&mut self.inflater) {
                Ok(next) => next,
                Err(error) => {
                    session.unsent = answers.into();
                    let (goodbye, sentence) = goodbye_for(&error);
                    self.dismiss(id, goodbye, &sentence, now);
                    return false;
                }
            };
            let work = match message {
                None => work,
                Some(Message::Close(code)) => {
                    self.answer_close(id, code, answers, now);
                    return false;
                }
                Some(message) => work + self.answer(id, message, &mut answers, now),
            };
            *work_left = work_left.saturating_sub(work);
            self.hearing_left = self.hearing_left.saturating_sub(work);
            let session = &self.sessions[id.0];
            if work == 0 || session.decoder.pending_bytes() == 0 {
                break session.takes_commands();
            }
        };
        self.send_answers(id, answers, done, now)
    }

    /// True if they were taken, and there is nothing else that the session must wait for.
    fn send_answers(&mut self, id: SessionId, answers: Vec<u8>, done: bool, now: Stamp) -> bool {
        let session = &mut self.sessions[id.0];
        (session.unsent, session.unsent_form) = (answers.into(), Compression::Plain);
        if self.flush(id, now) {
            match self.sessions[id.0].takes_commands() {
                _ if done => {}
                true => self.await_hearing(id),
                false => self.enqueue(id),
            }
            return done;
        }
        // The answers did not fit: the session leaves its step until they have.
        let blocked = self.sessions.get(id.0).is_some_and(|session| !matches!(session.standing, SyncState::Behind(_)));
        if blocked {
            self.fall_behind(id);
        }
        false
    }

    /// Answers one message, and gives the work that this was besides reading it.
    fn answer(&mut self, id: SessionId, message: Message, out: &mut Vec<u8>, now: Stamp) -> usize {
        let (format, lane, answered) = (self.sessions[id.0].format, self.sessions[id.0].lane, out.len());
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(payload) => {
                put_frame(out, Opcode::Pong, &payload);
                return payload.len();
            }
            Message::Pong | Message::Close(_) => return 0,
            Message::Binary(_) => {
                let refusal =
                    CommandRefusal::new("not_text", "expected a command in a text message, found a binary one");
                self.refuse(None, &refusal, format, out);
                return 0;
            }
        };
        let (command_id, command) = parse(&text, self.settings.limits.patterns_max);
        let command_id = command_id.as_ref();
        match command.and_then(|command| self.obey(id, command_id, command, now)) {
            Ok(done) => {
                self.meters.commands_done.increment(1);
                done.put(command_id, format, now, out);
            }
            Err(refusal) => self.refuse(command_id, &refusal, format, out),
        }
        let settled = self.sessions[id.0].lane;
        let lane_work = if settled == lane { 0 } else { self.lanes[settled.0 as usize].key.bytes() };
        lane_work + out.len() - answered
    }

    pub(in crate::delivery) fn refuse(
        &mut self,
        id: Option<&CommandId>,
        refusal: &CommandRefusal,
        format: Format,
        out: &mut Vec<u8>,
    ) {
        self.meters.refused(refusal.code);
        if format == Format::Envelope {
            ServerMessage::Error { id, code: refusal.code, message: &refusal.message }.put(out);
        }
    }
}

impl<S> Session<S> {
    /// The next message, if there is one, and the work that it was to read so far.
    fn next_message(&mut self, inflater: &mut Inflater) -> Result<(usize, Option<Message>), DecodeError> {
        let pending_bytes = self.decoder.pending_bytes();
        let message = self.decoder.next(inflater)?;
        let received = pending_bytes - self.decoder.pending_bytes();
        let Some(message) = message else {
            self.message_bytes = self.message_bytes.saturating_add(received as u32);
            return Ok((received, None));
        };
        self.messages += 1;
        self.message_bytes = self.message_bytes.saturating_add(received.max(message.bytes()) as u32);
        if !self.decoder.is_amid_message() {
            // What follows is another message, with a time of its own.
            self.inbound_ns = 0;
        }
        Ok((MESSAGE_WORK + received + message.bytes(), Some(message)))
    }
}

/// How the session ends, and the sentence of its close frame.
fn goodbye_for(error: &DecodeError) -> (Goodbye, String) {
    let goodbye = match error {
        DecodeError::NotUtf8 | DecodeError::BadDeflate(_) => Goodbye::InvalidPayload,
        DecodeError::TooBig { max } => {
            let setting = format!("at most {max} bytes (limits.message_bytes_max)");
            return (Goodbye::MessageTooBig, format!("expected a message of {setting}, found a larger one"));
        }
        _ => Goodbye::ProtocolError,
    };
    (goodbye, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::handoff::SessionOptions;
    use crate::delivery::harness::{Harness, HarnessClient};
    use crate::wire::deflate::Deflater;
    use crate::wire::frame::{CONTROL_BYTES_MAX, put_header};
    use crate::wire::negotiate::Agreement;

    const PING: &[u8] = br#"{"op":"ping"}"#;

    /// A client's WireFrame, with a mask that changes nothing.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_header(&mut out, Opcode::Text, false, payload.len());
        out[0] = first;
        out[1] |= 0x80;
        [&out, &[0; 4][..], payload].concat()
    }

    fn send(stage: &mut Harness, puppet: &HarnessClient, bytes: &[u8]) {
        puppet.pipe.borrow_mut().to_server.extend(bytes);
        stage.shard.ready(puppet.id, true, stage.now);
    }

    fn deflating(stage: &mut Harness) -> HarnessClient {
        let deflate = Some(Agreement { server_no_context_takeover: false, server_max_window_bits: None });
        let puppet = stage.adopt(SessionOptions { deflate, ..SessionOptions::default() });
        stage.settle();
        puppet.hear();
        puppet
    }

    /// A command of 64 KiB that is deflated to some 100 bytes.
    fn bloated() -> Vec<u8> {
        let mut deflated = Vec::new();
        Deflater::new(9, 15).deflate(format!(r#"{{"op":"{}"}}"#, "s".repeat(65_000)).as_bytes(), &mut deflated);
        assert!(deflated.len() < 200);
        frame(0xC1, &deflated)
    }

    #[test]
    fn clients_that_send_what_is_costly_to_read_share_a_bounded_part_of_each_turn() {
        let mut stage = Harness::open();
        let greedy = [deflating(&mut stage), deflating(&mut stage), deflating(&mut stage)];
        let other = stage.join();
        let burst = bloated().repeat(20);
        greedy.iter().for_each(|puppet| puppet.pipe.borrow_mut().to_server.extend(&burst));
        for puppet in &greedy {
            stage.shard.ready(puppet.id, true, stage.now);
        }
        let (mut heard, mut turns) = ([0; 3], 0);
        while heard.iter().sum::<usize>() < 60 {
            send(&mut stage, &other, &frame(0x81, PING));
            stage.turn();
            turns += 1;
            let now = [0, 1, 2].map(|at| greedy[at].hear().len());
            assert!(now.iter().sum::<usize>() <= 2 * (TURN_WORK / 65_000 + 1), "turn {turns}: {now:?}");
            heard = [0, 1, 2].map(|at| heard[at] + now[at]);
            let (least, most) = (heard.iter().min(), heard.iter().max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 4), "one after the other: {heard:?}");
            assert!(turns < 100, "{heard:?}");
        }
        assert!(turns >= 6, "found {turns}");
        stage.settle();
        assert_eq!(other.hear().len(), turns, "the other one was answered all the time");
    }

    #[test]
    fn as_many_messages_as_are_allowed_are_read_in_a_second_and_nothing_else_counts() {
        let mut stage = Harness::open();
        stage.shard.settings.limits.messages_per_second_max = 100;
        let puppet = stage.join();
        for second in 0..3 {
            for n in 0..100 {
                // Some come in pieces: two frames, and the second of them byte by byte.
                if n % 10 == 0 {
                    send(&mut stage, &puppet, &frame(0x01, &PING[..5]));
                    let rest = frame(0x80, &PING[5..]);
                    rest.chunks(1).for_each(|byte| send(&mut stage, &puppet, byte));
                } else {
                    send(&mut stage, &puppet, &frame(0x81, PING));
                }
                stage.settle();
                assert_eq!(puppet.hear().len(), 1, "message {n} of second {second}");
            }
            assert!(!stage.shard.sessions[puppet.id.0].told_throttled);
            stage.pass_second();
        }
        send(&mut stage, &puppet, &frame(0x81, PING).repeat(150));
        stage.settle();
        assert_eq!(puppet.hear().len(), 100, "in one piece, too");
        assert!(stage.shard.sessions[puppet.id.0].told_throttled);
        stage.pass_second();
        stage.settle();
        assert_eq!(puppet.hear().len(), 50);
    }

    #[test]
    fn bytes_of_messages_are_bounded_in_a_second_too() {
        let mut stage = Harness::open();
        stage.shard.settings.limits.inbound_bytes_per_second_max = 200_000;
        let puppet = deflating(&mut stage);
        send(&mut stage, &puppet, &bloated().repeat(9));
        for heard in [4, 4, 1] {
            stage.settle();
            assert_eq!(puppet.hear().len(), heard, "65,000 bytes each");
            stage.pass_second();
        }
    }

    #[test]
    fn a_client_that_pings_and_never_reads_is_held_in_bounded_memory() {
        let mut stage = Harness::open();
        let puppet = stage.join();
        puppet.pipe.borrow_mut().room = 1000;
        let pings = frame(0x89, &[7; CONTROL_BYTES_MAX]).repeat(100);
        for _ in 0..100 {
            send(&mut stage, &puppet, &pings);
            stage.pass_second();
            stage.settle();
        }
        let session = &stage.shard.sessions[puppet.id.0];
        let held = session.unsent.len() + session.decoder.held_bytes();
        assert!(held <= ANSWER_BYTES + 2 * CONTROL_BYTES_MAX + 2 * stage.shard.read_buffer.len(), "{held}");
        assert!(stage.shard.unsent.bytes() + stage.shard.inbound_bytes >= held, "all of it is counted");
        assert!(puppet.pipe.borrow().to_server.len() > 100 * pings.len() * 9 / 10, "the rest waits in its socket");
        puppet.pipe.borrow_mut().room = usize::MAX >> 1;
        stage.shard.ready(puppet.id, false, stage.now);
        stage.settle();
        assert_eq!(puppet.pipe.borrow().to_client.len(), 100 * 100 * (2 + CONTROL_BYTES_MAX));
        assert_eq!((stage.shard.unsent.bytes(), stage.shard.inbound_bytes), (0, 0));
    }
}
