//! State of an open connection, as its messages change it. It ends with the connection.

use std::sync::Arc;
use std::time::Duration;

use crate::json::{Pointer, find};
use crate::profile::rule::MessageClass;
use crate::profile::rules::numbers::GapRemedy;
use crate::words::stamp::Stamp;

use crate::intake::classify::{Classified, ConnectionGap, FeedMessage, UpstreamStatus};
use crate::intake::connection::lease::Lease;
use crate::intake::connection::protocol::Protocol;
use crate::intake::update::Update;

/// Most feeds send sooner than this after the subscription; data that follow at once need no report before them.
const WAITING_REPORT_NS: u64 = 1_000_000_000;

pub(crate) struct Established {
    pub protocol: Protocol,
    pub lease: Lease,
    opened: Stamp,
    /// Arrival of the first and the last update.
    updates: Option<(Stamp, Stamp)>,
    /// When a new connection replaces it.
    pub rotate_at_ns: Option<u64>,
    /// No message for the idle timeout.
    pub is_silent: bool,
    /// It was reported that the connection is up without data.
    waiting_reported: bool,
    /// Since when its data may be outdated, as the feed itself reports; in milliseconds since the Unix epoch.
    outdated_since_ms: Option<u64>,
    gap_end: Option<GapEnd>,
    verdict: Option<ConnectionVerdict>,
}

/// The feed has left out messages; the newest values of their topics follow.
#[derive(Debug)]
struct GapEnd {
    /// Data with a greater number are past it.
    until: u64,
    /// Place of the number in data.
    number: Pointer,
}

/// Consequence of a message for its connection. Of several in one frame the gravest counts; they are in that order.
#[derive(Debug)]
pub(crate) enum ConnectionVerdict {
    Gap(ConnectionGap),
    Reconnect { rule: Arc<str> },
    Fatal { rule: Arc<str>, message: String },
}

impl ConnectionVerdict {
    fn weight(&self) -> u8 {
        match self {
            ConnectionVerdict::Gap(_) => 0,
            ConnectionVerdict::Reconnect { .. } => 1,
            ConnectionVerdict::Fatal { .. } => 2,
        }
    }
}

impl Established {
    pub(crate) fn new((protocol, lease): (Protocol, Lease), opened: Stamp, rotate_at_ns: Option<u64>) -> Established {
        Established {
            protocol,
            lease,
            opened,
            updates: None,
            rotate_at_ns,
            is_silent: false,
            waiting_reported: false,
            outdated_since_ms: None,
            gap_end: None,
            verdict: None,
        }
    }

    pub(crate) fn opened(&self) -> Stamp {
        self.opened
    }

    /// Arrival of its first update.
    pub(crate) fn first_update(&self) -> Option<Stamp> {
        self.updates.map(|(first, _)| first)
    }

    /// How long updates have been arriving.
    pub(crate) fn flowed(&self) -> Duration {
        Duration::from_millis(self.updates.map_or(0, |(first, last)| last.ms_since(first)))
    }

    pub(crate) fn outdated_since_ms(&self) -> Option<u64> {
        self.outdated_since_ms
    }

    /// Takes the gravest consequence of its messages since the last call.
    pub(crate) fn take_verdict(&mut self) -> Option<ConnectionVerdict> {
        self.verdict.take()
    }

    /// When the report is due that it is up without data.
    pub(crate) fn waiting_report_ns(&self) -> Option<u64> {
        let is_waiting = self.updates.is_none() && !self.waiting_reported;
        is_waiting.then(|| self.opened.mono_ns + WAITING_REPORT_NS)
    }

    /// Whether that report is due.
    pub(crate) fn reports_waiting(&mut self, now: Stamp) -> bool {
        let is_due = self.waiting_report_ns().is_some_and(|at| at <= now.mono_ns);
        self.waiting_reported |= is_due;
        is_due
    }

    /// A message of the feed arrived.
    pub(crate) fn received(&mut self, now: Stamp) {
        self.protocol.received(now);
        self.is_silent = false;
    }

    /// An update is on its way. Returns whether messages are missing before it, as the feed has reported.
    pub(crate) fn updated(&mut self, update: &Update<'_>) -> bool {
        self.protocol.subscriptions.updated(update.topic);
        self.updates = Some((self.updates.map_or(update.received, |(first, _)| first), update.received));
        self.gap_end.is_some() && self.is_in_gap(update.message)
    }

    /// Whether this message precedes the end of what was left out.
    fn is_in_gap(&mut self, message: &[u8]) -> bool {
        let Some(GapEnd { until, number }) = &self.gap_end else { return false };
        let token = std::str::from_utf8(message).ok().and_then(|text| find(text, number));
        let is_inside = token.and_then(|token| token.parse().ok()).is_some_and(|number: u64| number <= *until);
        if !is_inside {
            self.gap_end = None;
        }
        is_inside
    }

    /// The rest of a message, besides its updates.
    pub(crate) fn learn(&mut self, classified: &Classified, message: &FeedMessage<'_>, received: Stamp) {
        if let Some(gap) = classified.gap {
            self.judge(ConnectionVerdict::Gap(gap));
        }
        if let Some(status) = &classified.status {
            return self.learn_status(classified.class, status, received);
        }
        let (FeedMessage::Text(text), Some(rule)) = (message, &classified.rule) else { return };
        match classified.class {
            MessageClass::Data => {}
            MessageClass::Ping => classified.reply.iter().for_each(|reply| self.protocol.reply(reply.clone())),
            MessageClass::Reconnect => self.judge(ConnectionVerdict::Reconnect { rule: rule.clone() }),
            MessageClass::Fatal => {
                self.judge(ConnectionVerdict::Fatal { rule: rule.clone(), message: message.excerpt() });
            }
            class => self.protocol.learned((class, rule), text, &message.excerpt(), received),
        }
    }

    /// A report of the feed about its own values. A report about one topic does not concern the connection.
    fn learn_status(&mut self, class: MessageClass, status: &UpstreamStatus, received: Stamp) {
        match (class, &status.topic) {
            (_, Some(_)) => {}
            (MessageClass::Stale, None) => self.outdated_since_ms = Some(status.number.unwrap_or(received.wall_ms)),
            (MessageClass::Live, None) => self.outdated_since_ms = None,
            (_, None) => match status.number.zip(status.data_number.clone()) {
                Some((until, number)) => self.gap_end = Some(GapEnd { until, number }),
                None => {
                    let gap = ConnectionGap { missed: status.number, remedy: GapRemedy::Mark };
                    self.judge(ConnectionVerdict::Gap(gap));
                }
            },
        }
    }

    fn judge(&mut self, verdict: ConnectionVerdict) {
        if self.verdict.as_ref().is_none_or(|graver| graver.weight() < verdict.weight()) {
            self.verdict = Some(verdict);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::intake::connection::protocol_config::{ProtocolConfig, Timing};
    use crate::profile::Profile;
    use crate::profile::secrets::Secrets;

    /// A connection whose first and last updates arrived then.
    pub(crate) fn flowing(first: Stamp, last: Stamp) -> Established {
        let profile = Profile::built_in("simulated").expect("built in");
        let timing = Timing { idle_timeout: None, ws_ping: None, pong_timeout: Duration::from_secs(1) };
        let config = Arc::new(ProtocolConfig::new(&profile, timing, Secrets::default()));
        Established {
            updates: Some((first, last)),
            ..Established::new((Protocol::open((config, Arc::default()), &[], first), Lease::default()), first, None)
        }
    }
}
