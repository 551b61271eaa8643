//! Inbound events of all connections, on their way into the pipeline.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::Message;

use crate::profile::Profile;
use crate::words::stamp::Stamp;

use crate::intake::classify::{Classifier, FeedFrame};
use crate::intake::connection::established::{ConnectionVerdict, Established};
use crate::intake::connection::transport::Event;
use crate::intake::update::ConnectionId;
use crate::intake::upstream::{Upstream, UpstreamError};

impl Upstream {
    /// Takes the gathered events. An error is the end of the feed.
    pub(super) fn take_events(&mut self) -> Result<(), UpstreamError> {
        let mut events = self.connections.take_events();
        let (mut ended, mut oldest) = (Ok(()), None::<Stamp>);
        for (id, event, received) in events.drain(..) {
            if matches!(event, Event::Received(_)) && oldest.is_none_or(|oldest| received.mono_ns < oldest.mono_ns) {
                oldest = Some(received);
            }
            ended = ended.and_then(|()| match event {
                Event::Received(message) => self.receive(id, &message, received),
                Event::Opened(lease) => {
                    self.opened(id, lease, received);
                    Ok(())
                }
                Event::Renewed(request, renewed) => {
                    self.renewed(id, request, renewed, received);
                    Ok(())
                }
                // A message before the end may have been the reason to give the connection up.
                Event::Lost(_) if self.connections.is_given_up(id) => Ok(()),
                Event::Lost(loss) => self.lost(id, loss, received),
                // The next turn dials a connection that is to be dialed again.
                Event::Closed => {
                    self.connections.forget_left(id);
                    Ok(())
                }
            });
        }
        self.connections.recycle(events);
        // Once a turn, which costs a message next to nothing.
        if let Some(received) = oldest {
            self.meters.receipt_to_publish.record(self.clock.now().ns_since(received) as f64 / 1e9);
        }
        ended
    }

    /// A WebSocket message of a connection: through the pipeline, unless a client waits for it.
    fn receive(&mut self, id: ConnectionId, message: &Message, received: Stamp) -> Result<(), UpstreamError> {
        if self.profile.is_fallback {
            self.recognise(message);
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        let Some(established) = connection.established.as_mut() else { return Ok(()) };
        let frame = match message {
            Message::Text(text) => FeedFrame::Text(text),
            Message::Binary(bytes) => FeedFrame::Binary(bytes),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Close(_) => {
                established.protocol.alive();
                return Ok(());
            }
        };
        established.received(received);
        if let FeedFrame::Text(text) = frame
            && self.requests.answered(&self.profile, id, text)
        {
            return Ok(());
        }
        let outdated_before = established.outdated_since_ms();
        self.pipeline.receive(connection, frame, received);
        let outdated = connection.established.as_ref().and_then(Established::outdated_since_ms);
        let verdict = connection.established.as_mut().and_then(Established::take_verdict);
        if outdated != outdated_before {
            self.check_outdated(outdated.is_none());
        }
        match verdict {
            None => Ok(()),
            Some(verdict) => self.obey_verdict(id, verdict, received),
        }
    }

    fn obey_verdict(
        &mut self,
        id: ConnectionId,
        verdict: ConnectionVerdict,
        received: Stamp,
    ) -> Result<(), UpstreamError> {
        match verdict {
            ConnectionVerdict::Gap(gap) => {
                self.connection_gap(id, gap, received);
                Ok(())
            }
            ConnectionVerdict::Reconnect { rule } => self.reconnect_requested(id, &rule, received),
            ConnectionVerdict::Fatal { rule, message } => {
                Err(UpstreamError::Refused { profile: self.profile.name.clone(), rule: rule.to_string(), message })
            }
        }
    }

    /// `reports_current`: a connection has just reported that its values are current again; otherwise the next data show
    /// it.
    pub(super) fn check_outdated(&mut self, reports_current: bool) {
        self.pipeline.output.outdated(self.connections.outdated_since_ms(), reports_current);
    }

    /// If the first message reveals the feed, the rules of its profile apply from here on.
    fn recognise(&mut self, message: &Message) {
        let is_first = self.connections.are_untouched();
        let Message::Text(text) = message else { return };
        let Some(profile) = self.profile.recognised_by(text).filter(|_| is_first) else { return };
        tracing::info!(profile = profile.name, "upstream: profile recognised by the first message");
        self.pipeline.check_topics(profile.keepalive.stale_after);
        // Subscriptions stay: the items were written for the earlier profile.
        let Profile { name, rules, .. } = profile;
        self.profile = Arc::new(Profile { name, rules, is_fallback: false, ..Profile::clone(&self.profile) });
        self.connections.classify_by(&self.profile);
    }

    /// Runs the deadlines of the classifiers.
    pub(super) fn tick_classifiers(&mut self, now: Stamp) {
        self.with_classifiers(|classifier| classifier.tick(now));
        for id in self.connections.ids() {
            let established = self.connections.get_mut(id).and_then(|connection| connection.established.as_mut());
            // Only data wait in a classifier, and all they can report is that others are missing.
            if let Some(ConnectionVerdict::Gap(gap)) = established.and_then(Established::take_verdict) {
                self.connection_gap(id, gap, now);
            }
        }
    }

    /// Connections that have not guessed yet take over the guess of another one.
    pub(super) fn share_guess(&mut self) {
        if self.connections.iter().nth(1).is_none() {
            return;
        }
        let Some(guess) = self.connections.guess().cloned() else { return };
        self.with_classifiers(|classifier| {
            if classifier.guess().is_none() {
                classifier.adopt_guess(&guess);
            }
        });
    }

    /// Makes all outstanding guesses, from the messages at hand.
    pub(super) fn settle_guesses(&mut self) {
        self.with_classifiers(Classifier::settle);
    }

    /// The released messages go through the pipeline.
    fn with_classifiers(&mut self, mut act: impl FnMut(&mut Classifier)) {
        for connection in self.connections.iter_mut() {
            act(&mut connection.classifier);
            self.pipeline.receive_waited(connection);
        }
    }
}
