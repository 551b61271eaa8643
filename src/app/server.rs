//! A running server: its parts, what they share, and its end, which comes by a stop or because a part has ended.
//!
//! A server without one of its parts is none: whatever ends a part other than a stop ends the process with an error, after
//! clients were told, within `EXIT_DEADLINE`. A supervisor is to start it again.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::bus::signal::pulse::Vitals;
use crate::delivery::shards::Delivery;
use crate::edge::phase::Phase;
use crate::edge::settings::STOP_TIMEOUT;
use crate::settings::table::Drain;

use super::AppError;
use super::parts::{EndedPart, VitalParts};
use super::signals::Signals;
use crate::app::fault_injection::FaultInjection;

/// How often the log may say how many sessions there are.
const SESSIONS_GLANCE: Duration = Duration::from_secs(10);
/// How often it is looked whether a part gives signs of life.
const VITALS_GLANCE: Duration = Duration::from_secs(1);
/// How often the end of a drain is looked for.
const DRAIN_GLANCE: Duration = Duration::from_millis(20);
/// What clients are given to read their goodbyes after a part has ended.
const GOODBYES_TIMEOUT: Duration = Duration::from_secs(1);
/// From the end of a part to that of the process at the latest, whatever state the others are in.
const EXIT_DEADLINE: Duration = Duration::from_millis(1500);
/// Beyond `STOP_TIMEOUT`, within which the edge ends.
const STOP_MARGIN: Duration = Duration::from_millis(500);

pub(super) struct RunningServer {
    pub parts: VitalParts,
    pub delivery: Arc<Delivery>,
    pub vitals: Vitals,
    pub phase: watch::Sender<Phase>,
    /// For the parts that feed the bus.
    pub stop: watch::Sender<bool>,
    pub drain: Drain,
    pub faults: FaultInjection,
}

impl RunningServer {
    /// Runs until it is stopped.
    ///
    /// # Errors
    /// A part has ended before; this one included, should it panic.
    pub fn run(mut self, runtime: &Runtime, signals: &mut Signals) -> Result<(), AppError> {
        let faults = self.faults.clone();
        let serving = AssertUnwindSafe(|| runtime.block_on(faults.tend("supervisor", self.serve(signals))));
        let ended = catch_unwind(serving).unwrap_or_else(|panic| Err(EndedPart::panicked("supervisor", &*panic)));
        ended.map_err(|ended| self.give_up(ended))
    }

    async fn serve(&mut self, signals: &mut Signals) -> Result<(), EndedPart> {
        tokio::select! {
            () = signals.stop() => {}
            ended = self.parts.one_ended() => return Err(ended),
            never = watch_over(&self.delivery, &self.vitals) => match never {},
        }
        tokio::select! {
            () = drain(&self.drain, &self.delivery, &self.phase) => {}
            () = signals.stop() => tracing::warn!("stopping at once: signalled again"),
            ended = self.parts.one_ended() => return Err(ended),
        }
        self.tell_to_end();
        match tokio::time::timeout(STOP_TIMEOUT + STOP_MARGIN, self.parts.all_ended()).await {
            Ok(ended) => ended?,
            Err(_) => tracing::warn!(parts = ?self.parts.names(), "some parts have not ended in time, and are cut off"),
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// A part has ended: tells clients to reconnect, and gives the reason for the process to end.
    fn give_up(&self, ended: EndedPart) -> AppError {
        exit_within(EXIT_DEADLINE);
        tracing::error!(
            part = ended.part,
            "{ended}; the process ends, so that it can be started again, and clients are told to reconnect"
        );
        self.phase.send_replace(Phase::Draining);
        self.delivery.drain(self.drain.reconnect_spread);
        let given_up = Instant::now();
        while self.delivery.sessions() > 0 && given_up.elapsed() < GOODBYES_TIMEOUT {
            std::thread::sleep(DRAIN_GLANCE);
        }
        self.tell_to_end();
        AppError::PartEnded(ended)
    }

    fn tell_to_end(&self) {
        self.delivery.stop();
        self.phase.send_replace(Phase::Stopped);
        self.stop.send_replace(true);
    }
}

/// Tells the log how many sessions there are, when that has changed, and which part gives no sign of life.
async fn watch_over(delivery: &Delivery, vitals: &Vitals) -> Infallible {
    let mut told = 0;
    let mut missing: Vec<String> = Vec::new();
    let mut glances = tokio::time::interval(VITALS_GLANCE);
    let mut sessions_told = Instant::now();
    loop {
        glances.tick().await;
        let missing_now: Vec<String> = vitals.missing().map(|(part, _)| part.to_string()).collect();
        for part in missing_now.iter().filter(|part| !missing.contains(part)) {
            tracing::error!(part, "no sign of life for 5 s; /healthz answers 503 until there is one");
        }
        for part in missing.iter().filter(|part| !missing_now.contains(part)) {
            tracing::warn!(part, "there are signs of life again");
        }
        missing = missing_now;
        let sessions = delivery.sessions();
        if sessions != told && sessions_told.elapsed() >= SESSIONS_GLANCE {
            tracing::info!(sessions, before = told, "sessions connected");
            (told, sessions_told) = (sessions, Instant::now());
        }
    }
}

/// Readiness first, then the goodbyes; a second signal cuts it short.
async fn drain(settings: &Drain, delivery: &Delivery, phase: &watch::Sender<Phase>) {
    let sessions = delivery.sessions();
    tracing::info!(
        sessions,
        "stopping: new sessions are refused, and connected clients are told to reconnect elsewhere"
    );
    phase.send_replace(Phase::Draining);
    tokio::time::sleep(settings.readiness_delay).await;
    delivery.drain(settings.reconnect_spread);
    let everyone_left = async {
        while delivery.sessions() > 0 {
            tokio::time::sleep(DRAIN_GLANCE).await;
        }
    };
    if tokio::time::timeout(settings.timeout, everyone_left).await.is_err() {
        tracing::warn!(sessions = delivery.sessions(), "drain.timeout has passed; the remaining sessions are closed");
    }
}

/// Ends the process then at the latest: what is left of it may hang.
fn exit_within(deadline: Duration) {
    let exit = move || {
        std::thread::sleep(deadline);
        std::process::exit(1);
    };
    if std::thread::Builder::new().name("deadline".into()).spawn(exit).is_err() {
        std::process::exit(1);
    }
}
