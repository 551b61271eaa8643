//! Many clients on one thread: one epoll loop that reads what comes and answers pings.
//!
//! The loop owns clients and counts; the owner of the crowd asks it by orders, one at a time. Every 31st client is
//! followed (every 127th where messages must be inflated), and the first few of any crowd, evenly over the order in
//! which the server serves them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use crate::bus::clock::Clock;
use crate::words::stamp::Stamp;

use super::client::{Duties, LoadClient, MessageFields};
use super::tally::ClientTotals;

const WAKE: Token = Token(usize::MAX);
const EVENTS: usize = 1024;
/// A read takes what a socket's buffer usually holds.
const READ_BYTES: usize = 256 << 10;
/// Of small crowds so many are followed.
const FOLLOWED_MIN: usize = 4;
/// A masked pong without payload (RFC 6455 section 5.5.3).
const PONG: [u8; 6] = [0x8A, 0x80, 0, 0, 0, 0];

/// A connection that is upgraded, and what was received behind the upgrade.
pub type Upgraded = (TcpStream, Vec<u8>);

/// Clients and the thread that reads for them. They leave when it is dropped.
pub struct ClientPool {
    orders: Sender<PoolCommand>,
    waker: Arc<Waker>,
    reading: Option<JoinHandle<()>>,
    received: Arc<AtomicU64>,
    clients: usize,
}

/// What all clients have seen since the last restart, against what each should have seen.
#[derive(Clone, Debug, Default)]
pub struct PoolTotals {
    pub tally: ClientTotals,
    /// Deliveries that are missing, and that came too often, over all clients; with `expected` only.
    pub lost: u64,
    pub repeated: u64,
    /// Clients whose connection has ended, or whose stream could not be read.
    pub ended: u64,
}

enum PoolCommand {
    Join(Upgraded),
    /// All but so many leave, the last ones first.
    Keep(usize),
    Restart {
        done: Sender<()>,
    },
    Look {
        expected: Vec<u64>,
        answer: Sender<PoolTotals>,
    },
    Stop,
}

struct PoolLoop {
    poll: Poll,
    members: Vec<PooledClient>,
    reading: MessageFields,
    /// One client of so many is followed.
    stride: usize,
    clock: Clock,
    tally: ClientTotals,
    buffer: Vec<u8>,
    /// Deliveries since the last restart. Written by the loop alone, once per turn; a feed without pauses reads it.
    received: Arc<AtomicU64>,
}

struct PooledClient {
    socket: mio::net::TcpStream,
    client: LoadClient,
    ended: bool,
}

impl ClientPool {
    /// A crowd of nobody. With `deflate` fewer are followed, because following is then dear.
    pub fn gather(reading: MessageFields, deflate: bool, clock: Clock) -> io::Result<ClientPool> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let received = Arc::<AtomicU64>::default();
        let stride = if deflate { 127 } else { 31 };
        let (members, tally, buffer) = (Vec::new(), ClientTotals::default(), vec![0; READ_BYTES]);
        let looped = PoolLoop { poll, members, reading, stride, clock, tally, buffer, received: received.clone() };
        let (orders, taken) = channel();
        let reading = std::thread::Builder::new().name("crowd".into()).spawn(move || looped.run(&taken))?;
        Ok(ClientPool { orders, waker, reading: Some(reading), received, clients: 0 })
    }

    pub fn join(&mut self, upgraded: Upgraded) {
        self.clients += 1;
        self.order(PoolCommand::Join(upgraded));
    }

    /// Lets the last ones leave until `clients` are left.
    pub fn keep(&mut self, clients: usize) {
        self.clients = self.clients.min(clients);
        self.order(PoolCommand::Keep(clients));
    }

    pub fn clients(&self) -> usize {
        self.clients
    }

    /// Counts from here on: what is received once this returns.
    pub fn restart(&self) {
        let (done, restarted) = channel();
        self.order(PoolCommand::Restart { done });
        // The loop ends only with the crowd.
        let _ = restarted.recv();
    }

    /// What was seen since the last restart; `expected` has the number of frames that each client should have, or nothing.
    pub fn look(&self, expected: Vec<u64>) -> PoolTotals {
        let (answer, answered) = channel();
        self.order(PoolCommand::Look { expected, answer });
        // The loop ends only with the crowd.
        answered.recv().unwrap_or_default()
    }

    /// Deliveries since the last restart, for who must not wait.
    pub fn received(&self) -> Arc<AtomicU64> {
        self.received.clone()
    }

    fn order(&self, order: PoolCommand) {
        // Both fail only when the loop has ended.
        let _ = self.orders.send(order);
        let _ = self.waker.wake();
    }
}

impl Drop for ClientPool {
    fn drop(&mut self) {
        self.order(PoolCommand::Stop);
        if let Some(reading) = self.reading.take() {
            // A panic of the loop has been printed.
            let _ = reading.join();
        }
    }
}

