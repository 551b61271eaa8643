//! A session that sees nothing and only asks how far its shard has come: metrics tell that ten times a second at most.

use std::net::TcpStream;

use serde_json::Value;
use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{Message, WebSocket, connect};

use super::program::Program;

pub struct Lookout {
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
}

impl Lookout {
    pub fn join(server: &Program) -> Lookout {
        let (socket, _) = connect(server.ws("/v1/ws")).expect("a WebSocket");
        Lookout { socket }
    }

    /// Offset of the newest frame that the shard has taken from the ring.
    pub fn position(&mut self) -> u64 {
        let question = Message::text(r#"{"op":"subscribe","topics":["nothing.like.this"]}"#);
        self.socket.send(question).expect("the question is taken");
        loop {
            let Message::Text(text) = self.socket.read().expect("an answer") else { continue };
            let answer: Value = serde_json::from_str(&text).expect("JSON");
            if answer["op"] == "subscribed" {
                return answer["offset"].as_u64().expect("the position");
            }
        }
    }
}
