//! The recorder behind the meters, and its contents in the Prometheus text format 0.0.4.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;

use crate::edge::phase::Phase;
use crate::edge::process::Process;
use crate::words::metrics as names;
use crate::words::metrics::Meters;

/// Seconds: from 50 us, the shortest round of a shard, to 5 s, after which clients have received `skipped`.
/// Steps of 2 to 2.5 keep a quantile read from the buckets within about a factor of two.
const LATENCY_BUCKETS: [f64; 16] =
    [50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Samples of histograms stay in memory until the next upkeep or scrape; 5 s bounds them if nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The readable side of a recorder.
#[derive(Clone)]
pub struct Exposition {
    prometheus: PrometheusHandle,
    /// Sets the gauges that are measured only on request.
    measure: Arc<dyn Fn() + Send + Sync>,
    process: Process,
}

/// Creates a recorder that is not the process's global one; returns its meters and its exposition.
pub fn recorder() -> (Meters, Exposition) {
    // Every histogram is of latencies.
    let recorder = PrometheusBuilder::new()
        .set_buckets(&LATENCY_BUCKETS)
        .expect("the list of buckets is not empty")
        .build_recorder();
    let prometheus = recorder.handle();
    let meters = Meters::new(Arc::new(recorder));
    meters.gauge(&names::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
    (meters, Exposition { prometheus, process: Process::this(), measure: Arc::new(|| {}) })
}

impl Exposition {
    /// The same, with meters that `measure` sets before each exposition.
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

/// Moves waiting samples into their buckets, every few seconds, for ever.
pub(in crate::edge) async fn upkeep(exposition: Exposition, mut phase: watch::Receiver<Phase>) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = phase.wait_for(|phase| *phase == Phase::Stopped) => return,
            _ = ticks.tick() => exposition.prometheus.run_upkeep(),
        }
    }
}
