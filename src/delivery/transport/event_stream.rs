//! A stream of server-sent events, or of lines of JSON: the client has asked by its request, and says nothing more.

use crate::delivery::transport::{ClientTransport, InboundError, InboundReader, Received};
use crate::protocol::encoding::{Encoding, Format, Framing};
use crate::protocol::server_message::ServerMessage;
use crate::words::goodbye::Goodbye;
use crate::words::ids::Epoch;

pub struct EventStream {
    framing: Framing,
    /// Bytes after the request.
    strange_bytes: usize,
}

impl EventStream {
    /// The framing is one of text.
    pub fn new(framing: Framing) -> EventStream {
        EventStream { framing, strange_bytes: 0 }
    }
}

impl ClientTransport for EventStream {
    fn name(&self) -> &'static str {
        match self.framing {
            Framing::Lines => "ndjson",
            Framing::Events(_) | Framing::Gzip(_) | Framing::WebSocket => "sse",
        }
    }

    fn framing(&self) -> Framing {
        self.framing
    }

    fn enter(&mut self, epoch: Epoch) {
        if let Framing::Events(of_log) | Framing::Gzip(of_log) = &mut self.framing {
            *of_log = epoch;
        }
    }

    fn takes_commands(&self) -> bool {
        false
    }

    fn push(&mut self, bytes: &[u8]) {
        self.strange_bytes += bytes.len();
    }

    fn next(&mut self, _: &mut InboundReader, _: &mut Vec<u8>) -> Result<Option<Received>, InboundError> {
        if self.strange_bytes == 0 {
            return Ok(None);
        }
        let sentence =
            "expected nothing after the request of a stream, found more; open another connection".to_string();
        Err(InboundError { goodbye: Goodbye::ProtocolError, sentence })
    }

    fn pending_bytes(&self) -> usize {
        self.strange_bytes
    }

    fn is_amid_message(&self) -> bool {
        false
    }

    fn is_empty(&self) -> bool {
        self.strange_bytes == 0
    }

    fn held_bytes(&self) -> usize {
        0
    }

    fn clear(&mut self) {
        self.strange_bytes = 0;
    }

    fn put_ping(&self, _: &mut Vec<u8>) {}

    fn put_goodbye(&self, goodbye: Goodbye, sentence: &str, out: &mut Vec<u8>) {
        if let Some(code) = goodbye.close_code() {
            let encoding = Encoding { format: Format::Envelope, framing: self.framing, deflated: false };
            ServerMessage::Close { code, reason: sentence }.put(encoding, out);
        }
    }
}

#[cfg(test)]
mod tests;
