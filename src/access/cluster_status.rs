//! What a server of a cluster knows of the cluster and of itself.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// `cluster.name`.
    pub feed: String,
    pub node_name: String,
    /// It holds the feed for all.
    pub is_ingester: bool,
    /// `ready`, or why it is not.
    pub readiness: &'static str,
    pub term: u64,
    /// Name of the server that holds the feed; none if it has given it up.
    pub ingester: Option<String>,
    pub epoch: u64,
    /// The newest message here.
    pub offset: u64,
    /// The newest message that any server has, as far as they have said.
    pub log_offset: u64,
    /// From the sending of the newest entry to its being shown here.
    pub lag_ms: u64,
    /// How often this server has given the log again what it had lost.
    pub heals: u64,
    pub takeover: Option<ClusterTakeover>,
    /// Others that were heard lately.
    pub members: Vec<ClusterMember>,
}

/// How the ingester has become it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterTakeover {
    pub term: u64,
    pub reason: &'static str,
    pub node_name: String,
    /// Milliseconds since the Unix epoch, by its clock.
    pub at_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMember {
    pub node_name: String,
    pub is_ingester: bool,
    pub term: u64,
    pub epoch: u64,
    pub offset: u64,
    pub heard_ms_ago: u64,
}
