//! A gate between fanline and a venue: shut, it hangs up on every client; open, it lets bytes through.
//!
//! So fanline can be started, and clients connected to it, before its upstream exists; and the line can be cut.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub struct Relay {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    target: Option<SocketAddr>,
    passing: Vec<TcpStream>,
    /// Guests let through since the gate was made.
    passed: usize,
    /// Guests hung up on.
    refused: usize,
}

impl Relay {
    /// A shut gate on a free port.
    pub fn shut() -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let guarded = state.clone();
        // Ends with the test process.
        thread::spawn(move || {
            for guest in listener.incoming().filter_map(Result::ok) {
                let mut state = guarded.lock().expect("no holder panics");
                let venue = state.target.and_then(|target| TcpStream::connect(target).ok());
                match venue {
                    Some(venue) => {
                        state.passed += 1;
                        state.passing.extend([&guest, &venue].map(|side| side.try_clone().expect("descriptors")));
                        drop(state);
                        connect(guest, venue);
                    }
                    None => state.refused += 1,
                }
            }
        });
        Relay { addr, state }
    }

    pub fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on guests are connected with `target`.
    pub fn open(&self, target: SocketAddr) {
        self.state.lock().expect("no holder panics").target = Some(target);
    }

    /// Cuts every line and hangs up on newcomers. Gives how many lines were cut.
    pub fn cut(&self) -> usize {
        let mut state = self.state.lock().expect("no holder panics");
        state.target = None;
        let lines = std::mem::take(&mut state.passing);
        // With the first side down, the second may be brought down from elsewhere before it is our turn.
        let cut = |side: &TcpStream| side.shutdown(Shutdown::Both).is_ok();
        lines.chunks(2).filter(|line| line.iter().filter(|side| cut(side)).count() > 0).count()
    }

    pub fn passed(&self) -> usize {
        self.state.lock().expect("no holder panics").passed
    }

    pub fn refused(&self) -> usize {
        self.state.lock().expect("no holder panics").refused
    }
}

fn connect(guest: TcpStream, venue: TcpStream) {
    let pair = |side: &TcpStream| side.try_clone().expect("descriptors");
    for (mut from, mut to) in [(pair(&guest), pair(&venue)), (venue, guest)] {
        thread::spawn(move || {
            // Broken or ended: either way the other side learns it by the shutdown.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}
