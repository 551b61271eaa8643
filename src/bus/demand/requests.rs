//! Client requests to the feed: delivery puts them into a bounded queue, the intake takes them and answers each.
//!
//! Every request is answered exactly once, whatever happens to it: at the latest when it is dropped. An answer finds its
//! way to the session by what delivery has put into [`AnswerTo`]; nothing here knows sessions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};

use crate::words::topic::Pattern;

/// Requests that wait for the intake; a further one is answered `busy`. An intake that works never has that many.
const QUEUE_MAX: usize = 1024;

/// Which requests clients may make.
#[derive(Clone, Debug, Default)]
pub struct RequestRules {
    /// Topics that clients may send to; none if empty.
    pub send: Vec<Pattern>,
    pub request: bool,
}

/// The clients' end. Clones put into the same queue.
#[derive(Clone)]
pub struct Requests {
    rules: Arc<RequestRules>,
    queue: mpsc::Sender<ClientRequest>,
}

/// The intake's end. Clones take from the same queue; with the last one it is closed, and requests are
/// answered `upstream_down`.
#[derive(Clone, Debug)]
pub struct RequestQueue {
    queue: Arc<Mutex<mpsc::Receiver<ClientRequest>>>,
}

/// One request of one client.
#[derive(Debug)]
pub struct ClientRequest {
    pub kind: RequestKind,
    pub answer: AnswerTo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// To be handed to a connection to the feed; the answer confirms no more than that.
    Send {
        topic: Box<str>,
        /// JSON text as the client wrote it.
        data: Box<str>,
    },
    /// To be answered by the feed within `timeout`, which the intake watches.
    Request {
        /// Text of a JSON object, as the client wrote it.
        data: Box<str>,
        timeout: Duration,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestAnswer {
    /// It was handed to a connection to the feed.
    Sent,
    /// What the feed answered, as received; what is not JSON reaches the client as a string.
    Response(Bytes),
    /// It was not done; the message is for people.
    Failed(RequestFailure, String),
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFailure {
    /// The connection to the feed did not take it, or the profile does not define how to send it.
    NotSent,
    /// The feed has not answered in time.
    Timeout,
    /// There is no connection to the feed.
    UpstreamDown,
    /// Too much waits already.
    Busy,
    /// The server has lost it: a fault, or the end of the process.
    Unanswered,
}

/// Where the answer to one request goes. Dropped unused, it answers `unanswered`.
pub struct AnswerTo {
    deliver: Option<Box<dyn FnOnce(RequestAnswer) + Send>>,
}

/// Opens the queue.
pub fn open(rules: RequestRules) -> (Requests, RequestQueue) {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    (Requests { rules: Arc::new(rules), queue: sender }, RequestQueue { queue: Arc::new(Mutex::new(receiver)) })
}

impl Requests {
    /// For a server that forwards nothing.
    pub fn closed() -> Requests {
        open(RequestRules::default()).0
    }

    pub fn rules(&self) -> &RequestRules {
        &self.rules
    }

    /// Queues the request; if that is not possible it is answered here.
    pub fn put(&self, request: ClientRequest) {
        match self.queue.try_send(request) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(request)) => {
                let message =
                    format!("expected at most {QUEUE_MAX} client requests that wait for the feed; try again later");
                request.answer.give(RequestAnswer::Failed(RequestFailure::Busy, message));
            }
            Err(mpsc::error::TrySendError::Closed(request)) => {
                let message = "there is no connection to the feed that takes client requests; try again later";
                request.answer.give(RequestAnswer::Failed(RequestFailure::UpstreamDown, message.into()));
            }
        }
    }
}

impl RequestQueue {
    /// The next request; waits for one. None once there is no delivery any more. Nothing is lost if the wait is given up.
    pub async fn next(&self) -> Option<ClientRequest> {
        self.queue.lock().await.recv().await
    }
}

impl RequestRules {
    pub fn may_send(&self, topic: &str) -> bool {
        self.send.iter().any(|pattern| pattern.matches(topic))
    }
}

impl RequestFailure {
    pub const ALL: [RequestFailure; 5] = [
        RequestFailure::NotSent,
        RequestFailure::Timeout,
        RequestFailure::UpstreamDown,
        RequestFailure::Busy,
        RequestFailure::Unanswered,
    ];

