//! A venue that does only what the test says: it takes subscriptions, sends what the test gives it, loses and
//! delays on order, and keeps a log of who was connected when and of everything that it heard.
//!
//! It speaks JSON: `{"op":"sub","items":[…],"id":1}` and `unsub` are answered by `{"id":1,"ok":[…],"bad":[…]}` and
//! `{"id":1,"gone":[…]}`; items that begin with `bad` are refused. Whatever else it hears is only logged.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_async};

/// How a connection's end is seen may take so long.
const NOTICE: Duration = Duration::from_millis(60);

/// What it speaks, for a server: items are topics, requests are answered by their number.
pub const PROFILE: &str = r#"
profile = 1
name = "fake-feed"
[subscribe]
send = '{"op":"sub","items":${items|json},"id":${req}}'
unsubscribe = '{"op":"unsub","items":${items|json},"id":${req}}'
ack = { per = "list", id = "/id", ok = "/ok", bad = ["/bad"] }
[client]
send = '{"say":${data},"about":${item|json}}'
request = { id = "/id", timeout = "10s" }
[[on]]
name = "granted"
as = "ack"
when = ['/ok exists']
[[on]]
name = "gone"
as = "ignore"
when = ['/gone exists']
[[on]]
name = "data"
as = "data"
topic = "${/topic}"
"#;

#[derive(Clone)]
pub struct FakeFeed {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub struct State {
    /// All connections there ever were, oldest first.
    pub connections: Vec<FeedConnection>,
    /// TCP connections that were turned away.
    pub turned_away: Vec<Instant>,
    pub refusing: bool,
    /// Number of the next connection that is slow, and by how much.
    lags: Vec<(usize, Duration)>,
}

pub struct FeedConnection {
    pub opened: Instant,
    pub closed: Option<Instant>,
    pub items: BTreeSet<String>,
    pub heard: Vec<(Instant, String)>,
    /// When data was first sent to it.
    pub fed: Option<Instant>,
    outgoing: Option<UnboundedSender<(Instant, Message)>>,
    lag: Duration,
    /// Pings that were sent to it, and those that it has answered.
    pings: u64,
    pongs: u64,
}

impl FakeFeed {
    /// Opens on a free port, on a thread of its own: its clock must not depend on what the test is busy with.
    pub fn open() -> FakeFeed {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a TCP option");
        let address = listener.local_addr().expect("bound");
        let exchange = FakeFeed { address, state: Arc::default() };
        let attending = exchange.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { attending.attend(TcpListener::from_std(listener).expect("a socket")).await });
        });
        exchange
    }

    pub fn url(&self) -> String {
        format!("ws://{}/feed", self.address)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// The connection with this number, from 0, will be so slow.
    pub fn delay(&self, guest: usize, lag: Duration) {
        self.state().lags.push((guest, lag));
    }

    /// Connections that stand and have all of these items.
    pub fn ready(&self, items: &[&str]) -> Vec<usize> {
        let state = self.state();
        let has_all =
            |guest: &FeedConnection| guest.outgoing.is_some() && items.iter().all(|item| guest.items.contains(*item));
        (0..state.connections.len()).filter(|index| has_all(&state.connections[*index])).collect()
    }

    /// Sends to everyone with this item, except where it is lost. Gives the number of connections that it was sent to.
    pub fn publish(&self, item: &str, text: &str, mut loses: impl FnMut(usize) -> bool) -> usize {
        let mut sent = 0;
        for (index, guest) in self.state().connections.iter_mut().enumerate() {
            if guest.items.contains(item) && !loses(index) && guest.say(text.to_string()) {
                guest.fed.get_or_insert_with(Instant::now);
                sent += 1;
            }
        }
        sent
    }

    /// Says something to one connection.
    pub fn say(&self, guest: usize, text: &str) {
        self.state().connections[guest].say(text.to_string());
    }

    /// Ends a connection after everything that was sent on it.
    pub fn end(&self, guest: usize) {
        self.state().connections[guest].outgoing = None;
    }

    /// Asks every connection for a sign that it has read everything so far. Gives what tells whether all have given it,
    /// or have ended.
    pub fn all_read(&self) -> impl Fn() -> bool + use<> {
        let mut state = self.state();
        for guest in &mut state.connections {
            guest.pings += u64::from(guest.send(Message::Ping(Bytes::new())));
        }
        let (asked, exchange) = (state.connections.len(), self.clone());
        move || exchange.state().connections[..asked].iter().all(|guest| !guest.is_open() || guest.pongs >= guest.pings)
    }

    pub fn refuse(&self, refusing: bool) {
        self.state().refusing = refusing;
    }

    /// Everything heard so far on all connections, in the order of connections.
    pub fn heard(&self) -> Vec<String> {
        self.state().connections.iter().flat_map(|guest| &guest.heard).map(|(_, text)| text.clone()).collect()
    }

    async fn attend(self, listener: TcpListener) {
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            if self.state().refusing {
                self.state().turned_away.push(Instant::now());
                continue;
            }
            socket.set_nodelay(true).expect("a TCP option");
            tokio::spawn(self.clone().welcome(socket));
        }
    }

    async fn welcome(self, socket: TcpStream) {
        let Ok(stream) = accept_async(socket).await else { return };
        let (outgoing, orders) = unbounded_channel();
        let index = {
            let mut state = self.state();
            let index = state.connections.len();
            let lag = state.lags.iter().find(|(guest, _)| *guest == index).map_or(Duration::ZERO, |(_, lag)| *lag);
            let outgoing = Some(outgoing);
            let (items, heard) = (BTreeSet::new(), Vec::new());
            let (closed, fed, pings, pongs) = (None, None, 0, 0);
            state.connections.push(FeedConnection {
                opened: Instant::now(),
                closed,
                items,
                heard,
                fed,
                outgoing,
                lag,
                pings,
                pongs,
            });
            index
        };
        self.serve(index, stream, orders).await;
        let mut state = self.state();
        state.connections[index].outgoing = None;
        state.connections[index].closed.get_or_insert_with(Instant::now);
    }

    async fn serve(
        &self,
        index: usize,
        stream: WebSocketStream<TcpStream>,
        mut orders: UnboundedReceiver<(Instant, Message)>,
    ) {
        let (mut speaking, mut hearing) = stream.split();
        let saying = async {
            while let Some((at, message)) = orders.recv().await {
                tokio::time::sleep_until(at.into()).await;
                if speaking.send(message).await.is_err() {
                    break;
                }
            }
            self.state().connections[index].closed = Some(Instant::now());
            // A clean end after what was sent; a client that is still sending is heard out. It may be gone as well.
            speaking.close().await.ok();
            std::future::pending().await
        };
        let listening = async {
            while let Some(Ok(message)) = hearing.next().await {
                match message {
                    Message::Text(text) => self.heed(index, &text),
                    Message::Pong(_) => self.state().connections[index].pongs += 1,
                    Message::Close(_) => break,
                    _ => {}
                }
            }
        };
        tokio::select! {
            () = saying => {}
            () = listening => {}
        }
    }

    fn heed(&self, index: usize, text: &str) {
        let mut state = self.state();
        let guest = &mut state.connections[index];
        guest.heard.push((Instant::now(), text.to_string()));
        let Ok(order) = serde_json::from_str::<Value>(text) else { return };
        let named = order["items"].as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from);
        let (bad, good): (Vec<String>, Vec<String>) = named.partition(|item| item.starts_with("bad"));
        let answer = match order["op"].as_str() {
            Some("sub") => {
                guest.items.extend(good.iter().cloned());
                json!({"id": order["id"], "ok": good, "bad": bad})
            }
            Some("unsub") => {
                guest.items.retain(|item| !good.contains(item));
                json!({"id": order["id"], "gone": good})
            }
            _ => return,
        };
        guest.say(answer.to_string());
    }
}

