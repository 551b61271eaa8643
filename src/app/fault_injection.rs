//! One fault that a test injects into a running server, to see how the other parts react. Only in builds with debug
//! assertions.
//!
//! The variable `INJECTED_FAULT` names the part (`shard`, `feed`, `edge`, `simulator`, `supervisor`) and what it does
//! (`panic`, or `sleep` for a while). It happens once, when the first client has left.

use crate::edge::parts::Adopt;

/// The fault, if there is one.
#[derive(Clone, Default)]
pub(super) struct FaultInjection {
    #[cfg(debug_assertions)]
    fault: Option<std::sync::Arc<injected::InjectedFault>>,
}

impl FaultInjection {
    pub(super) fn find() -> FaultInjection {
        FaultInjection {
            #[cfg(debug_assertions)]
            fault: injected::InjectedFault::find().map(std::sync::Arc::new),
        }
    }

    /// Runs a part, with the fault in its thread.
    #[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "no part has a fault"))]
    pub(super) async fn run<T>(&self, part: &str, task: impl Future<Output = T>) -> T {
        #[cfg(debug_assertions)]
        if let Some(fault) = self.fault.as_ref().filter(|fault| fault.is_in(part)) {
            let mut task = std::pin::pin!(task);
            tokio::select! {
                ended = &mut task => return ended,
                () = fault.due() => fault.happen(),
            }
            return task.await;
        }
        task.await
    }

    /// The same call; each client that is handed over carries the trigger of the fault, for when it leaves its shard.
    pub(super) fn attach(&self, adopt: Adopt) -> Adopt {
        #[cfg(debug_assertions)]
        if let Some(fault) = self.fault.clone() {
            return std::sync::Arc::new(move |mut handoff| {
                if handoff.options.is_canary {
                    return adopt(handoff);
                }
                let permit = handoff.permit.take();
                handoff.permit = Some(Box::new(injected::DepartureTrigger { fault: fault.clone(), _permit: permit }));
                adopt(handoff);
            });
        }
        adopt
    }
}

#[cfg(debug_assertions)]
mod injected {
    use std::any::Any;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::sync::Notify;

    use crate::bus::signal::pulse::SILENCE_MAX;

    pub(super) struct InjectedFault {
        part: String,
        panics: bool,
        trigger: Notify,
        spent: AtomicBool,
    }

    /// Dropped by the shard when the client has left.
    pub(super) struct DepartureTrigger {
        pub fault: Arc<InjectedFault>,
        pub _permit: Option<Box<dyn Any + Send>>,
    }

    impl InjectedFault {
        pub(super) fn find() -> Option<InjectedFault> {
            let variable = std::env::var("INJECTED_FAULT").ok()?;
            let (part, fault) = variable.split_once(' ')?;
            let (trigger, spent) = (Notify::new(), AtomicBool::new(false));
            Some(InjectedFault { part: part.into(), panics: fault == "panic", trigger, spent })
        }

        pub(super) fn is_in(&self, part: &str) -> bool {
            self.part == part
        }

        pub(super) async fn due(&self) {
            self.trigger.notified().await;
        }

        pub(super) fn happen(&self) {
            assert!(!self.panics, "injected");
            std::thread::sleep(SILENCE_MAX + Duration::from_secs(3));
        }
    }

    impl Drop for DepartureTrigger {
        fn drop(&mut self) {
            if self.fault.spent.swap(true, Ordering::Relaxed) {
                return;
            }
            if self.fault.is_in("shard") {
                self.fault.happen();
            }
            self.fault.trigger.notify_one();
        }
    }
}
