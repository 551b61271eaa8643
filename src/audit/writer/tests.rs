use super::*;
use crate::audit::event::AuditKind;

fn directory(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp/audit-writer").join(name);
    // It may be there from an earlier run.
    let _ = fs::remove_dir_all(&dir);
    dir
}

/// 2027-01-05T00:00:00Z.
const DAY_MS: u64 = 1_799_107_200_000;

fn events(times: &[u64]) -> VecDeque<(u64, AuditEvent)> {
    times.iter().map(|ms| (*ms, AuditEvent::new(AuditKind::SessionOpen).session(*ms))).collect()
}

#[test]
fn lines_of_two_days_are_one_chain_in_two_files_even_if_the_clock_is_set_back() {
    let dir = directory("days");
    let (mut writer, torn) = AuditWriter::open(&dir).expect("a new directory");
    assert_eq!(torn, None);
    let days = writer.encode(events(&[DAY_MS - 1, DAY_MS, DAY_MS - 1]));
    let shape: Vec<_> = days.iter().map(|lines| (lines.day.as_str(), lines.lines)).collect();
    assert_eq!(shape, [("2027-01-04", 1), ("2027-01-05", 2)]);
    for lines in &days {
        writer.try_write(lines).expect("a writable directory");
    }
    assert!(writer.sync());
    let (seq, hash) = (writer.seq, writer.hash);
    drop(writer);
    let (again, _) = AuditWriter::open(&dir).expect("the same directory");
    assert_eq!((again.seq, again.hash, again.day.as_str()), (seq, hash, "2027-01-05"));
}

#[test]
fn a_torn_line_is_moved_aside_and_the_chain_goes_on() {
    let dir = directory("torn");
    let (mut writer, _) = AuditWriter::open(&dir).expect("a new directory");
    for lines in writer.encode(events(&[DAY_MS, DAY_MS])) {
        writer.try_write(&lines).expect("a writable directory");
    }
    let (seq, hash) = (writer.seq, writer.hash);
    drop(writer);
    let path = dir.join("audit-2027-01-05.jsonl");
    let whole = fs::read(&path).expect("written");
    for torn in [&b"{\"seq\":3,\"ts"[..], &[0; 70_000]] {
        fs::write(&path, [&whole, torn].concat()).expect("writable");
        let (writer, found) = AuditWriter::open(&dir).expect("a torn line is no obstacle");
        assert_eq!((found, writer.seq, writer.hash), (Some(torn.len() as u64), seq, hash));
        assert_eq!(fs::read(&path).expect("readable"), whole);
    }
    let aside = fs::read(dir.join("audit-2027-01-05.jsonl.torn")).expect("kept");
    assert_eq!(aside.len(), 12 + 70_000);
}

#[test]
fn a_failed_write_leaves_no_part_of_a_line() {
    let dir = directory("failed");
    fs::create_dir_all(&dir).expect("writable");
    let path = dir.join("audit-2027-01-05.jsonl");
    let mut open = OpenFile::open(&dir, path.clone()).expect("writable");
    open.append(b"one\n").expect("writable");
    // As a full disk does: a part is written.
    open.file.write_all(b"tw").expect("writable");
    open.is_torn = true;
    open.append(b"two\n").expect("writable");
    assert_eq!(fs::read(&path).expect("readable"), b"one\ntwo\n");
}

#[test]
fn a_directory_has_one_writer_and_holds_an_audit_log() {
    let dir = directory("locked");
    let first = AuditWriter::open(&dir).expect("a new directory");
    let refused = AuditWriter::open(&dir).err().expect("a second writer").to_string();
    assert!(refused.contains("found another that writes there"), "{refused}");
    drop(first);
    fs::write(dir.join("audit-2027-01-05.jsonl"), "{\"seq\":1}\n").expect("writable");
    let refused = AuditWriter::open(&dir).err().expect("no audit log").to_string();
    assert!(refused.contains("expected a line of an audit log at the end of"), "{refused}");
    let file = dir.join("audit-2027-01-05.jsonl");
    let refused = AuditWriter::open(&file).err().expect("no directory").to_string();
    assert!(refused.contains("expected a writable directory"), "{refused}");
}
