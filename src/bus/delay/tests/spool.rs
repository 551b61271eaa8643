use std::io;
use std::sync::Mutex;
use std::thread;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::*;
use crate::bus::delay::spool::directory::SpoolDirectory;
use crate::bus::delay::spool::segment::{SpoolFile, SpoolFiles};

const TOPICS: usize = 5;
/// Of snapshots and deltas.
const BOOK: &str = "t.4";
/// More than a record of the largest payload, with what a frame takes in memory.
const FRAME_BYTES: usize = 2_000;

/// A disk in memory, with the faults that the test wants.
#[derive(Clone, Default)]
struct FaultyFiles(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    write_fails: bool,
    read_fails: bool,
    /// One bit of what is read is another, of so many reads one.
    flips_one_of: Option<u32>,
    rng: Option<StdRng>,
    /// In all files, now and in all.
    bytes: usize,
    bytes_max: usize,
    written: usize,
    failed_writes: usize,
    failed_reads: usize,
    flips: usize,
}

struct FaultyFile {
    disk: FaultyFiles,
    bytes: Mutex<Vec<u8>>,
}

impl FaultyFiles {
    fn change<T>(&self, change: impl FnOnce(&mut Disk) -> T) -> T {
        change(&mut self.0.lock().expect("no test panics with it"))
    }

    fn terms(&self, bytes_max: u64) -> SpoolTerms {
        SpoolTerms { files: Arc::new(self.clone()), bytes_max }
    }
}

impl SpoolFiles for FaultyFiles {
    fn create(&self) -> io::Result<Box<dyn SpoolFile>> {
        Ok(Box::new(FaultyFile { disk: self.clone(), bytes: Mutex::default() }))
    }
}

impl SpoolFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut file = self.bytes.lock().expect("no test panics with it");
        self.disk.change(|disk| {
            // A disk that is full takes a part.
            let taken = if disk.write_fails { bytes.len() / 2 } else { bytes.len() };
            let (at, before) = (at as usize, file.len());
            let end = before.max(at + taken);
            file.resize(end, 0);
            file[at..at + taken].copy_from_slice(&bytes[..taken]);
            disk.bytes += file.len() - before;
            disk.bytes_max = disk.bytes_max.max(disk.bytes);
            disk.written += taken;
            disk.failed_writes += usize::from(disk.write_fails);
            if disk.write_fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let file = self.bytes.lock().expect("no test panics with it");
        let at = at as usize;
        bytes.copy_from_slice(&file[at..at + bytes.len()]);
        self.disk.change(|disk| {
            let rng = disk.rng.get_or_insert_with(|| StdRng::seed_from_u64(7));
            if disk.flips_one_of.is_some_and(|one_of| rng.random_ratio(1, one_of)) {
                let bit = rng.random_range(0..bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                disk.flips += 1;
            }
            disk.failed_reads += usize::from(disk.read_fails);
            if disk.read_fails { Err(io::Error::other("a fault of the disk")) } else { Ok(()) }
        })
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        let bytes = self.bytes.lock().map_or(0, |bytes| bytes.len());
        self.disk.change(|disk| disk.bytes -= bytes);
    }
}

fn readable_meters() -> (Meters, PrometheusHandle) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    (Meters::new(Arc::new(recorder)), handle)
}

/// The sum of all series that begin like this.
fn sum(exposition: &PrometheusHandle, series: &str) -> u64 {
    let text = exposition.render();
    let values = text.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<f64>().expect("a number") as u64).sum()
}

/// What was published, and what a client of the view makes of what it is sent.
struct Model {
    texts: Vec<String>,
    /// The message of the book before each of its messages.
    before: BTreeMap<Offset, Offset>,
    newest_of_book: Offset,
    /// Since the last snapshot of the book; fewer than a topic keeps.
    deltas: usize,
}

impl Model {
    fn new() -> Model {
        Model { texts: vec![String::new()], before: BTreeMap::new(), newest_of_book: Offset::START, deltas: 0 }
    }

