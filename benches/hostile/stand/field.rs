//! What an attacker has: the server's address, time, and the count of what was sent.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use super::Plan;
use super::line::Line;
use super::server::Server;
use super::venue::Venue;

/// After an attempt that was refused or cut.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at connections that are held.
const GLANCE: Duration = Duration::from_millis(100);

pub struct Field<'a> {
    pub server: &'a Server,
    pub venue: &'a Venue,
    end: Instant,
    span: Duration,
    yields: fn(),
    sent: AtomicU64,
    turned_away: AtomicU64,
}

impl<'a> Field<'a> {
    /// The attack begins now.
    pub fn new(server: &'a Server, venue: &'a Venue, plan: &Plan) -> Field<'a> {
        let Plan { attack: span, yields, .. } = *plan;
        let (sent, turned_away) = (AtomicU64::new(0), AtomicU64::new(0));
        Field { server, venue, end: Instant::now() + span, span, yields, sent, turned_away }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub fn span(&self) -> Duration {
        self.span
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Waits, at most until the end.
    pub fn rest(&self, pause: Duration) {
        std::thread::sleep(pause.min(self.end.saturating_duration_since(Instant::now())));
    }

    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn count_turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// This many threads do this repeatedly until the end; an error is a connection that was refused or cut.
    pub fn repeat(&self, threads: usize, deed: impl Fn(usize) -> io::Result<()> + Sync) {
        self.threads(threads, |thread| {
            while !self.is_over() {
                if deed(thread).is_err() && !self.is_over() {
                    self.count_turned_away();
                    self.rest(PAUSE);
                }
            }
        });
    }

    /// Opens this many connections and holds them until the end; those that are cut are opened again. `tend` is called
    /// for each open one, ten times a second. Returns how many were open at the end.
    pub fn hold(
        &self,
        connections: usize,
        open: impl Fn(usize) -> io::Result<Line<'a>> + Sync,
        tend: impl Fn(&mut Line<'a>) -> io::Result<()> + Sync,
    ) -> usize
    where
        Self: 'a,
    {
        const THREADS: usize = 4;
        let standing = AtomicUsize::new(0);
        self.threads(THREADS, |thread| {
            let numbers = || (thread..affordable(connections)).step_by(THREADS);
            let mut lines: Vec<Option<Line<'a>>> = numbers().map(|_| None).collect();
            while !self.is_over() {
                for (number, line) in numbers().zip(&mut lines) {
                    if self.is_over() {
                        break;
                    }
                    let stands = line.as_mut().is_some_and(|line| line.stands() && tend(line).is_ok());
                    if !stands {
                        self.turned_away.fetch_add(u64::from(line.is_some()), Ordering::Relaxed);
                        *line = open(number).inspect_err(|_| self.count_turned_away()).ok();
                    }
                }
                self.rest(GLANCE);
            }
            let stood = lines.iter_mut().flatten().filter_map(|line| line.stands().then_some(())).count();
            standing.fetch_add(stood, Ordering::Relaxed);
        });
        standing.into_inner()
    }

    /// Runs this many threads to their end.
    pub fn threads(&self, threads: usize, deed: impl Fn(usize) + Sync) {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let deed = &deed;
                scope.spawn(move || {
                    (self.yields)();
                    deed(thread);
                });
            }
        });
    }
}

/// At most two thirds of what this process may open.
fn affordable(connections: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    connections.min(usize::try_from(files * 2 / 3).unwrap_or(usize::MAX))
}
