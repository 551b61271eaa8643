//! A feed that is asked for nothing sends nothing: that is said, with the way out, instead of "no data yet" for ever.

use crate::bus::feed_state::FeedState;
use crate::words::stamp::Stamp;

use crate::intake::time::ns;
use crate::intake::upstream::Upstream;

/// What was said about it.
#[derive(Debug, Default)]
pub(super) struct Idleness {
    reported: bool,
    /// It was logged, which once is enough.
    logged: bool,
}

impl Upstream {
    /// Says that nothing is asked for, when that is so, and that something is again.
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

    /// Since when it would be idle if nothing is asked for; none if it would not, or that cannot be known. Some feeds
    /// send without being asked.
    fn idle_since_ns(&self) -> Option<u64> {
        let subscribe = self.config.subscribe.as_ref()?;
        if subscribe.deadline.is_some() {
            // Without anything to ask for it is not even connected to.
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
            return "waiting for clients to subscribe: fanline subscribes only to topics that they name"
                .to_string();
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
