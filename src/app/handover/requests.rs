//! Who asks for a hand-over: SIGUSR2, or the operator, who waits for the outcome.

use std::convert::Infallible;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::mpsc;

use crate::app::handover::HandoverError;

/// More than one at a time are refused, and each is taken at once.
const REQUESTS_MAX: usize = 8;

/// Asks for a hand-over.
#[derive(Clone)]
pub(in crate::app) struct HandoverTrigger(mpsc::Sender<HandoverRequest>);

pub(in crate::app) struct HandoverRequests(mpsc::Receiver<HandoverRequest>);

pub(in crate::app) struct HandoverRequest {
    /// For the log.
    pub cause: &'static str,
    /// The process that has taken over, or why none has.
    answer: Option<SyncSender<Result<u32, String>>>,
}

pub(in crate::app) fn open() -> (HandoverTrigger, HandoverRequests) {
    let (requests, waiting) = mpsc::channel(REQUESTS_MAX);
    (HandoverTrigger(requests), HandoverRequests(waiting))
}

impl HandoverTrigger {
    /// Without waiting for the outcome, which is logged.
    pub(in crate::app) fn signal(&self) {
        // So many are waiting that one more changes nothing.
        let _ = self.0.try_send(HandoverRequest { cause: "SIGUSR2", answer: None });
    }

    /// Waits for the outcome; gives the number of the process that has taken over.
    pub(in crate::app) fn ask(&self) -> Result<u32, String> {
        let (answer, outcome) = sync_channel(1);
        let request = HandoverRequest { cause: "hand-over", answer: Some(answer) };
        let sent = self.0.try_send(request).map_err(|_| ()).and_then(|()| outcome.recv().map_err(drop));
        sent.unwrap_or_else(|()| Err(HandoverError::Stopping.to_string()))
    }
}

impl HandoverRequests {
    /// The next one; never, if nobody can ask.
    pub(in crate::app) async fn next(&mut self) -> HandoverRequest {
        match self.0.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }

    /// Refuses whoever asks meanwhile.
    pub(in crate::app) async fn refuse(&mut self, why: impl Fn() -> HandoverError) -> Infallible {
        loop {
            let request = self.next().await;
            let error = why();
            tracing::warn!("{}: {error}", request.cause);
            request.answer(Err(error.to_string()));
        }
    }
}

impl HandoverRequest {
    pub(in crate::app) fn answer(self, outcome: Result<u32, String>) {
        if let Some(answer) = self.answer {
            // Who asked may have given up.
            let _ = answer.try_send(outcome);
        }
    }
}
