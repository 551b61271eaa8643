//! A running server: its parts, what they share, and its end, by a stop, a hand-over, or because a part ended.
//!
//! Every part is vital. If one ends without a stop, clients receive goodbyes and the process ends with an error within
//! `EXIT_DEADLINE`, so that a supervisor can restart it.

use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot, watch};

use crate::access::end_journal::EndJournal;
use crate::audit::log::AuditLog;
use crate::bus::signal::pulse::Vitals;
use crate::delivery::shards::Delivery;
use crate::edge::listen::inherited::HandedSocket;
use crate::edge::phase::Phase;
use crate::edge::settings::STOP_TIMEOUT;
use crate::settings::table::Drain;

use super::AppError;
use super::handover::predecessor::{Predecessor, PredecessorError};
use super::handover::requests::{HandoverRequests, HandoverTrigger};
use super::handover::successor::Successor;
use super::handover::{Handover, HandoverError};
use super::parts::{EndedPart, VitalParts};
use super::reload::Reload;
use super::signals::{SignalCall, Signals};
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
    pub journal: EndJournal,
    /// What SIGHUP does.
    pub reload: Arc<Reload>,
    /// What SIGUSR2 does.
    pub handover: Handover,
    /// For a successor.
    pub sockets: Vec<HandedSocket>,
    pub trigger: HandoverTrigger,
    pub requests: HandoverRequests,
    /// The process that serves instead of this one.
    pub successor: Option<Successor>,
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

    /// Serves instead of the predecessor, once it may.
    ///
    /// # Errors
    /// The predecessor goes on.
    pub(super) fn take_over(
        &self,
        predecessor: Predecessor,
        (runtime, signals): (&Runtime, &mut Signals),
    ) -> Result<(), PredecessorError> {
        let (reader, journal, (told, taken)) = (self.handover.shown.reader(), self.journal.clone(), oneshot::channel());
        let mut predecessor = predecessor;
        // It waits, and a signal to stop must not.
        std::thread::Builder::new().name("take-over".into()).spawn(move || {
            let outcome = predecessor.take_over(&reader);
            let has_taken_over = outcome.is_ok();
            // Nobody hears it after a signal.
            let _ = told.send(outcome);
            if has_taken_over {
                predecessor.keep_ends(&journal);
            }
        })?;
        let is_late = || Err(PredecessorError::Channel(io::ErrorKind::BrokenPipe.into()));
        runtime.block_on(async {
            tokio::select! {
                biased;
                outcome = taken => outcome.unwrap_or_else(|_| is_late()),
                () = signals.stop(|_| ()) => Err(PredecessorError::Stopped),
            }
        })?;
        self.sockets.iter().filter_map(|socket| socket.file.as_ref()).for_each(|file| file.claim());
        self.handover.meters.done.increment(1);
        self.phase.send_replace(Phase::Serving);
        tracing::info!("this process has taken over, and serves");
        Ok(())
    }

    async fn serve(&mut self, signals: &mut Signals) -> Result<(), EndedPart> {
        let hangup = Arc::new(Notify::new());
        tokio::spawn(reload_on_hangup(self.reload.clone(), hangup.clone()));
        let trigger = self.trigger.clone();
        let on_call = |call| match call {
            SignalCall::Reload => hangup.notify_one(),
            SignalCall::HandOver => trigger.signal(),
        };
        self.handover.service.tell("READY=1");
        self.serve_until_stopped(signals, &on_call).await?;
        if self.successor.is_some() {
            let settings = self.reload.drain();
            tokio::select! {
                () = leave_to_successor(&settings, &self.delivery) => {}
                () = signals.stop(&on_call) => self.dismiss_all(signals, &on_call).await?,
                never = self.requests.refuse(|| HandoverError::Stopping) => match never {},
                ended = self.parts.one_ended() => return Err(ended),
            }
        } else {
            self.handover.service.tell("STOPPING=1");
            self.dismiss_all(signals, &on_call).await?;
        }
        if let Some(successor) = &mut self.successor {
            successor.tell_ends(&self.journal).await;
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

    /// Until a signal stops the server, or another process has taken over.
    async fn serve_until_stopped(
        &mut self,
        signals: &mut Signals,
        on_call: &impl Fn(SignalCall),
    ) -> Result<(), EndedPart> {
        let RunningServer { parts, delivery, vitals, phase, reload, handover, sockets, requests, successor, .. } = self;
        let mut watching = std::pin::pin!(watch_over(delivery, vitals));
        loop {
            let request = tokio::select! {
                () = signals.stop(on_call) => return Ok(()),
                ended = parts.one_ended() => return Err(ended),
                never = &mut watching => match never {},
                request = requests.next() => request,
            };
            let limit = reload.drain().handover_timeout;
            // Dropped by a stop: the process that was to take over ends, too.
            let outcome = tokio::select! {
                () = signals.stop(on_call) => {
                    tracing::warn!("{}: given up, because the server is to stop", request.cause);
                    return Ok(());
                }
                ended = parts.one_ended() => return Err(ended),
                never = &mut watching => match never {},
                never = requests.refuse(|| HandoverError::UnderWay) => match never {},
                outcome = handover.run(request.cause, (sockets, limit), phase) => outcome,
            };
            match outcome {
                Ok(process) => {
                    request.answer(Ok(process.pid()));
                    *successor = Some(process);
                    return Ok(());
                }
                Err(error) => request.answer(Err(error.to_string())),
            }
        }
    }

    /// Goodbyes for everybody. A further signal cuts it short.
    async fn dismiss_all(&mut self, signals: &mut Signals, on_call: &impl Fn(SignalCall)) -> Result<(), EndedPart> {
        let settings = self.reload.drain();
        let phase = Some(&self.phase).filter(|_| self.successor.is_none());
        tokio::select! {
            () = drain(&settings, &self.delivery, phase) => Ok(()),
            () = signals.stop(on_call) => {
                tracing::warn!("stopping at once: second signal");
                Ok(())
            }
            never = self.requests.refuse(|| HandoverError::Stopping) => match never {},
            ended = self.parts.one_ended() => Err(ended),
        }
    }

    /// Handles the end of a part: sends clients goodbyes; returns the reason for the process to end.
    fn give_up(&mut self, ended: EndedPart) -> AppError {
        exit_within(EXIT_DEADLINE);
        tracing::error!(
            part = ended.part,
            "{ended}; the process ends so that it can be restarted, and clients receive a goodbye"
        );
        if self.successor.is_none() {
            self.phase.send_replace(Phase::Draining);
        }
        self.delivery.drain(self.reload.drain().reconnect_spread);
        let given_up = Instant::now();
        while self.delivery.sessions() > 0 && given_up.elapsed() < GOODBYES_TIMEOUT {
            std::thread::sleep(DRAIN_INTERVAL);
        }
        self.stop_parts();
        self.audit.close();
        AppError::PartEnded(ended)
    }

    fn stop_parts(&mut self) {
        // Whoever comes now is refused by the kernel, unless there is a successor.
        self.sockets.clear();
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

/// The orderly stop: readiness first, then goodbyes. Without a phase another process serves already.
async fn drain(settings: &Drain, delivery: &Delivery, phase: Option<&watch::Sender<Phase>>) {
    let sessions = delivery.sessions();
    if let Some(phase) = phase {
        tracing::info!(sessions, "stopping: new sessions are refused, and connected clients receive a goodbye");
        phase.send_replace(Phase::Draining);
        tokio::time::sleep(settings.readiness_delay).await;
    } else {
        tracing::info!(sessions, "stopping: the clients that are left receive a goodbye");
    }
    delivery.drain(settings.reconnect_spread);
    everyone_left(settings.timeout, delivery).await;
}

/// The end after a hand-over: goodbyes in waves, so that each client has the stream until it can come to the successor.
async fn leave_to_successor(settings: &Drain, delivery: &Delivery) {
    delivery.drain_in_waves(settings.reconnect_spread);
    everyone_left(settings.reconnect_spread + settings.timeout, delivery).await;
}

async fn everyone_left(timeout: Duration, delivery: &Delivery) {
    let everyone_left = async {
        while delivery.sessions() > 0 {
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
    };
    if tokio::time::timeout(timeout, everyone_left).await.is_err() {
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
