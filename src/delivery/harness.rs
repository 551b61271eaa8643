//! A shard and its clients for unit tests: no sockets, no clock, and a mailbox that the test looks into.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use serde_json::Value;

use crate::bus;
use crate::bus::Limits;
use crate::bus::demand::interest::Interest;
use crate::bus::demand::requests::{RequestQueue, RequestRules};
use crate::bus::history::History;
use crate::bus::publisher::Publisher;
use crate::bus::retention::Retention;
use crate::delivery::bus_handles::BusHandles;
use crate::delivery::handoff::SessionOptions;
use crate::delivery::meters::ShardMeters;
use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::mail::Mail;
use crate::delivery::settings::Settings;
use crate::delivery::shard::Shard;
use crate::delivery::simulation::client::{FakeSocket, Pipe, split_frame};
use crate::profile::downstream::Dialect;
use crate::protocol::encoding::{Payload, PayloadKind};
use crate::settings::table::{CompressionSettings, ServerLimits, Slow};
use crate::words::ids::Epoch;
use crate::words::metrics::Meters;
use crate::words::stamp::Stamp;
use crate::words::topic::Pattern;

const TOPICS_MAX: usize = 200_000;

/// A bus and one shard on it. Clients may send to `chat.*`, and request.
pub struct Harness {
    pub shard: Shard<FakeSocket>,
    pub publisher: Publisher,
    pub interest: Arc<Interest>,
    pub queue: RequestQueue,
    mail: Receiver<Mail>,
    pub now: Stamp,
}

/// One client, played by the test.
pub struct HarnessClient {
    pub id: SessionId,
    pub pipe: Rc<RefCell<Pipe>>,
}

impl Harness {
    pub fn open() -> Harness {
        Harness::open_with(TOPICS_MAX)
    }

    /// `wanted_max`: topics that clients may want.
    pub fn open_with(wanted_max: usize) -> Harness {
        Harness::speaking(wanted_max, None)
    }

    /// With clients that speak a dialect.
    pub fn speaking(wanted_max: usize, dialect: Option<Arc<Dialect>>) -> Harness {
        let limits = Limits { ring_frames_max: 1 << 17, ring_bytes_max: 1 << 30, topics_max: TOPICS_MAX };
        let (publisher, reader) = bus::open_with_history(Epoch(1), limits, History::default(), &Meters::unread());
        let interest = Interest::new(wanted_max, &Meters::unread());
        let send = vec![Pattern::parse("chat.*").expect("a pattern")];
        let (requests, queue) = crate::bus::demand::requests::open(RequestRules { send, request: true });
        let (sender, mail) = channel();
        let mailbox = Arc::new(move |mail| sender.send(mail).unwrap_or_default());
        let bus = BusHandles { interest: Some(interest.clone()), requests, dialect, ..BusHandles::reading(reader) };
        let meters = ShardMeters::new(&Meters::unread(), 0);
        let shard = Shard::new(settings(), bus, mailbox, Arc::default(), meters);
        Harness { shard, publisher, interest, queue, mail, now: Stamp { wall_ms: 1, mono_ns: 1 } }
    }

    pub fn publish(&mut self, topic: &str) {
        let payload = Payload { bytes: Bytes::from_static(b"{}"), kind: PayloadKind::Json };
        self.publisher.publish(topic, payload, Retention::NEWEST, self.now).expect("a good topic");
    }

    pub fn adopt(&mut self, options: SessionOptions) -> HarnessClient {
        let pipe = Rc::new(RefCell::new(Pipe { room: 1 << 30, ..Pipe::default() }));
        let id = self.shard.adopt(FakeSocket(pipe.clone()), b"", options, self.now);
        HarnessClient { id, pipe }
    }

    /// A client that has been greeted.
    pub fn join(&mut self) -> HarnessClient {
        let client = self.adopt(SessionOptions::default());
        self.turn();
        client.received();
        client
    }

    pub fn send(&mut self, client: &HarnessClient, command: &str) {
        client.put(command);
        self.shard.ready(client.id, true, self.now);
    }

    /// Sends the text, and returns what the client receives until there is nothing to do.
    pub fn answers(&mut self, client: &HarnessClient, command: &str) -> Vec<Value> {
        self.send(client, command);
        self.settle();
        client.received()
    }

    /// What the event loop does once it is awake.
    pub fn turn(&mut self) {
        self.read_mail();
        self.shard.round(self.now);
        self.shard.run_queue(self.now);
    }

    pub fn settle(&mut self) {
        self.turn();
        self.shard.follow(self.now);
        while self.shard.has_work() {
            self.turn();
        }
        self.read_mail();
    }

    pub fn read_mail(&mut self) {
        while let Ok(mail) = self.mail.try_recv() {
            self.shard.read_mail(mail, self.now);
        }
    }

    /// Lets a second pass, in which the sweep looks at every session.
    pub fn pass_second(&mut self) {
        for _ in 0..10 {
            self.now.mono_ns += 100_000_000;
            self.shard.tick(self.now);
        }
    }

    /// The client is gone without a word.
    pub fn vanish(&mut self, client: &HarnessClient) {
        client.pipe.borrow_mut().broken = true;
        self.shard.ready(client.id, true, self.now);
    }
}

impl HarnessClient {
    fn put(&self, command: &str) {
        let mut pipe = self.pipe.borrow_mut();
        match u8::try_from(command.len()) {
            Ok(length @ ..126) => pipe.to_server.extend([0x81, 0x80 | length]),
            _ => {
                pipe.to_server.extend([0x81, 0x80 | 126]);
                pipe.to_server.extend(u16::try_from(command.len()).expect("a short command").to_be_bytes());
            }
        }
        pipe.to_server.extend([0; 4]);
        pipe.to_server.extend(command.bytes());
    }

    /// The messages that have arrived.
    pub fn received(&self) -> Vec<Value> {
        let bytes = std::mem::take(&mut self.pipe.borrow_mut().to_client);
        let mut messages = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((first, payload, tail)) = split_frame(rest) {
            rest = tail;
            if first == 0x81 {
                messages.push(serde_json::from_slice(payload).expect("JSON"));
            }
        }
        self.pipe.borrow_mut().to_client.splice(0..0, rest.iter().copied());
        messages
    }
}

fn settings() -> Settings {
    let lenient = Settings::lenient();
    Settings {
        limits: ServerLimits { client_requests_per_second_max: 20, ..lenient.limits },
        slow: Slow { unsent_bytes_max: 0, ..lenient.slow },
        compression: CompressionSettings { level: 1, windows_max: 1, window_members_min: 2, ..lenient.compression },
        ..lenient
    }
}
