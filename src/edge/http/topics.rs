//! `/v1/topics` and `/v1/snapshot`: the topics and their current values.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::Response;
use serde::Serialize;

use crate::access::grant::Grant;
use crate::access::pattern_delays::by_delay;
use crate::access::rights::{GrantedTopics, Rights, ViewId};
use crate::audit::log::AuditLog;
use crate::bus::feed_state::FeedState;
use crate::bus::frame::FrameKind;
use crate::bus::log::snapshot::{OnStep, Snapshot, TopicChoice};
use crate::bus::reader::Reader;
use crate::bus::topic_status::TopicStatusKind;
use crate::bus::views::Views;
use crate::edge::http::answer::{HttpRefusal, JSON, body, network_of};
use crate::edge::http::body::{BodyBound, Draft};
use crate::edge::http::context::AnswerContext;
use crate::edge::http::credentials::PRIVATE;
use crate::edge::http::health::FeedReport;
use crate::edge::http::query::{self, TopicsQuery};
use crate::edge::http::shared_answers::{AnswerRequest, AnswerTopic, Maker};
use crate::edge::listen::peer::WebClient;
use crate::protocol::encoding::put_envelope;
use crate::words::ids::Offset;
use crate::words::topic::Pattern;

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
    let query = query::topics(request.uri().query(), context.patterns_max, context.wildcards_max, takes_credentials)?;
    let TopicsQuery { patterns, ticket } = query;
    let network = network_of(&request)?;
    let address = request.extensions().get::<WebClient>().and_then(|client| client.address);
    let (credential, origin) = context.find_credential(&request, ticket);
    drop(request);
    let grant = context.grant_of(credential, (address, origin)).await?;
    let recorded = context.audit.is_on().then(|| (grant.clone(), patterns.clone()));
    let rights = (*grant.rights != Rights::unlimited()).then_some(grant.rights);
    let reading = context.answers.get(AnswerRequest { matter, patterns, rights }, network).await;
    let reading = reading.map_err(|denied| context.deny(denied))?;
    if let Some((grant, patterns)) = recorded {
        record(&context.audit, &grant, address, patterns);
    }
    let mut response = body(JSON, Body::new(reading));
    if takes_credentials {
        response.headers_mut().insert(header::CACHE_CONTROL, PRIVATE);
    }
    Ok(response)
}

/// Records what the client is shown; without patterns that is everything that it may see.
fn record(audit: &AuditLog, grant: &Grant, address: Option<IpAddr>, mut patterns: Vec<Pattern>) {
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
        let snapshot = reader.snapshot(&choice, &mut on_step);
        let mut draft = Draft::begin(store, wanted.is_common());
        match wanted.matter {
            AnswerTopic::Topics => put_topics(&mut draft, reader, snapshot, &mut on_step)?,
            AnswerTopic::Snapshot => put_snapshot(&mut draft, (reader, simulated), &snapshot, &mut on_step)?,
        }
        draft.finish()
    })
}

fn put_topics(
    draft: &mut Draft,
    reader: &Reader,
    mut snapshot: Snapshot,
    on_step: OnStep<'_>,
) -> Result<(), BodyBound> {
    snapshot.topics.sort_unstable_by(|a, b| a.retained.newest().topic.name.cmp(&b.retained.newest().topic.name));
    put_opening(&mut draft.open, reader, &snapshot);
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

/// Only the newest value of a topic; snapshots with their deltas. Topic statuses are in a separate list.
fn put_snapshot(
    draft: &mut Draft,
    (reader, simulated): (&Reader, bool),
    snapshot: &Snapshot,
    on_step: OnStep<'_>,
) -> Result<(), BodyBound> {
    let (mut statuses, mut frames) = (Vec::new(), Vec::new());
    for frame in snapshot.topics.iter().flat_map(|current| current.retained.news_after(Offset::START)) {
        match frame.kind {
            FrameKind::Transient | FrameKind::Status(TopicStatusKind::Live) => {}
            FrameKind::Status(_) => statuses.push(frame),
            _ => frames.push(frame),
        }
        on_step(0);
    }
    statuses.sort_unstable_by_key(|status| status.offset);
    frames.sort_unstable_by_key(|frame| frame.offset);
    put_opening(&mut draft.open, reader, snapshot);
    draft.open.extend_from_slice(b",\"feed\":");
    put(&mut draft.open, &FeedReport::of(feed_line(&reader.feed()), simulated));
    draft.open.extend_from_slice(b",\"frames\":[");
    put_list(draft, &frames, on_step, |out, frame| put_envelope(out, &frame.whole().envelope()))?;
    draft.open.extend_from_slice(b"],\"notes\":[");
    put_list(draft, &statuses, on_step, |out, status| out.extend_from_slice(&status.payload.bytes))?;
    draft.open.extend_from_slice(b"]}");
    Ok(())
}

fn put_opening(out: &mut Vec<u8>, reader: &Reader, snapshot: &Snapshot) {
    out.extend_from_slice(format!("{{\"epoch\":\"{}\",\"offset\":{}", reader.epoch(), snapshot.offset).as_bytes());
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
