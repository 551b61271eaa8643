//! What clients say to the feed through the ingester: told at most once, and answered exactly once.
//!
//! A request that may have reached the feed is never sent again: when the term changes or the time is over, it is
//! unanswered, and the client decides.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

/// Requests of all clients of a node that wait for answers.
const OPEN_MAX: usize = 4096;
/// Requests that an ingester remembers to have taken.
const TAKEN_MAX: usize = 16_384;

/// A request: the node that has it from a client, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNumber {
    pub node: u64,
    pub number: u64,
}

/// How a request ends if the feed has not answered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It has reached nobody.
    UpstreamDown,
    /// Nobody knows whether it has reached the feed.
    Unanswered,
    /// Too many wait already.
    TooMany,
}

/// A node's requests that wait.
#[derive(Debug)]
pub struct OpenRequests {
    node: u64,
    last: u64,
    open: BTreeMap<u64, OpenAsk>,
}

#[derive(Clone, Copy, Debug)]
struct OpenAsk {
    term: u64,
    until: Duration,
}

impl OpenRequests {
    pub fn new(node: u64) -> OpenRequests {
        OpenRequests { node, last: 0, open: BTreeMap::new() }
    }

    /// A client asks, and waits so long. Send it to the ingester of the term, once.
    ///
    /// # Errors
    /// It cannot be sent, and has ended with this.
    pub fn ask(&mut self, term: Option<u64>, now: Duration, wait: Duration) -> Result<RequestNumber, NoAnswer> {
        let term = term.ok_or(NoAnswer::UpstreamDown)?;
        if self.open.len() >= OPEN_MAX {
            return Err(NoAnswer::TooMany);
        }
        self.last += 1;
        self.open.insert(self.last, OpenAsk { term, until: now + wait });
        Ok(RequestNumber { node: self.node, number: self.last })
    }

    /// The feed's answer has come. False if the request has ended before: then the client must not see it.
    pub fn answered(&mut self, request: RequestNumber) -> bool {
        request.node == self.node && self.open.remove(&request.number).is_some()
    }

    /// Nobody answers for the term: the request has reached nobody.
    pub fn no_responders(&mut self, request: RequestNumber) -> Option<NoAnswer> {
        self.answered(request).then_some(NoAnswer::UpstreamDown)
    }

    /// Another term has begun: what was sent in earlier ones is not answered any more.
    pub fn term_begins(&mut self, term: u64) -> Vec<RequestNumber> {
        self.end(|ask| ask.term < term)
    }

    /// Gives requests whose time is over; they are unanswered.
    pub fn tick(&mut self, now: Duration) -> Vec<RequestNumber> {
        self.end(|ask| now >= ask.until)
    }

    pub fn deadline(&self) -> Option<Duration> {
        self.open.values().map(|ask| ask.until).min()
    }

    fn end(&mut self, is_over: impl Fn(&OpenAsk) -> bool) -> Vec<RequestNumber> {
        let node = self.node;
        let over = self.open.extract_if(.., |_, ask| is_over(ask));
        over.map(|(number, _)| RequestNumber { node, number }).collect()
    }
}

/// The requests that an ingester has passed to the feed in its term.
#[derive(Debug)]
pub struct TakenRequests {
    term: u64,
    taken: HashSet<RequestNumber>,
    order: VecDeque<RequestNumber>,
}

impl TakenRequests {
    pub fn new(term: u64) -> TakenRequests {
        TakenRequests { term, taken: HashSet::new(), order: VecDeque::new() }
    }

    /// Whether to pass it to the feed: it is of this term, and was not taken before.
    pub fn take(&mut self, term: u64, request: RequestNumber) -> bool {
        if term != self.term || !self.taken.insert(request) {
            return false;
        }
        self.order.push_back(request);
        if self.order.len() > TAKEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.taken.remove(&oldest);
        }
        true
    }
}
