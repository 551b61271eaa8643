//! What a running server reads again: issuers and tiers, and the files of `[tls]`. SIGHUP and the operator's call do the
//! same.

use std::sync::Arc;

use crate::access::operator::OperatorError;
use crate::app::configuration_digest::digest;
use crate::audit::event::{AuditEvent, AuditKind};
use crate::audit::log::AuditLog;
use crate::config::{self, ConfigSources};
use crate::edge::listen::tls::files::TlsFiles;
use crate::identity::token_gatekeeper::TokenGatekeeper;
use crate::settings::table::Config;

pub(super) struct Reload {
    pub sources: ConfigSources,
    /// As it was at the start. Only the tables below `[auth]` change.
    pub config: Config,
    /// None without identities.
    pub identities: Option<Arc<TokenGatekeeper>>,
    /// None without a listener that speaks TLS.
    pub tls: Option<Arc<TlsFiles>>,
    pub audit: AuditLog,
}

impl Reload {
    /// Reads everything, and puts it into force if all of it can be used. Returns what was read, a word each. Waits for the
    /// disk.
    ///
    /// Errors: what is wrong; all that was in force stays.
    pub(super) fn run(&self) -> Result<Vec<String>, OperatorError> {
        if self.identities.is_none() && self.tls.is_none() {
            let sentence = "expected identities (`[auth]`) or certificates (`[tls]`), found neither: nothing is read anew; \
                            restart to load a new configuration";
            return Err(OperatorError::Unsupported(sentence.into()));
        }
        let auth = config::load(&self.sources).map_err(refused)?.auth;
        let files = self.tls.as_ref().map(|tls| tls.read_again()).transpose().map_err(refused)?;
        let mut reloaded = Vec::new();
        if let Some(identities) = &self.identities {
            identities.reload(&auth).map_err(refused)?;
            reloaded.extend(["issuers".into(), "tiers".into()]);
            let event = AuditEvent::new(AuditKind::ConfigChange).reason("reload");
            self.audit.record(event.version(env!("CARGO_PKG_VERSION"), &digest(&self.config, &auth)));
        }
        if let (Some(tls), Some(files)) = (&self.tls, files) {
            tls.put_in_force(files);
            reloaded.push("certificates".into());
        }
        Ok(reloaded)
    }

    /// On SIGHUP: the outcome is in the log.
    pub(super) fn run_on_hangup(&self) {
        match self.run() {
            Ok(reloaded) => tracing::info!("SIGHUP: read again: {}", reloaded.join(", ")),
            Err(OperatorError::Unsupported(message)) => tracing::info!("SIGHUP: {message}"),
            Err(OperatorError::Refused(message)) => {
                tracing::error!("SIGHUP: {message}; what was in force stays");
            }
        }
    }
}

fn refused(error: impl std::error::Error) -> OperatorError {
    OperatorError::Refused(error.to_string())
}
