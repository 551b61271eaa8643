//! The shared log as a stream of NATS JetStream, and what nodes say to each other as messages of NATS.
//!
//! | subject | carries |
//! |---|---|
//! | `fanline.NAME.log` | appends; nobody subscribes, since refused ones are visible there |
//! | `fanline.NAME.out` | committed entries, republished by the stream with `Nats-Sequence` |
//! | `fanline.NAME.ask.TERM` | the ingester of the term answers, and "no responders" says that it is gone |
//! | `fanline.NAME.node` | hellos |
//! | `fanline.NAME.hello` | asks all nodes for one |
//! | `fanline.NAME.fork` | the epoch in which a node has found two histories |
//!
//! What clients want and say has subjects of its own (`cluster/clients`). Every call is a request of its own and is
//! answered by one event or by none. Snapshots have subjects of their own (`cluster/snapshots`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, Event, Message, Request, RequestErrorKind, ServerAddr};
use backbone::hello::NodeHello;
use backbone::log::{CallId, LogRequest, LogSequence, StoredBytes};
use backbone::node::NodeEvent;
use bytes::Bytes;
use feed_log::chain::Chain;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cluster::backbone_io::{Backbone, BackboneEvents};
use crate::cluster::link::NodeLink;
use crate::cluster::members::MemberList;
use crate::cluster::snapshots::{PeerSnapshot, taker};
use crate::cluster::stream::{StreamApi, StreamTerms};

/// Events that wait for the node: further ones wait in the client of NATS, whose overflow the node sees as missing.
const EVENTS_MAX: usize = 4_096;
/// A server that does not answer is left within two of these.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RECONNECT_DELAY: Duration = Duration::from_millis(100);
/// A reply that comes later says nothing that a node does not know by then.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_millis(500);
#[derive(Clone, Debug)]
pub struct NatsTerms {
    pub urls: Vec<String>,
    pub credentials: Option<String>,
    /// Shown in the server's list of connections.
    pub node_name: String,
    pub stream: StreamTerms,
}

pub struct NatsBackbone {
    client: Client,
    stream: StreamTerms,
    /// Of this node: its own hellos are not news.
    node: u64,
    node_name: String,
    members: Arc<MemberList>,
    events: mpsc::Sender<NodeEvent>,
    found: mpsc::Sender<Option<PeerSnapshot>>,
    answering: Option<JoinHandle<()>>,
}

#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    #[error("cluster.urls: {0}")]
    Url(String),
    #[error("cluster.credentials_file: {0}")]
    Credentials(std::io::Error),
    #[error("cluster: {0}")]
    Subscribe(String),
}

impl NatsBackbone {
    /// Connects as soon as one of the servers answers, and again whenever the connection is lost.
    ///
    /// # Errors
    /// An address or the credentials are not such.
    pub async fn connect(terms: NatsTerms, node: u64) -> Result<(NatsBackbone, BackboneEvents), NatsError> {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (found, snapshots) = mpsc::channel(1);
        let told = events.clone();
        let mut options = ConnectOptions::new()
            .name(format!("fanline {}", terms.node_name))
            .ping_interval(PING_INTERVAL)
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(Some(REPLY_TIMEOUT))
            .reconnect_delay_callback(|attempt| if attempt == 0 { Duration::ZERO } else { RECONNECT_DELAY })
            .retry_on_initial_connect()
            .event_callback(move |event| {
                let told = told.clone();
                async move { connection_event(&told, event).await }
            });
        if let Some(credentials) = &terms.credentials {
            options = options.credentials(credentials).map_err(NatsError::Credentials)?;
        }
        check_urls(&terms.urls)?;
        let client = options.connect(terms.urls.clone()).await.map_err(|error| NatsError::Url(error.to_string()))?;
        let NatsTerms { node_name, stream, .. } = terms;
        let members = Arc::default();
        let backbone = NatsBackbone { client, stream, node, node_name, members, events, found, answering: None };
        backbone.subscribe().await?;
        Ok((backbone, BackboneEvents { node: receiver, snapshots }))
    }

    pub fn link(&self) -> NodeLink {
        NodeLink { client: self.client.clone(), feed: self.stream.name.clone(), node: self.node }
    }

    /// The other nodes.
    pub fn members(&self) -> Arc<MemberList> {
        self.members.clone()
    }

    async fn subscribe(&self) -> Result<(), NatsError> {
        let (own, members) = (self.node, self.members.clone());
        self.listen("out", |message| {
            let sequence = message.headers.as_ref()?.get("Nats-Sequence")?.as_str().parse().ok()?;
            Some(NodeEvent::Tailed(StoredBytes { sequence: LogSequence(sequence), bytes: message.payload }))
        })
        .await?;
        self.listen("node", move |message| {
            let (hello, name) = HelloMessage::read(&message.payload)?;
            if hello.node == own {
                return None;
            }
            members.hear(hello, name, Instant::now());
            Some(NodeEvent::Hello(hello))
        })
        .await?;
        self.listen("hello", |_| Some(NodeEvent::HellosAsked)).await?;
        self.listen("fork", |message| {
            let epoch = std::str::from_utf8(&message.payload).ok()?.parse().ok()?;
            Some(NodeEvent::ForkReported { epoch })
        })
        .await
    }

