//! `/v1/poll`: what is new since a cursor, at once or as soon as there is something.

pub(crate) mod news;
pub(crate) mod query;
pub(crate) mod waiting;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use tokio::time::{Instant, timeout_at};

use crate::access::grant::Grant;
use crate::access::rights::{Rights, ViewId};
use crate::bus::clock::Clock;
use crate::bus::reader::Reader;
use crate::edge::http::ahead::catch_up_with;
use crate::edge::http::answer::{HttpRefusal, JSON, NO_STORE, body, network_of};
use crate::edge::http::body::AnswerStream;
use crate::edge::http::context::AnswerContext;
use crate::edge::http::credentials::{PRIVATE, refused, unauthenticated};
use crate::edge::http::poll::news::{Anew, NewsSpan};
use crate::edge::http::poll::query::PollQuery;
use crate::edge::http::poll::waiting::{PollBound, WaitingPoll};
use crate::edge::http::query::bad;
use crate::edge::http::shared_answers::{AnswerRequest, AnswerTopic};
use crate::edge::http::topics::record;
use crate::edge::listen::peer::WebClient;
use crate::edge::phase::Phase;
use crate::protocol::command::resume_offset;
use crate::words::ids::{Cursor, Offset};
use crate::words::topic::Pattern;

/// Offsets after which a client is given a newer cursor though nothing is new for it: few compared with the ring, many
/// compared with what an empty answer costs.
const STRIDE: u64 = 1_000;

/// A settled answer stays true, but who comes late should rather have one that reaches further.
const SETTLED: HeaderValue = HeaderValue::from_static("public, max-age=5");
/// Current values, which all that join at a moment share. A cache that counts whole seconds, and asks twice a second whether
/// an answer has come, keeps one of 1 s for too short.
const CURRENT: HeaderValue = HeaderValue::from_static("public, max-age=2");

/// The cursor to go on from, and the feed's state, of an answer without a body.
const NEXT: HeaderName = HeaderName::from_static("fanline-next");
const FEED: HeaderName = HeaderName::from_static("fanline-feed");

/// Value of the `reason` label of `fanline_refusals_total`.
pub(in crate::edge) const REASON: &str = "too_many_polls";

/// One request of one client.
struct PollRequest<'c> {
    context: &'c AnswerContext,
    patterns: Vec<Pattern>,
    grant: Grant,
    address: Option<IpAddr>,
    network: IpAddr,
    max: usize,
}

pub(in crate::edge) async fn answer(
    State(context): State<Arc<AnswerContext>>,
    request: Request,
) -> Result<Response, HttpRefusal> {
    if context.phase.borrow().is_stopping() {
        return Err(HttpRefusal::draining());
    }
    let terms = context.terms.requests();
    let bounds = (terms.patterns_max, terms.wildcards_max);
    let query = PollQuery::parse(request.uri().query(), bounds, context.gatekeeper.takes_credentials())?;
    let PollQuery { patterns, since, wait, max, ticket } = query;
    let network = network_of(&request)?;
    let address = request.extensions().get::<WebClient>().and_then(|client| client.address);
    let (credential, origin) = context.find_credential(&request, ticket);
    let asked = request.uri().clone();
    drop(request);
    let grant = context.grant_of(credential, (address, origin)).await?;
    catch_up_with(&context, asked.query(), None).await;
    let poll = PollRequest { context: &context, patterns, grant, address, network, max };
    let Some(reader) = context.views.reader(poll.view()) else { return Ok(poll.nothing(None)) };
    match poll.start(&reader, since)? {
        PollStart::Values(anew) => poll.values(&reader, anew).await,
        PollStart::After(since) => {
            let deadline = Instant::now() + poll.time_left().min(wait);
            poll.news(&reader, since, deadline).await
        }
    }
}

/// From where a client goes on.
enum PollStart {
    After(Offset),
    /// From the current values, and why, if it asked for something else.
    Values(Option<Anew>),
}

