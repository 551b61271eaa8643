//! A venue that pours a recording, over and over, exactly as fast as the test asks for it.
//!
//! So a fast machine does not wait, and on a slow one no client falls behind that is not meant to.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tokio_tungstenite::tungstenite::{Message, accept};

use super::tape::Tape;

pub struct TapeFeed {
    addr: SocketAddr,
    orders: Sender<u64>,
    poured: u64,
}

/// Settings of a server on a faucet, which is silent for as long as nothing is poured and answers no ping.
pub const ON_TAP: [(&str, &str); 2] = [("UPSTREAM_IDLE_TIMEOUT", "1h"), ("UPSTREAM_PING_INTERVAL", "1h")];

impl TapeFeed {
    /// Waits on a free port for its one guest.
    pub fn open(tape: Arc<Tape>) -> TapeFeed {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (orders, ordered) = channel();
        // Ends with the faucet.
        thread::spawn(move || pour(&listener, &tape, &ordered));
        TapeFeed { addr, orders, poured: 0 }
    }

    pub fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    /// Sends the next `frames` frames, in a thread of its own.
    pub fn pour(&mut self, frames: u64) {
        self.poured += frames;
        self.orders.send(self.poured).expect("the guest stays");
    }

    /// Offset of the last frame that was asked for.
    pub fn poured(&self) -> u64 {
        self.poured
    }
}

fn pour(listener: &TcpListener, tape: &Tape, orders: &Receiver<u64>) {
    let (guest, _) = listener.accept().expect("a guest");
    let mut line = accept(guest).expect("a WebSocket");
    let mut offset = 0;
    for until in orders {
        while offset < until {
            offset += 1;
            if line.write(Message::text(&*tape.frame(offset).payload)).is_err() {
                return;
            }
        }
        if line.flush().is_err() {
            return;
        }
    }
}
