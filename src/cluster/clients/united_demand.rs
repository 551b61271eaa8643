//! What clients of all nodes want, at the ingester: told to the feed as if they were its own clients.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use backbone::demand::want_board::{WantBoard, WantChange};
use backbone::demand::{WantMessage, WantNews};
use futures_util::StreamExt;

use crate::bus::demand::interest::{Claim, DemandStatus, Interest};
use crate::cluster::clients::demand_form::read_want;
use crate::cluster::link::NodeLink;
use crate::cluster::nats::NatsError;
use crate::words::rate_limited_log::RateLimitedLog;
use crate::words::stamp::Stamp;

/// A new ingester asks all nodes, and once more: another server of NATS may not have known yet where it listens.
const ASK_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct UnitedDemand {
    board: WantBoard,
    interest: Arc<Interest>,
    /// Topics that the feed is asked for.
    claims: HashMap<Arc<str>, Claim>,
    /// Version of the statuses that were told.
    version: u64,
    wants: Subscriber,
    ask_again_at: Option<Duration>,
    left_out: RateLimitedLog,
}

/// What the nodes are to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DemandNews {
    /// All nodes shall tell what their clients want.
    pub asks_all: bool,
    /// These shall.
    pub asked: Vec<u64>,
    pub statuses: Vec<(Box<str>, DemandStatus)>,
}

impl UnitedDemand {
    pub async fn listen(link: &NodeLink, interest: Arc<Interest>, now: Stamp) -> Result<UnitedDemand, NatsError> {
        Ok(UnitedDemand {
            board: WantBoard::new(interest.bounds().topics_max),
            interest,
            claims: HashMap::new(),
            version: 0,
            wants: link.listen("demand").await?,
            ask_again_at: Some(now.mono() + ASK_AGAIN),
            left_out: RateLimitedLog::default(),
        })
    }

    /// The next message of a node. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> Option<WantMessage> {
        loop {
            let message = self.wants.next().await?;
            match read_want(&message.payload) {
                Some(want) => return Some(want),
                None => {
                    tracing::debug!(bytes = message.payload.len(), "a node's demand cannot be read, and is left out")
                }
            }
        }
    }

    pub fn hear(&mut self, message: WantMessage, now: Stamp) -> DemandNews {
        let named = match &message.news {
            WantNews::Whole { topics, .. } => topics.clone(),
            WantNews::Change { added, .. } => added.clone(),
            WantNews::Beat { .. } => Vec::new(),
        };
        let changes = self.board.hear(message, now.mono());
        let mut news = self.follow(changes, now);
        // Others were told before.
        let told = self.interest.statuses_of(named.iter().map(|topic| &**topic), self.version);
        news.statuses.extend(told.into_iter().filter_map(|(topic, status)| Some((topic.into(), status?))));
        news
    }

    pub fn tick(&mut self, now: Stamp) -> DemandNews {
        let changes = self.board.tick(now.mono());
        let mut news = self.follow(changes, now);
        news.asks_all = self.ask_again_at.take_if(|at| *at <= now.mono()).is_some();
        while self.interest.status_version() != self.version {
            let (version, statuses) = self.interest.statuses_after(self.version);
            self.version = version;
            news.statuses.extend(statuses);
        }
        news
    }

    fn follow(&mut self, changes: Vec<WantChange>, now: Stamp) -> DemandNews {
        let mut news = DemandNews::default();
        for change in changes {
            match change {
                WantChange::Wanted(topic) => match self.interest.claim(std::slice::from_ref(&topic)) {
                    Ok(claims) => self.claims.extend(claims.into_iter().flatten().map(|claim| (topic.clone(), claim))),
                    Err(_) => news.statuses.push((topic.as_ref().into(), self.no_room())),
                },
                WantChange::Unwanted(topic) => drop(self.claims.remove(&topic)),
                WantChange::LeftOut(topic) => news.statuses.push((topic.as_ref().into(), self.no_room())),
                WantChange::Ask { node } => news.asked.push(node),
            }
        }
        if !news.statuses.is_empty()
            && let Some(suppressed) = self.left_out.take(now)
        {
            tracing::warn!(
                topics = news.statuses.len(),
                suppressed,
                "clients of all servers name more topics than limits.topics_max; the feed is not asked for these"
            );
        }
        news
    }

    fn no_room(&self) -> DemandStatus {
        let max = self.interest.bounds().topics_max;
        let message = format!(
            "expected at most {max} topics that clients of all servers name (limits.topics_max), found more; \
             subscribe to fewer, or try again later"
        );
        DemandStatus::Refused { message }
    }
}
