//! The recorder behind the meters, and `/metrics` in the Prometheus text format 0.0.4.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;

use crate::edge::Phase;
use crate::edge::context::Context;
use crate::words::metrics::{self as names, Meters};

/// Seconds: 50 us, below which a shard's round does not come, to 5 s, beyond which clients have been told `skipped`.
/// Steps of 2 to 2.5 keep a quantile read from the buckets within about a factor of two.
const PUBLISH_TO_WRITE_BUCKETS: [f64; 16] =
    [50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Samples of histograms wait in memory until the next upkeep or scrape; 5 s bounds them where nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Shows what the meters of one recorder hold.
#[derive(Clone)]
pub struct Exposition {
    prometheus: PrometheusHandle,
    /// Sets what is measured only when somebody looks.
    measure: Arc<dyn Fn() + Send + Sync>,
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
    (meters, Exposition { prometheus, measure: Arc::new(|| {}) })
}

impl Exposition {
    /// The same, with meters that `measure` sets each time before they are shown.
    pub fn measuring(self, measure: impl Fn() + Send + Sync + 'static) -> Exposition {
        Exposition { measure: Arc::new(measure), ..self }
    }

    /// The Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        (self.measure)();
        self.prometheus.render()
    }
}

/// Moves waiting samples into their buckets, every few seconds until the end.
pub(super) async fn upkeep(exposition: Exposition, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = phase.wait_for(|phase| *phase == Phase::Stopped) => return,
            _ = ticks.tick() => exposition.prometheus.run_upkeep(),
        }
    }
}

pub(super) async fn answer(State(context): State<Arc<Context>>) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (headers, context.exposition.render()).into_response()
}
