//! A reload changes the feed of a running server, and no client notices: neither one that is applied nor one that is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use kit::client::{Client, Envelope};
use kit::eventually;
use kit::fake_feed::FakeFeed;
use kit::http::sum;
use kit::program::Program;
use kit::program::run;
use kit::tiers::TierFolder;
use serde_json::Value;

const PROFILE: &str = r#"profile = 1
name = "exchange"
[subscribe]
send = '{"op":"sub","items":${items|json},"id":${req}}'
unsubscribe = '{"op":"unsub","items":${items|json},"id":${req}}'
ack = { per = "list", id = "/id", ok = "/ok", bad = ["/bad"] }
[keepalive]
idle_timeout = "none"
stale_after = "none"
[[on]]
name = "granted"
as = "ack"
when = ['/ok exists']
[[on]]
name = "gone"
as = "ack"
when = ['/gone exists']
[[on]]
name = "data"
as = "data"
topic = "${/topic}"
seq = { rule = "inc", last = "/n" }
"#;

const TIERS: &str = "[auth.tier.all]\ntopics = ['>']\n[auth.anonymous]\ntier = 'all'\n";

/// A server with a feed, whose configuration is written anew at will.
struct Reloaded {
    folder: TierFolder,
    server: Program,
}

impl Reloaded {
    fn serve(name: &str, feed: &FakeFeed, items: &[&str]) -> Reloaded {
        let folder = TierFolder::new(name, "");
        let issuer = std::fs::read_to_string(folder.path("fanline.toml")).expect("it is there");
        std::fs::write(folder.path("issuer.toml"), issuer).expect("writable");
        write(&folder, &feed.url(), items, "");
        std::fs::write(folder.path("profile.toml"), PROFILE).expect("writable");
        let server = folder.serve(&[]);
        Reloaded { folder, server }
    }

    fn profile(&self, text: &str) {
        std::fs::write(self.folder.path("profile.toml"), text).expect("writable");
    }

    fn configure(&self, url: &str, items: &[&str], more: &str) {
        write(&self.folder, url, items, more);
    }

    /// What the command says, and whether it was applied.
    fn reload(&self) -> (bool, String) {
        let (status, told, error) = run(&["admin", "--socket", &self.folder.path("admin"), "reload"], &[]);
        (status.success(), told + &error)
    }

    fn reload_applied(&self) -> String {
        let (applied, told) = self.reload();
        assert!(applied, "{told}");
        told
    }
}

fn write(folder: &TierFolder, url: &str, items: &[&str], more: &str) {
    let issuer = std::fs::read_to_string(folder.path("issuer.toml")).expect("it is there");
    let profile = folder.path("profile.toml");
    let text =
        format!("[upstream]\nurl = '{url}'\nprofile = '{profile}'\nsubscribe = {items:?}\n{more}\n{TIERS}{issuer}");
    std::fs::write(folder.path("fanline.toml"), text).expect("writable");
}

