//! Parts of a server that are not rooms: the threads for HTTP, the built-in simulator.

use std::io;
use std::net::Ipv4Addr;

use tokio::sync::watch;

use crate::settings::table::MarketSettings;
use crate::simulator::market_server::Simulator;

use super::AppError;
use super::parts::{self, VitalParts};
use crate::app::fault_injection::FaultInjection;

/// Threads that answer HTTP, besides those for snapshots.
const HTTP_THREADS: usize = 2;
/// How much lower the priority of these is (see nice(2)): with two connections that pipeline `/metrics` on a busy machine of
/// two cores the 99th percentile of gaps in the stream was 3 to 22 ms (median 7), without it 10 to 32 ms (median 26).
const HTTP_NICENESS: i32 = 10;

/// Answers HTTP on threads that share the cores with the shards and the feed, at a lower priority.
pub(super) fn serve_http(run: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    if cfg!(target_os = "linux") {
        // For this thread and those it starts. If the kernel refuses, the priority stays as it is.
        let _ = rustix::process::nice(HTTP_NICENESS);
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(HTTP_THREADS).thread_name("http").enable_all().build()?;
    parts::drive(runtime, run)
}

/// Serves the simulated market on its own loopback port; returns its URL.
pub(super) fn start_simulator(
    settings: MarketSettings,
    parts: &mut VitalParts,
    faults: FaultInjection,
    stopped: watch::Receiver<bool>,
) -> Result<String, AppError> {
    let runtime = parts::runtime().map_err(AppError::system("start a runtime"))?;
    let simulator = runtime.block_on(Simulator::bind((Ipv4Addr::LOCALHOST, 0).into(), settings))?;
    let url = format!("ws://{}", simulator.local_addr());
    tracing::warn!(
        %url,
        "SIMULATED PRICES: no feed is configured, so the built-in market is served; \
         name one, as in `fanline wss://HOST/PATH`"
    );
    let serve = async move {
        faults.run("simulator", simulator.serve(stopped)).await;
        Ok(())
    };
    parts.start("simulator", move || parts::drive(runtime, serve)).map_err(AppError::system("start the simulator"))?;
    Ok(url)
}
