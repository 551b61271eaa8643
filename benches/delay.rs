//! What a delayed view costs, with all messages in memory and with most of them on disk: the publisher, the thread of
//! the line, and memory.
//!
//! `cargo bench --bench delay -- [RATE] [BYTES] [DELAY_S] [DIRECTORY]`, by default 5000 messages a second of 200 bytes,
//! 60 s and the target directory. Time passes as fast as messages are published: three delays' worth of them. Each case
//! runs in a process of its own, so that its memory is its own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanline::access::rights::ViewDelay;
use fanline::bus::clock::thread_cpu;
use fanline::bus::delay::line::{DelayLine, LineParts, OpenLine};
use fanline::bus::delay::spool::directory::SpoolDirectory;
use fanline::bus::delay::spool::worker::SpoolTerms;
use fanline::bus::history::History;
use fanline::bus::retention::Retention;
use fanline::bus::{self, Limits};
use fanline::protocol::encoding::{Payload, PayloadKind};
use fanline::words::ids::{Epoch, Offset};
use fanline::words::metrics::Meters;
use fanline::words::stamp::Stamp;

const TOPICS: usize = 500;
/// Messages between two looks at how far the line is.
const BATCH: u64 = 256;
/// Messages that the line may be behind: less than the ring holds.
const BEHIND_MAX: u64 = 16_384;
/// Memory for the view where most of its messages are on disk, and where all are in memory.
const SPOOLED_BYTES_MAX: usize = 16 << 20;
const DIRECT_BYTES_MAX: usize = 8 << 30;
/// Pauses where the line waits for news, as in the server.
const TURN_INTERVAL: Duration = Duration::from_millis(2);

/// The load, and the directory of the spool.
struct Load {
    rate: u64,
    bytes: usize,
    delay: Duration,
    directory: String,
}

/// What one case took, by message in nanoseconds, and in bytes.
struct Cost {
    publisher_ns: f64,
    line_ns: f64,
    worker_ns: f64,
    resident_bytes: f64,
    disk_bytes: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let argument = |at: usize, default: &str| arguments.get(at).cloned().unwrap_or(default.into());
    let number = |at: usize, default: &str| argument(at, default).parse::<u64>().expect("a number");
    let directory = argument(3, concat!(env!("CARGO_TARGET_TMPDIR"), "/delay"));
    let load = Load {
        rate: number(0, "5000"),
        bytes: number(1, "200") as usize,
        delay: Duration::from_secs(number(2, "60")),
        directory,
    };
    if let Some(case) = arguments.get(4) {
        let cost = measure(case, &load);
        let Cost { publisher_ns, line_ns, worker_ns, resident_bytes, disk_bytes } = cost;
        println!("{publisher_ns} {line_ns} {worker_ns} {resident_bytes} {disk_bytes}");
        return;
    }
    let (rate, bytes, delay_s) = (load.rate, load.bytes, load.delay.as_secs());
    println!("{rate} messages a second of {bytes} bytes, {delay_s} s late: {} wait\n", rate * delay_s);
    println!("{:<38}{:>12}{:>12}{:>12}{:>8}", "", "no view", "memory", "disk", "ratio");
    let [none, memory, disk] = ["none", "memory", "disk"].map(|case| in_a_process_of_its_own(case, &load));
    let row = |name: &str, of: fn(&Cost) -> f64| {
        let ratio = of(&disk) / of(&memory);
        println!("{name:<38}{:>12.0}{:>12.0}{:>12.0}{ratio:>8.2}", of(&none), of(&memory), of(&disk));
    };
    row("publisher, ns a message", |cost| cost.publisher_ns);
    row("thread of the line, CPU ns a message", |cost| cost.line_ns);
    row("thread of the disk, CPU ns a message", |cost| cost.worker_ns);
    row("memory of the process, KiB", |cost| cost.resident_bytes / 1024.0);
    row("files, KiB", |cost| cost.disk_bytes / 1024.0);
}