    fn publish(&mut self, scene: &mut Scene, rng: &mut StdRng) {
        let topic = format!("t.{}", rng.random_range(0..TOPICS));
        let padding = if rng.random_bool(0.1) { rng.random_range(0..1_500) } else { rng.random_range(0..500) };
        let text = format!("{} {}", scene.live.head().0 + 1, "x".repeat(padding));
        let retention = match &*topic {
            BOOK if self.deltas == 10 || rng.random_bool(0.1) => Retention::Snapshot,
            BOOK => Retention::Delta { whole: None },
            _ if rng.random_bool(0.5) => Retention::NEWEST,
            _ => Retention::Value { keep: 3 },
        };
        let is_delta = matches!(retention, Retention::Delta { .. });
        let offset = scene.publish_text(&topic, text.clone(), retention);
        if topic == BOOK {
            self.deltas = if is_delta { self.deltas + 1 } else { 0 };
            self.before.insert(offset, self.newest_of_book);
            self.newest_of_book = offset;
        }
        self.texts.push(text);
    }

    /// Each message has come out as it was, in its place and not early, or the client was told that it is missing.
    /// Returns how many have come, how many have a gap in their place, and how many were skipped.
    fn check(&self, scene: &Scene, seed: u64) -> (u64, u64, u64) {
        let (mut delivered, mut gaps, mut skipped) = (0, 0, 0);
        let mut leaps = scene.leaps.iter().peekable();
        let (mut last, mut book) = (Offset::START, BookClient::default());
        let mut out = scene.out.iter().peekable();
        while out.peek().is_some() || leaps.peek().is_some() {
            if let Some(leap) = leaps.next_if(|leap| leap.after == last) {
                skipped += leap.until.0 - leap.after.0;
                last = leap.until;
                for frame in leap.retained.iter().filter(|frame| &*frame.topic.name == BOOK) {
                    book.take(frame, &self.before, seed);
                }
                continue;
            }
            let (frame, at_ns) = out.next().expect("a leap begins where a frame ends");
            assert_eq!(frame.offset, last.next(), "seed {seed}: nothing is missing untold");
            last = frame.offset;
            if &*frame.topic.name == BOOK {
                book.take(frame, &self.before, seed);
            }
            if frame.is_status() {
                gaps += 1;
                assert!(text(frame).contains(r#""reason":"conflated""#), "seed {seed}: {}", text(frame));
                continue;
            }
            delivered += 1;
            assert_eq!(text(frame), self.texts[last.0 as usize], "seed {seed}: byte for byte");
            let age_ns = at_ns - scene.received[last.0 as usize];
            assert!(age_ns >= DELAY.as_nanos() as u64, "seed {seed}: {last} after {age_ns} ns");
        }
        assert_eq!(last, scene.live.head(), "seed {seed}: all of it");
        (delivered, gaps, skipped)
    }
}

/// A client that applies deltas to the message before them, and to no other.
#[derive(Default)]
struct BookClient {
    /// None after a gap, and before the first snapshot.
    has: Option<Offset>,
}

impl BookClient {
    fn take(&mut self, frame: &Frame, before: &BTreeMap<Offset, Offset>, seed: u64) {
        match &frame.kind {
            FrameKind::Status(_) => self.has = None,
            FrameKind::Snapshot => self.has = Some(frame.offset),
            _ => {
                if let Some(has) = self.has {
                    assert_eq!(has, before[&frame.offset], "seed {seed}: a delta is applied to the message before it");
                    self.has = Some(frame.offset);
                }
            }
        }
    }
}

fn work(scene: &mut Scene) {
    while scene.workers.iter_mut().filter_map(|worker| worker.step().then_some(())).count() > 0 {}
}

/// Turns until everything has come out.
fn finish(scene: &mut Scene) {
    for _ in 0..5_000 {
        if scene.view.head() == scene.live.head() {
            return;
        }
        work(scene);
        scene.pass(500);
        scene.turn();
    }
    panic!("expected the view at {}, found it at {}", scene.live.head(), scene.view.head());
}

#[test]
fn messages_that_wait_on_disk_come_out_once_in_order_and_never_early() {
    let mut through_disk = 0;
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (files, (meters, exposition)) = (FaultyFiles::default(), readable_meters());
        let bytes_max = rng.random_range(300_000..800_000);
        let spool = Some(files.terms(1 << 30));
        let mut scene = Scene::open_with(uniform(), 1 << 16, bytes_max, (spool, &meters));
        let mut model = Model::new();
        let burst = rng.random_range(10..60);
        for _ in 0..400 {
            (0..rng.random_range(0..burst)).for_each(|_| model.publish(&mut scene, &mut rng));
            scene.pass(rng.random_range(0..50));
            scene.turn();
            work(&mut scene);
            scene.check_retained();
            assert!(scene.line.held_bytes() <= bytes_max, "seed {seed}: {} bytes", scene.line.held_bytes());
        }
        finish(&mut scene);
        let published = scene.live.head().0;
        assert_eq!(model.check(&scene, seed), (published, 0, 0), "seed {seed}");
        assert_eq!(sum(&exposition, "fanline_view_spool_failures_total"), 0, "seed {seed}");
        assert_eq!(scene.view.epoch(), scene.live.epoch());
        drop(scene);
        through_disk += files.change(|disk| disk.written);
        assert_eq!(files.change(|disk| disk.bytes), 0, "seed {seed}: no file is left");
    }
    assert!(through_disk > 5_000_000, "{through_disk}");
}

#[test]
fn whatever_the_disk_does_a_message_comes_out_or_is_told_to_be_missing() {
    let mut totals = BTreeMap::new();
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (files, (meters, exposition)) = (FaultyFiles::default(), readable_meters());
        let bytes_max = rng.random_range(200_000..600_000);
        let spool_bytes_max = if rng.random_bool(0.3) { rng.random_range(100_000..300_000) } else { 1 << 30 };
        let spool = Some(files.terms(spool_bytes_max));
        let mut scene = Scene::open_with(uniform(), 1 << 16, bytes_max, (spool, &meters));
        let (mut model, mut is_stalled) = (Model::new(), false);
        let burst = rng.random_range(10..60);
        for round in 0..400 {
            if round % 40 == 0 {
                is_stalled = rng.random_bool(0.2);
                files.change(|disk| {
                    disk.write_fails = rng.random_bool(0.2);
                    disk.read_fails = rng.random_bool(0.2);
                    disk.flips_one_of = rng.random_bool(0.3).then_some(3);
                });
            }
            (0..rng.random_range(0..burst)).for_each(|_| model.publish(&mut scene, &mut rng));
            scene.pass(rng.random_range(0..150));
            scene.turn();
            if !is_stalled {
                let jobs = rng.random_range(0..6);
                (0..jobs).for_each(|_| {
                    scene.workers[0].step();
                });
            }
            scene.check_retained();
            // Slices are bounded by the topics.
            let slack = TOPICS * 4 * FRAME_BYTES;
            assert!(scene.line.held_bytes() <= bytes_max + slack, "seed {seed}: {} bytes", scene.line.held_bytes());
        }
        files.change(|disk| (disk.write_fails, disk.read_fails, disk.flips_one_of) = (false, false, None));
        finish(&mut scene);
        let (delivered, gaps, skipped) = model.check(&scene, seed);
        assert_eq!(delivered + gaps + skipped, scene.live.head().0, "seed {seed}");
        let told = ["fanline_view_conflated_total", "fanline_view_lost_total"].map(|name| sum(&exposition, name));
        assert!(gaps <= told[1], "seed {seed}: a gap in place of each frame that is lost");
        assert_eq!(gaps + skipped > 0, told.iter().sum::<u64>() > 0, "seed {seed}: counted as it is told");
        let disk_bytes_max = files.change(|disk| disk.bytes_max) as u64;
        // A write that fails may leave bytes that the next one overwrites.
        assert!(disk_bytes_max <= spool_bytes_max + 65_536, "seed {seed}: {disk_bytes_max} bytes on disk");
        for reason in ["full", "slow", "write", "read", "damaged"] {
            let series = format!("fanline_view_spool_failures_total{{view=\"1\",reason=\"{reason}\"");
            *totals.entry(reason).or_insert(0) += sum(&exposition, &series);
        }
        *totals.entry("gap").or_insert(0) += gaps;

        // Once everything is new, the view has what the live log has.
        for topic in (0..TOPICS).map(|number| format!("t.{number}")) {
            let retention = if topic == BOOK { Retention::Snapshot } else { Retention::NEWEST };
            scene.publish(&topic, retention);
        }
        finish(&mut scene);
        let newest = |reader: &Reader| {
            let mut newest = BTreeMap::new();
            reader.each_latest(|current| {
                let frame = current.retained.newest();
                newest.insert(frame.topic.name.to_string(), (frame.offset, text(frame)));
            });
            newest
        };
        assert_eq!(newest(&scene.view), newest(&scene.live), "seed {seed}");
    }
    assert!(totals.values().all(|total| *total > 10), "each fault has happened: {totals:?}");
}

