//! Attacks by how a client reads: not at all, or everything again and again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::attack::Found;
use super::field::Field;
use super::line::{Line, PONG, RECEIVE_BYTES_MIN, SUBSCRIBED};

pub fn stalled(field: &Field) -> Found {
    const CLIENTS: usize = 1000;
    let open =
        |number: usize| Line::dial_with(field, number / 10, Some(RECEIVE_BYTES_MIN))?.upgraded("?topics=%3E", "");
    Found::standing(field.hold(CLIENTS, open, |_| Ok(())))
}

pub fn dashboards(field: &Field) -> Found {
    let (joins, cpu) = (AtomicU64::new(0), field.server.usage().cpu);
    field.repeat(10, |source| {
        let mut line = Line::join(field, source, "?topics=%3E")?;
        // Answered once everything has been sent.
        line.say(r#"{"op":"ping"}"#)?;
        line.hear_until(PONG)?;
        joins.fetch_add(u64::from(!field.is_over()), Ordering::Relaxed);
        Ok(())
    });
    let (joins, cpu) = (joins.into_inner(), field.server.usage().cpu.saturating_sub(cpu));
    let all = format!("{joins} joins, {:.1} s of CPU in all", cpu.as_secs_f64());
    Found::note(match joins {
        0 => all,
        _ => format!("{all}, {:.0} ms each", cpu.as_secs_f64() * 1e3 / joins as f64),
    })
}

/// Memory before and after SIGTERM is reported apart; the time is what the server takes to end.
pub fn drain_stalled(field: &Field) -> Found {
    const CLIENTS: usize = 60;
    const FRAME_BYTES: usize = 8 << 20;
    /// `drain.timeout` and some.
    const END_MAX: Duration = Duration::from_secs(15);
    let join = |number: usize| {
        let mut line = Line::dial_with(field, number / 10, Some(RECEIVE_BYTES_MIN))
            .and_then(|line| line.upgraded("?topics=large", ""))
            .ok()?;
        line.hear_until(SUBSCRIBED).ok()?;
        Some(line)
    };
    let lines: Vec<Line> = (0..CLIENTS).filter_map(join).collect();
    field.venue.say_large("large", FRAME_BYTES);
    // Each has its first part, and the frame is in the ring.
    field.rest(field.span() / 3);
    let resident_before = field.server.usage().resident_bytes;
    field.server.forget_peak();
    let begun = Instant::now();
    field.server.terminate();
    while !field.server.has_ended() && begun.elapsed() < END_MAX {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (stalled, took) = (lines.len(), begun.elapsed().as_secs_f64());
    drop(lines);
    let drained = field.server.peak_bytes().saturating_sub(resident_before) >> 20;
    let faults = if field.server.has_ended() { Vec::new() } else { vec!["SIGTERM is not obeyed".into()] };
    Found {
        note: format!("{stalled} stalled, +{drained} MiB after SIGTERM, ended in {took:.1} s"),
        faults,
        ..Found::default()
    }
}
