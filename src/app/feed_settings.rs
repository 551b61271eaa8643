//! The settings of the feed that are in force, and how a reload changes them.

use arc_swap::ArcSwap;

use crate::access::operator::ChangedSetting;
use crate::app::{AppError, feed_url, profile};
use crate::bus::clock::Clock;
use crate::config::effective::EffectiveUpstream;
use crate::intake::upstream::{FeedChanges, FeedTerms, Settings as UpstreamSettings};
use crate::profile::Profile;
use crate::settings::table::Config;

pub(super) struct FeedSettings {
    in_force: ArcSwap<FeedInForce>,
    changes: FeedChanges,
    clock: Clock,
}

struct FeedInForce {
    /// As it was read.
    profile: Profile,
    settings: UpstreamSettings,
}

/// Others, checked.
pub(super) struct FeedChange {
    in_force: FeedInForce,
    terms: FeedTerms,
}

impl FeedSettings {
    pub(super) fn new(config: &Config, profile: Profile, url: String, clock: Clock) -> FeedSettings {
        let changes = FeedChanges::default();
        let in_force = ArcSwap::from_pointee(FeedInForce::new(config, profile, url, &changes));
        FeedSettings { in_force, changes, clock }
    }

    /// For a feed that begins now.
    pub(super) fn settings(&self) -> UpstreamSettings {
        self.in_force.load().settings.clone()
    }

    /// What another configuration makes of the feed; none if it stays as it is. A profile with another text is added to
    /// what has changed.
    ///
    /// # Errors
    /// There can be no feed by it, or not without a restart.
    pub(super) fn prepare(
        &self,
        config: &Config,
        changed: &mut Vec<ChangedSetting>,
    ) -> Result<Option<FeedChange>, AppError> {
        let (before, profile) = (self.in_force.load(), profile(config)?);
        let is_set_otherwise = changed.iter().any(|setting| setting.name.starts_with("upstream."));
        let says_the_same = profile.says_the_same_as(&before.profile);
        if says_the_same && !is_set_otherwise {
            return Ok(None);
        }
        let name = profile.name.clone();
        if !before.profile.can_become(&profile) {
            return Err(AppError::AgreedProfile { profile: name });
        }
        let url = feed_url(config, &profile)?.ok_or_else(|| AppError::NoUrl { profile: name.clone() })?;
        let in_force = FeedInForce::new(config, profile, url, &self.changes);
        let terms = FeedTerms::read(in_force.settings.clone(), self.clock)?;
        if !says_the_same {
            changed.push(ChangedSetting { name: format!("profile `{name}`"), values: None });
        }
        Ok(Some(FeedChange { in_force, terms }))
    }

    /// From now on; a feed that runs goes over at its next turn.
    pub(super) fn put_in_force(&self, FeedChange { in_force, terms }: FeedChange) {
        self.in_force.store(in_force.into());
        self.changes.put(terms);
    }
}

impl FeedInForce {
    fn new(config: &Config, profile: Profile, url: String, changes: &FeedChanges) -> FeedInForce {
        let effective = EffectiveUpstream::new(config, profile.clone(), url);
        effective.overridden().for_each(|sentence| tracing::warn!("{sentence}"));
        FeedInForce { profile, settings: UpstreamSettings { changes: changes.clone(), ..effective.settings } }
    }
}
