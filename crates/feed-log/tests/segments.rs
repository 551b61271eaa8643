//! Segments on a disk that breaks: what is read after a crash is a prefix of what was written, with all that was synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use feed_log::chain::Chain;
use feed_log::entry::header::EntryHeader;
use feed_log::entry::item::LoggedItem;
use feed_log::entry::{Deflate, EntryBody, EntryPlace, PartCount};
use feed_log::segments::disk::{LogDisk, LogFile};
use feed_log::segments::{NewestEntry, SegmentLimits, Segments};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const LIMITS: SegmentLimits = SegmentLimits { segment_bytes: 1500, bytes_max: u64::MAX, age_max_ms: u64::MAX };

#[derive(Clone, Default)]
struct SimFile {
    bytes: Vec<u8>,
    /// What a power loss leaves, at least.
    synced: Vec<u8>,
    /// Its name survives a power loss.
    named: bool,
}

#[derive(Default)]
struct SimState {
    files: BTreeMap<String, SimFile>,
    /// Removed, but not for certain yet.
    removed: BTreeMap<String, SimFile>,
    /// Bytes that may still be written before the process is killed.
    until_kill: Option<usize>,
    /// Bytes that the disk has room for.
    room: Option<usize>,
    is_dead: bool,
}

#[derive(Clone, Default)]
struct SimDisk(Arc<Mutex<SimState>>);

struct OpenSimFile(SimDisk, String);

impl SimDisk {
    fn with<T>(&self, act: impl FnOnce(&mut SimState) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().expect("no panic");
        if state.is_dead {
            return Err(io::Error::other("killed"));
        }
        act(&mut state)
    }

    /// The process starts again; after a power loss with whatever the disk has of what was not synced.
    fn restart(&self, power_loss: bool, rng: &mut StdRng) {
        let mut state = self.0.lock().expect("no panic");
        (state.is_dead, state.until_kill, state.room) = (false, None, None);
        if power_loss {
            let removed = std::mem::take(&mut state.removed);
            state.files.extend(removed.into_iter().filter(|_| rng.random()));
            state.files.retain(|_, file| file.named || rng.random());
            for file in state.files.values_mut() {
                let kept = rng.random_range(file.synced.len().min(file.bytes.len())..=file.bytes.len());
                let length = rng.random_range(kept..=file.bytes.len());
                file.bytes.truncate(length);
                // Pages come to the disk in any order.
                file.bytes[kept..].fill_with(|| rng.random());
            }
        }
        state.removed.clear();
    }
}

impl LogDisk for SimDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        self.with(|state| Ok(state.files.keys().cloned().chain(["reserved".into(), "1.log".into()]).collect()))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.with(|state| {
            assert!(state.files.insert(name.into(), SimFile::default()).is_none(), "`{name}` was there");
            Ok(())
        })?;
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        self.with(|state| state.files.get(name).map(drop).ok_or(io::ErrorKind::NotFound.into()))?;
        Ok(Arc::new(OpenSimFile(self.clone(), name.into())))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with(|state| {
            let file = state.files.remove(name).ok_or(io::Error::from(io::ErrorKind::NotFound))?;
            if file.named {
                state.removed.insert(name.into(), file);
            }
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state| {
            state.removed.clear();
            state.files.values_mut().for_each(|file| file.named = true);
            Ok(())
        })
    }
}

impl OpenSimFile {
    fn with<T>(&self, act: impl FnOnce(&mut SimFile) -> io::Result<T>) -> io::Result<T> {
        self.0.with(|state| act(state.files.get_mut(&self.1).ok_or(io::Error::from(io::ErrorKind::NotFound))?))
    }
}

