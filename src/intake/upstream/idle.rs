//! The idle state: a feed without subscriptions sends nothing. The log and clients learn why, with the remedy, instead
//! of "no data yet".

use crate::bus::feed_state::FeedState;
use crate::words::stamp::Stamp;

use crate::intake::time::ns;
use crate::intake::upstream::Upstream;

/// Reports of the idle state.
#[derive(Debug, Default)]
pub(super) struct Idleness {
    reported: bool,
    /// It was logged; once is enough.
    logged: bool,
}

impl Upstream {
    /// Reports that nothing is subscribed, and that something is again.
    pub(super) fn check_idleness(&mut self, now: Stamp) {
        let has_no_items = self.assignment.item_count() == 0;
        let is_idle =
            has_no_items && !self.pipeline.output.is_live() && self.idle_since_ns().is_some_and(|at| at <= now.mono_ns);
        if is_idle == self.idleness.reported {
            return;
        }
        self.idleness.reported = is_idle;
        if is_idle {
            let for_clients = self.demand.is_of_clients();
            let message = self.idle_message();
            if !std::mem::replace(&mut self.idleness.logged, true) {
                match for_clients {
                    true => tracing::info!("upstream: {message}"),
                    false => tracing::warn!("upstream: {message}"),
                }
                self.pipeline.output.counts.trouble(message.clone());
            }
            self.pipeline.output.idle(Some(FeedState::Idle { for_clients, message }));
        } else if !has_no_items && !self.pipeline.output.is_live() {
            self.pipeline.output.idle(None);
        }
    }

    pub(super) fn idle_deadline_ns(&self) -> Option<u64> {
        let may_become_idle =
            self.assignment.item_count() == 0 && !self.idleness.reported && !self.pipeline.output.is_live();
        self.idle_since_ns().filter(|_| may_become_idle)
    }

    /// Since when the feed would be idle without subscriptions; none if it would not be, or that is unknown. Some feeds
    /// send without a subscription.
    fn idle_since_ns(&self) -> Option<u64> {
        let subscribe = self.config.subscribe.as_ref()?;
        if subscribe.deadline.is_some() {
            // Without items there is not even a connection.
            return Some(0);
        }
        let opened_ns = self.connections.opened_since()?.mono_ns;
        if self.demand.is_of_clients() {
            return Some(opened_ns);
        }
        subscribe.example.as_ref().map(|_| opened_ns + ns(self.awaited.timeout()))
    }

    fn idle_message(&self) -> String {
        if self.demand.is_of_clients() {
            return "waiting for clients to subscribe: fanline subscribes only to topics that they name".to_string();
        }
        let subscribe = self.config.subscribe.as_ref();
        let example = subscribe.and_then(|subscribe| subscribe.example.as_deref());
        let example = example.map(|example| format!(", such as `--subscribe {example}`")).unwrap_or_default();
        format!(
            "nothing to subscribe to: the feed of profile `{}` sends nothing unasked; name items with `--subscribe` \
             (upstream.subscribe){example}, or let clients choose with `upstream.demand`",
            self.profile.name
        )
    }
}
