//! `/v1/topics` and `/v1/snapshot`: the topics and their current values.
//!
//! The answer of `/v1/poll` has the same members and some more (`poll/news.rs`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use crate::access::grant::Grant;
use crate::access::pattern_delays::by_delay;
use crate::access::rights::{GrantedTopics, Rights, ViewId};
use crate::access::shown_delay::shown_delay;
use crate::audit::log::AuditLog;
use crate::bus::feed_state::FeedState;
use crate::bus::frame::{Frame, FrameKind};
use crate::bus::log::snapshot::{OnStep, Snapshot, TopicChoice};
use crate::bus::reader::Reader;
use crate::bus::topic_status::TopicStatusKind;
use crate::bus::views::Views;
use crate::edge::http::answer::{HttpRefusal, JSON, body, network_of};
use crate::edge::http::body::{AnswerFacts, BodyBound, Draft};
use crate::edge::http::conditional::knows;
use crate::edge::http::context::AnswerContext;
use crate::edge::http::credentials::PRIVATE;
use crate::edge::http::health::FeedReport;
use crate::edge::http::poll::news::put_news;
use crate::edge::http::query::{self, TopicsQuery};
use crate::edge::http::shared_answers::{AnswerRequest, AnswerTopic, Maker};
use crate::edge::listen::peer::WebClient;
use crate::protocol::encoding::put_envelope;
use crate::protocol::server_message::DelayMs;
use crate::words::ids::{Cursor, Offset};
use crate::words::topic::Pattern;

/// For answers that a cache may give to others: a second, as clients share answers here, too.
const PUBLIC: HeaderValue = HeaderValue::from_static("public, max-age=1, stale-while-revalidate=5");

#[derive(Serialize)]
struct TopicLine<'a> {
    topic: &'a str,
    offset: u64,
    ts: u64,
    count: u64,
}

/// The feed's state for clients; the last three fields only where values may be outdated.
#[derive(Serialize)]
struct FeedLine<'a> {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

pub(in crate::edge) async fn topics(
    State(context): State<Arc<AnswerContext>>,
    request: Request,
) -> Result<Response, HttpRefusal> {
    answer(context, AnswerTopic::Topics, request).await
}

pub(in crate::edge) async fn snapshot(
    State(context): State<Arc<AnswerContext>>,
    request: Request,
) -> Result<Response, HttpRefusal> {
    answer(context, AnswerTopic::Snapshot, request).await
}

async fn answer(context: Arc<AnswerContext>, matter: AnswerTopic, request: Request) -> Result<Response, HttpRefusal> {
    context.check_audit()?;
    let takes_credentials = context.gatekeeper.takes_credentials();
    let terms = context.terms.requests();
    let query = query::topics(request.uri().query(), terms.patterns_max, terms.wildcards_max, takes_credentials)?;
    let TopicsQuery { patterns, ticket } = query;
    let network = network_of(&request)?;
    let address = request.extensions().get::<WebClient>().and_then(|client| client.address);
    let (credential, origin) = context.find_credential(&request, ticket);
    let known = request.into_parts().0.headers;
    let grant = context.grant_of(credential, (address, origin)).await?;
    let recorded = context.audit.is_on().then(|| (grant.clone(), patterns.clone()));
    let rights = (*grant.rights != Rights::unlimited()).then_some(grant.rights);
    let reading = context.answers.get(AnswerRequest { matter, patterns, rights: rights.clone() }, network).await;
    let reading = reading.map_err(|denied| context.deny(denied))?;
    let facts = reading.facts();
    if let Some((grant, patterns)) = recorded {
        record(&context.audit, &grant, address, patterns);
    }
    let mut response = body(JSON, Body::new(reading));
    if takes_credentials {
        response.headers_mut().insert(header::CACHE_CONTROL, PRIVATE);
    }
    if matter == AnswerTopic::Snapshot {
        if !takes_credentials {
            response.headers_mut().insert(header::CACHE_CONTROL, PUBLIC);
        }
        tag(&mut response, &etag(facts, rights.as_deref()), &known);
    }
    Ok(response)
}

