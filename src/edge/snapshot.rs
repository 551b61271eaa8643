//! `/v1/topics` and `/v1/snapshot`: what there is, and its current values.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;

use crate::bus::feed::FeedState;
use crate::bus::frame::Role;
use crate::bus::keeping::NoteKind;
use crate::bus::reader::Reader;
use crate::edge::answer::{Refusal, json};
use crate::edge::context::Context;
use crate::edge::health::Sourced;
use crate::edge::picture::Picture;
use crate::edge::query;
use crate::wire::encode::put_envelope;
use crate::words::ids::Offset;

#[derive(Serialize)]
struct TopicLine<'a> {
    topic: &'a str,
    offset: u64,
    ts: u64,
    count: u64,
}

/// The feed's state as clients may see it; the last three only where values may be outdated.
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

pub(super) async fn topics(State(context): State<Arc<Context>>, uri: Uri) -> Result<Response, Refusal> {
    draw(context, uri, topics_text).await
}

pub(super) async fn snapshot(State(context): State<Arc<Context>>, uri: Uri) -> Result<Response, Refusal> {
    draw(context, uri, snapshot_text).await
}

/// Takes a picture and writes it down, away from the threads that serve everyone else: with 100,000 topics it takes
/// tens of milliseconds.
async fn draw(context: Arc<Context>, uri: Uri, write: fn(&Context, Picture) -> Vec<u8>) -> Result<Response, Refusal> {
    let patterns = query::topics(uri.query(), context.patterns_max)?;
    let turn = context.picture_turns.clone().acquire_owned().await.expect("the turns are never closed");
    let text = tokio::task::spawn_blocking(move || {
        let text = write(&context, Picture::take(&context.reader, &patterns));
        drop(turn);
        text
    });
    match text.await {
        Ok(text) => Ok(json(StatusCode::OK, text)),
        Err(error) => {
            tracing::error!(%error, "a snapshot was not finished");
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the answer was not finished; try again"))
        }
    }
}

fn topics_text(context: &Context, mut picture: Picture) -> Vec<u8> {
    picture.currents.sort_unstable_by(|a, b| a.story.newest().topic.name.cmp(&b.story.newest().topic.name));
    let mut out = opening(&context.reader, &picture);
    out.extend_from_slice(b",\"topics\":[");
    put_list(&mut out, &picture.currents, |out, current| {
        let frame = current.story.newest();
        let line = TopicLine {
            topic: &frame.topic.name,
            offset: frame.offset.0,
            ts: frame.received.wall_ms,
            count: current.count,
        };
        put(out, &line);
    });
    out.extend_from_slice(b"]}");
    out
}

/// Of values the newest alone; where changes follow a snapshot, all of it. What is said of topics has a list of its own.
fn snapshot_text(context: &Context, picture: Picture) -> Vec<u8> {
    let told = picture.currents.iter().flat_map(|current| current.story.news_after(Offset::START));
    let told = told.filter(|frame| !matches!(frame.role, Role::Moment | Role::Note(NoteKind::Live)));
    let (mut notes, mut frames): (Vec<_>, Vec<_>) = told.partition(|frame| frame.is_note());
    notes.sort_unstable_by_key(|note| note.offset);
    frames.sort_unstable_by_key(|frame| frame.offset);
    let mut out = opening(&context.reader, &picture);
    out.extend_from_slice(b",\"feed\":");
    put(&mut out, &Sourced::of(feed_line(&context.reader.feed()), context));
    out.extend_from_slice(b",\"frames\":[");
    put_list(&mut out, &frames, |out, frame| put_envelope(out, &frame.whole().envelope()));
    out.extend_from_slice(b"],\"notes\":[");
    put_list(&mut out, &notes, |out, note| out.extend_from_slice(&note.payload.bytes));
    out.extend_from_slice(b"]}");
    out
}

fn opening(reader: &Reader, picture: &Picture) -> Vec<u8> {
    format!("{{\"epoch\":\"{}\",\"offset\":{}", reader.epoch(), picture.offset).into_bytes()
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

fn put_list<T>(out: &mut Vec<u8>, items: &[T], mut put_item: impl FnMut(&mut Vec<u8>, &T)) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        put_item(out, item);
    }
}

fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("plain structs always serialise into memory");
}
