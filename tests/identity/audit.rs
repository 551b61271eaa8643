//! The audit log loses nothing but the last second, shows what was changed, and counts what an independent count counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fanline::access::identity::{ClaimedRights, Identity, TokenId};
use fanline::audit::event::{AuditEvent, AuditKind};
use fanline::audit::files::{self, LineHash};
use fanline::audit::log::AuditLog;
use fanline::audit::usage::{Period, count};
use fanline::audit::verify::{ChainFault, VerifyError, verify};
use fanline::settings::table::{Audit, OnAuditFull};
use fanline::words::metrics::Meters;
use kit::program::{Program, run};
use kit::{eventually, http};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Set for the process that the test kills.
const WRITER_DIR: &str = "AUDIT_TEST_WRITER_DIR";

fn directory(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("audit").join(name);
    // It may be there from an earlier run.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a writable target directory");
    dir
}

fn open(dir: &Path, on_full: OnAuditFull) -> AuditLog {
    let settings = Audit { dir: Some(dir.to_str().expect("UTF-8").into()), on_full };
    AuditLog::open(&settings, "digest", &Meters::unread()).expect("a writable directory")
}

fn log_files(dir: &Path) -> Vec<PathBuf> {
    files::list(dir).expect("a readable directory")
}

/// The events of a log, in order.
fn read(dir: &Path) -> Vec<serde_json::Value> {
    let texts = log_files(dir).into_iter().map(|path| fs::read_to_string(path).expect("readable"));
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.map(|line| serde_json::from_str(&line).expect("a line is JSON")).collect()
}

