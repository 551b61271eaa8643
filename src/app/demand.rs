//! Bounds and rules for what clients want from the feed and send to it, from the configuration.

use crate::bus::demand::interest::InterestBounds;
use crate::bus::demand::requests::RequestRules;
use crate::settings::table::Config;
use crate::words::topic::Pattern;

use super::AppError;

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
