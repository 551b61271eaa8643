//! What nodes say to each other besides the log: plain messages of NATS, which may be lost.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Request, RequestErrorKind, Subject, Subscriber};
use bytes::Bytes;

use crate::cluster::nats::NatsError;

#[derive(Clone)]
pub struct NodeLink {
    pub(super) client: Client,
    /// Of the feed.
    pub(super) feed: String,
    /// Of this node.
    pub node: u64,
}

/// What a request to another node has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkReply {
    Answered(Bytes),
    /// It has reached nobody.
    NoResponders,
    /// Nobody knows whether it has reached anybody.
    Lost,
}

impl NodeLink {
    pub(super) fn subject(&self, what: &str) -> String {
        format!("fanline.{}.{what}", self.feed)
    }

    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Of one message.
    pub fn payload_bytes_max(&self) -> usize {
        self.client.max_payload()
    }

    pub async fn listen(&self, what: &str) -> Result<Subscriber, NatsError> {
        let subscriber = self.client.subscribe(self.subject(what)).await;
        subscriber.map_err(|error| NatsError::Subscribe(error.to_string()))
    }

    /// Of the servers that listen so, one hears each message.
    pub async fn listen_in_turn(&self, what: &str) -> Result<Subscriber, NatsError> {
        let subscriber = self.client.queue_subscribe(self.subject(what), what.to_owned()).await;
        subscriber.map_err(|error| NatsError::Subscribe(error.to_string()))
    }

    /// Whether it was said. What is said while there is no connection is not kept until there is one.
    pub async fn publish(&self, what: &str, payload: Bytes) -> bool {
        self.is_connected() && self.client.publish(self.subject(what), payload).await.is_ok()
    }

    /// Whoever asked has a time limit, so that a reply may be lost.
    pub async fn reply(&self, to: Subject, payload: Bytes) {
        if self.is_connected() {
            let _ = self.client.publish(to, payload).await;
        }
    }

    pub async fn ask(&self, what: &str, payload: Bytes, wait: Duration) -> LinkReply {
        let request = Request::new().timeout(Some(wait)).payload(payload);
        match self.client.send_request(self.subject(what), request).await {
            Ok(message) => LinkReply::Answered(message.payload),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => LinkReply::NoResponders,
            Err(_) => LinkReply::Lost,
        }
    }
}
