//! A made-up venue with habits of its own.
//!
//! It says nothing unasked. `{"op":"open","feed":"trades","market":"BTC-EUR","ref":1}` opens a channel; the answer
//! `{"opened":{"id":7,"feed":"trades","market":"BTC-EUR"},"ref":1}` gives the channel's number on this connection, and
//! from then on its messages are arrays that begin with the number: `[7,"61837.5","0.02"]`. What it does not have is
//! `{"denied":"no such market","ref":1}`. Every second it says `ping`; who leaves three of these without `pong` is hung up on.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Error, Message, WebSocket, accept};

/// Markets with the price that theirs moves around.
const MARKETS: [(&str, f64); 2] = [("BTC-EUR", 61_837.5), ("ETH-EUR", 2_411.3)];
const FEEDS: [&str; 2] = ["trades", "quotes"];
/// Time between two messages of a channel.
const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_PING: u64 = 10;
const UNANSWERED_MAX: u64 = 3;
/// Channels of a connection at most.
const CHANNELS_MAX: usize = 100;

/// What one client has opened.
struct Channel {
    id: usize,
    feed: &'static str,
    price: f64,
}

/// Serves every client until the listener fails.
pub fn serve(listener: &TcpListener) {
    for (visit, socket) in listener.incoming().flatten().enumerate() {
        std::thread::spawn(move || {
            // A client that breaks off is no news to a venue.
            let _ = talk(socket, 7 + 10 * visit);
        });
    }
}

/// One connection; its channels are numbered from `id_first`, so that numbers of another connection are wrong here.
fn talk(socket: TcpStream, id_first: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut socket = accept(socket)?;
    socket.get_mut().set_read_timeout(Some(TICK))?;
    let mut channels: Vec<Channel> = Vec::new();
    let (mut tick, mut unanswered) = (0, 0);
    while unanswered <= UNANSWERED_MAX {
        match socket.read() {
            Ok(Message::Text(text)) if text == "pong" => unanswered = 0,
            Ok(Message::Text(text)) => {
                let answer = answer(&text, id_first, &mut channels);
                socket.send(Message::text(answer.to_string()))?;
            }
            Ok(_) => {}
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                tick += 1;
                send_prices(&mut socket, &channels, tick)?;
                if tick % TICKS_PER_PING == 0 {
                    unanswered += 1;
                    socket.send(Message::text("ping"))?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(socket.close(None)?)
}

fn answer(text: &str, id_first: usize, channels: &mut Vec<Channel>) -> Value {
    let request: Value = serde_json::from_str(text).unwrap_or_default();
    let feed = FEEDS.into_iter().find(|feed| request["feed"] == *feed);
    let market = MARKETS.into_iter().find(|(market, _)| request["market"] == *market);
    let (Some(feed), Some((market, price))) = (feed, market) else {
        return json!({"denied": "no such market", "ref": request["ref"]});
    };
    if channels.len() == CHANNELS_MAX {
        return json!({"denied": "too many channels", "ref": request["ref"]});
    }
    let id = id_first + channels.len();
    channels.push(Channel { id, feed, price });
    json!({"opened": {"id": id, "feed": feed, "market": market}, "ref": request["ref"]})
}

fn send_prices(socket: &mut WebSocket<TcpStream>, channels: &[Channel], tick: u64) -> tungstenite::Result<()> {
    for Channel { id, feed, price } in channels {
        let price = price + (tick % 40) as f64 / 10.0;
        let text = match *feed {
            "trades" => format!("[{id},\"{price:.1}\",\"0.0{}\"]", tick % 9 + 1),
            _ => format!("[{id},{:.1},{:.1}]", price - 0.1, price + 0.1),
        };
        socket.send(Message::text(text))?;
    }
    Ok(())
}
