//! Honest clients that join during an attack: in turn, a session and a reader of a snapshot.
//!
//! | shared | written by | guarded by |
//! |---|---|---|
//! | `waits` | the thread, after each attempt, and while one lasts; the owner, who restarts it | its mutex |
//! | `stop` | the owner, once | itself |

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::line::UPGRADE;

/// Between one client that joins and the next.
const PAUSE: Duration = Duration::from_millis(100);
/// A client that waits longer counts as refused.
const DEADLINE: Duration = Duration::from_secs(15);

/// The longest waits since the last restart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// From the first packet to `subscribed`; in milliseconds.
    pub join_ms: f64,
    /// From the first packet to the end of a snapshot of one topic.
    pub snapshot_ms: f64,
    /// Attempts that did not end well.
    pub refused: u64,
}

#[derive(Default)]
struct State {
    waits: Waits,
    /// The attempt that is under way: whether it is a snapshot, and since when.
    under_way: Option<(bool, Instant)>,
}

pub struct Newcomers {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    coming: Option<JoinHandle<()>>,
}

impl Newcomers {
    pub fn start(address: SocketAddr) -> Newcomers {
        let (state, stop) = (Arc::<Mutex<State>>::default(), Arc::<AtomicBool>::default());
        let shared = (Arc::clone(&state), Arc::clone(&stop));
        let coming = std::thread::Builder::new().name("newcomers".into());
        let coming = coming.spawn(move || come(address, &shared.0, &shared.1)).expect("a thread");
        Newcomers { state, stop, coming: Some(coming) }
    }

    /// Counts from here on; an attempt that is under way counts from now.
    pub fn restart(&self) {
        let mut state = lock(&self.state);
        state.waits = Waits::default();
        if let Some((_, since)) = &mut state.under_way {
            *since = Instant::now();
        }
    }

    /// The attempt that is under way included.
    pub fn waits(&self) -> Waits {
        let state = lock(&self.state);
        let mut waits = state.waits;
        if let Some((snapshot, since)) = state.under_way {
            waits.add(snapshot, since);
        }
        waits
    }
}

impl Waits {
    fn add(&mut self, snapshot: bool, since: Instant) {
        let longest = if snapshot { &mut self.snapshot_ms } else { &mut self.join_ms };
        *longest = longest.max(since.elapsed().as_secs_f64() * 1e3);
    }
}

impl Drop for Newcomers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(coming) = self.coming.take() {
            // A panic of the thread has been printed.
            let _ = coming.join();
        }
    }
}

fn come(address: SocketAddr, state: &Mutex<State>, stop: &AtomicBool) {
    for number in (0u64..).take_while(|_| !stop.load(Ordering::Relaxed)) {
        let snapshot = number % 2 == 1;
        lock(state).under_way = Some((snapshot, Instant::now()));
        let fared = if snapshot { get(address, "/v1/snapshot?topics=live.0").map(drop) } else { join(address) };
        let mut state = lock(state);
        if let Some((snapshot, since)) = state.under_way.take() {
            state.waits.add(snapshot, since);
        }
        state.waits.refused += u64::from(fared.is_err());
        drop(state);
        std::thread::sleep(PAUSE);
    }
}

/// The body of an answer with 200. Errors: any other, or none in time.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut socket = dial(address)?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    if line != b"HTTP/1.1 200 OK" {
        let found = String::from_utf8_lossy(line);
        return Err(io::Error::other(format!("expected 200 for {path}, found `{found}`")));
    }
    Ok(answer)
}

fn join(address: SocketAddr) -> io::Result<()> {
    let mut socket = dial(address)?;
    write!(socket, "GET /v1/ws?topics=live.0 HTTP/1.1\r\n{UPGRADE}\r\n")?;
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    let said = b"\"op\":\"subscribed\"";
    while !heard.windows(said.len()).any(|window| window == said) {
        let bytes = socket.read(&mut piece)?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        heard.extend_from_slice(&piece[..bytes]);
    }
    Ok(())
}

fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, DEADLINE)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_write_timeout(Some(DEADLINE))?;
    Ok(socket)
}

/// What a thread that panicked has left is numbers, as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
