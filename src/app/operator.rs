//! The operator's calls, carried out by the shards and the gatekeeper of tokens.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::access::cluster_status::ClusterStatus;
use crate::access::operator::{
    HandoverOutcome, OperatorCalls, OperatorError, ReloadOutcome, RevocationOutcome, RevokedCredentials,
};
use crate::access::selector::{SessionOrder, SessionSelector};
use crate::access::session_row::{SessionFilter, SessionRow};
use crate::app::AppError;
use crate::app::handover::requests::HandoverTrigger;
use crate::app::reload::Reload;
use crate::cluster::node_status::StatusView;
use crate::delivery::shards::Delivery;
use crate::edge::admin_key::AdminKey;
use crate::edge::parts::AdminParts;
use crate::identity::revocations::{RevocationRule, RevocationTarget};
use crate::identity::token_gatekeeper::TokenGatekeeper;
use crate::settings::table::Config;

/// A shard carries out its part in some turns; one that hangs is not waited for.
const REACH_PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct ServerOperator {
    delivery: Arc<Delivery>,
    /// None without identities.
    identities: Option<Arc<TokenGatekeeper>>,
    reload: Arc<Reload>,
    handover: HandoverTrigger,
    /// None without a cluster.
    cluster: Option<StatusView>,
}

impl ServerOperator {
    pub(super) fn new(
        delivery: Arc<Delivery>,
        identities: Option<Arc<TokenGatekeeper>>,
        (reload, handover): (Arc<Reload>, HandoverTrigger),
        cluster: Option<StatusView>,
    ) -> ServerOperator {
        ServerOperator { delivery, identities, reload, handover, cluster }
    }

    fn identities(&self) -> Result<&TokenGatekeeper, OperatorError> {
        self.identities.as_deref().ok_or_else(|| {
            let sentence = "expected identities (`[auth]`), found none: nothing is revoked";
            OperatorError::Unsupported(sentence.into())
        })
    }
}

impl OperatorCalls for ServerOperator {
    fn sessions(&self, filter: SessionFilter, after: u64, limit: usize) -> Vec<SessionRow> {
        self.delivery.list(filter, limit, after)
    }

    fn order(&self, selector: &SessionSelector, order: &SessionOrder) -> usize {
        self.delivery.order(selector, order).wait(REACH_PATIENCE)
    }

    fn revoke(
        &self,
        credentials: RevokedCredentials,
        until_ms: Option<u64>,
    ) -> Result<RevocationOutcome, OperatorError> {
        let identities = self.identities()?;
        let target = match credentials {
            RevokedCredentials::Token(token) => RevocationTarget::Token(token),
            RevokedCredentials::IssuedBefore { issuer, subject: Some(subject), before_ms } => {
                RevocationTarget::Subject { issuer, subject, issued_before_ms: before_ms }
            }
            RevokedCredentials::IssuedBefore { issuer: Some(issuer), subject: None, before_ms } => {
                RevocationTarget::Issuer { issuer, issued_before_ms: before_ms }
            }
            RevokedCredentials::IssuedBefore { issuer: None, subject: None, .. } => {
                let sentence = "expected an issuer or a subject, found neither; name one of them";
                return Err(OperatorError::Refused(sentence.into()));
            }
        };
        let (until_ms, reached) = identities.revoke(target, until_ms).map_err(refused)?;
        Ok(RevocationOutcome { until_ms, sessions: reached.wait(REACH_PATIENCE) })
    }

    fn revocations(&self) -> Vec<(RevokedCredentials, u64)> {
        let rules = self.identities.as_ref().map(|identities| identities.revocations()).unwrap_or_default();
        rules.into_iter().map(|RevocationRule { target, until_ms }| (credentials(target), until_ms)).collect()
    }

    fn reload(&self) -> Result<ReloadOutcome, OperatorError> {
        self.reload.run("reload")
    }

    fn hand_over(&self) -> Result<HandoverOutcome, OperatorError> {
        self.handover.ask().map(|pid| HandoverOutcome { pid }).map_err(OperatorError::Refused)
    }

    fn cluster(&self) -> Result<ClusterStatus, OperatorError> {
        let sentence = "expected a cluster (`[cluster]`), found none: this server is alone";
        self.cluster.as_ref().map(StatusView::read).ok_or_else(|| OperatorError::Unsupported(sentence.into()))
    }
}

fn refused(error: impl std::error::Error) -> OperatorError {
    OperatorError::Refused(error.to_string())
}

fn credentials(target: RevocationTarget) -> RevokedCredentials {
    match target {
        RevocationTarget::Token(token) => RevokedCredentials::Token(token),
        RevocationTarget::Subject { issuer, subject, issued_before_ms } => {
            RevokedCredentials::IssuedBefore { issuer, subject: Some(subject), before_ms: issued_before_ms }
        }
        RevocationTarget::Issuer { issuer, issued_before_ms } => {
            RevokedCredentials::IssuedBefore { issuer: Some(issuer), subject: None, before_ms: issued_before_ms }
        }
    }
}

/// What the operator's calls need.
pub(super) fn admin_parts(config: &Config, operator: ServerOperator) -> Result<AdminParts, AppError> {
    let key = config.admin.key_file.as_ref().map(|path| AdminKey::read("admin.key_file", path.as_ref())).transpose()?;
    Ok(AdminParts { operator: Arc::new(operator), key, audit_dir: config.audit.dir.as_ref().map(PathBuf::from) })
}
