//! Gives snapshots to servers of the cluster that join.

use std::convert::Infallible;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};

use crate::bus::shown_log::ShownLog;
use crate::cluster::clients::held_feed::HeldFeed;
use crate::cluster::link::NodeLink;
use crate::cluster::nats::NatsError;
use crate::cluster::snapshots::maker::{BasisRequest, SnapshotMaker};

/// Of one message, where `max_payload` of nats-server allows more.
const PIECE_BYTES_MAX: usize = 1 << 20;

pub struct SnapshotGiver {
    link: NodeLink,
    held: watch::Receiver<Option<HeldFeed>>,
    maker: SnapshotMaker,
}

impl SnapshotGiver {
    pub fn new(
        link: NodeLink,
        shown: ShownLog,
        held: watch::Receiver<Option<HeldFeed>>,
        runner: mpsc::Sender<BasisRequest>,
    ) -> SnapshotGiver {
        SnapshotGiver { maker: SnapshotMaker::new(link.node, shown, runner), link, held }
    }

    /// # Errors
    /// The client of NATS has ended.
    pub async fn run(mut self) -> Result<Infallible, NatsError> {
        let mut own = self.link.listen(&format!("snapshot.{}", self.link.node)).await?;
        let mut held = self.held.clone();
        loop {
            let role = if held.borrow_and_update().is_some() { "ingester" } else { "follower" };
            let mut any = self.link.listen_in_turn(&format!("snapshot.{role}")).await?;
            // Without a sender the node has failed, which is told by itself.
            while !held.has_changed().unwrap_or(false) {
                tokio::select! {
                    _ = held.changed() => break,
                    () = self.next(&mut own, &mut any) => {}
                }
            }
        }
    }

    async fn next(&mut self, own: &mut Subscriber, any: &mut Subscriber) {
        tokio::select! {
            () = self.maker.progress() => {}
            Some(message) = own.next() => self.answer(message).await,
            Some(message) = any.next() => self.answer(message).await,
        }
    }

    async fn answer(&mut self, message: Message) {
        let Some(to) = message.reply else { return };
        let max = self.link.payload_bytes_max().min(PIECE_BYTES_MAX);
        let answer = self.maker.answer(&message.payload, max).await;
        self.link.reply(to, answer).await;
    }
}
