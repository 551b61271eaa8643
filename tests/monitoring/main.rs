//! What an operator sees is so: dashboards and alerts name what there is, a real Prometheus answers each of their
//! queries, alerts fire and clear with the faults that they tell of, and each has a page.

mod alert_rules;
mod cluster_faults;
mod crowd;
mod dashboards;
mod faults;
mod prometheus;
mod queries;

use std::sync::RwLock;

/// The machine: a test that fills it up holds it alone, others with real servers share it.
static MACHINE: RwLock<()> = RwLock::new(());
