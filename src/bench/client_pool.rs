//! The client pool: many clients on one thread, in one epoll loop that reads and answers pings.
//!
//! The loop owns clients and counts; the owner of the pool sends it commands, one at a time. Every 31st client is
//! followed (every 50th where messages must be inflated), and the first few of any pool, evenly over the order in
//! which the server serves them.

use std::io::{self, Read};
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
use super::follower::Follower;
use super::socket::LoadSocket;
use super::tally::ClientTotals;
use super::text_ledger::TextLedger;

const WAKE: Token = Token(usize::MAX);
const EVENTS: usize = 1024;
/// Buffer of a read: what a socket usually holds.
const READ_BYTES: usize = 256 << 10;
/// Followed clients of a small pool.
const FOLLOWED_MIN: usize = 4;
/// A masked pong without payload (RFC 6455 section 5.5.3).
pub const PONG: [u8; 6] = [0x8A, 0x80, 0, 0, 0, 0];

/// An upgraded connection, and the bytes received after the upgrade.
pub type Upgraded = (LoadSocket<TcpStream>, Vec<u8>);

/// Clients and the thread that reads for them. Dropping it disconnects them.
pub struct ClientPool {
    commands: Sender<PoolCommand>,
    waker: Arc<Waker>,
    reading: Option<JoinHandle<()>>,
    received: Arc<AtomicU64>,
    clients: usize,
}

/// What all clients have received since the last restart, compared with what each should have.
#[derive(Clone, Debug, Default)]
pub struct PoolTotals {
    pub tally: ClientTotals,
    /// Missing and repeated deliveries over all clients; only with `expected`.
    pub lost: u64,
    pub repeated: u64,
    /// Clients whose connection has ended, or whose stream could not be read.
    pub ended: u64,
}

/// The number of deliveries that a client should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    pub least: u64,
    pub most: u64,
}

impl Owed {
    pub fn exactly(deliveries: u64) -> Owed {
        Owed { least: deliveries, most: deliveries }
    }
}

enum PoolCommand {
    Join(Upgraded),
    /// Sends bytes to the server, from clients by number.
    Send(Vec<(usize, Vec<u8>)>),
    /// Disconnects the last clients until this many are left.
    Keep(usize),
    Restart {
        done: Sender<()>,
    },
    Totals {
        expected: Vec<Owed>,
        answer: Sender<PoolTotals>,
    },
    Stop,
}

struct PoolLoop {
    poll: Poll,
    members: Vec<PooledClient>,
    reading: MessageFields,
    /// One client in this many is followed.
    stride: usize,
    /// What followed clients compare messages with.
    texts: Option<Arc<TextLedger>>,
    clock: Clock,
    tally: ClientTotals,
    buffer: Vec<u8>,
    /// What TLS has opened of it.
    opened: Vec<u8>,
    /// Deliveries since the last restart. Only the loop writes it, once per turn; a feed without a rate reads it.
    received: Arc<AtomicU64>,
}

struct PooledClient {
    socket: LoadSocket<mio::net::TcpStream>,
    client: LoadClient,
    ended: bool,
}

impl ClientPool {
    /// An empty pool. With `deflate` fewer clients are followed, because following is then costly. With `texts` they
    /// compare every message.
    pub fn start(
        reading: MessageFields,
        deflate: bool,
        texts: Option<Arc<TextLedger>>,
        clock: Clock,
    ) -> io::Result<ClientPool> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let received = Arc::<AtomicU64>::default();
        let stride = if deflate { 50 } else { 31 };
        let looped = PoolLoop {
            poll,
            members: Vec::new(),
            reading,
            stride,
            texts,
            clock,
            tally: ClientTotals::default(),
            buffer: vec![0; READ_BYTES],
            opened: Vec::new(),
            received: received.clone(),
        };
        let (commands, taken) = channel();
        let reading = std::thread::Builder::new().name("client-pool".into()).spawn(move || looped.run(&taken))?;
        Ok(ClientPool { commands, waker, reading: Some(reading), received, clients: 0 })
    }

    pub fn join(&mut self, upgraded: Upgraded) {
        self.clients += 1;
        self.command(PoolCommand::Join(upgraded));
    }

    /// Sends commands to the server, each from the client of that number.
    pub fn send(&self, commands: Vec<(usize, Vec<u8>)>) {
        self.command(PoolCommand::Send(commands));
    }

    /// Disconnects the last clients until `clients` are left.
    pub fn keep(&mut self, clients: usize) {
        self.clients = self.clients.min(clients);
        self.command(PoolCommand::Keep(clients));
    }

    pub fn clients(&self) -> usize {
        self.clients
    }

    /// Resets the counts: they cover what is received after this returns.
    pub fn restart(&self) {
        let (done, restarted) = channel();
        self.command(PoolCommand::Restart { done });
        // The loop ends only with the pool.
        let _ = restarted.recv();
    }

    /// Totals since the last restart; `expected` has what is owed to each client, or is empty.
    pub fn totals(&self, expected: Vec<Owed>) -> PoolTotals {
        let (answer, answered) = channel();
        self.command(PoolCommand::Totals { expected, answer });
        // The loop ends only with the pool.
        answered.recv().unwrap_or_default()
    }

    /// Deliveries since the last restart, without a wait.
    pub fn received(&self) -> Arc<AtomicU64> {
        self.received.clone()
    }

    fn command(&self, command: PoolCommand) {
        // Both fail only when the loop has ended.
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }
}

