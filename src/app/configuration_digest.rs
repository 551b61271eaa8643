//! The configuration in one number, so that the audit log and the metrics can say that it has changed.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::identity::tables::AuthTables;
use crate::profile::target::without_secrets;
use crate::settings::table::Config;

/// SHA-256 of the configuration in force, without what may be secret. Its text is hexadecimal.
pub(super) struct ConfigurationDigest([u8; 32]);

impl ConfigurationDigest {
    pub(super) fn of(config: &Config, auth: &AuthTables) -> ConfigurationDigest {
        let mut config = config.clone();
        config.upstream.headers.clear();
        config.upstream.url = config.upstream.url.as_deref().map(without_secrets);
        config.upstream.fallback_urls = config.upstream.fallback_urls.iter().map(|url| without_secrets(url)).collect();
        ConfigurationDigest(Sha256::digest(format!("{config:?}{auth:?}")).into())
    }

    /// The first 48 bits: a metric holds them exactly.
    pub(super) fn number(&self) -> f64 {
        self.0[..6].iter().fold(0.0, |number, byte| number * 256.0 + f64::from(*byte))
    }
}

impl fmt::Display for ConfigurationDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