/// The process that `a_process_killed_at_any_moment…` kills: without its variable, no test.
#[test]
fn a_writer_that_another_test_kills() {
    let Some(dir) = std::env::var_os(WRITER_DIR) else { return };
    let log = open(Path::new(&dir), OnAuditFull::Drop);
    for number in 1.. {
        log.record(AuditEvent::new(AuditKind::SessionOpen).session(number).user_agent(&"agent ".repeat(40)));
        if writeln!(std::io::stderr(), "{number}").is_err() {
            return;
        }
        if number % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_process_killed_at_any_moment_loses_at_most_the_last_second() {
    const ROUNDS: usize = 8;
    let dir = directory("killed");
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    for round in 1..=ROUNDS {
        let before = read(&dir).len();
        let mut child = Command::new(std::env::current_exe().expect("a test binary"))
            .args(["--exact", "audit::a_writer_that_another_test_kills", "--nocapture"])
            .env(WRITER_DIR, &dir)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        let mut recorded: Vec<(Instant, u64)> = Vec::new();
        let mut end: Option<Instant> = None;
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        for number in lines.map_while(Result::ok).filter_map(|line| line.parse().ok()) {
            recorded.push((Instant::now(), number));
            let end =
                end.get_or_insert_with(|| Instant::now() + Duration::from_millis(random.random_range(1200..2000)));
            if Instant::now() >= *end {
                break;
            }
        }
        let killed = Instant::now();
        child.kill().expect("a child of ours");
        child.wait().expect("it ends");
        let owed = recorded.iter().rev().find(|(at, _)| killed.duration_since(*at) >= Duration::from_secs(1));
        let owed = owed.expect("the process was there for more than a second").1;
        let log = open(&dir, OnAuditFull::Drop);
        log.close();
        let events = read(&dir);
        let kept = events[before..].iter().filter_map(|event| event["session"].as_u64()).max().unwrap_or(0);
        assert!(kept >= owed, "round {round}: {owed} were recorded more than a second before, found {kept}");
        let verified = verify(&log_files(&dir), None).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(verified.lines, events.len() as u64);
        let starts = events.iter().filter(|event| event["event"] == "start").count();
        assert_eq!(starts, 2 * round, "each process and each look has begun once");
    }
}

/// A log of two days, 20 lines each.
fn two_days(name: &str) -> (PathBuf, Vec<Vec<String>>) {
    let dir = directory(name);
    let mut previous = LineHash([0; 32]);
    let mut days = Vec::new();
    for (day, seqs) in [("2027-01-04", 1..=20), ("2027-01-05", 21..=40)] {
        let mut lines = Vec::new();
        for seq in seqs {
            let line = format!(
                "{{\"seq\":{seq},\"ts\":\"{day}T10:00:00.000Z\",\"event\":\"session_open\",\"session\":{seq},\
                 \"prev_sha256\":\"{previous}\"}}"
            );
            previous = LineHash::of(line.as_bytes());
            lines.push(line);
        }
        days.push(lines);
    }
    write_days(&dir, &days);
    (dir, days)
}

fn write_days(dir: &Path, days: &[Vec<String>]) {
    for (day, lines) in ["2027-01-04", "2027-01-05"].iter().zip(days) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(dir.join(files::name_of(day)), text).expect("writable");
    }
}

#[test]
fn verify_names_the_first_line_that_was_changed_removed_or_moved() {
    let (dir, days) = two_days("verify");
    let whole = verify(&log_files(&dir), None).expect("as it was written");
    assert_eq!((whole.lines, whole.first_seq, whole.last_seq), (40, 1, 40));
    let check = |days: &[Vec<String>], day: usize, line: usize, expected: &dyn Fn(&ChainFault) -> bool, what: &str| {
        write_days(&dir, days);
        let found = verify(&log_files(&dir), None);
        let Err(VerifyError::Broken { path, line: at, fault }) = found else { panic!("{what}: {found:?}") };
        let name = files::name_of(["2027-01-04", "2027-01-05"][day]);
        assert_eq!((path.file_name().and_then(|it| it.to_str()), at), (Some(name.as_str()), line as u64), "{what}");
        assert!(expected(&fault), "{what}: {fault:?}");
    };
    let is_changed = |fault: &ChainFault| *fault == ChainFault::Changed;
    let is_gap = |fault: &ChainFault| matches!(fault, ChainFault::Gap { .. });
    for (day, line) in (0..2).flat_map(|day| (0..20).map(move |line| (day, line))) {
        let is_last = (day, line) == (1, 19);
        let place = format!("day {day}, line {}", line + 1);
        let mut changed = days.clone();
        changed[day][line] = changed[day][line].replace("session_open", "session_oper");
        if is_last {
            write_days(&dir, &changed);
            verify(&log_files(&dir), None).expect("nothing follows that knows the last line");
            let found = verify(&log_files(&dir), Some(whole.last_hash));
            assert!(
                matches!(found, Err(VerifyError::NoSuchLine { .. })),
                "the hash kept elsewhere knows it: {found:?}"
            );
            continue;
        }
        check(&changed, day, line + 1, &is_changed, &format!("changed: {place}"));
        let mut torn = days.clone();
        torn[day][line].truncate(30);
        check(&torn, day, line + 1, &|fault| *fault == ChainFault::Unreadable, &format!("cut: {place}"));
        // The first line of all may be absent: older files are the operator's to remove.
        if (day, line) != (0, 0) {
            let mut removed = days.clone();
            removed[day].remove(line);
            let (at_day, at_line) = if removed[day].len() == line { (day + 1, 1) } else { (day, line + 1) };
            check(&removed, at_day, at_line, &is_gap, &format!("removed: {place}"));
        }
        if line < 19 && (day, line) != (0, 0) {
            let mut swapped = days.clone();
            swapped[day].swap(line, line + 1);
            check(&swapped, day, line + 1, &is_gap, &format!("swapped: {place}"));
            let mut repeated = days.clone();
            let copy = repeated[day][line].clone();
            repeated[day].insert(line, copy);
            let is_repeated = |fault: &ChainFault| matches!(fault, ChainFault::OutOfOrder { .. });
            check(&repeated, day, line + 2, &is_repeated, &format!("repeated: {place}"));
        }
    }
    write_days(&dir, &days);
    let newest = dir.join(files::name_of("2027-01-05"));
    let text = fs::read(&newest).expect("readable");
    fs::write(&newest, &text[..text.len() - 5]).expect("writable");
    let found = verify(&log_files(&dir), None);
    assert!(matches!(found, Err(VerifyError::Broken { line: 20, fault: ChainFault::Torn, .. })), "{found:?}");
    // Without the oldest file the rest is still a chain.
    write_days(&dir, &days);
    let rest = verify(&log_files(&dir)[1..], None).expect("unbroken from its begin");
    assert_eq!((rest.first_seq, rest.lines), (21, 20));
}

#[test]
fn the_command_tells_the_fault_and_ends_with_1() {
    let (dir, mut days) = two_days("command");
    let place = dir.to_str().expect("UTF-8");
    let (status, told, _) = run(&["audit", "verify", place], &[]);
    assert!(status.success());
    assert!(told.starts_with("unbroken, files: 2, lines: 40, seq: 1 to 40\nlast sha256: "), "{told}");
    days[0][6] = days[0][6].replace("10:00:00", "11:00:00");
    write_days(&dir, &days);
    let (status, _, error) = run(&["audit", "verify", place], &[]);
    assert_eq!(status.code(), Some(1));
    let expected = "audit-2027-01-04.jsonl:7: expected the line whose sha256 the next line has, found another";
    assert!(error.contains(expected), "{error}");
    for (arguments, expected) in [
        (&["audit", "verify", "/nowhere"][..], "found `/nowhere`: No such file or directory"),
        (&["audit", "report", "--month", "2027-13", place], "expected a month such as `2027-01`, found `2027-13`"),
    ] {
        let (status, _, error) = run(arguments, &[]);
        assert_eq!(status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn with_refuse_sessions_nobody_is_admitted_while_the_log_cannot_be_written() {
    let dir = directory("full");
    // Files of these names cannot be made while there are directories of the same name.
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let in_the_way = [now, now + 86_400_000].map(|ms| dir.join(files::name_of(&files::timestamp(ms)[..10])));
    in_the_way.iter().for_each(|path| fs::create_dir(path).expect("writable"));
    let place = dir.to_str().expect("UTF-8");
    let server = Program::serve(&[], &[("AUDIT_DIR", place), ("AUDIT_ON_FULL", "refuse_sessions")]);
    let upgrade = || http::refused_upgrade(server.addr(), "/v1/ws", http::HANDSHAKE);
    let refused = eventually("the log is known to fail", || Some(upgrade()).filter(|answer| answer.status == 503));
    assert_eq!(refused.json()["code"], "audit_full");
    let metrics = server.get("/metrics").body;
    assert_eq!(http::sum(&metrics, "fanline_audit_failing", ""), 1.0);
    assert!(http::sum(&metrics, "fanline_refusals_total", "audit_full") >= 1.0);
    in_the_way.iter().for_each(|path| fs::remove_dir(path).expect("writable"));
    eventually("the log is written", || {
        (http::sum(&server.get("/metrics").body, "fanline_audit_failing", "") == 0.0).then_some(())
    });
    let events = read(&dir);
    assert_eq!(events[0]["event"], "start", "what waited is written: {events:?}");
    assert_eq!(events[0]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn with_drop_sessions_are_admitted_and_the_loss_is_told() {
    let dir = directory("dropped");
    let log = open(&dir, OnAuditFull::Drop);
    let agent = "x".repeat(500);
    let subject = Identity {
        issuer: "i".into(),
        subject: "alice".into(),
        token_id: TokenId([0; 32]),
        status: None,
        issued_ms: 0,
        expires_ms: u64::MAX,
        claimed: ClaimedRights::default(),
    };
    // Far more than the queue holds, faster than a debug build writes them.
    for number in 0..400_000 {
        log.record(AuditEvent::new(AuditKind::SessionOpen).session(number).identity(&subject).user_agent(&agent));
    }
    assert!(log.accepts_sessions());
    log.close();
    let events = read(&dir);
    let written = events.iter().filter(|event| event["event"] == "session_open").count() as u64;
    let told: u64 =
        events.iter().filter(|event| event["event"] == "dropped").filter_map(|it| it["frames"].as_u64()).sum();
    assert!(told > 0, "nothing was dropped");
    assert_eq!(written + told, 400_000);
    verify(&log_files(&dir), None).expect("unbroken all the same");
}

/// A session of the generated log; moments are places in the order of all lines.
struct Planned {
    subject: usize,
    tier: usize,
    status: usize,
    pattern: usize,
    opened: usize,
    subscribed: usize,
    closed: usize,
}

const TIERS: [(&str, u64); 3] = [("free", 900_000), ("pro", 0), ("desk", 600_000)];
const STATUSES: [&str; 2] = ["nonprofessional", "professional"];
const PATTERNS: [(&str, &str); 4] =
    [("nasdaq.quote.*", "nasdaq"), ("nyse.>", "nyse"), (">", "*"), ("nasdaq.trade.AAPL", "nasdaq")];
const DAY_MS: u64 = 86_400_000;
/// 2026-12-30T00:00:00Z.
const FIRST_MS: u64 = 1_798_588_800_000;

/// The most intervals that hold at a moment, by brute addition of their ends.
fn peak(intervals: impl Iterator<Item = (usize, usize)>) -> usize {
    let mut changes: BTreeMap<usize, i64> = BTreeMap::new();
    for (from, to) in intervals {
        *changes.entry(from).or_default() += 1;
        *changes.entry(to).or_default() -= 1;
    }
    let mut now = 0;
    changes
        .values()
        .map(|change| {
            now += change;
            now
        })
        .max()
        .unwrap_or(0) as usize
}

#[test]
fn a_report_over_100000_sessions_equals_an_independent_count() {
    const SESSIONS: usize = 100_000;
    let dir = directory("report");
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    // 36 days: two before the month, three after it.
    let span = 36 * DAY_MS;
    let mut moments: Vec<(u64, usize, usize)> = Vec::new();
    let mut planned: Vec<Planned> = Vec::new();
    for session in 0..SESSIONS {
        let subject = random.random_range(0..20_000);
        let (tier, status) = (subject % TIERS.len(), subject / 7 % STATUSES.len());
        let pattern = random.random_range(0..PATTERNS.len());
        planned.push(Planned { subject, tier, status, pattern, opened: 0, subscribed: 0, closed: 0 });
        let opened = random.random_range(0..span - 10);
        let life = random.random_range(2..2 * DAY_MS);
        let subscribed = opened + random.random_range(0..life.min(60_000));
        moments.extend([(opened, 0, session), (subscribed, 1, session), (opened + life, 2, session)]);
    }
    moments.sort_unstable();
    moments.retain(|(ms, ..)| *ms < span);
    let mut ms_of: Vec<u64> = vec![0];
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut write = |ms: u64, line: std::fmt::Arguments<'_>| {
        let ts = files::timestamp(FIRST_MS + ms);
        let text = texts.entry(ts[..10].to_owned()).or_default();
        writeln!(text, "{{\"seq\":1,\"ts\":\"{ts}\",{line},\"prev_sha256\":\"\"}}").expect("a String takes all");
    };
    write(0, format_args!("\"event\":\"start\""));
    for session in &mut planned {
        session.closed = usize::MAX;
    }
    for (place, (ms, kind, number)) in (1..).zip(moments) {
        ms_of.push(ms);
        let session = &mut planned[number];
        let (tier, delay_ms) = TIERS[session.tier];
        let who = format!(
            "\"session\":{number},\"sub\":\"user-{}\",\"iss\":\"https://id.example/\",\"tier\":\"{tier}\",\"status\":\"{}\"",
            session.subject, STATUSES[session.status]
        );
        match kind {
            0 => {
                session.opened = place;
                session.subscribed = usize::MAX;
                write(ms, format_args!("\"event\":\"session_open\",{who},\"address\":\"10.0.0.1\""));
            }
            1 => {
                session.subscribed = place;
                let pattern = PATTERNS[session.pattern].0;
                write(
                    ms,
                    format_args!("\"event\":\"subscribe\",{who},\"patterns\":[\"{pattern}\"],\"delay_ms\":{delay_ms}"),
                );
            }
            _ => {
                session.closed = place;
                write(ms, format_args!("\"event\":\"session_close\",\"session\":{number}"));
            }
        }
    }
    let bytes: usize = texts.values().map(String::len).sum();
    for (day, text) in &texts {
        fs::write(dir.join(files::name_of(day)), text).expect("writable");
    }
    let begun = Instant::now();
    let usage = count(&log_files(&dir), Period::month("2027-01").expect("a month")).expect("a sound log");
    println!("{bytes} bytes, {SESSIONS} sessions in {:?}", begun.elapsed());

    // The independent count: from the plan, by intervals.
    let month_ms = 2 * DAY_MS..33 * DAY_MS;
    let first = ms_of.iter().skip(1).position(|ms| *ms >= month_ms.start).expect("a line") + 1;
    let end = ms_of.iter().skip(1).position(|ms| *ms >= month_ms.end).expect("a line") + 1;
    let day = |place: usize| ms_of[place] / DAY_MS;
    // What is open when the month begins is open before its first line, which may be its end.
    let in_month =
        |from: usize, to: usize| (from > 0 && from < end && to >= first).then(|| (from.max(first - 1), to.min(end)));
    let days_of = |from: usize, to: usize| (day(from.max(first)), if to >= end { day(end - 1) } else { day(to) });
    let mut subjects = BTreeSet::new();
    let mut groups: BTreeMap<_, Vec<(usize, usize, usize)>> = BTreeMap::new();
    let mut by_subject: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
    let mut all = Vec::new();
    for session in &planned {
        let Some(interval) = in_month(session.opened, session.closed) else { continue };
        subjects.insert(session.subject);
        all.push(interval);
        by_subject.entry(session.subject).or_default().push(interval);
        let key = |group| (session.tier, session.status, group);
        groups.entry(key(None)).or_default().push((session.subject, session.opened, session.closed));
        if session.subscribed != usize::MAX && in_month(session.subscribed, session.closed).is_some() {
            let group = Some(PATTERNS[session.pattern].1);
            groups.entry(key(group)).or_default().push((session.subject, session.subscribed, session.closed));
        }
    }
    assert_eq!(usage.total.subjects, subjects.len());
    assert_eq!(usage.total.sessions as usize, by_subject.values().map(Vec::len).sum::<usize>());
    assert_eq!(usage.total.peak_sessions, peak(all.into_iter()));
    let peaks: BTreeMap<usize, usize> =
        by_subject.iter().map(|(subject, intervals)| (*subject, peak(intervals.iter().copied()))).collect();
    assert_eq!(usage.total.peak_sessions_of_one, *peaks.values().max().expect("a subject"));
    assert_eq!(usage.groups.len(), groups.len());
    for ((tier, status, group), sessions) in &groups {
        let patterns = group.map(|group| (group, TIERS[*tier].1));
        let found = usage.groups.iter().find(|found| {
            let found_patterns = found.key.patterns.as_ref().map(|(group, delay)| (&**group, *delay));
            *found.key.tier == *TIERS[*tier].0 && *found.key.status == *STATUSES[*status] && found_patterns == patterns
        });
        let found = found.unwrap_or_else(|| panic!("no row for {tier} {status} {group:?}"));
        let unique: BTreeSet<usize> = sessions.iter().map(|(subject, ..)| *subject).collect();
        assert_eq!(found.subjects, unique.len(), "{:?}", found.key);
        let intervals = sessions.iter().filter_map(|(_, from, to)| in_month(*from, *to));
        assert_eq!(found.peak_sessions, peak(intervals), "{:?}", found.key);
        let days = sessions.iter().map(|(_, from, to)| days_of(*from, *to));
        let (first_day, last_day) =
            days.fold((u64::MAX, 0), |(first, last), (from, to)| (first.min(from), last.max(to)));
        let text = |day: u64| files::timestamp(FIRST_MS + day * DAY_MS)[..10].to_owned();
        let found_days = (found.span.first.to_string(), found.span.last.to_string());
        assert_eq!(found_days, (text(first_day), text(last_day)), "{:?}", found.key);
    }
    for (subject, intervals) in &by_subject {
        let name = format!("user-{subject}");
        let at = usage.subjects.binary_search_by(|found| (*found.subject).cmp(name.as_str()));
        let found = &usage.subjects[at.unwrap_or_else(|_| panic!("no row for {name}"))];
        assert_eq!((found.sessions as usize, found.peak_sessions), (intervals.len(), peaks[subject]), "{name}");
    }
}

#[test]
fn a_report_follows_a_session_through_its_refreshes_and_a_restart() {
    let dir = directory("refreshes");
    let line = |ts: &str, members: &str| format!("{{\"seq\":1,\"ts\":\"{ts}\",{members},\"prev_sha256\":\"\"}}\n");
    let december = [
        line("2026-12-30T00:00:00.000Z", "\"event\":\"start\""),
        line("2026-12-30T01:00:00.000Z", "\"event\":\"session_open\",\"session\":1,\"sub\":\"lost\",\"tier\":\"free\""),
    ];
    let january = [
        line("2027-01-02T00:00:00.000Z", "\"event\":\"start\""),
        // The same number in the next run is another session. It is known only once it has shown its token.
        line("2027-01-02T01:00:00.000Z", "\"event\":\"session_open\",\"session\":1,\"address\":\"10.0.0.1\""),
        line(
            "2027-01-02T01:00:01.000Z",
            "\"event\":\"auth\",\"session\":1,\"iss\":\"i\",\"sub\":\"=ann\",\"tier\":\"free\"",
        ),
        line(
            "2027-01-02T01:00:02.000Z",
            "\"event\":\"subscribe\",\"session\":1,\"iss\":\"i\",\"sub\":\"=ann\",\"tier\":\"free\",\"patterns\":[\"a.b\"],\"delay_ms\":900000",
        ),
        line(
            "2027-01-03T01:00:00.000Z",
            "\"event\":\"refresh\",\"session\":1,\"iss\":\"i\",\"sub\":\"=ann\",\"tier\":\"pro\",\"status\":\"professional\"",
        ),
        line(
            "2027-01-03T02:00:00.000Z",
            "\"event\":\"session_open\",\"session\":2,\"tier\":\"free\",\"address\":\"10.0.0.2\"",
        ),
        line(
            "2027-01-03T03:00:00.000Z",
            "\"event\":\"query\",\"iss\":\"i\",\"sub\":\"=ann\",\"tier\":\"pro\",\"status\":\"professional\"",
        ),
        line("2027-01-04T03:00:00.000Z", "\"event\":\"session_close\",\"session\":1"),
        line("2027-01-05T03:00:00.000Z", "\"event\":\"stop\""),
    ];
    fs::write(dir.join(files::name_of("2026-12-30")), december.concat()).expect("writable");
    fs::write(dir.join(files::name_of("2027-01-02")), january.concat()).expect("writable");
    let place = dir.to_str().expect("UTF-8");
    let report = |more: &[&str]| {
        let (status, told, error) = run(&[&["audit", "report", "--month", "2027-01", place], more].concat(), &[]);
        assert!(status.success(), "{error}");
        told
    };
    assert_eq!(
        report(&[]),
        "month,rows,tier,status,patterns,delay_ms,subjects,first_day,last_day,peak_sessions,peak_sessions_of_one,sessions,queries\n\
         2027-01,all,,,,,2,2027-01-02,2027-01-04,2,1,2,1\n\
         2027-01,tier,free,,,,2,2027-01-02,2027-01-03,1,1,,\n\
         2027-01,patterns,free,,a,900000,1,2027-01-02,2027-01-02,1,1,,\n\
         2027-01,tier,pro,professional,,,1,2027-01-03,2027-01-04,1,1,,\n\
         2027-01,patterns,pro,professional,a,900000,1,2027-01-03,2027-01-04,1,1,,\n"
    );
    let subjects = report(&["--subjects"]);
    assert!(subjects.contains("2027-01,i,'=ann,pro,professional,,,2027-01-03,2027-01-04,1,1,1\n"), "{subjects}");
    assert!(subjects.contains("2027-01,,10.0.0.2,free,,,,2027-01-03,2027-01-03,1,1,0\n"), "{subjects}");
}