impl Drop for ClientPool {
    fn drop(&mut self) {
        self.command(PoolCommand::Stop);
        if let Some(reading) = self.reading.take() {
            // A panic of the loop has been printed.
            let _ = reading.join();
        }
    }
}

impl PoolLoop {
    fn run(mut self, commands: &Receiver<PoolCommand>) {
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
            while woken && let Ok(command) = commands.try_recv() {
                if let PoolCommand::Stop = command {
                    return;
                }
                self.perform(command);
            }
        }
    }

    fn perform(&mut self, command: PoolCommand) {
        match command {
            PoolCommand::Join(upgraded) => self.join(upgraded),
            PoolCommand::Send(commands) => {
                for (at, bytes) in commands {
                    if let Some(member) = self.members.get_mut(at) {
                        member.send(&bytes);
                    }
                }
            }
            PoolCommand::Keep(clients) => self.members.truncate(clients),
            PoolCommand::Restart { done } => {
                self.tally = ClientTotals::default();
                self.members.iter_mut().for_each(|member| member.client.restart());
                self.received.store(0, Ordering::Relaxed);
                // The caller may be gone.
                let _ = done.send(());
            }
            PoolCommand::Totals { expected, answer } => {
                let ended = self.members.iter().filter(|member| member.ended).count() as u64;
                let mut totals = PoolTotals { tally: self.tally.clone(), ended, ..PoolTotals::default() };
                for (member, expected) in self.members.iter().zip(expected) {
                    totals.lost += expected.least.saturating_sub(member.client.deliveries);
                    totals.repeated += member.client.deliveries.saturating_sub(expected.most);
                }
                // The caller may be gone.
                let _ = answer.send(totals);
            }
            PoolCommand::Stop => {}
        }
    }

    fn join(&mut self, (socket, unread): Upgraded) {
        let at = self.members.len();
        let is_followed = at < FOLLOWED_MIN || at.is_multiple_of(self.stride);
        let client =
            if is_followed { LoadClient::followed(Follower::new(self.texts.clone())) } else { LoadClient::counting() };
        let ready = socket.stream.set_nonblocking(true);
        let mut socket = socket.map(mio::net::TcpStream::from_std);
        let registry = self.poll.registry();
        let watched = ready.and_then(|()| registry.register(&mut socket.stream, Token(at), Interest::READABLE));
        let mut member = PooledClient { socket, client, ended: false };
        let now = self.clock.now();
        let duties = member.client.take(&unread, now, self.reading, &mut self.tally);
        member.perform(Duties { ended: duties.ended || watched.is_err(), ..duties });
        // What came with the answer to the upgrade, and is opened already.
        member.receive(&[], &mut self.opened, now, self.reading, &mut self.tally);
        self.members.push(member);
    }

    fn receive(&mut self, at: usize, closing: bool) {
        // The client of an event may have left since.
        let Some(member) = self.members.get_mut(at).filter(|member| !member.ended) else { return };
        loop {
            let bytes = match member.socket.stream.read(&mut self.buffer) {
                Ok(0) => return member.perform(Duties { ended: true, pongs: 0 }),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return member.perform(Duties { ended: true, pongs: 0 }),
            };
            // Only followed clients need the clock.
            let now = if member.client.is_followed() { self.clock.now() } else { Stamp::default() };
            member.receive(&self.buffer[..bytes], &mut self.opened, now, self.reading, &mut self.tally);
            // A short read has emptied the socket (epoll(7)); its end is a separate event.
            if member.ended || (bytes < self.buffer.len() && !closing) {
                return;
            }
        }
    }
}