fn in_a_process_of_its_own(case: &str, load: &Load) -> Cost {
    let program = std::env::current_exe().expect("a program");
    let numbers = [load.rate.to_string(), load.bytes.to_string(), load.delay.as_secs().to_string()];
    let output = Command::new(program).args(&numbers).args([&load.directory, case]).output().expect("it runs");
    assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<f64> = told.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    let [publisher_ns, line_ns, worker_ns, resident_bytes, disk_bytes] = numbers[..] else { panic!("{told}") };
    Cost { publisher_ns, line_ns, worker_ns, resident_bytes, disk_bytes }
}

fn measure(case: &str, load: &Load) -> Cost {
    let limits = Limits { ring_frames_max: 1 << 16, ring_bytes_max: 1 << 30, topics_max: TOPICS };
    let (mut publisher, live) = bus::open(Epoch(1), limits, &Meters::unread());
    let spool = (case == "disk").then(|| {
        let files = SpoolDirectory::open(Path::new(&load.directory)).expect("a directory that nobody uses");
        SpoolTerms { files: Arc::new(files), bytes_max: 64 << 30 }
    });
    let bytes_max = if spool.is_some() { SPOOLED_BYTES_MAX } else { DIRECT_BYTES_MAX };
    let parts = LineParts {
        view: 1,
        delay: ViewDelay::Uniform(load.delay),
        live: live.clone(),
        epoch: Epoch(2),
        limits: Limits { ring_frames_max: 1 << 12, ..limits },
        history: History::default(),
        bytes_max,
        spool,
    };
    let (now_ns, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut threads = Vec::new();
    let mut view = None;
    if case != "none" {
        let OpenLine { mut line, reader, workers } = DelayLine::open(parts, &Meters::unread(), Stamp::default());
        view = Some(reader);
        for worker in workers {
            threads.push(thread::spawn(move || {
                worker.run().expect("it never fails");
                thread_cpu()
            }));
        }
        let (now_ns, is_over) = (now_ns.clone(), is_over.clone());
        threads.push(thread::spawn(move || {
            while !is_over.load(Ordering::Acquire) {
                let now = Stamp { wall_ms: 0, mono_ns: now_ns.load(Ordering::Acquire) };
                if line.turn(now) != Some(Duration::ZERO) {
                    thread::sleep(TURN_INTERVAL);
                }
            }
            thread_cpu()
        }));
    }

    let topics: Vec<String> = (0..TOPICS).map(|number| format!("quote.{number}")).collect();
    let waiting = load.rate * load.delay.as_secs();
    let messages = 3 * waiting;
    let (mut published, mut spent, mut disk_bytes) = (0, Duration::ZERO, 0.0_f64);
    while published < messages {
        let mono_ns = published * 1_000_000_000 / load.rate;
        let begun = Instant::now();
        for number in published..published + BATCH {
            let payload = Payload { bytes: Bytes::from(vec![b'x'; load.bytes]), kind: PayloadKind::Text };
            let topic = &topics[number as usize % TOPICS];
            let received = Stamp { wall_ms: 0, mono_ns };
            publisher.publish(topic, payload, Retention::NEWEST, received).expect("a good topic");
        }
        spent += begun.elapsed();
        published += BATCH;
        now_ns.store(mono_ns, Ordering::Release);
        // As far as the delay lets the view be.
        let due = Offset(published.saturating_sub(waiting + BEHIND_MAX));
        while view.as_ref().is_some_and(|view| view.head() < due) {
            thread::yield_now();
        }
        if published % (64 * BATCH) == 0 {
            disk_bytes = disk_bytes.max(open_files_bytes());
        }
    }
    let resident_bytes = resident_bytes();
    is_over.store(true, Ordering::Release);
    let cpu: Vec<Duration> = threads.into_iter().rev().map(|thread| thread.join().expect("no panic")).collect();
    let by_message = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_nanos() as f64 / messages as f64);
    Cost {
        publisher_ns: by_message(Some(&spent)),
        line_ns: by_message(cpu.first()),
        worker_ns: by_message(cpu.get(1)),
        resident_bytes,
        disk_bytes,
    }
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line about memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).expect("a number") * 1024.0
}

/// Bytes of the files that this process has open and nobody else sees.
fn open_files_bytes() -> f64 {
    let entries = std::fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    let files = entries
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|path| path.to_string_lossy().contains(".segment")));
    files.filter_map(|entry| std::fs::metadata(entry.path()).ok()).map(|file| file.len() as f64).sum()
}
