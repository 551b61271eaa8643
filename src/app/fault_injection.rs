//! One fault that a test plants in a running server, to see what the others do about it. Builds without debug assertions
//! have none of it.
//!
//! The variable `PLANTED_FAULT` is the part (`shard`, `feed`, `edge`, `simulator`, `supervisor`) and what it is to do
//! (`panic`, or `sleep` for a while). It does so once, when the first client has left.

use crate::edge::parts::Adopt;

/// The fault, if there is one.
#[derive(Clone, Default)]
pub(super) struct FaultInjection {
    #[cfg(debug_assertions)]
    seed: Option<std::sync::Arc<seed::PlantedFault>>,
}

impl FaultInjection {
    pub fn find() -> FaultInjection {
        FaultInjection {
            #[cfg(debug_assertions)]
            seed: seed::PlantedFault::find().map(std::sync::Arc::new),
        }
    }

    /// Runs a part, and lets the fault happen in its thread.
    #[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "no part has a fault"))]
    pub async fn tend<T>(&self, part: &str, run: impl Future<Output = T>) -> T {
        #[cfg(debug_assertions)]
        if let Some(seed) = self.seed.as_ref().filter(|seed| seed.is_in(part)) {
            let mut run = std::pin::pin!(run);
            tokio::select! {
                ended = &mut run => return ended,
                () = seed.ripened() => seed.sprout(),
            }
            return run.await;
        }
        run.await
    }

    /// The same call; a client that is handed on takes along what makes the fault happen when it leaves its shard.
    pub fn carried_by(&self, adopt: Adopt) -> Adopt {
        #[cfg(debug_assertions)]
        if let Some(seed) = self.seed.clone() {
            return std::sync::Arc::new(move |mut handoff| {
                let permit = handoff.permit.take();
                handoff.permit = Some(Box::new(seed::Carried { seed: seed.clone(), _permit: permit }));
                adopt(handoff);
            });
        }
        adopt
    }
}

#[cfg(debug_assertions)]
mod seed {
    use std::any::Any;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::sync::Notify;

    use crate::bus::signal::pulse::SILENCE_MAX;

    pub struct PlantedFault {
        part: String,
        panics: bool,
        ripe: Notify,
        spent: AtomicBool,
    }

    /// Dropped by the shard of the client that has left.
    pub struct Carried {
        pub seed: Arc<PlantedFault>,
        pub _permit: Option<Box<dyn Any + Send>>,
    }

    impl PlantedFault {
        pub fn find() -> Option<PlantedFault> {
            let variable = std::env::var("PLANTED_FAULT").ok()?;
            let (part, fault) = variable.split_once(' ')?;
            let (ripe, spent) = (Notify::new(), AtomicBool::new(false));
            Some(PlantedFault { part: part.into(), panics: fault == "panic", ripe, spent })
        }

        pub fn is_in(&self, part: &str) -> bool {
            self.part == part
        }

        pub async fn ripened(&self) {
            self.ripe.notified().await;
        }

        pub fn sprout(&self) {
            assert!(!self.panics, "planted");
            std::thread::sleep(SILENCE_MAX + Duration::from_secs(3));
        }
    }

    impl Drop for Carried {
        fn drop(&mut self) {
            if self.seed.spent.swap(true, Ordering::Relaxed) {
                return;
            }
            if self.seed.is_in("shard") {
                self.seed.sprout();
            }
            self.seed.ripe.notify_one();
        }
    }
}
