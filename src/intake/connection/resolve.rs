//! Name resolution: a host's addresses, in the order of attempts.
//!
//! The system's resolver cannot be interrupted. Each question has a thread of its own, and only a few are open at a
//! time, so that a silent name server neither delays the stop of the process nor costs unbounded memory.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::thread;

use tokio::sync::{Semaphore, oneshot};

/// Open questions to the system's resolver; further ones wait.
const QUESTIONS_MAX: usize = 4;

pub(crate) type Resolution = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// A source of hosts' addresses.
pub(crate) trait Resolve: Send + Sync {
    fn resolve(&self, name: &str, port: u16) -> Resolution;
}

/// The resolver of this machine: its files and its name servers.
pub(crate) struct System {
    questions: Arc<Semaphore>,
}

impl Default for System {
    fn default() -> System {
        System { questions: Arc::new(Semaphore::new(QUESTIONS_MAX)) }
    }
}

impl Resolve for System {
    fn resolve(&self, name: &str, port: u16) -> Resolution {
        let (questions, name) = (self.questions.clone(), name.to_string());
        Box::pin(async move {
            let question = questions.acquire_owned().await.expect("the questions are never closed");
            let (sender, answer) = oneshot::channel();
            thread::Builder::new().name("resolver".to_string()).spawn(move || {
                let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
                // The attempt may have been given up.
                sender.send(found).ok();
                drop(question);
            })?;
            answer.await.unwrap_or_else(|_| Err(io::Error::other("the resolver has ended without an answer")))
        })
    }
}

/// The addresses with their families alternating, beginning with the family of the first (RFC 8305 section 4).
pub(crate) fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return addresses };
    let is_v6 = first.is_ipv6();
    let (mut ours, mut others): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == is_v6);
    let mut sorted = Vec::with_capacity(ours.len() + others.len());
    while !ours.is_empty() || !others.is_empty() {
        sorted.extend(ours.pop_front());
        sorted.extend(others.pop_front());
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_keep_their_order() {
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect::<Vec<_>>();
        let found = read(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let expected = read(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(alternating(found), expected);
        assert_eq!(alternating(Vec::new()), []);
    }

    #[tokio::test]
    async fn this_machine_knows_itself() {
        let found = System::default().resolve("localhost", 7).await.expect("addresses");
        assert!(found.iter().any(|address| address.ip().is_loopback() && address.port() == 7), "{found:?}");
    }
}
