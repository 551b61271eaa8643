//! Work at its time: connections are dialed, and messages are sent on them.

use tokio_tungstenite::tungstenite::Message;

use crate::profile::subscribe::FeedItem;
use crate::words::stamp::Stamp;

use crate::intake::classify::Classifier;
use crate::intake::connection::attempt::EndpointValues;
use crate::intake::connection::established::Established;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::protocol::ProtocolAction;
use crate::intake::connection::{Connection, ConnectionRole};
use crate::intake::time::{in_s, ns};
use crate::intake::update::ConnectionId;
use crate::intake::upstream::Upstream;
use crate::intake::upstream::lifecycle::takes_over_ns;
use crate::intake::upstream::renewal::lease_due_ns;

impl Upstream {
    /// Everything that is due now.
    pub(super) fn tick(&mut self, now: Stamp) {
        self.tick_classifiers(now);
        self.share_guess();
        self.pipeline.tick(now, self.connections.polled());
        self.remedy_gaps(now);
        self.renew_due(now);
        self.tick_demand(now);
        self.requests.tick(now);
        self.report_waiting(now);
        self.tick_awaited(now);
        for id in self.connections.ids() {
            self.dial(id, now);
            self.send_due(id, now);
            self.take_outcomes(id, now);
            self.renew_lease(id, now);
        }
        self.ask_for_snapshots(now);
        self.rotate_due(now);
        self.promote(now);
        self.check_overlap(now);
        self.check_idleness(now);
    }

    /// When `tick` may have work although nothing has happened.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let connections =
            self.connections.iter().filter_map(|connection| self.connection_deadline_ns(connection)).min();
        let copies = Some(self.copies_until_ns).filter(|until_ns| *until_ns > 0);
        let owners = [self.pipeline.deadline_ns(), self.demand.deadline_ns(), self.requests.deadline_ns()];
        let waiting = [self.awaited.deadline_ns(), self.idle_deadline_ns(), self.snapshots.deadline_ns()];
        let renewals = self.renewals.deadline_ns();
        [connections, copies, renewals].into_iter().chain(owners).chain(waiting).flatten().min()
    }

    fn connection_deadline_ns(&self, connection: &Connection) -> Option<u64> {
        let dial = connection.dial_at_ns.filter(|_| connection.transport.is_empty() && self.is_wanted(connection));
        let established = connection.established.as_ref();
        let protocol = established.filter(|_| connection.transport.takes_more());
        let stuck = connection.transport.stuck_since().map(|since| since.mono_ns + ns(self.config.timing.pong_timeout));
        let regular = established.filter(|_| connection.role() == ConnectionRole::Regular);
        let due = [
            dial.map(|at| at.max(self.connections.addresses.ready_ns())),
            protocol.and_then(|established| established.protocol.deadline_ns()),
            stuck,
            takes_over_ns(connection),
            regular.and_then(|established| established.rotate_at_ns),
            lease_due_ns(connection),
            established.and_then(Established::waiting_report_ns),
            connection.classifier.deadline_ns(),
        ];
        due.into_iter().flatten().min()
    }

    /// Without items there is no reason to connect to a venue that expects subscriptions soon, or has other URLs.
    fn is_wanted(&self, connection: &Connection) -> bool {
        let hurries = self.config.subscribe.as_ref().is_some_and(|how| how.deadline.is_some());
        let needs_items = hurries || self.connections.addresses.branches() > 0;
        !needs_items || !self.assignment.is_idle(connection.carries_for())
    }

    fn dial(&mut self, id: ConnectionId, now: Stamp) {
        let ready_ns = self.connections.addresses.ready_ns();
        let Some(connection) = self.connections.get(id) else { return };
        let is_due = connection.dial_at_ns.is_some_and(|at| at.max(ready_ns) <= now.mono_ns);
        if !is_due || !connection.transport.is_empty() || !self.is_wanted(connection) {
            return;
        }
        let values = EndpointValues { items: self.venue_names(connection), cursor: self.pipeline.resume_at() };
        self.connections.dial(id, values, now);
    }

    /// The venue's names of the items that a connection subscribes to.
    pub(super) fn venue_names(&self, connection: &Connection) -> Vec<String> {
        let items = self.assignment.items_of(connection.carries_for());
        items.iter().map(|item| item.venue.clone()).collect()
    }

    /// Sends what is due on a connection.
    fn send_due(&mut self, id: ConnectionId, now: Stamp) {
        let pong_timeout = self.config.timing.pong_timeout;
        let Some(Connection { transport, classifier, established: Some(established), .. }) =
            self.connections.get_mut(id)
        else {
            return;
        };
        if transport.has_read() {
            established.protocol.alive();
        }
        let is_stuck = transport.stuck_since().is_some_and(|since| now.ns_since(since) >= ns(pong_timeout));
        let mut end = is_stuck.then_some(Loss::Stuck { after: pong_timeout });
        let mut silent_since = None;
        while end.is_none() && transport.takes_more() {
            match established.protocol.next(now, &|item| bound_key(classifier, item)) {
                None => break,
                Some(ProtocolAction::Send(text)) => transport.send(Message::text(text)),
                Some(ProtocolAction::Ping) => transport.send(Message::Ping(Default::default())),
                Some(ProtocolAction::ReportSilence { since }) => {
                    established.is_silent = true;
                    silent_since = Some(since);
                }
                Some(ProtocolAction::Replace) => established.rotate_at_ns = Some(now.mono_ns),
                Some(ProtocolAction::End(loss)) => end = Some(loss),
            }
        }
        if let Some(since) = silent_since {
            self.report_silence(since);
            // Where others carry the same, they own its topics from now on.
            self.renew_orphans(id, now);
        }
        if let Some(loss) = end {
            self.give_up(id, loss, now);
        }
    }

    /// Connections that are up again and have brought nothing: the reported loss is over.
    fn report_waiting(&mut self, now: Stamp) {
        let established = self.connections.iter_mut().filter_map(|connection| connection.established.as_mut());
        for _ in established.filter_map(|established| established.reports_waiting(now).then_some(())) {
            self.pipeline.output.waiting();
        }
    }

    /// One connection is silent; the feed is, if all others are as well.
    fn report_silence(&mut self, since: Stamp) {
        let timeout = in_s(self.config.timing.idle_timeout.unwrap_or_default());
        let message = format!("no message for {timeout}; reconnecting after another {timeout} without one");
        if self.connections.are_silent() {
            self.pipeline.output.silent(since, &message);
        } else {
            tracing::warn!("upstream: one connection: {message}");
        }
    }
}

/// The venue's key of this item's subscription on this connection, if it has announced one.
fn bound_key(classifier: &Classifier, item: &FeedItem) -> Option<String> {
    classifier.bound_key(&[("channel", &item.channel), ("symbol", &item.symbol)]).map(str::to_string)
}
