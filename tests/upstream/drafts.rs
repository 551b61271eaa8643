//! `fanline profile new`: a feed that nobody has described becomes a profile that `fanline check` accepts, and under
//! which its messages have topics.

use std::path::{Path, PathBuf};
use std::thread;

use kit::eventually;
use kit::fake_feed::FakeFeed;
use kit::program::run;

fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("drafts").join(test);
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).expect("a folder for files");
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A feed that sends quotes once it was asked.
fn feed() -> FakeFeed {
    let feed = FakeFeed::open();
    let venue = feed.clone();
    thread::spawn(move || {
        eventually("a subscription", || Some(()).filter(|()| !venue.ready(&["q"]).is_empty()));
        for n in 0..40 {
            venue.say(0, &format!(r#"{{"type":"quote","symbol":"X{}","bid":{n}}}"#, n % 2));
        }
    });
    feed
}

#[test]
fn a_feed_becomes_a_profile_that_check_accepts() {
    let folder = folder("new");
    let (profile, messages) = (folder.join("acme.toml"), folder.join("acme.messages.jsonl"));
    let (feed, asks) = (feed(), r#"{"op":"sub","items":["q"],"id":1}"#);
    let url = feed.url();
    let arguments = ["profile", "new", &url, "--send", asks, "--seconds", "1", "--out", text(&profile)];
    let (status, said, errors) = run(&arguments, &[]);
    assert!(status.success(), "{errors}");
    assert!(said.contains("40 messages of data, 40 of them with a topic; topics: 2"), "{said}");
    let drafted = std::fs::read_to_string(&profile).expect("it was written");
    assert!(drafted.contains(&format!("open    = ['{asks}']")), "{drafted}");
    let (status, said, errors) = run(&["check", text(&profile)], &[]);
    assert!(status.success() && errors.is_empty() && said.contains("messages: "), "{said}{errors}\n{drafted}");
    let (status, _, errors) = run(&arguments, &[]);
    assert!(status.code() == Some(2) && errors.contains("replace it with --force"), "{errors}");
    assert!(messages.exists());
}

#[test]
fn a_url_that_a_profile_knows_is_not_drafted() {
    let (status, said, errors) = run(&["profile", "new", "wss://ws.okx.com:8443/ws/v5/public?key=secret"], &[]);
    assert!(status.success(), "{errors}");
    assert!(said.contains("profile `okx-v5` is built in") && !said.contains("secret"), "{said}");
}
