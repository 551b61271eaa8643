//! The operator's calls, carried out by the shards.

use std::path::PathBuf;
use std::sync::Arc;

use crate::access::operator::{OperatorCalls, OperatorError, RevokedCredentials};
use crate::access::selector::{SessionOrder, SessionSelector};
use crate::access::session_row::{SessionFilter, SessionRow};
use crate::delivery::shards::Delivery;
use crate::edge::http::admin::AdminParts;
use crate::edge::http::admin::key::AdminKey;
use crate::settings::table::Config;

use super::AppError;

/// What the operator's calls need.
pub(super) fn admin_parts(config: &Config, delivery: &Arc<Delivery>) -> Result<AdminParts, AppError> {
    let key = config.admin.key_file.as_ref().map(|path| AdminKey::read(path.as_ref())).transpose()?;
    let operator = Arc::new(ServerOperator { delivery: delivery.clone() });
    Ok(AdminParts { operator, key, audit_dir: config.audit.dir.as_ref().map(PathBuf::from) })
}

struct ServerOperator {
    delivery: Arc<Delivery>,
}

impl OperatorCalls for ServerOperator {
    fn sessions(&self, filter: SessionFilter, after: u64, limit: usize) -> Vec<SessionRow> {
        self.delivery.list(filter, limit, after)
    }

    fn order(&self, selector: &SessionSelector, order: &SessionOrder) {
        self.delivery.order(selector, order);
    }

    fn revoke(&self, _: RevokedCredentials, _: Option<u64>) -> Result<u64, OperatorError> {
        Err(without_identities())
    }

    fn revocations(&self) -> Vec<(RevokedCredentials, u64)> {
        Vec::new()
    }

    fn reload(&self) -> Result<Vec<String>, OperatorError> {
        Err(without_identities())
    }
}

fn without_identities() -> OperatorError {
    OperatorError::Unsupported("expected identities (`[auth]`), found none: nothing is revoked or read anew".into())
}
