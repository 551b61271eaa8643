//! Threads that stand for other machines, and share these cores.

use std::process::Command;

/// `nice`, where the scheduler's class cannot be changed.
const PRIORITY: i32 = 19;

/// Gives this thread the time that all others leave (SCHED_IDLE).
pub fn yield_to_the_server() {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let idle = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status();
    if !idle.is_ok_and(|status| status.success()) {
        rustix::process::setpriority_process(None, PRIORITY).expect("a lower priority is allowed");
    }
}
