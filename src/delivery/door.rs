//! The one door into delivery: starts the shards, hands newcomers to them, ends them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::bus::asks::Asks;
use crate::bus::bell::Bell;
use crate::bus::clock::Clock;
use crate::bus::interest::Interest;
use crate::bus::reader::Reader;
use crate::delivery::eventloop::{self, Mail};
use crate::delivery::newcomer::Newcomer;
use crate::delivery::settings::Settings;
use crate::words::metrics::Meters;

/// All shards. Share it by `Arc`.
pub struct Delivery {
    shards: Vec<ShardHandle>,
    /// Sessions adopted and not ended; counted up here, down by the shards.
    population: Arc<AtomicUsize>,
    next: AtomicUsize,
}

/// What delivery holds of the bus.
#[derive(Clone)]
pub struct Ends {
    pub reader: Reader,
    /// None: the upstream is not asked for topics.
    pub interest: Option<Arc<Interest>>,
    pub asks: Asks,
}

struct ShardHandle {
    mail: Sender<Mail>,
    bell: Arc<Bell>,
}

/// The shards' threads, to wait for their end.
pub struct Threads(Vec<JoinHandle<()>>);

impl Delivery {
    /// Starts `settings.shards` threads that read the bus and own sessions.
    pub fn start(settings: Settings, ends: &Ends, clock: Clock, meters: &Meters) -> io::Result<(Delivery, Threads)> {
        let population = Arc::new(AtomicUsize::new(0));
        let mut shards = Vec::new();
        let mut threads = Vec::new();
        for number in 0..settings.shards {
            let seat = eventloop::Seat { number, settings, ends: ends.clone(), clock, population: population.clone() };
            let (mail, bell, thread) = eventloop::start(seat, meters)?;
            ends.reader.hang(bell.clone());
            shards.push(ShardHandle { mail, bell });
            threads.push(thread);
        }
        Ok((Delivery { shards, population, next: AtomicUsize::new(0) }, Threads(threads)))
    }

    /// Gives the client to a shard, which greets it and owns it from then on.
    pub fn adopt(&self, newcomer: Newcomer) {
        self.population.fetch_add(1, Ordering::Relaxed);
        let shard = &self.shards[self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len()];
        if shard.post(Mail::Adopt(Box::new(newcomer))).is_err() {
            // The shard has ended, and with it the process is about to: the socket is closed by dropping it.
            self.population.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Sessions adopted and not ended.
    pub fn sessions(&self) -> usize {
        self.population.load(Ordering::Relaxed)
    }

    /// Says goodbye to every session, each with a reconnect delay at random up to `spread`; newcomers get it at once.
    pub fn drain(&self, spread: Duration) {
        for shard in &self.shards {
            // A shard that has ended has no sessions to say goodbye to.
            let _ = shard.post(Mail::Drain { spread });
        }
    }

    /// Ends the shards, and the sessions that are still there.
    pub fn stop(&self) {
        for shard in &self.shards {
            let _ = shard.post(Mail::Stop);
        }
    }
}

impl Ends {
    /// For a delivery that has nothing to say to the upstream.
    pub fn reading(reader: Reader) -> Ends {
        Ends { reader, interest: None, asks: Asks::closed() }
    }
}

impl ShardHandle {
    fn post(&self, mail: Mail) -> Result<(), ()> {
        self.mail.send(mail).map_err(|_| ())?;
        self.bell.ring();
        Ok(())
    }
}

impl Threads {
    /// Waits until every shard has ended. A shard that panicked is an error of ours and ends the process loudly.
    pub fn join(self) {
        for thread in self.0 {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}
