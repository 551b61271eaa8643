//! A running server: its parts, what they share, and its end, by a stop or because a part ended.
//!
//! Every part is vital. If one ends without a stop, clients receive goodbyes and the process ends with an error within
//! `EXIT_DEADLINE`, so that a supervisor can restart it.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};

use crate::audit::log::AuditLog;
use crate::bus::signal::pulse::Vitals;
use crate::delivery::shards::Delivery;
use crate::edge::phase::Phase;
use crate::edge::settings::STOP_TIMEOUT;
use crate::settings::table::Drain;

use super::AppError;
use super::parts::{EndedPart, VitalParts};
use super::reload::Reload;
use super::signals::Signals;
use crate::app::fault_injection::FaultInjection;

/// Shortest interval of log lines about the number of sessions.
const SESSIONS_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Interval of checks for signs of life.
const VITALS_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of checks whether a drain is complete.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);
/// Time for clients to read their goodbyes after a part has ended.
const GOODBYES_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time from the end of a part to the end of the process, whatever state the other parts are in.
const EXIT_DEADLINE: Duration = Duration::from_millis(1500);
/// Added to `STOP_TIMEOUT`, within which the edge ends.
const STOP_MARGIN: Duration = Duration::from_millis(500);

pub(super) struct RunningServer {
    pub parts: VitalParts,
    pub delivery: Arc<Delivery>,
    pub vitals: Vitals,
    pub phase: watch::Sender<Phase>,
    /// For the parts that feed the bus.
    pub stop: watch::Sender<bool>,
    pub faults: FaultInjection,
    pub audit: AuditLog,
    /// What SIGHUP does.
    pub reload: Arc<Reload>,
}

impl RunningServer {
    /// Runs until it is stopped.
    ///
    /// # Errors
    /// A part ended before the stop, or this one panicked.
    pub(super) fn run(mut self, runtime: &Runtime, signals: &mut Signals) -> Result<(), AppError> {
        let faults = self.faults.clone();
        let serving = AssertUnwindSafe(|| runtime.block_on(faults.run("supervisor", self.serve(signals))));
        let ended = catch_unwind(serving).unwrap_or_else(|panic| Err(EndedPart::panicked("supervisor", &*panic)));
        ended.map_err(|ended| self.give_up(ended))
    }

    async fn serve(&mut self, signals: &mut Signals) -> Result<(), EndedPart> {
        let hangup = Arc::new(Notify::new());
        tokio::spawn(reload_on_hangup(self.reload.clone(), hangup.clone()));
        let on_hangup = || hangup.notify_one();
        tokio::select! {
            () = signals.stop(on_hangup) => {}
            ended = self.parts.one_ended() => return Err(ended),
            never = watch_over(&self.delivery, &self.vitals) => match never {},
        }
        let settings = self.reload.drain();
        tokio::select! {
            () = drain(&settings, &self.delivery, &self.phase) => {}
            () = signals.stop(on_hangup) => tracing::warn!("stopping at once: second signal"),
            ended = self.parts.one_ended() => return Err(ended),
        }
        self.stop_parts();
        match tokio::time::timeout(STOP_TIMEOUT + STOP_MARGIN, self.parts.all_ended()).await {
            Ok(ended) => ended?,
            Err(_) => tracing::warn!(parts = ?self.parts.names(), "some parts did not end in time and are abandoned"),
        }
        self.audit.close();
        tracing::info!("stopped");
        Ok(())
    }

    /// Handles the end of a part: sends clients goodbyes; returns the reason for the process to end.
    fn give_up(&self, ended: EndedPart) -> AppError {
        exit_within(EXIT_DEADLINE);
        tracing::error!(
            part = ended.part,
            "{ended}; the process ends so that it can be restarted, and clients receive a goodbye"
        );
        self.phase.send_replace(Phase::Draining);
        self.delivery.drain(self.reload.drain().reconnect_spread);
        let given_up = Instant::now();
        while self.delivery.sessions() > 0 && given_up.elapsed() < GOODBYES_TIMEOUT {
            std::thread::sleep(DRAIN_INTERVAL);
        }
        self.stop_parts();
        self.audit.close();
        AppError::PartEnded(ended)
    }

    fn stop_parts(&self) {
        self.delivery.stop();
        self.phase.send_replace(Phase::Stopped);
        self.stop.send_replace(true);
    }
}

/// Reads the configuration again for each SIGHUP, one after another; those that arrive meanwhile count as one.
async fn reload_on_hangup(reload: Arc<Reload>, hangup: Arc<Notify>) {
    loop {
        hangup.notified().await;
        let reload = reload.clone();
        // It waits for the disk, and this thread must not. The outcome is in the log.
        if let Err(error) = tokio::task::spawn_blocking(move || drop(reload.run("SIGHUP"))).await {
            tracing::error!(%error, "SIGHUP: the configuration could not be read again; restart to apply it");
        }
    }
}

/// Logs the number of sessions when it has changed, and each part without a sign of life.
async fn watch_over(delivery: &Delivery, vitals: &Vitals) -> Infallible {
    let mut sessions_logged = 0;
    let mut missing: Vec<String> = Vec::new();
    let mut glances = tokio::time::interval(VITALS_INTERVAL);
    let mut logged_at = Instant::now();
    loop {
        glances.tick().await;
        let missing_now: Vec<String> = vitals.missing().map(|(part, _)| part.to_string()).collect();
        for part in missing_now.iter().filter(|part| !missing.contains(part)) {
            tracing::error!(part, "no sign of life for 5 s; /healthz answers 503 until there is one");
        }
        for part in missing.iter().filter(|part| !missing_now.contains(part)) {
            tracing::warn!(part, "signs of life are back");
        }
        missing = missing_now;
        let sessions = delivery.sessions();
        if sessions != sessions_logged && logged_at.elapsed() >= SESSIONS_LOG_INTERVAL {
            tracing::info!(sessions, before = sessions_logged, "sessions connected");
            (sessions_logged, logged_at) = (sessions, Instant::now());
        }
    }
}

/// The orderly stop: readiness first, then goodbyes. A second signal cuts it short.
async fn drain(settings: &Drain, delivery: &Delivery, phase: &watch::Sender<Phase>) {
    let sessions = delivery.sessions();
    tracing::info!(sessions, "stopping: new sessions are refused, and connected clients receive a goodbye");
    phase.send_replace(Phase::Draining);
    tokio::time::sleep(settings.readiness_delay).await;
    delivery.drain(settings.reconnect_spread);
    let everyone_left = async {
        while delivery.sessions() > 0 {
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
    };
    if tokio::time::timeout(settings.timeout, everyone_left).await.is_err() {
        tracing::warn!(sessions = delivery.sessions(), "drain.timeout has passed; the remaining sessions are closed");
    }
}

/// Ends the process after this time, because what is left of it may hang.
fn exit_within(deadline: Duration) {
    let exit = move || {
        std::thread::sleep(deadline);
        std::process::exit(1);
    };
    if std::thread::Builder::new().name("deadline".into()).spawn(exit).is_err() {
        std::process::exit(1);
    }
}
