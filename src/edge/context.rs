//! What answers need of the rooms below and of the settings.

use std::sync::Arc;

use axum::http::{StatusCode, header};
use tokio::sync::watch;

use crate::bus::reader::Reader;
use crate::edge::admission::Admission;
use crate::edge::answer::Refusal;
use crate::edge::answers::{Answers, Denied};
use crate::edge::assets::Assets;
use crate::edge::body::{Full, Store};
use crate::edge::metrics::Page;
use crate::edge::settings::Settings;
use crate::edge::visitors::Visitors;
use crate::edge::{Door, Phase, Rooms, snapshot};
use crate::words::metrics::{self as names, Meters};

/// What answers need. Shared by all connections; only `admission`, `answers` and `page` ever change, by themselves.
pub(super) struct Context {
    pub reader: Reader,
    pub door: Door,
    pub meters: Meters,
    /// `/metrics`.
    pub page: Page,
    pub phase: watch::Receiver<Phase>,
    pub admission: Arc<Admission>,
    pub assets: Assets,
    /// `/v1/topics` and `/v1/snapshot`.
    pub answers: Arc<Answers>,
    pub visitors: Visitors,
    pub compression: bool,
    pub patterns_max: usize,
    pub wildcards_max: usize,
}

/// Values of the `reason` label of `fanline_refusals_total` for answers that are not given.
pub(super) const REASONS: [&str; 3] = ["too_many_answers", "too_many_answers_per_address", "too_many_requests"];

impl Context {
    pub fn new(settings: &Settings, rooms: Rooms, phase: watch::Receiver<Phase>) -> Context {
        let store = Store::new(settings.answers, rooms.meters.gauge(&names::HTTP_ANSWER_BYTES, &[]));
        Context {
            answers: Answers::new(store, snapshot::maker(rooms.reader.clone())),
            reader: rooms.reader,
            door: rooms.door,
            page: Page::new(rooms.exposition),
            meters: rooms.meters,
            phase,
            admission: Admission::new(settings.sessions_max, settings.sessions_per_address_max),
            assets: Assets::load(),
            visitors: Visitors::new(&settings.visitors),
            compression: settings.compression,
            patterns_max: settings.patterns_max,
            wildcards_max: settings.wildcards_max,
        }
    }

    /// Counts the refusal and puts it into words.
    pub fn deny(&self, denied: Denied) -> Refusal {
        let (reason, message) = match denied {
            Denied::Full(Full::All) => {
                (REASONS[0], "expected room for another answer (http.answer_bytes_max), found slow readers of others")
            }
            Denied::Full(Full::Address) => (
                REASONS[1],
                "expected fewer answers on their way to your address (http.answer_bytes_per_address_max); read them first",
            ),
            Denied::Queue => (REASONS[2], "expected fewer requests that wait for an answer of their own"),
            Denied::Failed => {
                let message = "the answer was not finished; try again";
                return Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
            }
        };
        self.count_refusal(reason);
        let message = format!("{message}; try again in a second");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_answers", message).with(header::RETRY_AFTER, "1")
    }

    pub fn count_refusal(&self, reason: &str) {
        self.meters.counter(&names::REFUSALS, &[("reason", reason)]).increment(1);
    }
}
