//! Addresses of the feed: how they are dialed, and which may not be dialed yet.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};

use crate::profile::connection::Connect;
use crate::profile::headers::Headers;
use crate::profile::placeholders::{Context, Missing, Placeholder, TemplateSite};
use crate::profile::secrets::Secrets;
use crate::profile::subscribe::FeedItem;
use crate::profile::target::{FeedUrl, FeedUrlError, without_secrets};
use crate::profile::template::Template;
use crate::words::stamp::Stamp;

use crate::intake::connection::dial::{Dialer, Endpoint};
use crate::intake::connection::protocol_config::ProtocolConfig;
use crate::intake::connection::rate_limit::RateLimit;
use crate::intake::connection::resolve::System;
use crate::intake::connection::transport::Transport;
use crate::intake::connection::upstream_line::{FeedRoute, UpstreamLine};
use crate::intake::upstream::UpstreamError;

pub(super) struct FeedAddresses {
    urls: Vec<Template<Placeholder>>,
    headers: Headers,
    subprotocol: Option<String>,
    config: Arc<ProtocolConfig>,
    dialer: Dialer,
    dials: Option<RateLimit>,
    /// By address: not to be dialed by any connection before this.
    held_ns: Vec<u64>,
}

/// Values of an address besides the profile's.
pub(super) struct EndpointContext<'a> {
    pub items: &'a [Arc<FeedItem>],
    /// Cursor to continue from.
    pub cursor: Option<&'a str>,
    pub now: Stamp,
}

impl FeedAddresses {
    pub(super) fn new(
        urls: Vec<Template<Placeholder>>,
        connect: &Connect,
        config: Arc<ProtocolConfig>,
        route: FeedRoute,
        (message_bytes_max, deflate): (usize, bool),
    ) -> FeedAddresses {
        FeedAddresses {
            held_ns: vec![0; urls.len()],
            urls,
            headers: connect.headers.clone(),
            subprotocol: connect.subprotocol.clone(),
            config,
            dialer: Dialer::new(UpstreamLine::new(route, Arc::new(System::default())), message_bytes_max, deflate),
            dials: connect.dial_rate.map(RateLimit::new),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.urls.len()
    }

    pub(super) fn held_ns(&self) -> &[u64] {
        &self.held_ns
    }

    /// Makes every address once, so that an impossible one is found before anything connects.
    pub(super) fn check(&self, context: &EndpointContext<'_>, says_secrets: bool) -> Result<(), FeedUrlError> {
        (0..self.urls.len()).try_for_each(|address| {
            let endpoint = self.endpoint(address, context)?;
            if says_secrets && endpoint.target.is_overheard() {
                let url = endpoint.target.shown();
                tracing::warn!("keys and passwords go to {url} without encryption; use `wss://` if the feed has it");
            }
            Ok(())
        })
    }

    /// An address with everything filled in.
    pub(super) fn endpoint(&self, address: usize, context: &EndpointContext<'_>) -> Result<Endpoint, FeedUrlError> {
        let names: Vec<String> = context.items.iter().map(|item| item.venue.clone()).collect();
        let plain = Context::plain(&self.config.secrets, context.now, 0);
        let values = Context { items: &names, resume: context.cursor, ..plain };
        let unfilled = |missing: Missing| FeedUrlError::Unreadable {
            found: without_secrets(self.urls[address].source()),
            error: missing.to_string(),
        };
        let target = FeedUrl::parse(&values.fill(&self.urls[address]).map_err(unfilled)?)?;
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let value = HeaderValue::try_from(values.fill(value).map_err(unfilled)?);
            headers.push((name.clone(), value.map_err(|_| FeedUrlError::Header { name: name.to_string() })?));
        }
        let subprotocol = self.subprotocol.as_ref().and_then(|name| HeaderValue::try_from(name).ok());
        headers.extend(subprotocol.map(|name| (SEC_WEBSOCKET_PROTOCOL, name)));
        Ok(Endpoint { target, headers })
    }

    /// The address as far as it is known without a cursor or items.
    pub(super) fn target(&self, address: usize) -> Result<FeedUrl, FeedUrlError> {
        plain_target(&self.urls[address], &self.config.secrets)
    }

    /// For people: without secrets.
    pub(super) fn shown(&self, address: usize) -> String {
        self.target(address).map_or_else(|error| error.to_string(), |target| target.shown())
    }

    /// When the next dial is allowed; 0 is at once.
    pub(super) fn ready_ns(&self) -> u64 {
        self.dials.as_ref().map_or(0, RateLimit::ready_ns)
    }

    pub(super) fn dial(&mut self, transport: &mut Transport, endpoint: Endpoint, now: Stamp) {
        transport.dial(&self.dialer, endpoint);
        self.dials.iter_mut().for_each(|dials| dials.take(now.mono_ns));
    }

    /// The venue wants no attempt at this address before then. All connections obey, at every address of the same host,
    /// because venues count attempts and lengthen bans by origin.
    pub(super) fn hold(&mut self, address: usize, until_ns: u64) {
        let host = |address: usize| self.target(address).ok().map(|target| target.host().to_string());
        let same_host: Vec<bool> = (0..self.urls.len()).map(|other| host(other) == host(address)).collect();
        for (held_ns, is_same) in self.held_ns.iter_mut().zip(same_host) {
            if is_same {
                *held_ns = until_ns.max(*held_ns);
            }
        }
    }
}

pub(super) fn read_urls(urls: &[String]) -> Result<Vec<Template<Placeholder>>, UpstreamError> {
    let read = |url: &String| {
        FeedUrl::check(url)?;
        Placeholder::template(url, TemplateSite::Url).map_err(UpstreamError::BadUrlTemplate)
    };
    urls.iter().map(read).collect()
}

pub(super) fn plain_target(url: &Template<Placeholder>, secrets: &Secrets) -> Result<FeedUrl, FeedUrlError> {
    let unknown = Context { resume: Some(""), ..Context::plain(secrets, Stamp::default(), 0) };
    FeedUrl::parse(&unknown.fill(url).unwrap_or_else(|_| url.source().to_string()))
}