impl FeedConnection {
    pub fn is_open(&self) -> bool {
        self.outgoing.is_some()
    }

    fn say(&mut self, text: String) -> bool {
        self.send(Message::text(text))
    }

    fn send(&mut self, message: Message) -> bool {
        let at = Instant::now() + self.lag;
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.send((at, message)).is_ok())
    }

    /// For each message the moment at which it says it was sent: by the clock that the sender keeps its rate by.
    pub fn sent(&self) -> Vec<Duration> {
        let said = |text: &str| serde_json::from_str::<Value>(text).ok()?["at"].as_u64().map(Duration::from_millis);
        self.heard.iter().map(|(_, text)| said(text).expect("each message says when it was sent")).collect()
    }
}

/// Most of these moments, which are in order, within any such time.
pub fn most_within(moments: &[Duration], time: Duration) -> usize {
    let within = |first: usize| moments[first..].iter().take_while(|at| **at - moments[first] < time).count();
    (0..moments.len()).map(within).max().unwrap_or(0)
}

impl State {
    /// Most connections that stood at the same time.
    pub fn most_open(&self) -> usize {
        let stands = |guest: &FeedConnection, at: Instant| {
            guest.opened <= at && guest.closed.is_none_or(|closed| closed > at + NOTICE)
        };
        let at_opening =
            |guest: &FeedConnection| self.connections.iter().filter(|other| stands(other, guest.opened)).count();
        self.connections.iter().map(at_opening).max().unwrap_or(0)
    }
}
