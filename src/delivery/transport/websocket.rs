//! The WebSocket transport (RFC 6455), with permessage-deflate (RFC 7692) if it was agreed on.

use crate::delivery::transport::{ClientTransport, InboundError, InboundReader, Received, Said};
use crate::protocol::command::{CommandRefusal, parse};
use crate::protocol::encoding::Framing;
use crate::words::goodbye::Goodbye;
use shared_deflate::frame::{DecodeError, Decoder, Message, Opcode, put_close, put_frame, put_header};

pub struct WebSocket {
    decoder: Decoder,
    /// Its client speaks a dialect.
    is_of_dialect: bool,
}

impl WebSocket {
    /// `message_bytes_max` bounds a message of the client, compressed and inflated.
    pub fn new(message_bytes_max: usize, deflate: bool) -> WebSocket {
        WebSocket { decoder: Decoder::new(message_bytes_max, deflate), is_of_dialect: false }
    }

    /// For a client that speaks a dialect.
    pub fn of_dialect(message_bytes_max: usize) -> WebSocket {
        WebSocket { is_of_dialect: true, ..WebSocket::new(message_bytes_max, false) }
    }
}

impl ClientTransport for WebSocket {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn framing(&self) -> Framing {
        Framing::WebSocket
    }

    fn push(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
    }

    fn next(&mut self, reader: &mut InboundReader, answers: &mut Vec<u8>) -> Result<Option<Received>, InboundError> {
        let Some(message) = self.decoder.next(&mut reader.inflater).map_err(broken_rule)? else { return Ok(None) };
        let bytes = message.bytes();
        let said = match message {
            Message::Text(text) if self.is_of_dialect => Said::Words(text),
            Message::Text(text) => {
                let (id, command) = parse(&text, reader.patterns_max);
                Said::Command(id, command)
            }
            Message::Binary(_) => {
                let message = "expected a command in a text message, found a binary one";
                Said::Command(None, Err(CommandRefusal::new("not_text", message)))
            }
            Message::Ping(payload) => {
                put_frame(answers, Opcode::Pong, &payload);
                Said::Control
            }
            Message::Pong => Said::Control,
            Message::Close(code) => {
                // With the same code (RFC 6455 section 5.5.1).
                match code {
                    Some(code) => put_close(answers, code, ""),
                    None => put_header(answers, Opcode::Close, false, 0),
                }
                Said::Goodbye(code)
            }
        };
        Ok(Some(Received { said, bytes }))
    }

    fn pending_bytes(&self) -> usize {
        self.decoder.pending_bytes()
    }

    fn is_amid_message(&self) -> bool {
        self.decoder.is_amid_message()
    }

    fn is_empty(&self) -> bool {
        self.decoder.is_empty()
    }

    fn held_bytes(&self) -> usize {
        self.decoder.held_bytes()
    }

    fn clear(&mut self) {
        self.decoder.clear();
    }

    fn put_ping(&self, out: &mut Vec<u8>) {
        put_frame(out, Opcode::Ping, b"");
    }

    fn put_goodbye(&self, goodbye: Goodbye, sentence: &str, out: &mut Vec<u8>) {
        if let Some(code) = goodbye.close_code() {
            put_close(out, code, sentence);
        }
    }
}

fn broken_rule(error: DecodeError) -> InboundError {
    let (goodbye, sentence) = match error {
        DecodeError::NotUtf8 | DecodeError::BadDeflate(_) => (Goodbye::InvalidPayload, error.to_string()),
        DecodeError::TooBig { max } => {
            let limit = format!("at most {max} bytes (limits.message_bytes_max)");
            (Goodbye::MessageTooBig, format!("expected a message of {limit}, found a larger one"))
        }
        _ => (Goodbye::ProtocolError, error.to_string()),
    };
    InboundError { goodbye, sentence }
}
