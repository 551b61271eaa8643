//! What the system says to the process: stop, or something that is not understood yet, but must not end it.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::AppError;

/// All signals are watched from the moment this is made. That is before the announcement: whoever waits for it may
/// ask for a stop at once, and a signal that nobody watches ends the process without a goodbye.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    pub fn watch() -> Result<Signals, AppError> {
        let watch = |kind| signal(kind).map_err(AppError::system("watch for signals"));
        Ok(Signals {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            quit: watch(SignalKind::quit())?,
            hangup: watch(SignalKind::hangup())?,
            user_1: watch(SignalKind::user_defined1())?,
            user_2: watch(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next one that asks for a stop. None is missed between two calls, but several may count as one.
    pub async fn stop(&mut self) {
        loop {
            let (signal, remedy) = tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.quit.recv() => return,
                _ = self.hangup.recv() => ("SIGHUP", "nothing to reload yet; use a restart"),
                _ = self.user_1.recv() => ("SIGUSR1", "ignored; it has no meaning here"),
                _ = self.user_2.recv() => ("SIGUSR2", "ignored; it has no meaning here"),
            };
            tracing::info!("{signal}: {remedy}");
        }
    }
}
