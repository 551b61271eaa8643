//! The recorder behind the meters, and `/metrics` in the Prometheus text format 0.0.4.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use metrics::Gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::{Mutex, watch};

use crate::edge::Phase;
use crate::edge::entrance::websocket::network_of;
use crate::edge::http::answer::{HttpRefusal, body};
use crate::edge::http::body::{AnswerBody, AnswerStream, BodyBound, Draft, Store};
use crate::edge::http::context::AnswerContext;
use crate::edge::http::process::Process;
use crate::edge::http::shared_answers::{AGE_MAX, Denied, Ration};
use crate::edge::settings::AnswerLimits;
use crate::words::metrics as names;
use crate::words::metrics::Meters;

/// Seconds: 50 us, below which a shard's round does not come, to 5 s, beyond which clients have been told `skipped`.
/// Steps of 2 to 2.5 keep a quantile read from the buckets within about a factor of two.
const PUBLISH_TO_WRITE_BUCKETS: [f64; 16] =
    [50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Samples of histograms wait in memory until the next upkeep or scrape; 5 s bounds them where nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// 4 MiB: a hundred of some 40 KB, for readers that take their time; of one address a quarter. Apart from other answers,
/// so that it can be read while those have no room.
const LIMITS: AnswerLimits = AnswerLimits { bytes_max: 4 << 20, bytes_per_address_max: Some(1 << 20) };

/// Shows what the meters of one recorder hold.
#[derive(Clone)]
pub struct Exposition {
    prometheus: PrometheusHandle,
    /// Sets what is measured only when somebody looks.
    measure: Arc<dyn Fn() + Send + Sync>,
    process: Process,
}

/// Makes a recorder of its own, not the process's global one; gives its meters and what shows them.
pub fn recorder() -> (Meters, Exposition) {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(names::PUBLISH_TO_WRITE.name.into()), &PUBLISH_TO_WRITE_BUCKETS)
        .expect("the list of buckets is not empty")
        .build_recorder();
    let prometheus = recorder.handle();
    let meters = Meters::new(Arc::new(recorder));
    meters.gauge(&names::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
    (meters, Exposition { prometheus, process: Process::this(), measure: Arc::new(|| {}) })
}

impl Exposition {
    /// The same, with meters that `measure` sets each time before they are shown.
    pub fn measuring(self, measure: impl Fn() + Send + Sync + 'static) -> Exposition {
        Exposition { measure: Arc::new(measure), ..self }
    }

    /// The Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        (self.measure)();
        let mut text = self.prometheus.render();
        self.process.put(&mut text);
        text
    }
}

/// Moves waiting samples into their buckets, every few seconds until the end.
pub(in crate::edge) async fn upkeep(exposition: Exposition, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = phase.wait_for(|phase| *phase == Phase::Stopped) => return,
            _ = ticks.tick() => exposition.prometheus.run_upkeep(),
        }
    }
}

/// `/metrics` as it was last made, with the bytes that slow readers of older ones hold.
pub(in crate::edge) struct Page {
    exposition: Exposition,
    store: Arc<Store>,
    /// Held while it is made: whoever comes meanwhile waits for it and gets the same.
    last: Mutex<LastPage>,
}

#[derive(Default)]
struct LastPage {
    made: Option<(Arc<AnswerBody>, Instant)>,
    ration: Ration,
}

impl Page {
    pub fn new(exposition: Exposition) -> Page {
        Page { exposition, store: Store::new(LIMITS, Gauge::noop()), last: Mutex::default() }
    }

    /// Who asks now and then gets a new one; who asks all the time shares one for a second at most.
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

pub(in crate::edge) async fn answer(
    State(context): State<Arc<AnswerContext>>,
    request: Request,
) -> Result<Response, HttpRefusal> {
    let reading = context.page.read(network_of(&request)?).await;
    let reading = reading.map_err(|full| context.deny(Denied::Full(full)))?;
    Ok(body(CONTENT_TYPE, Body::new(reading)))
}