impl LogFile for OpenSimFile {
    fn length(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.bytes.len() as u64))
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.with(|file| {
            let found = file.bytes.get(at as usize..at as usize + bytes.len());
            bytes.copy_from_slice(found.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?);
            Ok(())
        })
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let allowed = self.0.with(|state| {
            let allowed = bytes.len().min(state.until_kill.unwrap_or(usize::MAX)).min(state.room.unwrap_or(usize::MAX));
            for left in [&mut state.until_kill, &mut state.room].into_iter().flatten() {
                *left -= allowed;
            }
            Ok(allowed)
        })?;
        self.with(|file| {
            let at = at as usize;
            file.bytes.resize(file.bytes.len().max(at + allowed), 0);
            file.bytes[at..at + allowed].copy_from_slice(&bytes[..allowed]);
            Ok(())
        })?;
        if allowed == bytes.len() {
            return Ok(());
        }
        self.0.with(|state| {
            state.is_dead = state.until_kill == Some(0);
            Err(io::ErrorKind::StorageFull.into())
        })
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.with(|file| {
            file.bytes.truncate(length as usize);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|file| {
            file.synced.clone_from(&file.bytes);
            Ok(())
        })
    }
}

/// Entry `number`, after one with this chain.
fn entry(number: u64, chain_before: Chain, rng: &mut StdRng) -> (Bytes, NewestEntry) {
    let size = rng.random_range(0..400);
    let items =
        vec![LoggedItem::Forgotten { received_ms: 0, topics: vec![] }, LoggedItem::Cursor(vec![7; size].into())];
    let place = EntryPlace { term: 1, node: 2, epoch: 3, first: number, chain_before, sent_ms: number * 1000 };
    let body = EntryBody::Batch(items);
    let (bytes, chain) = place.encode(&body, Deflate::No, PartCount::default()).expect("it fits");
    let header = EntryHeader::decode(&bytes).expect("an entry");
    (bytes, NewestEntry { header, chain })
}

/// Everything that can be read.
fn read_all(segments: &Segments) -> Vec<Bytes> {
    let mut read = Vec::new();
    for segment in segments.kept() {
        let mut reader = segments.read(segment.number).expect("it is kept");
        while let Some(entry) = reader.next_entry().expect("no damage") {
            read.push(entry.bytes);
        }
    }
    read
}

#[test]
fn after_a_crash_at_any_byte_a_prefix_is_read_and_all_that_was_synced() {
    let (mut torn, mut losses, mut killed) = (0, 0, 0);
    for seed in 0..400 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (disk, mut written, mut synced) = (SimDisk::default(), Vec::<Bytes>::new(), 0);
        for life in 0..6 {
            let (mut segments, found) = Segments::open(Arc::new(disk.clone()), LIMITS).expect("the disk answers");
            torn += found.torn_bytes;
            assert_eq!(found.damaged_files, 0, "seed {seed}, life {life}");
            let read = read_all(&segments);
            assert!(read.len() >= synced, "seed {seed}, life {life}: {} of {synced} synced entries", read.len());
            assert!(read == written[..read.len()], "seed {seed}, life {life}");
            losses += usize::from(read.len() < written.len());
            written.truncate(read.len());
            disk.0.lock().expect("no panic").until_kill = Some(rng.random_range(0..6000));
            let mut chain = segments.newest().map_or(Chain::START, |newest| newest.chain);
            loop {
                if segments.is_full() {
                    segments.end_segment();
                }
                let (bytes, newest) = entry(written.len() as u64 + 1, chain, &mut rng);
                written.push(bytes.clone());
                if segments.append(&bytes, newest).is_err() {
                    killed += 1;
                    // It was not written, or was and nobody knows.
                    break;
                }
                chain = newest.chain;
                if rng.random_range(0..4) == 0 && segments.take_unsynced().sync(&disk).is_ok() {
                    synced = written.len();
                }
            }
            disk.restart(rng.random(), &mut rng);
        }
    }
    assert!(torn > 1000 && losses > 100 && killed == 2400, "{torn} bytes, {losses} losses, {killed} kills");
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_no_entry() {
    let mut fulls = 0;
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = SimDisk::default();
        let (mut segments, _) = Segments::open(Arc::new(disk.clone()), LIMITS).expect("the disk answers");
        let (mut written, mut chain) = (Vec::new(), Chain::START);
        for number in 1..40 {
            if segments.is_full() {
                segments.end_segment();
            }
            let (bytes, newest) = entry(number, chain, &mut rng);
            disk.0.lock().expect("no panic").room = Some(rng.random_range(0..600));
            if segments.append(&bytes, newest).is_err() {
                fulls += 1;
                disk.0.lock().expect("no panic").room = None;
                segments.append(&bytes, newest).expect("room again");
            }
            written.push(bytes);
            chain = newest.chain;
        }
        assert!(read_all(&segments) == written, "seed {seed}");
        disk.restart(false, &mut rng);
        let (segments, found) = Segments::open(Arc::new(disk), LIMITS).expect("the disk answers");
        assert!(read_all(&segments) == written && found.torn_bytes == 0, "seed {seed}");
    }
    assert!(fulls > 500, "{fulls}");
}