#[test]
fn a_view_of_several_delays_has_a_spool_for_each() {
    let rules = [granted("open.>", Duration::ZERO), granted("slow.>", 2 * DELAY), granted("a.*", DELAY)];
    let delay = ViewDelay::ByTopic(rules.into());
    for seed in 0..5 {
        let mut rng = StdRng::seed_from_u64(seed);
        let files = FaultyFiles::default();
        let spool = Some(files.terms(1 << 30));
        let mut scene = Scene::open_with(delay.clone(), 1 << 16, 400_000, (spool, &Meters::unread()));
        assert_eq!(scene.workers.len(), 2, "nothing waits where there is no delay");
        for _ in 0..3000 {
            let topic = ["open.x", "slow.x", "slow.y", "a.x"][rng.random_range(0..4)];
            let text = format!("{} {}", scene.live.head().0 + 1, "x".repeat(800));
            scene.publish_text(topic, text, Retention::NEWEST);
            scene.pass(rng.random_range(0..10));
            scene.turn();
            work(&mut scene);
            assert!(scene.line.held_bytes() <= 400_000, "seed {seed}");
        }
        finish(&mut scene);
        assert!(files.change(|disk| disk.written) > 50_000, "seed {seed}: through the disk");
        assert_eq!((scene.out.len(), scene.leaps.len()), (3000, 0), "seed {seed}");
        for (offset, (frame, at_ns)) in (1..).zip(&scene.out) {
            let text = text(frame);
            let original: usize = text.split(' ').next().and_then(|it| it.parse().ok()).expect("the live offset");
            let least = delay.of_topic(&frame.topic.name).expect("it is in the view");
            let age = Duration::from_nanos(at_ns - scene.received[original]);
            assert!(frame.offset == Offset(offset) && age >= least, "{}: {age:?}", frame.topic.name);
        }
    }
}

