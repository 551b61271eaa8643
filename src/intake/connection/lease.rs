//! What the requests before a connection have given, and until when it counts.

use std::sync::Arc;
use std::time::Duration;

use tokio_tungstenite::tungstenite::http::header::HeaderValue;

use crate::bus::clock::Clock;
use crate::intake::connection::dial::Endpoint;
use crate::intake::connection::loss::Loss;
use crate::intake::connection::protocol_config::ProtocolConfig;
use crate::intake::connection::upstream_line::UpstreamLine;
use crate::intake::connection::venue_call::{ANSWER_BYTES_MAX, SNAPSHOT_BYTES_MAX, VenueCall, failure, reason};
use crate::intake::time::ns;
use crate::json::{Type, decode_string, find, is_json};
use crate::profile::hidden::Hidden;
use crate::profile::placeholders::{Context, Missing};
use crate::profile::request::{Call, Renewal, TakenValues};
use crate::profile::subscribe::FeedItem;
use crate::profile::target::FeedUrl;
use crate::words::stamp::Stamp;

/// A renewal begins at half of a life, so that there is time for further attempts; never sooner than this.
const RENEWAL_MIN: Duration = Duration::from_millis(250);
/// Between two attempts.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// When something with so long a life is renewed.
pub(crate) fn renewal_after(life: Duration) -> Duration {
    (life / 2).max(RENEWAL_MIN)
}

/// Values of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lease {
    pub taken: Arc<TakenValues>,
    terms: Vec<LeaseTerm>,
}

/// The life of what one request has given.
#[derive(Clone, Copy, Debug)]
struct LeaseTerm {
    /// Its place in the profile.
    request: usize,
    renew_at_ns: u64,
    ends_ns: u64,
}

impl Lease {
    /// The request to renew next, and when.
    pub(crate) fn due(&self) -> Option<(usize, u64)> {
        self.terms.iter().map(|term| (term.request, term.renew_at_ns)).min_by_key(|(_, at)| *at)
    }

    /// The renewal has failed. Whether there is time for another attempt, which it then waits for.
    pub(crate) fn retries(&mut self, request: usize, now: Stamp) -> bool {
        let Some(term) = self.terms.iter_mut().find(|term| term.request == request) else { return false };
        let wait_ns = (term.ends_ns.saturating_sub(now.mono_ns) / 2).max(ns(RETRY_MIN));
        term.renew_at_ns = now.mono_ns.saturating_add(wait_ns);
        term.renew_at_ns < term.ends_ns
    }

    /// Nothing is left to renew: another connection will have values of its own.
    pub(crate) fn release(&mut self) {
        self.terms.clear();
    }

    fn begin(&mut self, request: usize, life: Duration, now: Stamp) {
        self.terms.retain(|term| term.request != request);
        self.terms.push(LeaseTerm {
            request,
            renew_at_ns: now.mono_ns.saturating_add(ns(renewal_after(life))),
            ends_ns: now.mono_ns.saturating_add(ns(life)),
        });
    }
}

/// Makes the requests.
#[derive(Clone)]
pub(crate) struct Leaser {
    pub line: UpstreamLine,
    pub config: Arc<ProtocolConfig>,
    pub hidden: Hidden,
    pub clock: Clock,
}

impl Leaser {
    /// Everything that a connection begins with.
    pub(super) async fn obtain(&self) -> Result<Lease, Loss> {
        let mut lease = Lease::default();
        for index in 0..self.config.requests.len() {
            let request = &self.config.requests[index];
            self.make(index, &request.call, &mut lease).await?;
        }
        let interval = self.config.heartbeat_interval(&lease.taken);
        interval.map_err(|error| Loss::Answer { error })?;
        Ok(lease)
    }

    /// The lease with one request renewed.
    pub(super) async fn renew(self, mut lease: Lease, index: usize) -> Result<Lease, Loss> {
        let request = &self.config.requests[index];
        let call = match &request.renewal {
            Renewal::Call(call) => call,
            Renewal::Connection | Renewal::Login => &request.call,
        };
        self.make(index, call, &mut lease).await?;
        Ok(lease)
    }

    /// The answer to a request for the snapshot of a topic.
    pub(crate) async fn snapshot(&self, call: &Call, item: &FeedItem, taken: &TakenValues) -> Result<String, Loss> {
        let (items, symbols) = ([item.name.clone()], [item.symbol.clone()]);
        let plain = Context::plain(&self.config.secrets, self.clock.now(), 0);
        let context = Context { items: &items, symbols: &symbols, channel: &item.channel, taken: Some(taken), ..plain };
        let filled = VenueCall { bytes_max: SNAPSHOT_BYTES_MAX, ..self.filled(call, context)? };
        let target = filled.endpoint.target.clone();
        let answer = self.line.call(filled).await?;
        match is_json(&answer) {
            true => Ok(answer),
            false => Err(failure(&call.name, &target, "expected JSON, found other text".to_string())),
        }
    }

    async fn make(&self, index: usize, call: &Call, lease: &mut Lease) -> Result<(), Loss> {
        let now = self.clock.now();
        let plain = Context::plain(&self.config.secrets, now, 0);
        let filled = self.filled(call, Context { taken: Some(&lease.taken), ..plain })?;
        let target = filled.endpoint.target.clone();
        let wrong = |error: String| failure(&call.name, &target, error);
        let answer = self.line.call(filled).await?;
        let taken = Arc::make_mut(&mut lease.taken);
        for (name, pointer) in &call.take {
            let token = find(&answer, pointer).filter(|token| matches!(Type::of(token), Type::String | Type::Number));
            let Some(token) = token else {
                let said = reason(call.message.as_ref(), &answer).map(|reason| format!("; it says `{reason}`"));
                return Err(wrong(format!(
                    "expected a text or a number at `{}` of the answer, found none{}",
                    pointer.as_str(),
                    said.unwrap_or_default()
                )));
            };
            let text = decode_string(token).map_or_else(|| token.to_string(), |text| text.into_owned());
            self.hidden.learn(&text);
            taken.0.insert(name.clone(), text);
        }
        let life = self.config.requests[index].life.as_ref().map(|life| life.left(&answer, now));
        if let Some(life) = life {
            lease.begin(index, life.map_err(wrong)?, now);
        }
        Ok(())
    }

    fn filled<'c>(&self, call: &'c Call, context: Context<'_>) -> Result<VenueCall<'c>, Loss> {
        let unfilled = |error: String| Loss::Request {
            name: call.name.clone(),
            url: call.url.source().split(['?', '$']).next().unwrap_or_default().to_string(),
            error,
            status: None,
            retry_after: None,
        };
        let missing = |missing: Missing| unfilled(missing.to_string());
        let target = FeedUrl::of_http(&context.fill(&call.url).map_err(missing)?);
        let mut headers = Vec::new();
        for (name, value) in &call.headers {
            let value = HeaderValue::try_from(context.fill(value).map_err(missing)?);
            headers.push((
                name.clone(),
                value.map_err(|_| unfilled(format!("no header can hold the value of `{name}`")))?,
            ));
        }
        Ok(VenueCall {
            name: &call.name,
            method: call.method.clone(),
            endpoint: Endpoint { target: target.map_err(|error| unfilled(error.to_string()))?, headers },
            body: call.body.as_ref().map(|body| context.fill(body)).transpose().map_err(missing)?.unwrap_or_default(),
            message: call.message.as_ref(),
            bytes_max: ANSWER_BYTES_MAX,
        })
    }
}
