//! Values of requests that expire: they are renewed before, on the open connection or by a new one.

use crate::profile::request::Renewal;
use crate::words::stamp::Stamp;

use crate::intake::connection::lease::Lease;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::{Connection, ConnectionRole};
use crate::intake::update::ConnectionId;
use crate::intake::upstream::Upstream;

impl Upstream {
    /// Begins what is due.
    pub(super) fn renew_lease(&mut self, id: ConnectionId, now: Stamp) {
        let Some(connection) = self.connections.get(id).filter(|connection| connection.version == self.version) else {
            return;
        };
        let due = connection.established.as_ref().and_then(|established| established.lease.due());
        let Some((request, _)) = due.filter(|_| lease_due_ns(connection).is_some_and(|at| at <= now.mono_ns)) else {
            return;
        };
        if matches!(self.config.requests[request].renewal, Renewal::Connection) {
            return self.replace_for_lease(id, now);
        }
        let leaser = self.connections.addresses.leaser.clone();
        if let Some(Connection { transport, established: Some(established), .. }) = self.connections.get_mut(id) {
            transport.renew(&leaser, &established.lease, request);
        }
    }

    /// A request was made again.
    pub(super) fn renewed(&mut self, id: ConnectionId, request: usize, renewed: Result<Lease, Loss>, now: Stamp) {
        // Of the terms before: its successor has values of its own.
        if self.connections.get(id).is_none_or(|connection| connection.version != self.version) {
            return;
        }
        let name = &self.config.requests[request].call.name;
        let logs_in = matches!(self.config.requests[request].renewal, Renewal::Login);
        let Some(established) = self.connections.get_mut(id).and_then(|connection| connection.established.as_mut())
        else {
            return;
        };
        match renewed {
            Ok(lease) => {
                tracing::debug!(request = name, connection = id.0, "upstream: renewed");
                established.protocol.renew(lease.taken.clone(), logs_in, now);
                established.lease = lease;
            }
            Err(loss) => {
                let retries = !loss.is_definite() && established.lease.retries(request, now);
                let plan = if retries { "trying again" } else { "a new connection takes over" };
                let problem = self.hidden.mask(&loss.to_string()).into_owned();
                tracing::warn!(connection = id.0, "upstream: not renewed: {problem}; {plan}");
                if !retries {
                    self.replace_for_lease(id, now);
                }
            }
        }
    }

    /// The values of this connection end; a new one has its own.
    fn replace_for_lease(&mut self, id: ConnectionId, now: Stamp) {
        let established = self.connections.get_mut(id).and_then(|connection| connection.established.as_mut());
        if let Some(established) = established {
            established.lease.release();
            established.rotate_at_ns = Some(now.mono_ns);
        }
    }
}

/// When something of this connection is renewed; none while it is. Successors renew nothing before they have taken over.
pub(super) fn lease_due_ns(connection: &Connection) -> Option<u64> {
    let is_free = connection.role() == ConnectionRole::Regular && !connection.transport.is_renewing();
    let established = connection.established.as_ref().filter(|_| is_free)?;
    established.lease.due().map(|(_, at)| at)
}
