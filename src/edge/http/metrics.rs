//! `/metrics`: the exposition, made once for all requests at the same moment.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use metrics::Gauge;
use tokio::sync::Mutex;

use crate::access::rights::ViewId;
use crate::edge::exposition::Exposition;
use crate::edge::http::answer::{HttpRefusal, body, network_of, not_found};
use crate::edge::http::body::{AnswerBody, AnswerStream, BodyBound, Draft, Store};
use crate::edge::http::context::AnswerContext;
use crate::edge::http::shared_answers::{AGE_MAX, Denied, Ration};
use crate::edge::settings::AnswerLimits;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// 4 MiB: a hundred answers of about 40 KB, for slow readers; a quarter for one address. Separate from other answers, so
/// that metrics can be read while those have no room.
const LIMITS: AnswerLimits = AnswerLimits { bytes_max: 4 << 20, bytes_per_address_max: Some(1 << 20) };

/// The last `/metrics`, with the bytes that slow readers of older ones hold.
pub(in crate::edge) struct Page {
    exposition: Exposition,
    store: Arc<Store>,
    /// Held while it is made: requests meanwhile wait and receive the same.
    last: Mutex<LastPage>,
}

#[derive(Default)]
struct LastPage {
    made: Option<(Arc<AnswerBody>, Instant)>,
    ration: Ration,
}

impl Page {
    pub(crate) fn new(exposition: Exposition) -> Page {
        Page { exposition, store: Store::new(LIMITS, Gauge::noop()), last: Mutex::default() }
    }

    /// Occasional requests receive a new one; constant requests share one, for a second at most.
    async fn read(&self, network: IpAddr) -> Result<AnswerStream, BodyBound> {
        let mut last = self.last.lock().await;
        let now = Instant::now();
        let shared = last.made.as_ref().filter(|(_, at)| !last.ration.allows(now) && at.elapsed() < AGE_MAX);
        let answer = match shared.map(|(answer, _)| answer).filter(|answer| answer.holds_bytes()) {
            Some(answer) => answer.clone(),
            None => {
                let mut draft = Draft::begin(&self.store, true);
                draft.open.extend_from_slice(self.exposition.render().as_bytes());
                let answer = draft.finish()?;
                last.ration.charge(now, now.elapsed());
                last.made = Some((answer.clone(), now));
                answer
            }
        };
        drop(last);
        self.store.open(&answer, network)
    }
}

/// For everyone, where everyone may see the live feed: they tell how much happens now.
pub(in crate::edge) async fn public(
    State(context): State<Arc<AnswerContext>>,
    request: Request,
) -> Result<Response, HttpRefusal> {
    match context.gatekeeper.anonymous() {
        Some(grant) if grant.rights.view == ViewId::LIVE => answer(State(context), request).await,
        Some(_) | None => Err(not_found(request.uri())),
    }
}

pub(in crate::edge) async fn answer(
    State(context): State<Arc<AnswerContext>>,
    request: Request,
) -> Result<Response, HttpRefusal> {
    let reading = context.page.read(network_of(&request)?).await;
    let reading = reading.map_err(|full| context.deny(Denied::Full(full)))?;
    Ok(body(CONTENT_TYPE, Body::new(reading)))
}