    async fn listen(
        &self,
        what: &str,
        read: impl Fn(Message) -> Option<NodeEvent> + Send + 'static,
    ) -> Result<(), NatsError> {
        let subscriber = self.client.subscribe(self.subject(what)).await;
        let mut subscriber = subscriber.map_err(|error| NatsError::Subscribe(error.to_string()))?;
        let events = self.events.clone();
        tokio::spawn(async move {
            while let Some(message) = subscriber.next().await {
                if let Some(event) = read(message)
                    && events.send(event).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(())
    }

    fn subject(&self, what: &str) -> String {
        format!("fanline.{}.{what}", self.stream.name)
    }

    fn publish(&self, what: &str, payload: Bytes) {
        let (client, subject) = (self.client.clone(), self.subject(what));
        tokio::spawn(async move {
            // What a node says once more in two seconds need not be told twice.
            let _ = client.publish(subject, payload).await;
        });
    }
}

impl Backbone for NatsBackbone {
    fn request(&mut self, call: CallId, request: LogRequest) {
        let log = StreamApi { client: self.client.clone(), stream: self.stream.clone() };
        let events = self.events.clone();
        tokio::spawn(async move {
            let reply = match request {
                LogRequest::Append { expected, entry } => log.append(expected, entry).await,
                LogRequest::Tail => log.bounds().await,
                LogRequest::Read(range) => log.read(range).await,
                LogRequest::Create => log.create().await,
            };
            if let Some(reply) = reply {
                let _ = events.send(NodeEvent::Replied { call, reply }).await;
            }
        });
    }

    fn ping(&mut self, term: u64) {
        let (client, subject, events) =
            (self.client.clone(), self.subject(&format!("ask.{term}")), self.events.clone());
        tokio::spawn(async move {
            let request = Request::new().timeout(Some(PING_TIMEOUT));
            let is_answered = match client.send_request(subject, request).await {
                Ok(_) => true,
                Err(error) if error.kind() == RequestErrorKind::NoResponders => false,
                Err(_) => return,
            };
            let _ = events.send(NodeEvent::Pinged { term, is_answered }).await;
        });
    }

    fn answer_for(&mut self, term: Option<u64>) {
        if let Some(answering) = self.answering.take() {
            answering.abort();
        }
        let Some(term) = term else { return };
        let (client, subject) = (self.client.clone(), self.subject(&format!("ask.{term}")));
        self.answering = Some(tokio::spawn(async move {
            let Ok(mut asked) = client.subscribe(subject).await else { return };
            while let Some(message) = asked.next().await {
                if let Some(reply) = message.reply {
                    let _ = client.publish(reply, Bytes::new()).await;
                }
            }
        }));
    }

    fn tell(&mut self, hello: NodeHello) {
        self.publish("node", HelloMessage::write(&hello, &self.node_name));
    }

    fn ask_hellos(&mut self) {
        self.publish("hello", Bytes::new());
    }

    fn ask_snapshot(&mut self, besides: Option<u64>) {
        let (link, found) = (self.link(), self.found.clone());
        tokio::spawn(async move {
            let snapshot = taker::take(link, besides).await;
            let _ = found.send(snapshot).await;
        });
    }

    fn report_fork(&mut self, epoch: u64) {
        self.publish("fork", epoch.to_string().into());
    }
}

/// # Errors
/// One of them is no URL of a server of NATS.
pub fn check_urls(urls: &[String]) -> Result<(), NatsError> {
    for url in urls {
        let read: Result<ServerAddr, _> = url.parse();
        let found = match read {
            Ok(server) if !server.host().is_empty() => continue,
            Ok(_) => "no host".to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(NatsError::Url(format!(
            "expected a URL such as `nats://10.0.0.5:4222` or `tls://nats.example.com`, found `{url}`: {found}"
        )));
    }
    Ok(())
}

async fn connection_event(events: &mpsc::Sender<NodeEvent>, event: Event) {
    match event {
        Event::Connected => {
            tracing::info!("connected to a server of cluster.urls");
            let _ = events.send(NodeEvent::Reconnected).await;
        }
        Event::Disconnected => tracing::warn!("the connection to the cluster's log is lost; it is made anew"),
        Event::SlowConsumer(_) => {
            tracing::warn!("this node reads the cluster's log too slowly; what is missing is read again")
        }
        Event::ServerError(error) => tracing::warn!(%error, "a server of cluster.urls refuses something"),
        Event::ClientError(error) => tracing::debug!(%error, "the client of cluster.urls"),
        Event::LameDuckMode => tracing::info!("the server of cluster.urls shuts down; another one is used"),
        other => tracing::debug!(event = %other, "the connection to the cluster's log"),
    }
}

/// A hello as it is sent.
#[derive(Serialize, Deserialize)]
struct HelloMessage {
    node: u64,
    priority: u32,
    term: u64,
    epoch: u64,
    next_offset: u64,
    chain: String,
    is_witness: bool,
    is_candidate: bool,
    ingester: u64,
    #[serde(default)]
    name: String,
}

impl HelloMessage {
    fn write(hello: &NodeHello, name: &str) -> Bytes {
        let NodeHello { node, priority, term, epoch, next_offset, chain, is_witness, is_candidate, ingester } = *hello;
        let (chain, name) = (chain.to_string(), name.to_owned());
        let message =
            HelloMessage { node, priority, term, epoch, next_offset, chain, is_witness, is_candidate, ingester, name };
        serde_json::to_vec(&message).expect("a plain struct always serialises into memory").into()
    }

    fn read(bytes: &[u8]) -> Option<(NodeHello, String)> {
        let message: HelloMessage = serde_json::from_slice(bytes).ok()?;
        let HelloMessage { node, priority, term, epoch, next_offset, chain, is_witness, is_candidate, ingester, name } =
            message;
        let mut hash = [0; Chain::BYTES];
        hex::decode_to_slice(chain, &mut hash).ok()?;
        let chain = Chain(hash);
        let hello = NodeHello { node, priority, term, epoch, next_offset, chain, is_witness, is_candidate, ingester };
        Some((hello, name))
    }
}
