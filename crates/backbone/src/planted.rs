//! Faults that tests plant in the decisions, to prove that the simulation notices them. Outside of tests there are none.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedFault {
    /// A second append goes out before the first is committed.
    #[cfg(test)]
    Pipelined,
    /// A refusal counts as a commit.
    RefusalCommits,
    /// An entry is shown when it is sent.
    ShownUncommitted,
    /// A successor keeps the epoch, whoever it is.
    EpochKept,
    /// Whatever comes next is believed.
    NoChainCheck,
}

#[cfg(not(test))]
pub const fn is_planted(_: PlantedFault) -> bool {
    false
}

#[cfg(test)]
pub use in_tests::{is_planted, plant};

#[cfg(test)]
mod in_tests {
    use std::cell::Cell;

    use super::PlantedFault;

    thread_local! {
        static PLANTED: Cell<Option<PlantedFault>> = const { Cell::new(None) };
    }

    pub fn is_planted(fault: PlantedFault) -> bool {
        PLANTED.get() == Some(fault)
    }

    /// For what runs on this thread.
    pub fn plant(fault: Option<PlantedFault>) {
        PLANTED.set(fault);
    }
}
