//! Signals to the process: some stop it, SIGHUP has it read its configuration again, SIGUSR2 hand over to another process,
//! the others are logged and ignored.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::AppError;

/// What a signal asks a running process for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalCall {
    /// SIGHUP.
    Reload,
    /// SIGUSR2.
    HandOver,
}

/// All signals, watched from construction on. That is before the announcement: a program that waits for it may stop the
/// server at once, and an unwatched signal would end the process without goodbyes.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    pub(super) fn watch() -> Result<Signals, AppError> {
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

    /// Waits for the next signal that stops the server, and does what others ask for meanwhile. None is missed between two
    /// calls, but several may count as one.
    pub(super) async fn stop(&mut self, on_call: impl Fn(SignalCall)) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.quit.recv() => return,
                _ = self.hangup.recv() => on_call(SignalCall::Reload),
                _ = self.user_1.recv() => tracing::info!("SIGUSR1: ignored; it has no meaning here"),
                _ = self.user_2.recv() => on_call(SignalCall::HandOver),
            }
        }
    }
}

/// Serves until a signal asks for a stop, without a configuration to read again.
pub(super) async fn serve_until_signalled<F: Future<Output = ()>>(
    mut signals: Signals,
    serve: impl FnOnce(watch::Receiver<bool>) -> F,
) {
    let (stop, stopped) = watch::channel(false);
    let signalled = async {
        let ignore = |call| match call {
            SignalCall::Reload => tracing::info!("SIGHUP: ignored; restart to load a new configuration"),
            SignalCall::HandOver => tracing::info!("SIGUSR2: ignored; it has no meaning here"),
        };
        signals.stop(ignore).await;
        stop.send_replace(true);
    };
    tokio::join!(serve(stopped), signalled);
}