/// Adds the ETag; a client that knows it receives no body.
fn tag(response: &mut Response, etag: &str, known: &HeaderMap) {
    // Weak (RFC 9110 section 8.8.3): `offset` moves on while the values stay.
    let weak = HeaderValue::try_from(format!("W/{etag}")).expect("digits in quotes");
    response.headers_mut().insert(header::ETAG, weak);
    if knows(known, etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
}

/// Differs where the values, what may be seen of them, or the feed's state do. A topic that is forgotten is one item less.
fn etag(facts: AnswerFacts, rights: Option<&Rights>) -> String {
    let AnswerFacts { cursor: Cursor { epoch, .. }, items, newest, feed_version, .. } = facts;
    let mut hash = DefaultHasher::new();
    rights.hash(&mut hash);
    format!("\"{epoch}:{newest}-{items}-{feed_version}-{:x}\"", hash.finish())
}

/// Records what the client is shown; without patterns that is everything that it may see.
pub(in crate::edge) fn record(audit: &AuditLog, grant: &Grant, address: Option<IpAddr>, mut patterns: Vec<Pattern>) {
    if patterns.is_empty() {
        patterns.extend(Pattern::parse(">"));
    }
    audit.record_query(grant, address, &by_delay(&grant.rights, &patterns));
}

/// Makes the answers; with 100,000 topics one takes a few hundred milliseconds.
pub(in crate::edge) fn maker(views: Views, simulated: bool) -> Maker {
    Box::new(move |wanted, pace, store| {
        let mut on_step = |work| pace.breathe(work);
        let rights = wanted.rights.as_deref();
        // Without a log of the view there is nothing that the client may see.
        let view = rights.map_or(ViewId::LIVE, |rights| rights.view);
        let Some(reader) = views.reader(view) else { return Draft::begin(store, false).finish() };
        let choice = TopicChoice::new(&wanted.patterns).within(rights.map_or(&GrantedTopics::All, |it| &it.topics));
        let source = AnswerSource { reader: &reader, simulated, delay: rights.and_then(shown_delay) };
        let mut draft = Draft::begin(store, wanted.is_common());
        match wanted.matter {
            AnswerTopic::Topics => {
                let snapshot = reader.snapshot(&choice, &mut on_step);
                put_topics(&mut draft, &source, snapshot, &mut on_step)?;
            }
            AnswerTopic::Snapshot => {
                let values = AnswerValues::kept(&reader, &choice, Offset::START, &mut on_step);
                values.put(&mut draft, &source, &mut on_step)?;
                draft.open.push(b'}');
            }
            AnswerTopic::News(span) => put_news(&mut draft, &source, (&choice, span), &mut on_step)?,
        }
        draft.finish()
    })
}

fn put_topics(
    draft: &mut Draft,
    source: &AnswerSource<'_>,
    mut snapshot: Snapshot,
    on_step: OnStep<'_>,
) -> Result<(), BodyBound> {
    snapshot.topics.sort_unstable_by(|a, b| a.retained.newest().topic.name.cmp(&b.retained.newest().topic.name));
    source.put_opening(snapshot.offset, &mut draft.open);
    draft.open.extend_from_slice(b",\"topics\":[");
    put_list(draft, &snapshot.topics, on_step, |out, current| {
        let frame = current.retained.newest();
        let line = TopicLine {
            topic: &frame.topic.name,
            offset: frame.offset.0,
            ts: frame.received.wall_ms,
            count: current.count,
        };
        put(out, &line);
    })?;
    draft.open.extend_from_slice(b"]}");
    Ok(())
}

/// Where an answer is from, and how late.
pub(in crate::edge) struct AnswerSource<'r> {
    pub reader: &'r Reader,
    /// Prices are invented.
    pub simulated: bool,
    /// None if it is live.
    pub delay: Option<DelayMs>,
}

impl AnswerSource<'_> {
    fn put_opening(&self, offset: Offset, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{{\"epoch\":\"{}\",\"offset\":{offset}", self.reader.epoch()).as_bytes());
        if let Some(delay) = &self.delay {
            out.extend_from_slice(b",\"delay_ms\":");
            put(out, delay);
        }
    }
}

