//! Honest clients: they subscribe to a list of topics, read what arrives, and miss nothing.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fanline::bench::client::{AgeSource, MessageFields};
use fanline::bench::client_pool::{ClientPool, Owed, PoolTotals};
use fanline::bench::client_tls::Trust;
use fanline::bench::dial::DialTarget;
use fanline::bus::clock::Clock;
use shared_deflate::frame::{Opcode, put_frame};

use super::line::masked;
use super::venue::{Said, live_topic};
use super::{LISTS, LIVE_TOPICS};

const READING: MessageFields =
    MessageFields { notices: true, dense: false, sequenced: false, age: AgeSource::Timestamp };
/// Clients of one loopback address.
const CLIENTS_PER_ADDRESS: usize = 50;
/// What `DialTarget::dial` counts from one address of loopback to the next.
const INDEXES_PER_ADDRESS: usize = 20_000;
const GLANCE: Duration = Duration::from_millis(20);
/// Silence after which nothing more is expected: longer than the longest stall that was seen.
const PATIENCE: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(40);

pub struct Honest {
    pool: ClientPool,
    clients: usize,
}

impl Honest {
    /// Connects them one by one, and waits until each has the value of each of its topics.
    pub fn join(address: SocketAddr, clients: usize, clock: Clock) -> io::Result<Honest> {
        let mut pool = ClientPool::start(READING, false, None, clock)?;
        let mut target =
            DialTarget::parse(&format!("ws://{address}/v1/ws"), &Trust::Anyone).map_err(io::Error::other)?;
        for client in 0..clients {
            target.first_command = hello(client);
            let index = (1 + client / CLIENTS_PER_ADDRESS) * INDEXES_PER_ADDRESS;
            pool.join(
                target.dial(index).map_err(|error| io::Error::other(format!("honest client {client}: {error}")))?,
            );
        }
        let honest = Honest { pool, clients };
        let values = (clients * LIVE_TOPICS / LISTS) as u64;
        let look = honest.wait(|look| look.tally.deliveries >= values, Vec::new());
        if look.tally.deliveries < values {
            let found = look.tally.deliveries;
            return Err(io::Error::other(format!("expected {values} values for honest clients, found {found}")));
        }
        Ok(honest)
    }

    pub fn restart(&mut self) {
        self.pool.restart();
    }

    /// What they have received of what was sent, once it has arrived.
    pub fn settle(&self, said: &Said) -> PoolTotals {
        let expected = (0..self.clients).map(|client| Owed::exactly(said.by_list[client % LISTS])).collect();
        self.wait(|look| look.lost == 0, expected)
    }

    fn wait(&self, done: impl Fn(&PoolTotals) -> bool, expected: Vec<Owed>) -> PoolTotals {
        let (begun, mut moved, mut deliveries) = (Instant::now(), Instant::now(), 0);
        loop {
            let look = self.pool.totals(expected.clone());
            if look.tally.deliveries > deliveries {
                (moved, deliveries) = (Instant::now(), look.tally.deliveries);
            }
            let gone = look.ended as usize == self.clients;
            if done(&look) || gone || moved.elapsed() > PATIENCE || begun.elapsed() > DEADLINE {
                return look;
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// The `subscribe` of a client, behind the upgrade.
fn hello(client: usize) -> Vec<u8> {
    let names: Vec<String> = (client % LISTS..LIVE_TOPICS).step_by(LISTS).map(live_topic).collect();
    let command = serde_json::json!({ "op": "subscribe", "topics": names }).to_string();
    let mut frame = Vec::new();
    put_frame(&mut frame, Opcode::Text, command.as_bytes());
    masked(frame)
}
