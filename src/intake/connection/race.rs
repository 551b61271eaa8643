//! Happy Eyeballs (RFC 8305): the first reachable of several addresses is used, and a dead one costs a quarter of a
//! second instead of the whole timeout.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The next address is tried after this, or as soon as one has failed (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Unreachable addresses, each with its reason; none for those that had not answered by the deadline.
#[derive(Debug)]
pub(crate) struct Tried(pub Vec<(SocketAddr, Option<io::Error>)>);

impl Tried {
    /// Whether the time ran out, rather than the addresses.
    pub(crate) fn is_late(&self) -> bool {
        self.0.iter().any(|(_, error)| error.is_none())
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, error)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match error {
                Some(error) => write!(f, "{comma}{address}: {error}")?,
                None => write!(f, "{comma}{address}: no answer")?,
            }
        }
        Ok(())
    }
}

/// Connects to the first of these addresses that answers. The others are given up.
pub(super) async fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<(SocketAddr, TcpStream), Tried> {
    let attempt = |address: SocketAddr| async move { (address, TcpStream::connect(address).await) };
    let mut waiting = addresses.iter().copied();
    let mut running = FuturesUnordered::new();
    let mut started = Vec::new();
    let mut tried = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            started.push(address);
            running.push(attempt(address));
        }
        if running.is_empty() {
            return Err(Tried(tried));
        }
        let head_start = (Instant::now() + HEAD_START).min(deadline);
        let patience = if waiting.len() > 0 { head_start } else { deadline };
        match tokio::time::timeout_at(patience, running.next()).await {
            Ok(Some((address, Ok(stream)))) => return Ok((address, stream)),
            Ok(Some((address, Err(error)))) => tried.push((address, Some(error))),
            Ok(None) => {}
            Err(_) if Instant::now() < deadline => {}
            Err(_) => {
                let answered: Vec<SocketAddr> = tried.iter().map(|(address, _)| *address).collect();
                let mute = started.into_iter().filter(|address| !answered.contains(address));
                tried.extend(mute.map(|address| (address, None)));
                return Err(Tried(tried));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::intake::connection::dead::Dead;

    const SOON: Duration = Duration::from_secs(20);

    async fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound")
    }

    #[tokio::test]
    async fn a_dead_first_address_does_not_hide_a_good_one() {
        let dead = Dead::open();
        let good = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = good.local_addr().expect("bound");
        let (found, _) = connect(&[dead.address, address], Instant::now() + SOON).await.expect("the good one");
        assert_eq!(found, address);
        let (found, _) = connect(&[closed().await, dead.address, address], Instant::now() + SOON).await.expect("it");
        assert_eq!(found, address);
    }

    #[tokio::test]
    async fn each_address_is_reported_with_its_own_reason() {
        let (dead, closed) = (Dead::open(), closed().await);
        let deadline = Instant::now() + Duration::from_millis(400);
        let tried = connect(&[dead.address, closed], deadline).await.expect_err("none stands");
        assert!(tried.is_late());
        let text = tried.to_string();
        assert!(text.contains(&format!("{}: no answer", dead.address)), "{text}");
        assert!(text.contains(&format!("{closed}: Connection refused")), "{text}");
        let tried = connect(&[closed], Instant::now() + SOON).await.expect_err("nobody is there");
        assert!(!tried.is_late(), "{tried}");
        assert!(connect(&[], Instant::now() + SOON).await.expect_err("no address").0.is_empty());
    }
}
