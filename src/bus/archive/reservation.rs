//! Which offsets may have been given, whatever became of the frames: a file that is written ahead of the publisher.
//!
//! A killed process leaves it as it was written, so offsets after it were shown to nobody. A loss of power may leave an
//! older one, so it counts only for the boot that wrote it, or if it was closed. It is written in place, which a full
//! disk allows, and to two places in turn, of which one is always whole.

use std::io;
use std::sync::Arc;

use feed_log::segments::disk::{LogDisk, LogFile};
use flate2::Crc;

use crate::words::ids::{Epoch, Offset};

const NAME: &str = "reserved";
/// In sectors of their own.
const PLACES: [u64; 2] = [0, 4096];
const CHECKED_BYTES: usize = 40;
const PLACE_BYTES: usize = CHECKED_BYTES + 4;
/// In place of a boot: nothing follows, and all is synced.
const CLOSED: [u8; 16] = [0; 16];

/// Where the kernel names the boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What was reserved when the process before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reserved {
    pub epoch: Epoch,
    pub until: Offset,
}

pub(super) struct Reservation {
    disk: Arc<dyn LogDisk>,
    /// None where it cannot be written.
    file: Option<Arc<dyn LogFile>>,
    /// Of the newest place.
    sequence: u64,
    boot: [u8; 16],
    /// Reserved ahead of the head.
    window: u64,
    until: Offset,
}

impl Reservation {
    /// Also what counts of the one before.
    pub fn open(disk: Arc<dyn LogDisk>, window: u64) -> io::Result<(Reservation, Option<Reserved>)> {
        let boot = boot();
        let file = if disk.names()?.iter().any(|name| name == NAME) { disk.open(NAME)? } else { disk.create(NAME)? };
        let newest = PLACES.iter().filter_map(|at| read_place(&*file, *at)).max_by_key(|place| place.sequence);
        let counts = newest.filter(|place| place.boot == CLOSED || boot.is_some_and(|boot| boot == place.boot));
        let reserved = counts.map(|place| Reserved { epoch: place.epoch, until: place.until });
        let sequence = newest.map_or(0, |place| place.sequence);
        // Without a name, a boot is like no other, the next one included.
        let boot = boot.unwrap_or_else(rand::random);
        Ok((Reservation { disk, file: Some(file), sequence, boot, window, until: Offset::START }, reserved))
    }

    /// Reserves further offsets, if few are left.
    ///
    /// # Errors
    /// The disk is faulty. Then the file is removed, so that the next start does not go by it.
    pub fn keep_ahead(&mut self, epoch: Epoch, head: Offset) -> io::Result<()> {
        if head.0 + self.window / 2 < self.until.0 {
            return Ok(());
        }
        let until = Offset(head.0 + self.window);
        let written = self.write(epoch, until, self.boot);
        match written {
            Ok(()) => self.until = until,
            Err(_) => {
                self.file = None;
                let _ = self.disk.remove(NAME);
            }
        }
        written
    }

    /// Nothing follows this offset, and all before is synced.
    ///
    /// # Errors
    /// The disk is faulty.
    pub fn close(&mut self, epoch: Epoch, head: Offset) -> io::Result<()> {
        self.write(epoch, head, CLOSED)?;
        self.file.iter().try_for_each(|file| file.sync())?;
        self.disk.sync()
    }

    fn write(&mut self, epoch: Epoch, until: Offset, boot: [u8; 16]) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.disk.create(NAME)?,
        };
        let sequence = self.sequence + 1;
        let mut place = Vec::with_capacity(PLACE_BYTES);
        for number in [sequence, epoch.0, until.0] {
            place.extend(number.to_le_bytes());
        }
        place.extend(boot);
        place.extend(checksum(&place).to_le_bytes());
        file.write_at(&place, PLACES[(sequence % 2) as usize])?;
        (self.sequence, self.file) = (sequence, Some(file));
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct ReservedPlace {
    sequence: u64,
    epoch: Epoch,
    until: Offset,
    boot: [u8; 16],
}

fn read_place(file: &dyn LogFile, at: u64) -> Option<ReservedPlace> {
    let mut bytes = [0; PLACE_BYTES];
    file.read_at(&mut bytes, at).ok()?;
    let (checked, crc) = bytes.split_at(CHECKED_BYTES);
    if crc != checksum(checked).to_le_bytes() {
        return None;
    }
    let number = |at: usize| Some(u64::from_le_bytes(checked.get(at..at + 8)?.try_into().ok()?));
    let boot = checked.get(24..)?.try_into().ok()?;
    Some(ReservedPlace { sequence: number(0)?, epoch: Epoch(number(8)?), until: Offset(number(16)?), boot })
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn boot() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string(BOOT_ID).ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    hex::decode(digits).ok()?.try_into().ok()
}
