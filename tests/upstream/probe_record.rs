//! `fanline probe --record`: the messages that it writes are those that `fanline check` of the profile then plays.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;

use kit::eventually;
use kit::fake_feed::{FakeFeed, PROFILE};
use kit::program::{run, run_knowing};

const BOOK: &str = r#"
[on.book]
when = ['/book exists']
topic = "book.${/topic}"
mode = "book"
snapshot_when = ['/kind == "whole"']
book = { sides = ["./book/bids", "./book/asks"], price = 0, size = 1 }
[on.ping]
as = "ping"
when = ['text == "ping"']
reply = "pong"
[on.data]
when = ['/topic exists']
topic = "${/topic}"
"#;

fn profile() -> String {
    let (head, _) = PROFILE.split_once("[[on]]").expect("it has rules");
    let requests = "[on]\ngranted = { as = \"ack\", when = ['/ok exists'] }\n";
    let sent = "open = ['{\"key\":\"${env.PROBE_RECORD_KEY}\"}']\n[subscribe]";
    format!("{}{requests}{BOOK}", head.replace("[subscribe]", sent))
}

fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("probe_record").join(test);
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).expect("a folder for files");
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A feed that says these messages to everyone with the item `a`.
fn feed(messages: Vec<String>) -> FakeFeed {
    let feed = FakeFeed::open();
    let venue = feed.clone();
    thread::spawn(move || {
        eventually("a subscription", || Some(()).filter(|()| !venue.ready(&["a"]).is_empty()));
        messages.iter().for_each(|message| venue.say(0, message));
    });
    feed
}

fn probe(feed: &FakeFeed, profile: &Path, record: &Path, more: &[&str]) -> (ExitStatus, String, String) {
    let url = feed.url();
    let given = ["--profile", text(profile), "--subscribe", "a", "--seconds", "1", "--record", text(record)];
    let arguments: Vec<&str> = ["probe", &url].into_iter().chain(given).chain(more.iter().copied()).collect();
    run_knowing(&arguments, &[("PROBE_RECORD_KEY", "sk-live-7f3a9c")])
}

#[test]
fn a_recorded_look_is_a_file_that_check_plays() {
    let folder = folder("look");
    let (profile_file, record) = (folder.join("fake.toml"), folder.join("fake.messages.jsonl"));
    std::fs::write(&profile_file, profile()).expect("a writable folder");
    let mut messages = vec![
        r#"{"topic":"a","kind":"whole","book":{"bids":[["1","2"]],"asks":[["3","1"]]}}"#.to_string(),
        "ping".to_string(),
        r#"{"topic":"a","key":"sk-live-7f3a9c"}"#.to_string(),
        r#"{"what":"no rule knows"}"#.to_string(),
        "neither JSON nor known".to_string(),
        // A level that cannot be read: a check would end there.
        r#"{"topic":"a","book":{"bids":[["x","2"]],"asks":[]}}"#.to_string(),
    ];
    messages.extend((0..40).map(|n| format!(r#"{{"topic":"a","book":{{"bids":[["1","{n}"]],"asks":[]}}}}"#)));
    messages.extend((0..40).map(|n| format!(r#"{{"topic":"t{n}","n":{n}}}"#)));
    let (status, said, errors) = probe(&feed(messages), &profile_file, &record, &[]);
    assert!(status.success(), "{errors}");
    let written = std::fs::read_to_string(&record).expect("it was written");
    let steps = written.lines().count();
    let line = format!("wrote {} messages to {}, for `fanline check`", steps - 1, record.display());
    assert!(said.contains(&line), "{line} in\n{said}");
    for (part, count) in [
        (r#"{"items":["a"],"sends":[{"id":1,"items":["a"],"op":"sub"}]}"#, 1),
        (r#""class":"ack","granted":["a"]"#, 1),
        (r#"{"gets":"ping","class":"ping","reply":"pong"}"#, 1),
        (r#""topics":["book.a"],"snapshots":["book.a"]"#, 1),
        (r#"{"gets":{"what":"no rule knows"},"class":"unmatched"}"#, 1),
        (r#"{"gets":"neither JSON nor known","class":"garbled"}"#, 1),
        (r#"{"topic":"a","key":"***"},"class":"data","topics":["a"]"#, 1),
        (r#""topics":["t"#, 3),
        ("sk-live", 0),
        (r#"["x","2"]"#, 0),
    ] {
        assert_eq!(written.matches(part).count(), count, "{part} in\n{written}");
    }
    let (status, said, errors) = run(&["check", text(&profile_file)], &[]);
    assert!(status.success(), "{errors}\n{written}");
    assert!(said.contains(&format!("messages: {steps}")) && errors.is_empty(), "{said}{errors}");
}

#[test]
fn a_file_that_is_there_is_replaced_only_by_force() {
    let folder = folder("force");
    let (profile_file, record) = (folder.join("fake.toml"), folder.join("fake.messages.jsonl"));
    std::fs::write(&profile_file, profile()).expect("a writable folder");
    std::fs::write(&record, "mine").expect("a writable folder");
    let says = || feed(vec![r#"{"topic":"a"}"#.to_string()]);
    let (status, _, errors) = probe(&says(), &profile_file, &record, &[]);
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(errors.contains("choose another name, or replace it with --force"), "{errors}");
    assert_eq!(std::fs::read_to_string(&record).expect("it stays"), "mine");
    let (status, _, errors) = probe(&says(), &profile_file, &record, &["--force"]);
    assert!(status.success(), "{errors}");
    assert!(std::fs::read_to_string(&record).expect("it is there").contains(r#""topics":["a"]"#));
}

#[test]
fn a_profile_that_guesses_has_nothing_to_record() {
    let record = folder("guess").join("g.messages.jsonl");
    let arguments = ["probe", "ws://127.0.0.1:9", "--profile", "generic", "--seconds", "1", "--record", text(&record)];
    let (status, _, errors) = run(&arguments, &[]);
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(errors.contains("found `generic`, which guesses them") && errors.lines().count() == 1, "{errors}");
    assert!(!record.exists());
}
