//! Bounds and rules for what clients want from the feed and send to it, from the configuration.

use crate::bus::demand::ClientInput;
use crate::bus::demand::interest::{Interest, InterestBounds};
use crate::bus::demand::requests::{self, RequestRules, Requests};
use crate::cluster::clients::held_feed::ClientAllowance;
use crate::settings::table::{Config, DemandMode};
use crate::words::metrics::Meters;
use crate::words::topic::Pattern;

use super::AppError;

/// Both ends: that of the clients of this server, and what reads them.
pub(super) fn open(config: &Config, meters: &Meters) -> Result<(Requests, ClientInput), AppError> {
    let ClientAllowance { demand, requests } = rules(config)?;
    let interest = demand.map(|bounds| Interest::within(bounds, meters));
    let (requests, queue) = requests::open(requests);
    Ok((requests, ClientInput { interest, requests: queue }))
}

/// For clients of all servers of a cluster.
pub(super) fn rules(config: &Config) -> Result<ClientAllowance, AppError> {
    let bounds = bounds(config)?;
    let demand = (config.upstream.demand == DemandMode::On).then_some(bounds);
    Ok(ClientAllowance { demand, requests: request_rules(config)? })
}

pub(crate) fn bounds(config: &Config) -> Result<InterestBounds, AppError> {
    let (limits, allowed) = (&config.limits, &config.upstream.demand_topics);
    Ok(InterestBounds {
        topics_max: limits.topics_max,
        per_session_max: limits.wanted_per_session_max,
        per_address_max: Some(limits.wanted_per_address_max).filter(|max| *max > 0),
        allowed: allowed.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>().map_err(AppError::Demand)?,
    })
}

pub(crate) fn request_rules(config: &Config) -> Result<RequestRules, AppError> {
    let send = config.upstream.send.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
    Ok(RequestRules { send, request: config.upstream.request })
}