/// Frames and topic statuses, each by offset, as a client has them that has everything up to an offset.
pub(in crate::edge) struct AnswerValues {
    pub offset: Offset,
    pub frames: Vec<Arc<Frame>>,
    /// Topic statuses are in a list of their own.
    pub statuses: Vec<Arc<Frame>>,
    /// Frames are shown as those that lack the frames before receive them.
    pub whole: bool,
}

impl AnswerValues {
    /// Only the newest value of a topic; snapshots with their deltas. For a client that has everything up to `after`.
    pub(crate) fn kept(reader: &Reader, choice: &TopicChoice<'_>, after: Offset, on_step: OnStep<'_>) -> AnswerValues {
        let snapshot = reader.snapshot(choice, on_step);
        let (mut statuses, mut frames) = (Vec::new(), Vec::new());
        for frame in snapshot.topics.iter().flat_map(|current| current.retained.news_after(after)) {
            match frame.kind {
                FrameKind::Transient => {}
                // Who has received nothing needs not be told that it is over.
                FrameKind::Status(TopicStatusKind::Live) if after == Offset::START => {}
                FrameKind::Status(_) => statuses.push(frame.clone()),
                _ => frames.push(frame.clone()),
            }
            on_step(0);
        }
        statuses.sort_unstable_by_key(|status| status.offset);
        frames.sort_unstable_by_key(|frame| frame.offset);
        AnswerValues { offset: snapshot.offset, frames, statuses, whole: true }
    }

    pub(crate) fn count(&self) -> usize {
        self.frames.len() + self.statuses.len()
    }

    /// All members of an object but for its end.
    pub(crate) fn put(
        &self,
        draft: &mut Draft,
        source: &AnswerSource<'_>,
        on_step: OnStep<'_>,
    ) -> Result<(), BodyBound> {
        let reader = source.reader;
        let newest = |frames: &[Arc<Frame>]| frames.last().map_or(Offset::START, |frame| frame.offset);
        draft.facts = AnswerFacts {
            cursor: Cursor { epoch: reader.epoch(), offset: self.offset },
            items: self.count(),
            newest: newest(&self.frames).max(newest(&self.statuses)),
            // Before the state: who sees this version sees this state or a later one.
            feed_version: reader.feed_version(),
            skips: false,
        };
        source.put_opening(self.offset, &mut draft.open);
        draft.open.extend_from_slice(b",\"feed\":");
        put(&mut draft.open, &FeedReport::of(feed_line(&reader.feed()), source.simulated));
        draft.open.extend_from_slice(b",\"frames\":[");
        put_list(draft, &self.frames, on_step, |out, frame| {
            let frame = if self.whole { frame.whole() } else { frame };
            put_envelope(out, &frame.envelope());
        })?;
        draft.open.extend_from_slice(b"],\"notes\":[");
        put_list(draft, &self.statuses, on_step, |out, status| out.extend_from_slice(&status.payload.bytes))?;
        draft.open.push(b']');
        Ok(())
    }
}

fn feed_line(feed: &FeedState) -> FeedLine<'_> {
    let state = feed.label();
    match feed {
        FeedState::Connecting | FeedState::Live => FeedLine { state, reason: None, since_ms: None, message: None },
        FeedState::Idle { message, .. } => FeedLine { state, reason: None, since_ms: None, message: Some(message) },
        FeedState::Stale { reason, since_ms, message } => {
            FeedLine { state, reason: Some(reason.label()), since_ms: Some(*since_ms), message: Some(message) }
        }
    }
}

fn put_list<T>(
    draft: &mut Draft,
    items: &[T],
    on_step: OnStep<'_>,
    mut put_item: impl FnMut(&mut Vec<u8>, &T),
) -> Result<(), BodyBound> {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            draft.open.push(b',');
        }
        let before = draft.open.len();
        put_item(&mut draft.open, item);
        // 200 ns for each KiB, and for each item.
        on_step((draft.open.len() - before) / 1024);
        draft.settle()?;
    }
    Ok(())
}

fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("plain structs always serialise into memory");
}
