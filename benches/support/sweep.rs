//! The measurements behind the settings of the shared window: effort (level), and the number of members from which a
//! window pays.
//!
//! Levels are measured without sockets: recordings through the deflater, one thread's CPU per frame. Members
//! are measured with a shard and real sockets: CPU per frame of everything but the clients, so that everything a window
//! saves and costs is included, even in the kernel.

use std::time::Duration;

use bytes::Bytes;
use fanline::delivery::settings::WindowSettings;
use fanline::protocol::encoding::{Encoder, Encoding, Envelope, Format, Payload, PayloadKind};
use fanline::words::ids::Offset;
use shared_deflate::deflate::{Deflater, WINDOW_BITS_MAX};
use shared_deflate::frame::{Opcode, put_deflated};

use crate::support::thread_cpu;
use crate::{KEEPS, Plan, STATELESS, WINDOW, payloads, run};

const FEEDS: [&str; 2] = ["coinbase-exchange", "binance-spot"];
const MEMBERS: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Messages per second to the members: enough to be measured, few enough for a write per delivery.
const RATE: u32 = 1000;
/// CPU of one figure of level.
const EFFORT: Duration = Duration::from_millis(500);

/// Per frame.
struct Cost {
    /// WebSocket header included.
    bytes: f64,
    cpu_us: f64,
}

/// `span` is the time of one run with sockets.
pub fn sweep(span: Duration) {
    for feed in FEEDS {
        let Some(payloads) = payloads(feed) else {
            println!("{feed}: SKIPPED: no recording in ../shared/feeds");
            continue;
        };
        let payload = payloads.iter().map(|payload| payload.len() as f64).sum::<f64>() / payloads.len() as f64;
        println!("{feed}: {} messages of {payload:.0} bytes", payloads.len());
        levels(&payloads, payload);
        members(&payloads, span);
    }
}

fn levels(payloads: &[Bytes], payload: f64) {
    println!("  {:<10}{:>17}{:>9}{:>17}{:>9}", "level", "stateless ratio", "CPU us", "window ratio", "CPU us");
    for level in 1..=9 {
        let (alone, kept) = (stateless(payloads, level), window(payloads, level));
        println!(
            "  {level:<10}{:>17.2}{:>9.2}{:>17.2}{:>9.2}",
            payload / alone.bytes,
            alone.cpu_us,
            payload / kept.bytes,
            kept.cpu_us
        );
    }
}

fn members(payloads: &[Bytes], span: Duration) {
    println!(
        "  {:<10}{:>17}{:>11}{:>9}{:>17}{:>11}  per frame, all members together",
        "members", "stateless CPU us", "window", "ratio", "stateless bytes", "window"
    );
    for members in MEMBERS {
        let plan = Plan { clients: members, rate: RATE, window: WindowSettings { members_min: 1, ..WINDOW } };
        let per_frame = |agreement| {
            let (outcome, _) = run(payloads, plan, span, Some(agreement));
            let frames = outcome.deliveries / members as f64;
            (outcome.cpu.as_secs_f64() * 1e6 / frames, outcome.bytes / frames)
        };
        let (alone, kept) = (per_frame(STATELESS), per_frame(KEEPS));
        println!(
            "  {members:<10}{:>17.2}{:>11.2}{:>9.2}{:>17.0}{:>11.0}",
            alone.0,
            kept.0,
            kept.0 / alone.0,
            alone.1,
            kept.1
        );
    }
}

/// Each frame by itself, as all sessions without a window share it.
fn stateless(payloads: &[Bytes], level: u32) -> Cost {
    let mut encoder = Encoder::new(level);
    let payloads: Vec<Payload> =
        payloads.iter().map(|bytes| Payload { bytes: bytes.clone(), kind: PayloadKind::Json }).collect();
    repeat(&payloads, |payload| {
        let envelope = Envelope { topic: "topic", offset: Offset(1), ts_ms: 0, kind: None, payload };
        encoder.encode(Encoding::websocket(Format::Raw, true), &envelope).bytes.len()
    })
}

/// One window for all.
fn window(payloads: &[Bytes], level: u32) -> Cost {
    let mut deflater = Deflater::new(level, WINDOW_BITS_MAX);
    repeat(payloads, |payload| {
        let mut out = Vec::new();
        put_deflated(&mut out, Opcode::Text, payload, &mut deflater);
        out.len()
    })
}

/// Goes through the recording as often as the effort lasts, at least once; `encode` gives the bytes of one frame.
fn repeat<T>(payloads: &[T], mut encode: impl FnMut(&T) -> usize) -> Cost {
    let started = thread_cpu();
    let (mut frames, mut bytes) = (0, 0);
    while thread_cpu() - started < EFFORT {
        bytes += payloads.iter().map(&mut encode).sum::<usize>();
        frames += payloads.len();
    }
    Cost { bytes: bytes as f64 / frames as f64, cpu_us: (thread_cpu() - started).as_secs_f64() * 1e6 / frames as f64 }
}
