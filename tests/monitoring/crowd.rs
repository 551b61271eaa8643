//! Alerts about a machine that is full fire with more clients than one shard can serve, and clear when they have left.
//!
//! The crowd grows slowly, so that no more come than are needed, and the server can still be looked at.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::MACHINE;
use crate::prometheus::{Prometheus, hasty};
use kit::document::read;
use kit::http::HANDSHAKE;
use kit::program::Program;
use kit::raw_client::OFFER;
use kit::{eventually, skip_without_tool};

/// Clients that come at a time, and the time between two waves.
const WAVE: usize = 4;
const PAUSE: Duration = Duration::from_millis(200);
/// Below what one address may have (limits.sessions_per_address_max).
const CLIENTS_MAX: usize = 900;

/// Clients that want everything, each on a lane of its own, and read whatever comes.
struct Crowd {
    server: SocketAddr,
    clients: Arc<Mutex<Vec<TcpStream>>>,
    has_left: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Crowd {
    fn of(server: SocketAddr) -> Crowd {
        let (clients, has_left) = (Arc::<Mutex<Vec<TcpStream>>>::default(), Arc::<AtomicBool>::default());
        let reading = (clients.clone(), has_left.clone());
        let reader = thread::spawn(move || {
            let (clients, has_left) = reading;
            let mut buffer = vec![0; 1 << 16];
            while !has_left.load(Ordering::Relaxed) {
                let mut bytes = 0;
                for client in clients.lock().expect("no holder panics").iter_mut() {
                    // Nothing there, or a client that was sent away because it was too slow.
                    bytes += client.read(&mut buffer).unwrap_or(0);
                }
                if bytes == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Crowd { server, clients, has_left, reader: Some(reader) }
    }

    /// Some more come, with other lists than all before.
    fn grow(&self) {
        thread::sleep(PAUSE);
        let mut clients = self.clients.lock().expect("no holder panics");
        for number in clients.len()..CLIENTS_MAX.min(clients.len() + WAVE) {
            let mut client = TcpStream::connect(self.server).expect("a place in the queue");
            let request = format!(
                "GET /v1/ws?topics=%3E,nothing.{number} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\n\
                 {HANDSHAKE}{OFFER}\r\n",
                self.server
            );
            client.write_all(request.as_bytes()).expect("sent");
            client.set_nonblocking(true).expect("a socket");
            clients.push(client);
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.has_left.store(true, Ordering::Relaxed);
        let read = self.reader.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(read, Some(Ok(()))), "the reader has failed");
    }
}

#[test]
fn alerts_about_a_full_machine_fire_with_too_many_clients_and_clear_when_they_have_left() {
    let _alone = MACHINE.write();
    let settings = [("SHARDS_COUNT", "1"), ("SIMULATE_RATE", "5000"), ("PING_INTERVAL", "1h")];
    let server = Program::serve(&[], &settings);
    let rules = hasty(&read("deploy/prometheus/alerts.yml"));
    let Some(prometheus) = Prometheus::start("monitoring-crowd", &rules, &[server.addr()]) else {
        return skip_without_tool("a full machine", "prometheus");
    };
    eventually("the server is seen", || (!prometheus.query("up == 1").is_empty()).then_some(()));
    let crowd = Crowd::of(server.addr());
    for alert in ["FanlineShardsFull", "FanlineDeliverySlow"] {
        prometheus.fires_by(alert, server.addr(), || crowd.grow());
    }
    drop(crowd);
    for alert in ["FanlineShardsFull", "FanlineDeliverySlow"] {
        prometheus.clears(alert, server.addr());
    }
}
