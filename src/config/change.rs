//! What another configuration changes in a running server: some settings at once, others with a restart.

use crate::access::operator::ChangedSetting;
use crate::config::error::ConfigError;
use crate::config::{Effective, conflicts};
use crate::identity::tables::AuthTables;
use crate::settings::kind::SettingValue;
use crate::settings::setting::Setting;
use crate::settings::table::{self, Config};

/// The configuration that is in force after a reload, and how it differs from the one before.
#[derive(Clone, Debug)]
pub struct ConfigChange {
    pub effective: Effective,
    pub changed: Vec<ChangedSetting>,
    /// Settings that are as before until a restart.
    pub restart: Vec<String>,
}

/// Parts of a running server that a reload can change, if it has them.
#[derive(Clone, Copy, Debug)]
pub struct AppliedParts {
    /// Without identities from the start there are none after a reload.
    pub identities: bool,
    /// The feed is a real one, and this server's own.
    pub feed: bool,
}

impl Effective {
    /// What is in force if this is, and `read` is read.
    ///
    /// # Errors
    /// What a reload applies does not fit what stays as before until a restart.
    pub fn changed_to(&self, read: Effective, parts: AppliedParts) -> Result<ConfigChange, ConfigError> {
        let is_applied = |setting: &Setting| {
            let is_there = match setting.name {
                "auth.required" => parts.identities,
                name if name.starts_with("upstream.") => parts.feed,
                _ => true,
            };
            setting.is_reloaded && is_there
        };
        let (mut changed, mut restart) = (Vec::new(), Vec::new());
        let mut values = read.values.clone();
        for setting in table::all() {
            let ((before, _), (now, origin)) = (self.values.get(setting.name), read.values.get(setting.name));
            if before == now {
                continue;
            }
            if is_applied(setting) {
                let shown = |value: Option<&_>| value.map_or_else(|| "unset".into(), SettingValue::to_toml);
                changed.push(ChangedSetting { name: setting.name.into(), values: Some((shown(before), shown(now))) });
            } else {
                restart.push(setting.name.into());
                values.set(setting, before.cloned(), origin.clone());
            }
        }
        let tables = changed_tables(&self.auth, &read.auth);
        let auth = if parts.identities {
            changed.extend(tables.into_iter().map(|name| ChangedSetting { name, values: None }));
            read.auth
        } else {
            restart.extend(tables);
            self.auth.clone()
        };
        let config = Config::from_values(&values);
        let problems = conflicts(&config, &values);
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        Ok(ConfigChange { effective: Effective { config, values, auth, ..read }, changed, restart })
    }
}

/// The names of tables below `[auth]` that one has and the other has not, or not so.
fn changed_tables(before: &AuthTables, now: &AuthTables) -> Vec<String> {
    fn differing<'t, T: PartialEq>(before: &'t [T], now: &'t [T], name: impl Fn(&'t T) -> &'t str) -> Vec<&'t str> {
        let is_elsewhere = |table: &T, others: &[T]| others.contains(table);
        let gone = before.iter().filter(|table| !is_elsewhere(table, now));
        let new = now.iter().filter(|table| !is_elsewhere(table, before));
        let mut names: Vec<&str> = gone.chain(new).map(name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
    let issuers = differing(&before.issuers, &now.issuers, |table| &table.issuer);
    let tiers = differing(&before.tiers, &now.tiers, |table| &table.name);
    let issuers = issuers.into_iter().map(|name| format!("auth.issuer `{name}`"));
    let tiers = tiers.into_iter().map(|name| format!("auth.tier.{name}"));
    let anonymous = (before.anonymous != now.anonymous).then(|| "auth.anonymous".to_owned());
    issuers.chain(tiers).chain(anonymous).collect()
}