#[test]
fn segments_go_by_bytes_and_by_age_and_are_found_by_offset_and_by_time() {
    let mut rng = StdRng::seed_from_u64(1);
    let limits = SegmentLimits { bytes_max: 6000, age_max_ms: 100_000, ..LIMITS };
    let disk = SimDisk::default();
    let (mut segments, _) = Segments::open(Arc::new(disk.clone()), limits).expect("the disk answers");
    let (mut chain, mut retired) = (Chain::START, 0);
    for number in 1..=200 {
        if segments.is_full() {
            segments.end_segment();
            retired += segments.retire(number * 1000).expect("the disk answers");
            assert!(segments.bytes() <= limits.bytes_max);
        }
        let (bytes, newest) = entry(number, chain, &mut rng);
        segments.append(&bytes, newest).expect("room");
        chain = newest.chain;
    }
    assert!(retired > 10 && segments.kept().count() > 2, "{retired}");
    assert_eq!(disk.names().expect("it answers").len(), segments.kept().count() + 2, "two are not ours");
    let firsts: Vec<u64> = segments.kept().map(|segment| segment.first.first).collect();
    for offset in firsts[0]..=200 {
        let found = *segments.with_offset(offset).expect("it is kept");
        assert_eq!(segments.at_time(offset * 1000), Some(&found), "one a second");
        let mut reader = segments.read(found.number).expect("it is kept");
        reader.skip_to(offset - 1).expect("no damage");
        let entry = reader.next_entry().expect("no damage").expect("it is there");
        assert_eq!(entry.header.first, offset);
    }
    assert!(segments.with_offset(firsts[0] - 1).is_none() && segments.read(1).is_err());
    assert_eq!(segments.retire(10_000_000).expect("the disk answers") as usize, firsts.len() - 1);
    assert_eq!(segments.kept().count(), 1, "the one that is written stays");
}

#[test]
fn damage_in_the_middle_is_told_and_never_read_as_something_else() {
    let mut rng = StdRng::seed_from_u64(2);
    let disk = SimDisk::default();
    let (mut segments, _) = Segments::open(Arc::new(disk.clone()), LIMITS).expect("the disk answers");
    let (mut chain, mut written) = (Chain::START, Vec::new());
    for number in 1..=30 {
        if segments.is_full() {
            segments.end_segment();
        }
        let (bytes, newest) = entry(number, chain, &mut rng);
        segments.append(&bytes, newest).expect("room");
        (chain, _) = (newest.chain, written.push(bytes));
    }
    let name = "0000000000000001.log";
    let good = disk.0.lock().expect("no panic").files[name].bytes.clone();
    for bit in (0..good.len() * 8).step_by(13) {
        let mut damaged = good.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        disk.0.lock().expect("no panic").files.get_mut(name).expect("a file").bytes = damaged;
        let mut reader = segments.read(1).expect("it is kept");
        let (mut read, mut told) = (0, false);
        loop {
            match reader.next_entry() {
                Ok(Some(entry)) => assert_eq!(entry.bytes, written[read], "bit {bit}"),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.to_string().contains("segment 1"), "{error}");
                    told = true;
                    break;
                }
            }
            read += 1;
        }
        assert!(told, "bit {bit}");
    }
}