    /// `code` of the `error` that the client receives, and value of the `result` label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            RequestFailure::NotSent => "not_sent",
            RequestFailure::Timeout => "timeout",
            RequestFailure::UpstreamDown => "upstream_down",
            RequestFailure::Busy => "busy",
            RequestFailure::Unanswered => "unanswered",
        }
    }
}

impl AnswerTo {
    /// `deliver` is called once, from any thread; it must not block.
    pub fn new(deliver: impl FnOnce(RequestAnswer) + Send + 'static) -> AnswerTo {
        AnswerTo { deliver: Some(Box::new(deliver)) }
    }

    pub fn give(mut self, answer: RequestAnswer) {
        if let Some(deliver) = self.deliver.take() {
            deliver(answer);
        }
    }
}

impl Drop for AnswerTo {
    fn drop(&mut self) {
        if let Some(deliver) = self.deliver.take() {
            let message = "the server dropped it; it is not known whether the feed received it";
            deliver(RequestAnswer::Failed(RequestFailure::Unanswered, message.into()));
        }
    }
}

impl fmt::Debug for AnswerTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerTo")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use futures_util::FutureExt;

    use super::*;

    fn request(data: &str) -> (ClientRequest, Receiver<RequestAnswer>) {
        let (sender, answers) = channel();
        // The client may be gone.
        let answer = AnswerTo::new(move |answer| sender.send(answer).unwrap_or_default());
        (ClientRequest { kind: RequestKind::Send { topic: "t".into(), data: data.into() }, answer }, answers)
    }

    fn failure(answers: &Receiver<RequestAnswer>) -> Option<RequestFailure> {
        let RequestAnswer::Failed(failure, _) = answers.try_recv().ok()? else { panic!("expected a failure") };
        assert!(answers.try_recv().is_err(), "one answer only");
        Some(failure)
    }

    #[test]
    fn a_request_reaches_the_intake_and_its_answer_the_client() {
        let (requests, queue) = open(RequestRules::default());
        let (one, answers) = request("1");
        requests.put(one);
        let one = queue.next().now_or_never().flatten().expect("it waits there");
        assert_eq!(one.kind, RequestKind::Send { topic: "t".into(), data: "1".into() });
        one.answer.give(RequestAnswer::Sent);
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [RequestAnswer::Sent]);
    }

    #[test]
    fn a_request_that_nobody_answers_is_answered() {
        let (requests, queue) = open(RequestRules::default());
        let (dropped, first) = request("1");
        requests.put(dropped);
        drop(queue.next().now_or_never());
        assert_eq!(failure(&first), Some(RequestFailure::Unanswered));

        let (left, second) = request("2");
        requests.put(left);
        assert_eq!(failure(&second), None);
        drop(queue);
        assert_eq!(failure(&second), Some(RequestFailure::Unanswered));
        let (late, third) = request("3");
        requests.put(late);
        assert_eq!(failure(&third), Some(RequestFailure::UpstreamDown));
    }

    #[test]
    fn the_queue_is_bounded() {
        let (requests, _queue) = open(RequestRules::default());
        let answers: Vec<Receiver<RequestAnswer>> = (0..QUEUE_MAX + 1)
            .map(|_| {
                let (one, answers) = request("1");
                requests.put(one);
                answers
            })
            .collect();
        let failures: Vec<Option<RequestFailure>> = answers.iter().map(failure).collect();
        assert!(failures[..QUEUE_MAX].iter().all(Option::is_none));
        assert_eq!(failures[QUEUE_MAX], Some(RequestFailure::Busy));
    }

    #[test]
    fn clients_may_send_where_a_pattern_allows_it() {
        let rules = RequestRules { send: vec![Pattern::parse("chat.*").expect("a pattern")], request: false };
        assert!(rules.may_send("chat.#rust"));
        assert!(!rules.may_send("orders"));
        assert!(!RequestRules::default().may_send("chat.#rust"));
    }
}