#[test]
fn a_topic_is_forgotten_in_the_view_behind_what_waits_on_disk_of_it() {
    let files = FaultyFiles::default();
    let mut scene = Scene::open_with(uniform(), 8, 300_000, (Some(files.terms(1 << 30)), &Meters::unread()));
    for _ in 0..1000 {
        scene.publish_text("once", "x".repeat(500), Retention::NEWEST);
        scene.turn();
        work(&mut scene);
    }
    assert!(files.change(|disk| disk.written) > 20_000);
    scene.pass(2000);
    for _ in 0..8 {
        scene.publish("often", Retention::NEWEST);
    }
    scene.turn();
    assert_eq!(scene.publisher.expire(Duration::from_secs(1), scene.now).forgotten.len(), 1);
    finish(&mut scene);
    assert!(!scene.view.knows("once") && scene.view.knows("often"));
    assert_eq!((scene.out.len() as u64, scene.leaps.len()), (scene.live.head().0, 0));
}

#[test]
fn a_real_directory_and_a_thread_of_its_own_return_what_was_written() {
    let folder = std::env::temp_dir().join(format!("fanline-spool-line-{}", std::process::id()));
    let files = Arc::new(SpoolDirectory::open(&folder).expect("a directory"));
    let spool = Some(SpoolTerms { files, bytes_max: 64 << 20 });
    let (meters, exposition) = readable_meters();
    let mut scene = Scene::open_with(uniform(), 1 << 16, 1 << 20, (spool, &meters));
    let threads: Vec<_> = scene.workers.drain(..).map(|worker| thread::spawn(move || worker.run())).collect();
    let (mut model, mut rng) = (Model::new(), StdRng::seed_from_u64(1));
    let mut on_disk = 0;
    while scene.live.head() < Offset(20_000) {
        model.publish(&mut scene, &mut rng);
        if scene.live.head().0.is_multiple_of(100) {
            scene.turn();
            // The thread needs real time for what takes none here.
            thread::sleep(Duration::from_millis(2));
            on_disk = on_disk.max(sum(&exposition, "fanline_view_spool_bytes"));
        }
    }
    assert!(on_disk > 0, "the disk has taken nothing");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while scene.view.head() < scene.live.head() {
        assert!(std::time::Instant::now() < deadline, "expected the view at {}", scene.live.head());
        scene.pass(500);
        scene.turn();
        thread::sleep(Duration::from_millis(1));
    }
    let (delivered, gaps, skipped) = model.check(&scene, 1);
    let refused = sum(&exposition, "fanline_view_conflated_total");
    assert_eq!((delivered + skipped, gaps), (scene.live.head().0, 0));
    assert!(skipped == 0 || refused > 0, "{skipped} skipped");
    drop(scene);
    threads.into_iter().for_each(|thread| thread.join().expect("it ends with the line").expect("it never fails"));
    std::fs::remove_dir_all(&folder).expect("it is ours");
}
