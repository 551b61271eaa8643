//! What answers need from the rooms below and the settings.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use tokio::sync::watch;

use crate::access::end_journal::EndJournal;
use crate::access::gatekeeper::Gatekeeper;
use crate::audit::log::AuditLog;
use crate::bus::reader::Reader;
use crate::bus::signal::pulse::Vitals;
use crate::bus::views::Views;
use crate::edge::admin_key::AdminKey;
use crate::edge::http::answer::HttpRefusal;
use crate::edge::http::assets::Assets;
use crate::edge::http::body::{BodyBound, Store};
use crate::edge::http::metrics::Page;
use crate::edge::http::poll::waiting::WaitingPolls;
use crate::edge::http::shared_answers::{Answers, Denied};
use crate::edge::http::terms::EdgeTerms;
use crate::edge::http::topics;
use crate::edge::parts::{Adopt, EdgeParts, RelayAdmission};
use crate::edge::phase::Phase;
use crate::edge::settings::Settings;
use crate::profile::downstream::Dialect;
use crate::words::metrics as names;
use crate::words::metrics::Meters;

/// Shared by all connections; only `terms`, `answers`, `polls` and `page` change, by themselves.
pub(in crate::edge) struct AnswerContext {
    pub views: Views,
    pub adopt: Adopt,
    pub vitals: Vitals,
    pub meters: Meters,
    /// `/metrics`.
    pub page: Page,
    pub phase: watch::Receiver<Phase>,
    pub audit: AuditLog,
    pub journal: EndJournal,
    pub gatekeeper: Arc<dyn Gatekeeper>,
    pub dialect: Option<Arc<Dialect>>,
    pub terms: Arc<EdgeTerms>,
    pub assets: Assets,
    /// `/v1/topics` and `/v1/snapshot`.
    pub answers: Arc<Answers>,
    /// Requests of `/v1/poll` that wait.
    pub polls: Arc<WaitingPolls>,
    pub behind_max: Duration,
    pub simulated: bool,
    pub relays: Option<RelayAdmission>,
    /// What the server's own canary shows, if there is one.
    pub canary_key: Option<AdminKey>,
}

/// Values of the `reason` label of `fanline_refusals_total` for refused answers.
pub(in crate::edge) const REASONS: [&str; 3] =
    ["too_many_answers", "too_many_answers_per_address", "too_many_requests"];

impl AnswerContext {
    /// The live log, as it is now.
    pub(crate) fn reader(&self) -> Reader {
        self.views.live()
    }

    pub(crate) fn new(
        settings: &Settings,
        terms: Arc<EdgeTerms>,
        parts: EdgeParts,
        phase: watch::Receiver<Phase>,
    ) -> AnswerContext {
        let store = Store::new(settings.answers, parts.meters.gauge(&names::HTTP_ANSWER_BYTES, &[]));
        AnswerContext {
            answers: Answers::new(store, topics::maker(parts.views.clone(), settings.simulated)),
            polls: WaitingPolls::new(
                parts.views.clone(),
                settings.polls,
                parts.meters.gauge(&names::HTTP_POLLS_WAITING, &[]),
            ),
            views: parts.views,
            adopt: parts.adopt,
            vitals: parts.vitals,
            page: Page::new(parts.exposition),
            meters: parts.meters,
            phase,
            audit: parts.audit,
            journal: parts.journal,
            gatekeeper: parts.gatekeeper,
            dialect: parts.dialect,
            terms,
            assets: Assets::load(),
            behind_max: settings.behind_max,
            simulated: settings.simulated,
            relays: parts.relays,
            canary_key: parts.canary_key,
        }
    }

    /// Refuses everyone while the audit log cannot take what they would be shown.
    pub(crate) fn check_audit(&self) -> Result<(), HttpRefusal> {
        if self.audit.accepts_sessions() {
            return Ok(());
        }
        let message = "expected room in the audit log (audit.on_full), found it full; try again in a minute";
        let refusal = HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "audit_full", message);
        Err(refusal.with(header::RETRY_AFTER, "60"))
    }

    /// Counts the refusal and words it.
    pub(crate) fn deny(&self, denied: Denied) -> HttpRefusal {
        let (reason, message) = match denied {
            Denied::Full(BodyBound::All) => {
                (REASONS[0], "expected room for another answer (http.answer_bytes_max), found it taken by slow readers")
            }
            Denied::Full(BodyBound::Address) => (
                REASONS[1],
                "expected fewer answers on their way to your address (http.answer_bytes_per_address_max); read them first",
            ),
            Denied::Queue => (REASONS[2], "expected fewer waiting requests"),
            Denied::Failed => {
                let message = "the answer could not be completed; try again";
                return HttpRefusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
            }
        };
        self.count_refusal(reason);
        let message = format!("{message}; try again in a second");
        HttpRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_answers", message).with(header::RETRY_AFTER, "1")
    }

    /// Counts the refusal of a client that would be a session, and keeps why.
    pub(crate) fn refuse(&self, client: Option<IpAddr>, reason: &'static str, refusal: &HttpRefusal) {
        self.count_refusal(reason);
        self.journal.refused("http", reason, client, refusal.message());
    }

    pub(crate) fn count_refusal(&self, reason: &str) {
        self.meters.counter(&names::REFUSALS, &[("reason", reason)]).increment(1);
    }
}
