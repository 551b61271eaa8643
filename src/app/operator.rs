//! The operator's calls, carried out by the shards.

use std::sync::Arc;

use crate::access::operator::{Operator, OperatorError, RevokedCredentials};
use crate::access::selector::{SessionOrder, SessionSelector};
use crate::access::session_row::{SessionFilter, SessionRow};
use crate::delivery::shards::Delivery;

pub(super) struct ServerOperator {
    delivery: Arc<Delivery>,
}

impl ServerOperator {
    pub(super) fn new(delivery: Arc<Delivery>) -> ServerOperator {
        ServerOperator { delivery }
    }
}

impl Operator for ServerOperator {
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
