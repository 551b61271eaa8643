//! The threads of handshakes: public-key work in the order of its arrival, beside everything else.
//!
//! A storm of reconnects takes these threads and no others, so clients that are connected do not notice it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Runtime};

/// The threads; they end with it.
pub(in crate::edge) struct HandshakeThreads {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    /// Steps that wait or run. Each handshake changes it for itself; an older count only lets one more or less wait.
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
}

/// As many steps wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected at most {waiting_max} handshakes that wait (tls.handshakes_waiting_max), found more")]
pub(in crate::edge) struct TooManyHandshakes {
    waiting_max: usize,
}

impl HandshakeThreads {
    /// `threads`: 0 for a quarter of the cores.
    pub(crate) fn start(threads: usize, waiting_max: usize) -> io::Result<HandshakeThreads> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads > 0 { threads } else { (cores / 4).max(1) };
        let runtime = Builder::new_multi_thread().worker_threads(threads).thread_name("handshake").build()?;
        Ok(HandshakeThreads { runtime: Some(runtime), waiting: Arc::default(), waiting_max })
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Runs one step of a handshake; those that came before it come first. None if the step panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Option<T>, TooManyHandshakes> {
        let waiting_max = self.waiting_max;
        if self.waiting() >= waiting_max {
            return Err(TooManyHandshakes { waiting_max });
        }
        let waits = Waits::new(&self.waiting);
        let runtime = self.runtime.as_ref().expect("it runs until it is dropped");
        // The count goes with the step: a client that leaves does not take its step out of the queue.
        let step = runtime.spawn(async move {
            let _waits = waits;
            step()
        });
        Ok(step.await.ok())
    }
}

struct Waits(Arc<AtomicUsize>);

impl Waits {
    fn new(waiting: &Arc<AtomicUsize>) -> Waits {
        waiting.fetch_add(1, Ordering::Relaxed);
        Waits(waiting.clone())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for HandshakeThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn beyond_the_bound_a_handshake_is_refused_and_a_panic_ends_only_its_own() {
        let threads = Arc::new(HandshakeThreads::start(1, 2).expect("threads"));
        let (release, held) = mpsc::channel::<()>();
        let (first, second) = (threads.clone(), threads.clone());
        let first = tokio::spawn(async move { first.run(move || held.recv().is_ok()).await });
        let second = tokio::spawn(async move { second.run(|| panic!("planted")).await });
        while threads.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(threads.run(|| ()).await, Err(TooManyHandshakes { waiting_max: 2 }));
        release.send(()).expect("the step waits");
        assert_eq!(first.await.expect("no panic"), Ok(Some(true)));
        let second: Result<Option<()>, _> = second.await.expect("no panic out here");
        assert_eq!(second, Ok(None));
        assert_eq!(threads.run(|| 1).await, Ok(Some(1)));
        assert_eq!(threads.waiting(), 0);
    }
}
