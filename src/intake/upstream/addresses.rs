//! Addresses of the feed: how they are dialed, and which may not be dialed yet.

use std::ops::Range;
use std::sync::Arc;

use crate::bus::clock::Clock;
use crate::profile::connection::Connect;
use crate::profile::hidden::Hidden;
use crate::profile::placeholders::{Context, Placeholder, TemplateSite};
use crate::profile::request::{VenueRequest, check_taken};
use crate::profile::secrets::Secrets;
use crate::profile::target::{FeedUrl, FeedUrlError};
use crate::profile::template::Template;
use crate::words::stamp::Stamp;

use crate::intake::connection::attempt::{Attempt, EndpointTemplate, EndpointValues};
use crate::intake::connection::dial::Dialer;
use crate::intake::connection::lease::Leaser;
use crate::intake::connection::protocol_config::ProtocolConfig;
use crate::intake::connection::rate_limit::RateLimit;
use crate::intake::connection::resolve::System;
use crate::intake::connection::transport::Transport;
use crate::intake::connection::upstream_line::{FeedRoute, UpstreamLine};
use crate::intake::upstream::UpstreamError;

pub(super) struct FeedAddresses {
    /// The feed's own, of which any will do, then one of each branch.
    list: Vec<Arc<EndpointTemplate>>,
    branches: usize,
    dialer: Dialer,
    pub leaser: Leaser,
    dials: Option<RateLimit>,
    /// By address: not to be dialed by any connection before this.
    pub held_ns: Vec<u64>,
}

/// What all attempts share besides the profile.
pub(super) struct DialRules {
    pub route: FeedRoute,
    pub message_bytes_max: usize,
    pub deflate: bool,
    pub hidden: Hidden,
    pub clock: Clock,
}

impl FeedAddresses {
    /// `urls` ends with those of the branches.
    pub(super) fn new(
        urls: Vec<Template<Placeholder>>,
        connect: &Connect,
        config: Arc<ProtocolConfig>,
        rules: DialRules,
    ) -> FeedAddresses {
        let line = UpstreamLine::new(rules.route, Arc::new(System::default()));
        let template = |url| {
            let (headers, subprotocol) = (connect.headers.clone(), connect.subprotocol.clone());
            Arc::new(EndpointTemplate { url, headers, subprotocol })
        };
        FeedAddresses {
            held_ns: vec![0; urls.len()],
            branches: connect.branches.len(),
            list: urls.into_iter().map(template).collect(),
            dialer: Dialer::new(line.clone(), rules.message_bytes_max, rules.deflate),
            leaser: Leaser { line, config, hidden: rules.hidden, clock: rules.clock },
            dials: connect.dial_rate.map(RateLimit::new),
        }
    }

    /// The addresses of a branch.
    pub(super) fn of_branch(&self, branch: usize) -> Range<usize> {
        let own = self.list.len() - self.branches;
        if branch == 0 { 0..own } else { own + branch - 1..own + branch }
    }

    /// Branches besides the feed's own URL.
    pub(super) fn branches(&self) -> usize {
        self.branches
    }

    pub(super) fn held_ns(&self) -> &[u64] {
        &self.held_ns
    }

    /// Makes every address once, so that an impossible one is found before anything connects.
    pub(super) fn check(&self, values: &EndpointValues, says_secrets: bool, now: Stamp) -> Result<(), FeedUrlError> {
        let config = &self.leaser.config;
        let taken = config.placeholders();
        let context = Context { taken: Some(&taken), ..Context::plain(&config.secrets, now, 0) };
        for template in self.list.iter().filter(|template| !template.is_told()) {
            let endpoint = template.filled(context, values)?;
            warn_of_listeners(&endpoint.target, endpoint.target.shown(), says_secrets);
        }
        for call in config.requests.iter().flat_map(VenueRequest::calls) {
            if let Ok(Ok(target)) = context.fill(&call.url).map(|url| FeedUrl::of_http(&url)) {
                warn_of_listeners(&target, target.shown_for_http(), says_secrets);
            }
        }
        Ok(())
    }

    /// The address as far as it is known without a cursor or items.
    pub(super) fn target(&self, address: usize) -> Result<FeedUrl, FeedUrlError> {
        plain_target(&self.list[address].url, &self.leaser.config.secrets)
    }

    /// Takes over from these: what the venue demands of attempts holds on, and what must not be logged.
    pub(super) fn follow(&mut self, before: &FeedAddresses, hidden: Hidden) {
        let host = |addresses: &FeedAddresses, address| addresses.target(address).ok().map(|it| it.host().to_string());
        for address in 0..self.list.len() {
            let same = (0..before.list.len()).filter(|other| host(before, *other) == host(self, address));
            self.held_ns[address] = same.map(|other| before.held_ns[other]).max().unwrap_or(0);
        }
        if let (Some(dials), Some(before)) = (&mut self.dials, &before.dials) {
            dials.follow(before);
        }
        self.leaser.hidden = hidden;
    }

    /// For people: without secrets.
    pub(super) fn shown(&self, address: usize) -> String {
        if self.list[address].is_told() {
            return "the address that the feed has told".to_string();
        }
        self.target(address).map_or_else(|error| error.to_string(), |target| target.shown())
    }

    /// When the next dial is allowed; 0 is at once.
    pub(super) fn ready_ns(&self) -> u64 {
        self.dials.as_ref().map_or(0, RateLimit::ready_ns)
    }

    pub(super) fn dial(&mut self, transport: &mut Transport, address: usize, values: EndpointValues, now: Stamp) {
        let (dialer, leaser) = (self.dialer.clone(), self.leaser.clone());
        transport.dial(Attempt { dialer, leaser, template: self.list[address].clone(), values });
        self.dials.iter_mut().for_each(|dials| dials.take(now.mono_ns));
    }

    /// The venue wants no attempt at this address before then. All connections obey, at every address of the same host,
    /// because venues count attempts and lengthen bans by origin.
    pub(super) fn hold(&mut self, address: usize, until_ns: u64) {
        let host = |address: usize| self.target(address).ok().map(|target| target.host().to_string());
        let same_host: Vec<bool> = (0..self.list.len()).map(|other| host(other) == host(address)).collect();
        for (held_ns, is_same) in self.held_ns.iter_mut().zip(same_host) {
            if is_same {
                *held_ns = until_ns.max(*held_ns);
            }
        }
    }
}

fn warn_of_listeners(target: &FeedUrl, url: String, says_secrets: bool) {
    if says_secrets && target.is_overheard() {
        tracing::warn!("keys and passwords go to {url} without encryption; use TLS if the feed has it");
    }
}

/// `taken` are the names of values that requests take.
pub(super) fn read_urls(urls: &[String], taken: &[String]) -> Result<Vec<Template<Placeholder>>, UpstreamError> {
    let read = |url: &String| {
        FeedUrl::check(url)?;
        let url = Placeholder::template(url, TemplateSite::Url).map_err(UpstreamError::BadUrlTemplate)?;
        check_taken(&url, taken).map_err(UpstreamError::BadUrlTemplate)?;
        Ok(url)
    };
    urls.iter().map(read).collect()
}

pub(super) fn plain_target(url: &Template<Placeholder>, secrets: &Secrets) -> Result<FeedUrl, FeedUrlError> {
    let unknown = Context { resume: Some(""), ..Context::plain(secrets, Stamp::default(), 0) };
    FeedUrl::parse(&unknown.fill(url).unwrap_or_else(|_| url.source().to_string()))
}
