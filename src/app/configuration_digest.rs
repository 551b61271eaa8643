//! The configuration in one number, so that the audit log can say that it has changed.

use sha2::{Digest, Sha256};

use crate::identity::tables::AuthTables;
use crate::profile::target::without_secrets;
use crate::settings::table::Config;

/// SHA-256 of the configuration in force, without what may be secret: the audit log says with it that it has changed.
pub(super) fn digest(config: &Config, auth: &AuthTables) -> String {
    let mut config = config.clone();
    config.upstream.headers.clear();
    config.upstream.url = config.upstream.url.as_deref().map(without_secrets);
    config.upstream.fallback_urls = config.upstream.fallback_urls.iter().map(|url| without_secrets(url)).collect();
    hex::encode(Sha256::digest(format!("{config:?}{auth:?}")))
}
