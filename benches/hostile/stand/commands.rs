//! Attacks by commands and messages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::attack::Found;
use super::field::Field;
use super::line::{Line, PONG, deflated_frame, masked, text_frame};

const SECOND: Duration = Duration::from_secs(1);
/// Of `limits.message_bytes_max`, 64 KiB.
const LONG: usize = 65_000;

pub fn did_you_mean(field: &Field) -> Found {
    let long = "subscribe".repeat(LONG / 9);
    let op = deflated_frame(format!(r#"{{"op":"{long}"}}"#).as_bytes());
    let member = deflated_frame(format!(r#"{{"op":"subscribe","{long}":1}}"#).as_bytes());
    let burst: Vec<u8> = (0..50).flat_map(|_| [&op[..], &member]).flatten().copied().collect();
    field.repeat(2, |source| {
        let mut line = Line::join_deflated(field, source)?;
        while !field.is_over() {
            let begun = Instant::now();
            line.write(&burst)?;
            while begun.elapsed() < SECOND && !field.is_over() {
                line.hear(PONG)?;
            }
        }
        Ok(())
    });
    Found::note(format!("{} bytes a command", op.len()))
}

/// It is read at the limit, not at a half of it.
pub fn one_by_one(field: &Field) -> Found {
    /// `limits.messages_per_second_max` is 100.
    const RATE_MIN: f64 = 90.0;
    let answered = AtomicU64::new(0);
    field.repeat(1, |_| {
        let mut line = Line::join(field, 0, "")?;
        while !field.is_over() {
            line.say(r#"{"op":"ping"}"#)?;
            line.hear_until(PONG)?;
            answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    let rate = answered.into_inner() as f64 / field.span().as_secs_f64();
    let delays =
        (rate < RATE_MIN).then(|| format!("{rate:.0} commands a second are read of 100")).into_iter().collect();
    Found { note: format!("{rate:.0} answers a second"), delays, ..Found::default() }
}

pub fn half_messages(field: &Field) -> Found {
    const CONNECTIONS: usize = 5_000;
    const MESSAGE: usize = 60 << 10;
    let mut half = text_frame(&"x".repeat(MESSAGE));
    half.truncate(half.len() - 1024);
    let open = |number: usize| {
        let mut line = Line::join(field, number / 100, "")?;
        line.write(&half)?;
        Ok(line)
    };
    Found::standing(field.hold(CONNECTIONS, open, |line| line.write(b"x")))
}

pub fn ping_flood(field: &Field) -> Found {
    let pings: Vec<u8> = (0..500).flat_map(|_| masked(vec![0x89, 4, 1, 2, 3, 4])).collect();
    field.repeat(10, |source| {
        let mut line = Line::join(field, source, "")?;
        line.socket.set_read_timeout(Some(Duration::from_millis(5)))?;
        while !field.is_over() {
            line.write(&pings)?;
            line.hear(PONG)?;
        }
        Ok(())
    });
    Found::default()
}

pub fn bombs(field: &Field) -> Found {
    let large = deflated_frame(&vec![0; 1 << 20]);
    let within: Vec<u8> = (0..100).flat_map(|_| deflated_frame(&vec![0; 60 << 10])).collect();
    field.repeat(8, |source| {
        let mut line = Line::join_deflated(field, source)?;
        if source % 2 == 0 {
            line.write(&large)?;
            return line.hear_out().map(drop);
        }
        while !field.is_over() {
            line.write(&within)?;
            line.hear(PONG)?;
            field.rest(SECOND / 10);
        }
        Ok(())
    });
    Found::note(format!("{} bytes for a MiB", large.len()))
}

pub fn garbage(field: &Field) -> Found {
    let not_utf8 = masked([&[0x81, 4][..], &[0xC3, 0x28, 0xFF, 0xFE]].concat());
    let reserved = masked(vec![0xF1, 1, b'x']);
    let unmasked = vec![0x81, 1, b'x'];
    // Not random, so that every run sends the same: x^2 mod 65,521.
    let noise: Vec<u8> = (1u64..4096).map(|x| (x * x % 65_521) as u8).collect();
    let lone_continuation = masked(vec![0x80, 1, b'x']);
    let long_ping = masked([&[0x89, 126, 0, 200][..], &[0; 200]].concat());
    let kinds = [not_utf8, reserved, unmasked, noise, lone_continuation, long_ping];
    let next = AtomicU64::new(0);
    field.repeat(8, |source| {
        let kind = next.fetch_add(1, Ordering::Relaxed) as usize % kinds.len();
        let mut line = Line::join(field, source, "")?;
        line.write(&kinds[kind])?;
        line.hear_out().map(drop)
    });
    Found::note(format!("{} connections", next.into_inner()))
}

pub fn oversized(field: &Field) -> Found {
    let whole = text_frame(&"x".repeat((64 << 10) + 1));
    let mut claimed = vec![0x81, 0xFF];
    claimed.extend_from_slice(&(1u64 << 40).to_be_bytes());
    claimed.extend_from_slice(&[0; 1024]);
    let connections = AtomicU64::new(0);
    field.repeat(8, |source| {
        let kind = connections.fetch_add(1, Ordering::Relaxed) % 2;
        let mut line = Line::join(field, source, "")?;
        line.write(if kind == 0 { &whole } else { &claimed })?;
        line.hear_out().map(drop)
    });
    Found::note(format!("{} connections", connections.into_inner()))
}
