//! Requests of this node's clients: to the feed, if this node holds it, else to the ingester. The answer is for the client
//! that has asked, and for nobody else.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use backbone::demand::requests::{NoAnswer, OpenRequests, RequestNumber};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::bus::clock::Clock;
use crate::bus::demand::requests::{AnswerTo, ClientRequest, RequestAnswer, RequestFailure, RequestKind, RequestQueue};
use crate::cluster::clients::held_feed::HeldFeed;
use crate::cluster::clients::request_form::{read_answer, write_request};
use crate::cluster::clients::request_taker::{RequestTaker, TakerNews};
use crate::cluster::link::{LinkReply, NodeLink};
use crate::cluster::nats::NatsError;

/// The feed takes a message at once, or not at all.
const SEND_WAIT: Duration = Duration::from_secs(10);
/// The ingester watches the time of a request itself, and its answer takes a while.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

pub struct RequestForwarder {
    link: NodeLink,
    queue: RequestQueue,
    held: watch::Receiver<Option<HeldFeed>>,
    /// Of the ingester; none if there is none.
    term: watch::Receiver<Option<u64>>,
    clock: Clock,
    open: OpenRequests,
    answers: HashMap<RequestNumber, AnswerTo>,
    replies: FuturesUnordered<BoxFuture<'static, (RequestNumber, LinkReply)>>,
    /// While this node is the ingester.
    taker: Option<RequestTaker>,
}

impl RequestForwarder {
    pub fn new(
        link: NodeLink,
        queue: RequestQueue,
        (held, term): (watch::Receiver<Option<HeldFeed>>, watch::Receiver<Option<u64>>),
        clock: Clock,
    ) -> RequestForwarder {
        RequestForwarder {
            open: OpenRequests::new(link.node),
            link,
            queue,
            held,
            term,
            clock,
            answers: HashMap::new(),
            replies: FuturesUnordered::new(),
            taker: None,
        }
    }

    /// # Errors
    /// The client of NATS has ended.
    pub async fn run(mut self) -> Result<Infallible, NatsError> {
        let (queue, mut held, mut term) = (self.queue.clone(), self.held.clone(), self.term.clone());
        self.hold().await?;
        loop {
            let deadline = self.open.deadline().map(|at| at.saturating_sub(self.clock.now().mono()));
            let over = async {
                match deadline {
                    Some(left) => sleep(left).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some(request) = queue.next() => self.forward(request),
                Some((number, reply)) = self.replies.next() => self.replied(number, reply),
                Some(news) = next_of(&mut self.taker) => {
                    if let Some(taker) = &mut self.taker {
                        taker.handle(news).await;
                    }
                }
                Ok(()) = held.changed() => self.hold().await?,
                Ok(()) = term.changed() => {
                    if let Some(term) = *term.borrow_and_update() {
                        let ended = self.open.term_begins(term);
                        self.leave(ended, "another server holds the feed now");
                    }
                }
                () = over => {
                    let ended = self.open.tick(self.clock.now().mono());
                    self.leave(ended, "the server that holds the feed has not answered");
                }
            }
        }
    }

    /// Whether this node is the ingester may have changed.
    async fn hold(&mut self) -> Result<(), NatsError> {
        let held = self.held.borrow_and_update().clone();
        self.taker = match held {
            Some(held) => Some(RequestTaker::listen(&self.link, held).await?),
            None => None,
        };
        Ok(())
    }

    fn forward(&mut self, request: ClientRequest) {
        if let Some(held) = &*self.held.borrow() {
            held.requests.put(request);
            return;
        }
        let ClientRequest { kind, answer } = request;
        let wait = match &kind {
            RequestKind::Send { .. } => SEND_WAIT,
            RequestKind::Request { timeout, .. } => *timeout + ANSWER_MARGIN,
        };
        let term = self.term.borrow().filter(|_| self.link.is_connected());
        let number = match self.open.ask(term, self.clock.now().mono(), wait) {
            Ok(number) => number,
            Err(reason) => return answer.give(unanswered(reason)),
        };
        let (payload, max) = (write_request(number, &kind), self.link.payload_bytes_max());
        if payload.len() > max {
            self.open.answered(number);
            let message = format!(
                "expected at most {max} bytes, which servers pass to each other (max_payload of nats-server), found {}",
                payload.len()
            );
            return answer.give(RequestAnswer::Failed(RequestFailure::NotSent, message));
        }
        self.answers.insert(number, answer);
        let (link, what) = (self.link.clone(), format!("request.{}", term.unwrap_or_default()));
        self.replies.push(Box::pin(async move { (number, link.ask(&what, payload, wait).await) }));
    }

    fn replied(&mut self, number: RequestNumber, reply: LinkReply) {
        let answer = match reply {
            LinkReply::Answered(bytes) if self.open.answered(number) => read_answer(&bytes).unwrap_or_else(|| {
                let message = "the answer of the server that holds the feed cannot be read".to_owned();
                RequestAnswer::Failed(RequestFailure::Unanswered, message)
            }),
            LinkReply::NoResponders => match self.open.no_responders(number) {
                Some(reason) => unanswered(reason),
                None => return,
            },
            // It ended before, or its time will be over.
            LinkReply::Answered(_) | LinkReply::Lost => return,
        };
        if let Some(client) = self.answers.remove(&number) {
            client.give(answer);
        }
    }

    /// Nobody knows whether these have reached the feed.
    fn leave(&mut self, ended: Vec<RequestNumber>, why: &str) {
        for client in ended.iter().filter_map(|number| self.answers.remove(number)) {
            let message = format!("{why}; it is not known whether the feed received it");
            client.give(RequestAnswer::Failed(RequestFailure::Unanswered, message));
        }
    }
}

fn unanswered(reason: NoAnswer) -> RequestAnswer {
    let (failure, message) = match reason {
        NoAnswer::UpstreamDown => {
            (RequestFailure::UpstreamDown, "no server that holds the feed can be reached; try again later")
        }
        NoAnswer::TooMany => {
            (RequestFailure::Busy, "too many client requests wait for the server that holds the feed; try again later")
        }
        NoAnswer::Unanswered => {
            (RequestFailure::Unanswered, "it was lost; it is not known whether the feed received it")
        }
    };
    RequestAnswer::Failed(failure, message.to_owned())
}

async fn next_of(taker: &mut Option<RequestTaker>) -> Option<TakerNews> {
    match taker {
        Some(taker) => taker.next().await,
        None => pending().await,
    }
}
