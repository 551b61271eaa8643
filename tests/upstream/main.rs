//! The upstream: however a venue and the way to it behave, clients stay connected and are shown nothing untrue.

mod books;
mod dial;
mod drafts;
mod faults;
mod faults_intake;
mod misbehaviour;
mod probe;
mod probe_record;
mod redundancy;
mod reload;
mod topic_truth;
mod trust;
