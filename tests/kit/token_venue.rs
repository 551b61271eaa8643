//! A venue that wants a token which soon expires, and sends one numbered stream to all who have one.
//!
//! `/token` gives and prolongs tokens over HTTP. A connection is cut when its token has expired, unless it has logged in
//! again before; each cut is counted.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use futures_util::{SinkExt, StreamExt};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, Sender};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// Life of everything that the venue gives.
pub const LIFE: Duration = Duration::from_secs(2);
/// The variable with the key of tokens that callers make themselves: one that each process has.
pub const KEY_VARIABLE: &str = "PATH";
const PACE: Duration = Duration::from_millis(1);

#[derive(Clone)]
pub struct TokenVenue {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    stream: Sender<u64>,
}

#[derive(Default)]
struct State {
    ends: HashMap<String, Instant>,
    counts: HashMap<&'static str, usize>,
}

impl TokenVenue {
    pub async fn open() -> TokenVenue {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let venue = TokenVenue { address, state: Arc::default(), stream: broadcast::channel(1 << 14).0 };
        let host = venue.clone();
        tokio::spawn(async move {
            while let Ok((guest, _)) = listener.accept().await {
                tokio::spawn(host.clone().serve(guest));
            }
        });
        let stream = venue.stream.clone();
        tokio::spawn(async move {
            for n in 0.. {
                // Nobody may listen yet.
                let _ = stream.send(n);
                tokio::time::sleep(PACE).await;
            }
        });
        venue
    }

    /// How often this has happened: `given`, `prolonged`, `connected`, `logged in`, `cut`, `pinged`.
    pub fn count(&self, what: &str) -> usize {
        self.state.lock().expect("no holder panics").counts.get(what).copied().unwrap_or_default()
    }

    fn add(&self, what: &'static str) -> usize {
        let mut state = self.state.lock().expect("no holder panics");
        let count = state.counts.entry(what).or_default();
        *count += 1;
        *count
    }

    fn end_of(&self, token: &str) -> Option<Instant> {
        self.state.lock().expect("no holder panics").ends.get(token).copied()
    }

    fn begin(&self, token: String) {
        self.state.lock().expect("no holder panics").ends.insert(token, Instant::now() + LIFE);
    }

    async fn serve(self, mut guest: TcpStream) {
        let mut head = vec![0; 8192];
        let head = loop {
            let bytes = guest.peek(&mut head).await.expect("a readable socket");
            let text = String::from_utf8_lossy(&head[..bytes]).into_owned();
            if let Some(end) = text.find("\r\n\r\n") {
                break text[..end].to_string();
            }
            if bytes == 0 {
                return;
            }
            tokio::time::sleep(PACE).await;
        };
        let line = head.lines().next().unwrap_or_default().to_string();
        let token = line.split(['=', ' ']).nth(2).unwrap_or_default().to_string();
        if !head.to_ascii_lowercase().contains("upgrade: websocket") {
            assert!(guest.read(&mut [0; 8192]).await.expect("a request") > 0);
            let (status, answer) = self.answer(&line, &token);
            let answer = answer.to_string();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            guest.write_all(answer.as_bytes()).await.expect("the guest listens");
            return;
        }
        let end = if line.starts_with("GET /open") {
            Some(Instant::now() + LIFE)
        } else {
            self.end_of(&token).filter(|end| *end > Instant::now())
        };
        match end {
            Some(end) => self.pour(guest, token, end).await,
            None => {
                guest.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await.expect("it listens")
            }
        }
    }

    fn answer(&self, line: &str, token: &str) -> (&'static str, Value) {
        if line.starts_with("POST /token ") {
            let token = format!("token-number-{}", self.add("given"));
            self.begin(token.clone());
            let endpoint = format!("ws://{}/stream", self.address);
            let data = json!({"token": token, "endpoint": endpoint, "ping": 200, "expires_in": LIFE.as_secs()});
            return ("200 OK", json!({"code": "200000", "data": data}));
        }
        if line.starts_with("PUT /token") && self.end_of(token).is_some_and(|end| end > Instant::now()) {
            self.begin(token.to_string());
            self.add("prolonged");
            return ("200 OK", json!({}));
        }
        ("404 Not Found", json!({"msg": "no such token"}))
    }

    async fn pour(self, guest: TcpStream, token: String, mut end: Instant) {
        let mut numbers = self.stream.subscribe();
        let mut guest = accept_async(guest).await.expect("a handshake");
        self.add("connected");
        loop {
            tokio::select! {
                number = numbers.recv() => {
                    if self.end_of(&token).unwrap_or(end) < Instant::now() {
                        self.add("cut");
                        return;
                    }
                    let text = format!(r#"{{"s":"EURUSD","n":{}}}"#, number.expect("the guest keeps up"));
                    if guest.send(Message::text(text)).await.is_err() {
                        return;
                    }
                }
                said = guest.next() => {
                    let Some(Ok(said)) = said else { return };
                    let Message::Text(text) = said else { continue };
                    let said: Value = serde_json::from_str(&text).expect("JSON");
                    if said["op"] == "ping" {
                        self.add("pinged");
                        continue;
                    }
                    let shown = said["token"].as_str().expect("a token");
                    end = self.end_of(shown).unwrap_or_else(|| end_of_own(shown));
                    self.add("logged in");
                    let answer = json!({"op": "in", "expires_in": LIFE.as_secs()}).to_string();
                    if guest.send(Message::text(answer)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// When a token ends that the caller has made.
fn end_of_own(token: &str) -> Instant {
    let (signed, signature) = token.rsplit_once('.').expect("a JSON Web Token");
    let key = std::env::var(KEY_VARIABLE).expect("it is set");
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key");
    mac.update(signed.as_bytes());
    mac.verify_slice(&BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64url")).expect("signed with the key");
    let claims = BASE64_URL_SAFE_NO_PAD.decode(signed.split_once('.').expect("two parts").1).expect("base64url");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    let end = Duration::from_secs(claims["exp"].as_u64().expect("an end"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Instant::now() + end.saturating_sub(now)
}
