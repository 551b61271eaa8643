//! What of the edge's settings another configuration changes while it serves. A request sees all of it as before, or all of
//! it as now; a connection keeps the deadlines of its beginning.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::edge::http::origins::OriginPolicy;
use crate::edge::listen::admission::{Admission, WaitingRoom};
use crate::edge::listen::client_files::ClientFiles;
use crate::edge::settings::{ConnectionLimits, CredentialSources, Settings};

/// Shared by all requests, and by who changes it.
pub struct EdgeTerms {
    requests: ArcSwap<RequestTerms>,
    /// For connections to the public listeners.
    pub(in crate::edge) connections: Arc<ArcSwap<ConnectionLimits>>,
    pub(in crate::edge) files: Arc<ClientFiles>,
    pub(in crate::edge) admission: Arc<Admission>,
    /// For sessions that have shown no credential, where one is required.
    pub(in crate::edge) waiting_room: WaitingRoom,
}

/// What requests are answered by.
pub(in crate::edge) struct RequestTerms {
    pub visitors: OriginPolicy,
    pub credentials: CredentialSources,
    pub compression: bool,
    pub patterns_max: usize,
    pub wildcards_max: usize,
    pub refuses_raw_when_stale: bool,
}

impl EdgeTerms {
    pub fn new(settings: &Settings) -> Arc<EdgeTerms> {
        Arc::new(EdgeTerms {
            requests: ArcSwap::from_pointee(RequestTerms::new(settings)),
            connections: Arc::new(ArcSwap::from_pointee(settings.connections)),
            files: ClientFiles::new(settings.connections.files_max, settings.listen.len()),
            admission: Admission::new(settings.sessions_max, settings.sessions_per_address_max),
            waiting_room: WaitingRoom::new(settings.unauthenticated_max),
        })
    }

    pub fn change(&self, settings: &Settings) {
        self.files.grow(settings.connections.files_max);
        self.connections.store(Arc::new(settings.connections));
        self.admission.change(settings.sessions_max, settings.sessions_per_address_max);
        self.waiting_room.change(settings.unauthenticated_max);
        self.requests.store(Arc::new(RequestTerms::new(settings)));
    }

    /// Those of this moment.
    pub(in crate::edge) fn requests(&self) -> Arc<RequestTerms> {
        self.requests.load_full()
    }
}

impl RequestTerms {
    fn new(settings: &Settings) -> RequestTerms {
        RequestTerms {
            visitors: OriginPolicy::new(&settings.visitors),
            credentials: settings.credentials.clone(),
            compression: settings.compression,
            patterns_max: settings.patterns_max,
            wildcards_max: settings.wildcards_max,
            refuses_raw_when_stale: settings.refuses_raw_when_stale,
        }
    }
}
