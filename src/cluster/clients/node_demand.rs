//! What clients of this node want, told to the ingester; and the status of topics without a message, told by it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use backbone::demand::WantMessage;
use backbone::demand::want_list::WantList;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::bus::clock::Clock;
use crate::bus::demand::interest::{DemandStatus, Interest, InterestChange};
use crate::bus::shown_log::ShownLog;
use crate::cluster::clients::demand_form::{read_statuses, write_statuses, write_want};
use crate::cluster::clients::held_feed::HeldFeed;
use crate::cluster::clients::united_demand::{DemandNews, UnitedDemand};
use crate::cluster::link::NodeLink;
use crate::cluster::nats::NatsError;

const TICK: Duration = Duration::from_millis(100);
/// How often topics without a message are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Topics in one message to the ingester.
const CHANGES_MAX: usize = 1024;

pub struct NodeDemand {
    link: NodeLink,
    /// Of the clients of this node.
    interest: Arc<Interest>,
    shown: ShownLog,
    clock: Clock,
    held: watch::Receiver<Option<HeldFeed>>,
    list: WantList,
    /// While this node is the ingester.
    united: Option<UnitedDemand>,
    /// The ingester may lack something that no message will tell it.
    is_untold: bool,
    /// Topics with a status that have no message yet.
    unseen: HashSet<Box<str>>,
    look_at: Duration,
}

impl NodeDemand {
    pub fn new(
        link: NodeLink,
        (interest, shown): (Arc<Interest>, ShownLog),
        held: watch::Receiver<Option<HeldFeed>>,
        clock: Clock,
    ) -> NodeDemand {
        let now = clock.now().mono();
        NodeDemand {
            list: WantList::new(link.node, now),
            link,
            interest,
            shown,
            clock,
            held,
            united: None,
            is_untold: false,
            unseen: HashSet::new(),
            look_at: now,
        }
    }

    /// # Errors
    /// The client of NATS has ended.
    pub async fn run(mut self) -> Result<Infallible, NatsError> {
        let mut asks = self.link.listen("demand.ask").await?;
        let mut statuses = self.link.listen("demand.status").await?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (interest, mut held) = (self.interest.clone(), self.held.clone());
        self.hold().await?;
        loop {
            tokio::select! {
                () = interest.changed() => self.follow_clients().await,
                Some(message) = next_of(&mut self.united) => {
                    let now = self.clock.now();
                    if let Some(united) = &mut self.united {
                        let news = united.hear(message, now);
                        self.pass_on(news).await;
                    }
                }
                Some(ask) = asks.next() => {
                    if ask.payload.is_empty() || ask.payload == self.own_name() {
                        self.tell(self.list.whole()).await;
                    }
                }
                Some(message) = statuses.next() => self.take(read_statuses(&message.payload)),
                Ok(()) = held.changed() => self.hold().await?,
                _ = ticks.tick() => self.tick().await,
            }
        }
    }

    /// In a message that asks this node alone.
    fn own_name(&self) -> Bytes {
        name_of(self.link.node)
    }

    /// Whether this node is the ingester may have changed.
    async fn hold(&mut self) -> Result<(), NatsError> {
        let held = self.held.borrow_and_update().clone();
        let Some(interest) = held.and_then(|held| held.interest) else {
            self.united = None;
            self.is_untold = true;
            return Ok(());
        };
        self.united = Some(UnitedDemand::listen(&self.link, interest, self.clock.now()).await?);
        self.link.publish("demand.ask", Bytes::new()).await;
        self.tell(self.list.whole()).await;
        Ok(())
    }

    async fn follow_clients(&mut self) {
        let changes = self.interest.drain(CHANGES_MAX).into_iter();
        let (added, removed): (Vec<_>, Vec<_>) = changes.partition(|change| change.wanted);
        let topics = |changes: Vec<_>| changes.into_iter().map(|change: InterestChange| Arc::from(change.topic));
        let messages = self.list.change(topics(added), topics(removed));
        self.tell(messages).await;
    }

    async fn tell(&mut self, messages: Vec<WantMessage>) {
        for message in messages {
            match &mut self.united {
                Some(united) => {
                    let news = united.hear(message, self.clock.now());
                    self.pass_on(news).await;
                }
                None => self.is_untold |= !self.link.publish("demand", write_want(message)).await,
            }
        }
    }

    async fn pass_on(&mut self, news: DemandNews) {
        if news.asks_all {
            self.link.publish("demand.ask", Bytes::new()).await;
        }
        for node in news.asked {
            if node == self.link.node {
                self.is_untold = true;
            } else {
                self.link.publish("demand.ask", name_of(node)).await;
            }
        }
        for message in write_statuses(news.statuses) {
            self.link.publish("demand.status", message).await;
        }
    }

    async fn tick(&mut self) {
        let now = self.clock.now();
        if let Some(united) = &mut self.united {
            let news = united.tick(now);
            self.pass_on(news).await;
        }
        if self.is_untold && (self.united.is_some() || self.link.is_connected()) {
            self.is_untold = false;
            self.tell(self.list.whole()).await;
        }
        if let Some(beat) = self.list.tick(now.mono()) {
            self.tell(vec![beat]).await;
        }
        if now.mono() >= self.look_at {
            self.look_at = now.mono() + LOOK_INTERVAL;
            self.look_for_messages();
        }
    }

    fn take(&mut self, statuses: Vec<(String, DemandStatus)>) {
        let reader = self.shown.reader();
        for (topic, status) in statuses {
            let known = self.interest.statuses_of(std::iter::once(&*topic), u64::MAX).pop();
            if known.is_some_and(|(_, known)| known.as_ref() == Some(&status)) {
                continue;
            }
            if !reader.knows(&topic) && self.interest.is_wanted(&topic) {
                self.unseen.insert(topic.as_str().into());
            }
            self.interest.set_status(&topic, status);
        }
    }

    /// A topic has a message: its status does not hold any more.
    fn look_for_messages(&mut self) {
        let (interest, reader) = (&self.interest, self.shown.reader());
        self.unseen.retain(|topic| {
            let is_known = reader.knows(topic);
            if is_known {
                interest.clear_status(topic);
            }
            !is_known && interest.is_wanted(topic)
        });
    }
}

async fn next_of(united: &mut Option<UnitedDemand>) -> Option<WantMessage> {
    match united {
        Some(united) => united.next().await,
        None => std::future::pending().await,
    }
}

fn name_of(node: u64) -> Bytes {
    node.to_string().into()
}