impl PollRequest<'_> {
    fn view(&self) -> ViewId {
        self.grant.rights.view
    }

    fn start(&self, reader: &Reader, since: Option<Cursor>) -> Result<PollStart, HttpRefusal> {
        let Some(since) = since else { return Ok(PollStart::Values(None)) };
        let is_ahead = since.epoch == reader.epoch() && since.offset > reader.head();
        if is_ahead && self.view() != ViewId::LIVE {
            return Ok(PollStart::Values(Some(Anew::Delayed)));
        }
        let offset = resume_offset(since, reader.epoch(), reader.head()).map_err(bad)?;
        Ok(offset.map_or(PollStart::Values(Some(Anew::Epoch)), PollStart::After))
    }

    async fn values(&self, reader: &Reader, anew: Option<Anew>) -> Result<Response, HttpRefusal> {
        let span = NewsSpan { epoch: reader.epoch(), since: None, until: Offset::START, max: self.max, anew };
        Ok(self.shown(self.make(span).await?, CURRENT))
    }

    async fn news(mut self, reader: &Reader, since: Offset, deadline: Instant) -> Result<Response, HttpRefusal> {
        let (context, view, epoch) = (self.context, self.view(), reader.epoch());
        let feed_version = reader.feed_version();
        let mut waiting = None;
        let mut phase = context.phase.clone();
        loop {
            if context.views.reader(view).is_none_or(|shown| shown.epoch() != epoch) {
                // The next request finds that its cursor does not count any more.
                return Ok(self.nothing(Some((reader, since))));
            }
            let until = context.polls.until(view, reader).max(since);
            if until > since {
                let span = NewsSpan { epoch, since: Some(since), until, max: self.max, anew: None };
                let answer = self.make(span).await?;
                let facts = answer.facts();
                if facts.items > 0 || facts.skips || facts.cursor.offset.0 >= since.0 + STRIDE {
                    let age = if facts.skips { CURRENT } else { SETTLED };
                    return Ok(self.shown(answer, age));
                }
            }
            let is_over = Instant::now() >= deadline || reader.feed_version() != feed_version;
            if is_over || *phase.borrow_and_update() != Phase::Serving {
                return Ok(self.nothing(Some((reader, since))));
            }
            let Some(waiting) = &mut waiting else {
                // It looks once more, for what has arrived before it was known to wait.
                waiting = Some(self.begin_to_wait(reader)?);
                continue;
            };
            // A turn of the loop follows in any case.
            tokio::select! {
                _ = timeout_at(deadline, waiting.news()) => {}
                _ = phase.changed() => {}
            }
            self.check_grant()?;
        }
    }

    async fn make(&self, span: NewsSpan) -> Result<AnswerStream, HttpRefusal> {
        let rights = (*self.grant.rights != Rights::unlimited()).then(|| self.grant.rights.clone());
        let request = AnswerRequest { matter: AnswerTopic::News(span), patterns: self.patterns.clone(), rights };
        let made = self.context.answers.get(request, self.network).await;
        made.map_err(|denied| self.context.deny(denied))
    }

    fn begin_to_wait(&self, reader: &Reader) -> Result<WaitingPoll, HttpRefusal> {
        let all = [Pattern::parse(">").expect("a wildcard")];
        let topics = if self.patterns.is_empty() { &all[..] } else { &self.patterns };
        self.context.polls.wait((self.view(), reader), topics, self.network).map_err(|bound| {
            self.context.count_refusal(REASON);
            let setting = match bound {
                PollBound::All => "poll.waiting_max",
                PollBound::Address => "poll.waiting_per_address_max",
            };
            let message =
                format!("expected fewer requests that wait ({setting}), found too many; try again in a few seconds");
            HttpRefusal::new(StatusCode::TOO_MANY_REQUESTS, REASON, message).with(header::RETRY_AFTER, "5")
        })
    }

    /// Until the client's token ends.
    fn time_left(&self) -> Duration {
        let Some(identity) = &self.grant.identity else { return Duration::MAX };
        Duration::from_millis(identity.expires_ms.saturating_sub(Clock::start().now().wall_ms))
    }

    /// While the request waited, its token may have ended, or its rights may have been changed.
    fn check_grant(&mut self) -> Result<(), HttpRefusal> {
        if self.time_left() == Duration::ZERO {
            return Err(unauthenticated("Bearer error=\"invalid_token\""));
        }
        let grant = self.context.gatekeeper.reassess(&self.grant).map_err(refused)?;
        let is_other_view = grant.rights.view != self.view();
        self.grant = grant;
        if is_other_view { Err(unauthenticated("Bearer")) } else { Ok(()) }
    }

    fn shown(&self, answer: AnswerStream, age: HeaderValue) -> Response {
        if self.context.audit.is_on() {
            record(&self.context.audit, &self.grant, self.address, self.patterns.clone());
        }
        let mut response = body(JSON, Body::new(answer));
        response.headers_mut().insert(header::CACHE_CONTROL, self.cached(age));
        response
    }

    /// 204: the client asks again from the same cursor.
    fn nothing(&self, since: Option<(&Reader, Offset)>) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, self.cached(NO_STORE));
        if let Some((reader, offset)) = since {
            let next = Cursor { epoch: reader.epoch(), offset };
            headers.insert(NEXT, HeaderValue::try_from(next.to_string()).expect("digits and a colon"));
            headers.insert(FEED, HeaderValue::from_static(reader.feed().label()));
        }
        response
    }

    fn cached(&self, for_everyone: HeaderValue) -> HeaderValue {
        if self.context.gatekeeper.takes_credentials() { PRIVATE } else { for_everyone }
    }
}