impl PooledClient {
    fn receive(
        &mut self,
        received: &[u8],
        opened: &mut Vec<u8>,
        now: Stamp,
        reading: MessageFields,
        tally: &mut ClientTotals,
    ) {
        let Ok(bytes) = self.socket.open(received, opened) else {
            return self.perform(Duties { ended: true, pongs: 0 });
        };
        let duties = self.client.take(bytes, now, reading, tally);
        // Bytes on the wire: a record may be counted before it is opened.
        tally.bytes = tally.bytes - bytes.len() as u64 + received.len() as u64;
        self.perform(duties);
    }

    /// A socket without room for a command belongs to a server that does not read: its client has failed.
    fn send(&mut self, bytes: &[u8]) {
        let is_whole = self.socket.send(bytes).unwrap_or(false);
        self.perform(Duties { ended: !is_whole, pongs: 0 });
    }

    fn perform(&mut self, duties: Duties) {
        for _ in 0..duties.pongs {
            // A socket without room for six bytes belongs to a server that does not read.
            let _ = self.socket.send(&PONG);
        }
        if duties.ended && !self.ended {
            self.ended = true;
            // It may be gone already.
            let _ = self.socket.stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;
    use crate::bench::client::AgeSource;
    use shared_deflate::frame::{Opcode, put_frame};

    const READING: MessageFields =
        MessageFields { notices: false, dense: false, sequenced: false, age: AgeSource::Unknown };

    fn pool(clients: usize) -> (ClientPool, Vec<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut pool = ClientPool::start(READING, false, None, Clock::start()).expect("a thread");
        let sockets = (0..clients).map(|_| {
            let theirs = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
            pool.join((theirs.into(), Vec::new()));
            listener.accept().expect("a connection").0
        });
        let sockets = sockets.collect();
        (pool, sockets)
    }

    fn owed(each: &[u64]) -> Vec<Owed> {
        each.iter().map(|each| Owed::exactly(*each)).collect()
    }

    fn until(pool: &ClientPool, expected: &[u64], done: impl Fn(&PoolTotals) -> bool) -> PoolTotals {
        loop {
            let totals = pool.totals(owed(expected));
            if done(&totals) {
                return totals;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn missing_and_repeated_deliveries_are_counted_by_client() {
        let (mut pool, mut sockets) = pool(40);
        let mut frames = Vec::new();
        (0..3).for_each(|_| put_frame(&mut frames, Opcode::Text, b"hello"));
        sockets.iter_mut().for_each(|socket| socket.write_all(&frames).expect("room"));
        let totals = until(&pool, &[3; 40], |totals| totals.tally.deliveries == 120);
        assert_eq!((totals.lost, totals.repeated), (0, 0));
        sockets[7].write_all(&frames[..7]).expect("room");
        let totals = until(&pool, &[3; 40], |totals| totals.tally.deliveries == 121);
        assert_eq!((totals.lost, totals.repeated, totals.tally.bytes), (0, 1, 847));
        let mut others = vec![3; 40];
        (others[7], others[9]) = (4, 4);
        let totals = pool.totals(owed(&others));
        assert_eq!((totals.lost, totals.repeated), (1, 0), "one message that only client 9 should have had");
        let between = |least, most| pool.totals(vec![Owed { least, most }; 40]);
        assert_eq!([between(0, 3), between(4, 9)].map(|totals| (totals.lost, totals.repeated)), [(0, 1), (39, 0)]);
        pool.keep(10);
        assert_eq!(pool.totals(owed(&[5; 10])).lost, 9 * 2 + 1, "those that have left miss nothing");
        pool.restart();
        assert_eq!((pool.totals(Vec::new()).tally.deliveries, pool.clients()), (0, 10));
        drop(sockets);
        until(&pool, &[], |totals| totals.ended == 10);
    }

    #[test]
    fn commands_are_sent_from_the_clients_they_are_for() {
        let (pool, mut sockets) = pool(3);
        pool.send(vec![(1, b"one".to_vec()), (2, b"two".to_vec()), (9, b"nobody".to_vec())]);
        for (client, expected) in [(1, b"one"), (2, b"two")] {
            let mut found = [0; 3];
            sockets[client].read_exact(&mut found).expect("a command");
            assert_eq!(&found, expected);
        }
        drop(pool);
        assert_eq!(sockets[0].read(&mut [0; 3]).expect("the end"), 0, "nothing for client 0");
    }

    #[test]
    fn pings_are_answered() {
        let (_pool, mut sockets) = pool(1);
        sockets[0].write_all(&[0x89, 0, 0x89, 0]).expect("room");
        let mut pongs = [0; 12];
        sockets[0].read_exact(&mut pongs).expect("two pongs");
        assert_eq!(pongs, [PONG, PONG].concat()[..]);
    }
}
