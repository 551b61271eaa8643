//! What others send to a shard.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::access::session_row::SessionRow;
use crate::bus::reader::Reader;
use crate::bus::signal::doorbell::Doorbell;
use crate::delivery::handoff::Handoff;
use crate::delivery::sessions::mail::Mail;
use crate::delivery::settings::Settings;
use crate::delivery::shard::event_loop::AdoptedSocket;
use crate::delivery::shard::orders::NumberedOrder;
use crate::delivery::shard::view_change::Transfer;
use crate::delivery::shard::walks::ListQuery;

pub enum ShardMessage {
    Adopt(Box<Handoff>),
    /// A session of another view, whose grant names this one now.
    Transfer(Box<Transfer<AdoptedSocket>>),
    /// The log of its view has begun another epoch.
    Epoch(Reader),
    About(Mail),
    /// Sends the number of sessions that it has reached.
    Order(NumberedOrder, Sender<usize>),
    List {
        query: Arc<ListQuery>,
        reply: Sender<Vec<SessionRow>>,
    },
    /// Other settings from now on.
    Settings(Box<Settings>),
    Drain {
        spread: Duration,
        /// Not all at once, but over the spread.
        in_waves: bool,
    },
    Stop,
}

/// Sends messages to one shard, and rings for each.
#[derive(Clone)]
pub struct ShardSender {
    messages: Sender<ShardMessage>,
    doorbell: Arc<Doorbell>,
}

impl ShardSender {
    pub fn new(doorbell: Arc<Doorbell>) -> (ShardSender, Receiver<ShardMessage>) {
        let (messages, receiver) = channel();
        (ShardSender { messages, doorbell }, receiver)
    }

    /// A shard that has ended no longer receives the message.
    pub fn send(&self, message: ShardMessage) {
        // The other end is gone with the shard, and its sessions with it.
        let _ = self.messages.send(message);
        self.doorbell.ring();
    }
}
