//! Other terms for a feed that runs: a reload of the configuration.
//!
//! Items come and go on the connections that are there. For anything that a connection is made of, each open connection
//! gets a successor that is made by the new terms, and goes once that delivers; one that is not open is dialed anew. Terms
//! under which nothing connects leave the old connections as they are.

use std::sync::Arc;

use crate::profile::Profile;
use crate::profile::subscribe::FeedItem;
use crate::words::stamp::Stamp;

use crate::intake::classify::Classifier;
use crate::intake::connection::ConnectionRole;
use crate::intake::upstream::Upstream;
use crate::intake::upstream::terms::{FeedTerms, Settings};

impl Upstream {
    pub(super) fn change(&mut self, terms: FeedTerms, now: Stamp) {
        let FeedTerms { settings, profile, config, mut addresses, rules, pinned, hidden } = terms;
        let renews = !settings.connects_as(&self.settings);
        self.connections.change_rules(rules);
        self.demand.linger_for(settings.linger);
        self.awaited.wait_for(settings.first_message_timeout);
        if renews {
            let profile = self.with_guesses(profile, &settings);
            self.hidden.learn_from(&hidden);
            addresses.follow(&self.connections.addresses, self.hidden.clone());
            self.connections.addresses = addresses;
            self.limit_setting = settings.limit_setting();
            self.config = config;
            self.pipeline.change(profile.keepalive.stale_after, profile.resume.as_ref());
            self.snapshots.change(profile.snapshot.as_ref());
            if let Some(subscribe) = self.config.subscribe.clone() {
                let item = |name: &str| -> Arc<FeedItem> { Arc::new(subscribe.item(name)) };
                self.assignment.change(profile.can_drop(), item);
            }
            self.profile = Arc::new(profile);
            self.version += 1;
            self.renew_connections(now);
        }
        let changes = self.settings.changes.clone();
        self.settings = Settings { changes, ..settings };
        let (added, removed) = self.pin(&pinned, now);
        tracing::info!(added, removed, connections_anew = renews, "upstream: other terms are in force");
    }

    /// What the first messages have revealed of a feed without a profile holds on.
    fn with_guesses(&self, profile: Profile, settings: &Settings) -> Profile {
        if !(settings.profile.is_fallback && self.settings.profile.is_fallback) {
            return profile;
        }
        let Profile { name, rules, is_fallback, .. } = Profile::clone(&self.profile);
        Profile { name, rules, is_fallback, ..profile }
    }

    fn renew_connections(&mut self, now: Stamp) {
        for id in self.connections.ids() {
            self.connections.readdress(id);
            let Some(connection) = self.connections.get_mut(id) else { continue };
            match (connection.role(), &mut connection.established) {
                (ConnectionRole::Leaving, _) => {}
                (ConnectionRole::Regular, Some(established)) => {
                    // What it renews is of the terms before.
                    established.lease.release();
                    established.rotate_at_ns = Some(now.mono_ns);
                }
                (ConnectionRole::Regular | ConnectionRole::Successor { .. }, _) => {
                    connection.classifier = Classifier::of_branch(&self.profile, connection.part().branch);
                    connection.version = self.version;
                    connection.redial(now);
                    self.requests.connection_lost(id);
                    self.renew_orphans(id, now);
                }
            }
        }
        self.count_open();
    }

    /// Subscribes to these whether clients want them or not, and no longer to others that nobody wants. Returns how many
    /// came and went.
    fn pin(&mut self, names: &[String], now: Stamp) -> (usize, usize) {
        let (added, removed) = self.demand.pin(names);
        let fresh: Vec<String> = added.iter().filter(|name| !self.assignment.has(name)).cloned().collect();
        if !fresh.is_empty() {
            self.want(&fresh, now);
        }
        let unwanted: Vec<String> = removed.iter().filter(|name| !self.demand.is_wanted(name)).cloned().collect();
        self.let_go_of(&unwanted, now);
        (added.len(), removed.len())
    }
}