/// Publishes numbers of some topics until it is dropped.
struct Publishing {
    told: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Publishing {
    fn start(feeds: &[FakeFeed], topics: &'static [&'static str]) -> Publishing {
        let (told, published) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (ends, count, feeds) = (told.clone(), published.clone(), feeds.to_vec());
        let publish = move || {
            while !ends.load(Ordering::Relaxed) {
                let n = count.load(Ordering::Relaxed);
                for topic in topics {
                    let text = format!(r#"{{"topic":"{topic}","n":{n}}}"#);
                    for feed in &feeds {
                        feed.publish(topic, &text, |_| false);
                    }
                }
                count.store(n + 1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        Publishing { told, published, thread: Some(std::thread::spawn(publish)) }
    }

    fn count(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.told.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Reads numbers of two topics up to one, in order and without a hole; any notice is a fault.
async fn reads_all(server: String, until: Arc<AtomicU64>) -> u64 {
    let mut client = Client::connect(&server).await;
    client.expect_op("welcome").await;
    client.expect_op("subscribed").await;
    let mut next = [None, None];
    loop {
        let text = client.text().await;
        let frame: Envelope = serde_json::from_str(&text).unwrap_or_else(|_| panic!("expected a frame, found {text}"));
        let n = serde_json::from_str::<Value>(frame.data.get()).expect("JSON")["n"].as_u64().expect("a number");
        let expected = &mut next[usize::from(frame.topic == "b")];
        assert!(expected.is_none_or(|expected| expected == n), "{}: expected {expected:?}, found {n}", frame.topic);
        *expected = Some(n + 1);
        let until = until.load(Ordering::Relaxed);
        if until > 0 && next.iter().all(|next| next.is_some_and(|next| next > until)) {
            return until;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_reloads_half_of_them_wrong_no_client_notices_anything() {
    let feeds = [FakeFeed::open(), FakeFeed::open()];
    let it = Reloaded::serve("feed-reloads", &feeds[0], &["a", "b"]);
    eventually("the feed is connected", || (feeds[0].ready(&["a", "b"]).len() == 1).then_some(()));
    let publishing = Publishing::start(&feeds, &["a", "b"]);
    let until = Arc::<AtomicU64>::default();
    let clients: Vec<_> =
        (0..10).map(|_| tokio::spawn(reads_all(it.server.ws("/v1/ws?topics=a,b"), until.clone()))).collect();
    let extra = ["c", "d", "e"];
    for n in 0..50_usize {
        let (url, items) = (feeds[n / 10 % 2].url(), ["a", "b", extra[n % 3]]);
        let more = format!("headers = ['X-Reload: {}']\nidle_timeout = '{}m'", n / 5, 10 + n / 7);
        let text = PROFILE.replace("[keepalive]\n", &format!("[keepalive]\nws_ping = \"{}s\"\n", 20 + n / 9));
        it.configure(&url, &items, &more);
        it.profile(&text);
        let told = it.reload_applied();
        assert!(told.contains("read anew: ") && told.contains("feed"), "{told}");
        // Line and remedy are told, and nothing of it is in force.
        let (file, line, remedy) = match n % 4 {
            0 => {
                it.configure(&url, &["a", "wrong"], "headrs = ['X: y']");
                ("fanline.toml", 5, "did you mean `upstream.headers`?")
            }
            1 => {
                it.configure(&url, &["a", "wrong"], "idle_timeout = '5'");
                ("fanline.toml", 5, "write a unit")
            }
            2 => {
                it.profile(&text.replace("as = \"data\"", "as = \"datum\""));
                it.configure(&url, &["a", "wrong"], "");
                ("profile.toml", 21, "did you mean")
            }
            _ => {
                it.profile(&text.replace("[subscribe]", "[subscribe"));
                it.configure(&url, &["a", "wrong"], "");
                ("profile.toml", 3, "TOML")
            }
        };
        let (applied, told) = it.reload();
        let place = format!("{file}:{line}:");
        assert!(
            !applied && told.contains(&place) && told.contains(remedy),
            "{n}: expected `{place}`, `{remedy}` in {told}"
        );
    }
    let last = feeds[49 / 10 % 2].clone();
    eventually("the last terms are in force", || {
        let others = feeds.iter().map(|feed| feed.ready(&["a", "b"]).len()).sum::<usize>();
        (others == 1 && last.ready(&["a", "b", extra[49 % 3]]).len() == 1).then_some(())
    });
    until.store(publishing.count() + 20, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client had every message once, and heard of nothing else");
    }
    let metrics = it.folder.metrics();
    let reloads = |result| sum(&metrics, "fanline_reloads_total", &format!("result=\"{result}\""));
    assert_eq!((reloads("applied"), reloads("refused")), (50.0, 50.0));
    assert_eq!(sum(&metrics, "fanline_upstream_reconnects_total", ""), 0.0, "no connection was lost");
    assert!(sum(&metrics, "fanline_upstream_rotations_total", "") >= 1.0);
    assert!(feeds.iter().all(|feed| !feed.heard().iter().any(|heard| heard.contains("wrong"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn items_come_and_go_and_the_others_are_left_alone() {
    let feed = FakeFeed::open();
    let it = Reloaded::serve("feed-items", &feed, &["a", "b"]);
    eventually("the feed is connected", || (feed.ready(&["a", "b"]).len() == 1).then_some(()));
    it.configure(&feed.url(), &["b", "c"], "");
    let told = it.reload_applied();
    assert!(told.contains("changed: upstream.subscribe from"), "{told}");
    eventually("the items are those", || {
        let state = feed.state();
        let items: Vec<_> = state.connections[0].items.iter().cloned().collect();
        (items == ["b", "c"]).then_some(())
    });
    let heard: Vec<String> = feed.heard().iter().filter(|text| text.contains("\"b\"")).cloned().collect();
    assert_eq!((heard.len(), feed.state().connections.len()), (1, 1), "{heard:?}");
    let told = it.reload_applied();
    assert!(!told.contains("feed") && !told.contains("changed: "), "nothing has changed: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_url_is_connected_to_before_the_old_one_is_left() {
    let (old, new) = (FakeFeed::open(), FakeFeed::open());
    let it = Reloaded::serve("feed-url", &old, &["a", "b"]);
    eventually("the feed is connected", || (old.ready(&["a", "b"]).len() == 1).then_some(()));
    let publishing = Publishing::start(&[old.clone(), new.clone()], &["a", "b"]);
    let until = Arc::<AtomicU64>::default();
    let client = tokio::spawn(reads_all(it.server.ws("/v1/ws?topics=a,b"), until.clone()));
    new.refuse(true);
    it.configure(&new.url(), &["a", "b"], "");
    it.reload_applied();
    eventually("the new one turns it away", || (new.state().turned_away.len() >= 2).then_some(()));
    assert_eq!(old.ready(&["a", "b"]).len(), 1, "the old one is there until the new one is");
    new.refuse(false);
    eventually("the old one is left", || old.state().connections[0].closed);
    {
        let (old, new) = (old.state(), new.state());
        let (fed, closed) = (new.connections[0].fed, old.connections[0].closed);
        assert!(fed.is_some() && fed < closed, "{fed:?} {closed:?}");
        assert_eq!((old.connections.len(), new.connections.len()), (1, 1));
    }
    until.store(publishing.count() + 20, Ordering::Relaxed);
    client.await.expect("it had every message once, and heard of nothing else");
}

#[test]
fn what_was_agreed_on_with_clients_needs_a_restart_and_a_market_stays_a_market() {
    let feed = FakeFeed::open();
    let it = Reloaded::serve("feed-agreed", &feed, &["a"]);
    it.profile(&PROFILE.replace("[subscribe]\n", "[connect]\ntopics_per_conn = 7\n[subscribe]\n"));
    let (applied, told) = it.reload();
    assert!(!applied && told.contains("`connect.topics_per_conn`") && told.contains("restart"), "{told}");
    it.profile(PROFILE);
    it.configure(&feed.url(), &["a"], "legs = 2");
    assert!(it.reload_applied().contains("unchanged until a restart: upstream.legs"));
    let folder = TierFolder::new("feed-market", &format!("[simulate]\n{TIERS}"));
    let server = folder.serve(&[]);
    let text = std::fs::read_to_string(folder.path("fanline.toml")).expect("it is there");
    std::fs::write(folder.path("fanline.toml"), format!("[upstream]\nurl = '{}'\n{text}", feed.url()))
        .expect("writable");
    let (status, told, error) = run(&["admin", "--socket", &folder.path("admin"), "reload"], &[]);
    assert!(status.success() && told.contains("unchanged until a restart: upstream.url"), "{told}{error}");
    assert_eq!(server.get("/healthz").status, 200);
}
