//! Requests of clients of other nodes, at the ingester: each is handed to the feed once, and its answer goes back.

use std::sync::Arc;

use async_nats::{Message, Subject, Subscriber};
use backbone::demand::requests::TakenRequests;
use futures_util::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bus::demand::requests::{AnswerTo, ClientRequest, RequestAnswer, RequestFailure, RequestKind};
use crate::cluster::clients::held_feed::HeldFeed;
use crate::cluster::clients::request_form::{read_request, write_answer};
use crate::cluster::link::NodeLink;
use crate::cluster::nats::NatsError;

/// Requests of other nodes that wait for the feed, or whose answers wait to be sent.
const WAITING_MAX: usize = 2048;

pub(super) struct RequestTaker {
    link: NodeLink,
    held: HeldFeed,
    requests: Subscriber,
    taken: TakenRequests,
    waiting: Arc<Semaphore>,
    /// Bounded by `waiting`, of which each answer holds a part.
    answers: UnboundedReceiver<GivenAnswer>,
    give: UnboundedSender<GivenAnswer>,
}

/// An answer that waits to be sent.
pub(super) struct GivenAnswer {
    to: Subject,
    answer: RequestAnswer,
    _waiting: OwnedSemaphorePermit,
}

pub(super) enum TakerNews {
    Asked(Message),
    Given(GivenAnswer),
}

impl RequestTaker {
    pub async fn listen(link: &NodeLink, held: HeldFeed) -> Result<RequestTaker, NatsError> {
        let (give, answers) = unbounded_channel();
        Ok(RequestTaker {
            requests: link.listen(&format!("request.{}", held.term)).await?,
            link: link.clone(),
            taken: TakenRequests::new(held.term),
            held,
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            answers,
            give,
        })
    }

    /// Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Option<TakerNews> {
        tokio::select! {
            asked = self.requests.next() => asked.map(TakerNews::Asked),
            given = self.answers.recv() => given.map(TakerNews::Given),
        }
    }

    pub async fn handle(&mut self, news: TakerNews) {
        match news {
            TakerNews::Asked(message) => {
                if let Some((to, refusal)) = self.take(message) {
                    self.link.reply(to, write_answer(&refusal)).await;
                }
            }
            TakerNews::Given(GivenAnswer { to, answer, _waiting }) => {
                let (mut payload, max) = (write_answer(&answer), self.link.payload_bytes_max());
                if payload.len() > max {
                    let message = format!(
                        "expected an answer of at most {max} bytes, which servers pass to each other (max_payload of \
                         nats-server), found {}",
                        payload.len()
                    );
                    payload = write_answer(&RequestAnswer::Failed(RequestFailure::Unanswered, message));
                }
                self.link.reply(to, payload).await;
            }
        }
    }

    /// Hands a request to the feed; gives what to answer at once, if it cannot be.
    fn take(&mut self, message: Message) -> Option<(Subject, RequestAnswer)> {
        let to = message.reply?;
        let failed = |to, failure, message: &str| Some((to, RequestAnswer::Failed(failure, message.to_owned())));
        let Some((number, kind)) = read_request(&message.payload) else {
            return failed(to, RequestFailure::NotSent, "the server that holds the feed cannot read it");
        };
        if !self.taken.take(self.held.term, number) {
            return None;
        }
        let rules = self.held.requests.rules();
        let may_be_sent = match &kind {
            RequestKind::Send { topic, .. } => rules.may_send(topic),
            RequestKind::Request { .. } => rules.request,
        };
        if !may_be_sent {
            let message = "the server that holds the feed does not allow it (upstream.send, upstream.request)";
            return failed(to, RequestFailure::NotSent, message);
        }
        let Ok(waiting) = self.waiting.clone().try_acquire_owned() else {
            let message = "too many client requests of other servers wait for the feed; try again later";
            return failed(to, RequestFailure::Busy, message);
        };
        let give = self.give.clone();
        // Without a taker this node is the ingester no longer, and the other node has been told by the new term.
        let deliver = move |answer| give.send(GivenAnswer { to, answer, _waiting: waiting }).unwrap_or_default();
        self.held.requests.put(ClientRequest { kind, answer: AnswerTo::new(deliver) });
        None
    }
}