impl PoolLoop {
    fn run(mut self, orders: &Receiver<PoolCommand>) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            if let Err(error) = self.poll.poll(&mut events, Some(Duration::from_secs(1)))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the load generator cannot wait for its sockets");
                return;
            }
            let mut woken = false;
            for event in &events {
                match event.token() {
                    WAKE => woken = true,
                    Token(at) => self.receive(at, event.is_read_closed()),
                }
            }
            self.received.store(self.tally.deliveries, Ordering::Relaxed);
            while woken && let Ok(order) = orders.try_recv() {
                if let PoolCommand::Stop = order {
                    return;
                }
                self.obey(order);
            }
        }
    }

    fn obey(&mut self, order: PoolCommand) {
        match order {
            PoolCommand::Join(upgraded) => self.join(upgraded),
            PoolCommand::Keep(clients) => self.members.truncate(clients),
            PoolCommand::Restart { done } => {
                self.tally = ClientTotals::default();
                self.members.iter_mut().for_each(|member| member.client.restart());
                self.received.store(0, Ordering::Relaxed);
                // Whoever asked may be gone.
                let _ = done.send(());
            }
            PoolCommand::Look { expected, answer } => {
                let ended = self.members.iter().filter(|member| member.ended).count() as u64;
                let mut look = PoolTotals { tally: self.tally.clone(), ended, ..PoolTotals::default() };
                for (member, expected) in self.members.iter().zip(expected) {
                    look.lost += expected.saturating_sub(member.client.deliveries);
                    look.repeated += member.client.deliveries.saturating_sub(expected);
                }
                // Whoever asked may be gone.
                let _ = answer.send(look);
            }
            PoolCommand::Stop => {}
        }
    }

    fn join(&mut self, (socket, unread): Upgraded) {
        let at = self.members.len();
        let client = LoadClient::new(at < FOLLOWED_MIN || at.is_multiple_of(self.stride));
        let ready = socket.set_nonblocking(true);
        let mut socket = mio::net::TcpStream::from_std(socket);
        let watched = ready.and_then(|()| self.poll.registry().register(&mut socket, Token(at), Interest::READABLE));
        let mut member = PooledClient { socket, client, ended: false };
        let now = self.clock.now();
        let duties = member.client.take(&unread, now, self.reading, &mut self.tally);
        let duties = Duties { ended: duties.ended || watched.is_err(), ..duties };
        member.perform(duties);
        self.members.push(member);
    }

    fn receive(&mut self, at: usize, closing: bool) {
        // An event may be told of a client that has left since.
        let Some(member) = self.members.get_mut(at).filter(|member| !member.ended) else { return };
        loop {
            let bytes = match member.socket.read(&mut self.buffer) {
                Ok(0) => return member.perform(Duties { ended: true, pongs: 0 }),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return member.perform(Duties { ended: true, pongs: 0 }),
            };
            // The clock is read for those that need it.
            let now = if member.client.is_followed() { self.clock.now() } else { Stamp::default() };
            let duties = member.client.take(&self.buffer[..bytes], now, self.reading, &mut self.tally);
            member.perform(duties);
            // A short read has emptied the socket (epoll(7)); its end is told apart.
            if member.ended || (bytes < self.buffer.len() && !closing) {
                return;
            }
        }
    }
}

impl PooledClient {
    fn perform(&mut self, duties: Duties) {
        for _ in 0..duties.pongs {
            // A socket that takes no six bytes belongs to a server that does not read.
            let _ = self.socket.write(&PONG);
        }
        if duties.ended && !self.ended {
            self.ended = true;
            // It may be gone already.
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::bench::client::AgeSource;
    use shared_deflate::frame::{Opcode, put_frame};

    const READING: MessageFields = MessageFields { notices: false, dense: false, age: AgeSource::Unknown };

    fn crowd(clients: usize) -> (ClientPool, Vec<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut crowd = ClientPool::gather(READING, false, Clock::start()).expect("a thread");
        let sockets = (0..clients).map(|_| {
            let theirs = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
            crowd.join((theirs, Vec::new()));
            listener.accept().expect("a connection").0
        });
        let sockets = sockets.collect();
        (crowd, sockets)
    }

    fn until(crowd: &ClientPool, expected: &[u64], done: impl Fn(&PoolTotals) -> bool) -> PoolTotals {
        loop {
            let look = crowd.look(expected.to_vec());
            if done(&look) {
                return look;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_is_missing_and_what_is_too_much_is_counted_by_client() {
        let (mut crowd, mut sockets) = crowd(40);
        let mut frames = Vec::new();
        (0..3).for_each(|_| put_frame(&mut frames, Opcode::Text, b"hello"));
        sockets.iter_mut().for_each(|socket| socket.write_all(&frames).expect("room"));
        let look = until(&crowd, &[3; 40], |look| look.tally.deliveries == 120);
        assert_eq!((look.lost, look.repeated), (0, 0));
        sockets[7].write_all(&frames[..7]).expect("room");
        let look = until(&crowd, &[3; 40], |look| look.tally.deliveries == 121);
        assert_eq!((look.lost, look.repeated, look.tally.bytes), (0, 1, 847));
        let mut others = vec![3; 40];
        (others[7], others[9]) = (4, 4);
        let look = crowd.look(others);
        assert_eq!((look.lost, look.repeated), (1, 0), "one message that client 9 alone should have had");
        crowd.keep(10);
        assert_eq!(crowd.look(vec![5; 10]).lost, 9 * 2 + 1, "those that have left miss nothing");
        crowd.restart();
        assert_eq!((crowd.look(Vec::new()).tally.deliveries, crowd.clients()), (0, 10));
        drop(sockets);
        until(&crowd, &[], |look| look.ended == 10);
    }

    #[test]
    fn pings_are_answered() {
        let (_crowd, mut sockets) = crowd(1);
        sockets[0].write_all(&[0x89, 0, 0x89, 0]).expect("room");
        let mut pongs = [0; 12];
        sockets[0].read_exact(&mut pongs).expect("two pongs");
        assert_eq!(pongs, [PONG, PONG].concat()[..]);
    }
}
