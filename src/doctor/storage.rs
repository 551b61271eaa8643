//! What is kept, and for how long it is good: directories, certificates, the clock.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, FsWord, access, statfs, statvfs};

use crate::doctor::machine::Machine;
use crate::doctor::{Fact, Severity, bytes};
use crate::edge::settings::Settings as EdgeSettings;
use crate::settings::table::Config;

/// Of `statfs`: files in memory.
const TMPFS_MAGIC: FsWord = 0x0102_1994;
/// Renewal has failed for two weeks by then, where it begins a month before the end.
const CERTIFICATE_DAYS_MIN: u64 = 14;
/// A day of the audit log of a large server.
const AUDIT_BYTES: u64 = 1 << 30;
/// Left by services that set the clock.
const TIME_SERVICES: [&str; 4] =
    ["run/systemd/timesync/synchronized", "run/chrony/chronyd.pid", "run/ntpd.pid", "run/openntpd.pid"];

pub fn facts(config: &Config, machine: &Machine) -> Vec<Fact> {
    let mut facts = Vec::new();
    let directories = [
        ("archive.dir", &config.archive.dir, config.archive.bytes_max as u64, true),
        ("delay.spool_dir", &config.delay.spool_dir, config.delay.spool_bytes_max as u64, false),
        ("audit.dir", &config.audit.dir, AUDIT_BYTES, true),
    ];
    for (setting, path, wanted, is_kept) in directories {
        facts.extend(path.as_ref().map(|path| directory(setting, Path::new(path), wanted, is_kept)));
    }
    if config.listen.iter().any(|address| address.tls) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        for (name, not_after) in EdgeSettings::new(config).certificate_ends().unwrap_or_default() {
            facts.push(certificate(&name, not_after.saturating_sub(now) / 86_400));
        }
        facts.extend(config.tls.certificates.iter().chain(&config.tls.ticket_key_file).filter_map(|files| key(files)));
    }
    facts.extend(config.admin.key_file.as_ref().and_then(|file| key(file)));
    facts.push(clock(machine));
    facts
}

/// `is_kept`: what is there must outlive a restart of the machine.
fn directory(setting: &str, path: &Path, wanted: u64, is_kept: bool) -> Fact {
    let subject = format!("{setting} `{}`", path.display());
    let existing = existing(path);
    if !existing.is_dir() {
        let found = format!("`{}` is no directory", existing.display());
        return Fact::new(Severity::Fault, subject, found, "choose another path");
    }
    if access(&existing, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let found = format!("`{}` is not writable for this user", existing.display());
        let remedy = "StateDirectory= in systemd makes one; run doctor as the user of the service";
        return Fact::new(Severity::Fault, subject, found, remedy);
    }
    let mode = fs::metadata(&existing).map_or(0, |metadata| metadata.mode());
    if existing == path && mode & 0o1002 == 0o002 {
        let found = format!("others can remove files there (mode {:o})", mode & 0o7777);
        return Fact::new(Severity::Fault, subject, found, "`chmod o-w` it, or choose another");
    }
    let (Ok(space), Ok(system)) = (statvfs(&existing), statfs(&existing)) else {
        return Fact::fine(subject, "writable");
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let found = format!("{} free, up to {} wanted", bytes(free), bytes(wanted));
    if is_kept && system.f_type == TMPFS_MAGIC {
        let remedy = "choose a directory on a disk: this one is in memory, and empty after a restart of the machine";
        return Fact::new(Severity::Warning, subject, found, remedy);
    }
    if free < wanted {
        let remedy = "free space, choose another directory, or lower what the setting beside it allows";
        return Fact::new(Severity::Warning, subject, found, remedy);
    }
    Fact::fine(subject, found)
}

/// The directory, or the nearest above it that is there: a start makes the rest.
fn existing(path: &Path) -> PathBuf {
    let found = path.ancestors().find(|folder| folder.exists()).filter(|folder| !folder.as_os_str().is_empty());
    found.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn certificate(name: &str, days: u64) -> Fact {
    let (subject, found) = (format!("certificate `{name}`"), format!("ends in {days} days"));
    if days >= CERTIFICATE_DAYS_MIN {
        return Fact::fine(subject, found);
    }
    let remedy = "renew it: a changed file is read again without a restart";
    Fact::new(Severity::Warning, subject, found, remedy)
}

/// Only if there is something to say.
fn key(files: &str) -> Option<Fact> {
    let path = files.split_once(':').map_or(files, |(_, key)| key);
    let mode = fs::metadata(path).ok()?.mode() & 0o777;
    let found = format!("everybody on this machine may read it (mode {mode:o})");
    let remedy = format!("`chmod o-rwx {path}`");
    (mode & 0o004 != 0).then(|| Fact::new(Severity::Warning, format!("key `{path}`"), found, remedy))
}

fn clock(machine: &Machine) -> Fact {
    match TIME_SERVICES.iter().find(|file| machine.exists(file)) {
        Some(file) => Fact::fine("clock", format!("set by a time service (/{file})")),
        None => {
            let remedy = "run systemd-timesyncd or chrony; in a container, on its host. Times of messages, tokens and \
                          certificates are read from this clock";
            Fact::new(Severity::Hint, "clock", "no time service is seen", remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::doctor::machine::tests::machine;

    #[test]
    fn a_directory_that_is_not_there_yet_is_judged_by_the_one_above() {
        let folder = std::env::temp_dir();
        let below = folder.join("fanline-doctor-absent").join("archive");
        assert_eq!(directory("delay.spool_dir", &below, 0, false).severity, Severity::Fine);
        assert_eq!(directory("delay.spool_dir", &below, u64::MAX, false).severity, Severity::Warning);
        let file = folder.join(format!("fanline-doctor-file-{}", std::process::id()));
        fs::write(&file, "").expect("a writable folder");
        assert_eq!(directory("archive.dir", &file.join("archive"), 0, true).severity, Severity::Fault);

        fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("its own file");
        let files = format!("chain.pem:{}", file.display());
        assert_eq!(key(&files).expect("it is readable for all").severity, Severity::Warning);
        fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).expect("its own file");
        assert_eq!(key(&files), None);
        fs::remove_file(&file).expect("its own file");
    }

    #[test]
    fn certificates_and_clocks_are_warned_of_in_time() {
        assert_eq!(certificate("example.com", CERTIFICATE_DAYS_MIN).severity, Severity::Fine);
        assert_eq!(certificate("example.com", CERTIFICATE_DAYS_MIN - 1).severity, Severity::Warning);
        assert_eq!(clock(&machine("clock", &[(TIME_SERVICES[1], "1")])).severity, Severity::Fine);
        assert_eq!(clock(&machine("no-clock", &[])).severity, Severity::Hint);
    }
}
