//! Protocol settings shared by all connections of a feed: their messages and times.

use std::sync::Arc;
use std::time::Duration;

use crate::profile::Profile;
use crate::profile::connection::{Heartbeat, Interval, Login};
use crate::profile::placeholders::{Context, Missing, Placeholder};
use crate::profile::request::{TakenValues, VenueRequest};
use crate::profile::secrets::Secrets;
use crate::profile::subscribe::Subscribe;
use crate::profile::template::Template;
use crate::words::stamp::Stamp;

use crate::intake::connection::rate_limit::RateLimit;
use crate::intake::time::{in_s, unless_zero};

/// Idle timeout without a setting or a key of the profile.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A venue that wants heartbeats more often is mistaken.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

/// The times of a connection: the profile's where it has them, else the settings'. For the idle timeout the setting
/// comes first, because only the user knows how quiet the topics are. An idle timeout of zero is none.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    pub idle_timeout: Option<Duration>,
    pub ws_ping: Option<Duration>,
    pub pong_timeout: Duration,
}

impl Timing {
    /// `timing` holds the settings.
    pub(crate) fn with_profile(self, profile: &Profile) -> Timing {
        let keepalive = &profile.keepalive;
        Timing {
            idle_timeout: match self.idle_timeout {
                Some(set) => unless_zero(set),
                None => keepalive.idle_timeout.unwrap_or(Some(IDLE_TIMEOUT)),
            },
            ws_ping: keepalive.ws_ping.unwrap_or(self.ws_ping),
            pong_timeout: keepalive.pong_timeout.unwrap_or(self.pong_timeout),
        }
    }
}

/// Protocol settings shared by all connections of a feed.
#[derive(Debug)]
pub(crate) struct ProtocolConfig {
    pub timing: Timing,
    pub secrets: Secrets,
    pub requests: Vec<VenueRequest>,
    pub open: Vec<Template<Placeholder>>,
    pub login: Option<Login>,
    pub subscribe: Option<Arc<Subscribe>>,
    pub heartbeat: Option<Heartbeat>,
    pub allowances: (Option<RateLimit>, Option<RateLimit>),
}

impl ProtocolConfig {
    pub(crate) fn new(profile: &Profile, timing: Timing, secrets: Secrets) -> ProtocolConfig {
        ProtocolConfig {
            timing: timing.with_profile(profile),
            secrets,
            requests: profile.requests.clone(),
            open: profile.opening.frames.clone(),
            login: profile.opening.login.clone(),
            subscribe: profile.subscribe.clone().map(Arc::new),
            heartbeat: profile.keepalive.ping.clone(),
            allowances: (profile.sending.rate.map(RateLimit::new), profile.sending.budget.map(RateLimit::new)),
        }
    }
}

impl ProtocolConfig {
    /// Checks that every message of the opening can be made. The error is the missing value.
    pub(crate) fn check(&self) -> Result<(), Missing> {
        let login = self.login.iter().map(|login| &login.send);
        let heartbeat = self.heartbeat.iter().map(|heartbeat| &heartbeat.send);
        let taken = self.placeholders();
        let context = Context { taken: Some(&taken), ..Context::plain(&self.secrets, Stamp::default(), 1) };
        let requests = self.requests.iter().flat_map(VenueRequest::templates);
        let mut templates = self.open.iter().chain(login).chain(heartbeat).chain(requests);
        templates.try_for_each(|template| context.fill(template).map(|_| ()))
    }

    /// Something for every value that requests will take.
    pub(crate) fn placeholders(&self) -> TakenValues {
        let names = self.requests.iter().flat_map(|request| &request.call.take).map(|(name, _)| name.clone());
        TakenValues(names.map(|name| (name, "1".to_string())).collect())
    }

    /// Time between two heartbeats of a connection with these values. The error says what is wrong with them.
    pub(crate) fn heartbeat_interval(&self, taken: &TakenValues) -> Result<Option<Duration>, String> {
        let template = match self.heartbeat.as_ref().map(|heartbeat| &heartbeat.every) {
            None => return Ok(None),
            Some(Interval::Fixed(interval)) => return Ok(Some(*interval)),
            Some(Interval::Taken(template)) => template,
        };
        let context = Context { taken: Some(taken), ..Context::plain(&self.secrets, Stamp::default(), 0) };
        let text = context.fill(template).map_err(|missing| missing.to_string())?;
        let interval = humantime::parse_duration(&text).ok().filter(|interval| *interval >= HEARTBEAT_MIN);
        interval.map(Some).ok_or_else(|| {
            let template = template.source();
            format!("expected a duration of at least {} for `{template}`, found another text", in_s(HEARTBEAT_MIN))
        })
    }
}
