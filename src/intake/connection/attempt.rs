//! One attempt to open a connection: first the profile's requests, then the dial, at an address that may depend on
//! their answers.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};

use crate::intake::connection::dial::{Dialer, Endpoint, UpstreamSocket};
use crate::intake::connection::lease::{Lease, Leaser};
use crate::intake::connection::loss::Loss;
use crate::intake::connection::redirect::RedirectError;
use crate::profile::headers::Headers;
use crate::profile::placeholders::{Context, Missing, Placeholder};
use crate::profile::request::{Call, TakenValues};
use crate::profile::target::{FeedUrl, FeedUrlError, without_secrets};
use crate::profile::template::Template;

/// An address of the feed, before its values are known.
#[derive(Debug)]
pub(crate) struct EndpointTemplate {
    pub url: Template<Placeholder>,
    pub headers: Headers,
    pub subprotocol: Option<String>,
}

/// Values of an address besides the profile's.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointValues {
    /// The venue's names of the connection's items.
    pub items: Vec<String>,
    /// Cursor to continue from.
    pub cursor: Option<String>,
}

pub(crate) struct Attempt {
    pub dialer: Dialer,
    pub leaser: Leaser,
    pub template: Arc<EndpointTemplate>,
    pub values: EndpointValues,
}

impl EndpointTemplate {
    /// Whether an answer of the venue says where to connect.
    pub(crate) fn is_told(&self) -> bool {
        self.url.source().starts_with("${taken.")
    }

    /// The address with everything filled in; `context` is about no items.
    pub(crate) fn filled(&self, context: Context<'_>, values: &EndpointValues) -> Result<Endpoint, FeedUrlError> {
        let context = Context { items: &values.items, resume: values.cursor.as_deref(), ..context };
        let unfilled = |missing: Missing| FeedUrlError::Unreadable {
            found: without_secrets(self.url.source()),
            error: missing.to_string(),
        };
        let target = FeedUrl::parse(&context.fill(&self.url).map_err(unfilled)?)?;
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let value = HeaderValue::try_from(context.fill(value).map_err(unfilled)?);
            headers.push((name.clone(), value.map_err(|_| FeedUrlError::Header { name: name.to_string() })?));
        }
        let subprotocol = self.subprotocol.as_ref().and_then(|name| HeaderValue::try_from(name).ok());
        headers.extend(subprotocol.map(|name| (SEC_WEBSOCKET_PROTOCOL, name)));
        Ok(Endpoint { target, headers })
    }
}

impl Attempt {
    pub(super) async fn run(self) -> Result<(UpstreamSocket, Lease), Loss> {
        let lease = self.leaser.obtain().await?;
        let endpoint = self.endpoint(&lease.taken)?;
        if self.template.is_told() {
            self.check_told(&endpoint.target)?;
        }
        let socket = self.dialer.connect(endpoint).await?;
        Ok((socket, lease))
    }

    fn endpoint(&self, taken: &TakenValues) -> Result<Endpoint, Loss> {
        let plain = Context::plain(&self.leaser.config.secrets, self.leaser.clock.now(), 0);
        Ok(self.template.filled(Context { taken: Some(taken), ..plain }, &self.values)?)
    }

    /// An address from an answer is held to the rules of redirects.
    fn check_told(&self, target: &FeedUrl) -> Result<(), Loss> {
        let calls = || self.leaser.config.requests.iter().map(|request| &request.call);
        let error = if !target.is_tls() && calls().any(Call::is_tls) {
            RedirectError::Downgrade
        } else if target.is_here() && !calls().any(Call::is_here) {
            RedirectError::Here
        } else {
            return Ok(());
        };
        Err(Loss::Redirected { url: without_secrets(self.template.url.source()), location: target.shown(), error })
    }
}
