//! What is measured when somebody looks.

use metrics::Gauge;

use crate::bus::signal::pulse::Vitals;
use crate::config::log_queue::LogQueue;
use crate::words::metrics::{self as names, Meters};

/// Gauges that are read when the metrics are requested.
pub(super) fn measure(vitals: &Vitals, log: LogQueue, meters: &Meters) -> impl Fn() + Send + Sync + 'static {
    let ages: Vec<Gauge> =
        vitals.ages().map(|(part, _)| meters.gauge(&names::LIVENESS_AGE, &[("part", part)])).collect();
    let (vitals, dropped) = (vitals.clone(), meters.counter(&names::LOG_DROPPED, &[]));
    move || {
        for (gauge, (_, age)) in ages.iter().zip(vitals.ages()) {
            gauge.set(age.as_secs_f64());
        }
        dropped.absolute(log.dropped());
    }
}
