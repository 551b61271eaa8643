//! A server with an archive that is killed or stopped comes back where it was: clients resume, and no offset has two
//! contents.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use futures_util::future::join_all;
use kit::http::sum;
use kit::program::{Program, run};
use kit::{DEADLINE, eventually};
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const CLIENTS: usize = 8;
/// Frames of one life of the server.
const FRAMES: u64 = 6_000;
const KILLS: usize = 2;

struct ArchiveFolder(PathBuf);

impl ArchiveFolder {
    fn new(name: &str) -> ArchiveFolder {
        let folder = std::env::temp_dir().join(format!("fanline-archive-of-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        ArchiveFolder(folder)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    /// A market of 5000 messages a second, and a ring that holds all of it.
    fn serve(&self) -> Program {
        let ring = [("RING_FRAMES_MAX", "262144"), ("RING_BYTES_MAX", "1GiB"), ("SLOW_WRITE_DEADLINE", "10m")];
        Program::serve(&[], &[&ring[..], &[("ARCHIVE_DIR", self.path()), ("SIMULATE_RATE", "5000")]].concat())
    }
}

impl Drop for ArchiveFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What one client has been sent.
#[derive(Clone, Default)]
struct Seen {
    epoch: String,
    /// Where it has everything up to.
    cursor: u64,
    frames: BTreeMap<u64, String>,
    skipped: Vec<Value>,
}

impl Seen {
    /// Reads until a frame of this offset or a later one has come, or the connection ends.
    async fn read(mut self, url: String, until: u64, newest: Arc<AtomicU64>) -> Seen {
        let (mut stream, _) = connect_async(&url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        while self.cursor < until {
            let next = timeout(DEADLINE, stream.next()).await.unwrap_or_else(|_| panic!("{url}: silence"));
            let Some(Ok(Message::Text(text))) = next else { break };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            let offset = message["offset"].as_u64();
            match message["op"].as_str() {
                None => {
                    let offset = offset.expect("a frame has an offset");
                    assert!(offset > self.cursor, "{url}: {offset} after {}", self.cursor);
                    self.cursor = offset;
                    newest.fetch_max(offset, Ordering::Relaxed);
                    self.frames.insert(offset, text.as_str().to_owned());
                }
                Some("welcome") => {
                    let epoch = message["epoch"].as_str().expect("an epoch");
                    assert!(self.epoch.is_empty() || self.epoch == epoch, "{url}: another epoch, {message}");
                    self.epoch = epoch.to_owned();
                }
                Some("skipped") => self.skipped.push(message),
                Some(_) => {}
            }
        }
        self
    }

    fn url(&self, server: &Program) -> String {
        server.ws(&format!("/v1/ws?policy=lossless&topics=%3E&since={}:{}", self.epoch, self.cursor))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_clients_resume_and_have_every_offset_once_or_are_told() {
    let folder = ArchiveFolder::new("kill");
    let mut server = folder.serve();
    let newest = Arc::new(AtomicU64::new(0));
    let url = server.ws("/v1/ws?policy=lossless&topics=%3E");
    let read = (0..CLIENTS).map(|_| tokio::spawn(Seen::default().read(url.clone(), u64::MAX, newest.clone())));
    let mut reading: Vec<_> = read.collect();
    for kill in 0..KILLS {
        let wanted = newest.load(Ordering::Relaxed) + FRAMES;
        tokio::task::block_in_place(|| {
            eventually("the market goes on", || (newest.load(Ordering::Relaxed) >= wanted).then_some(()))
        });
        server.kill();
        let seen: Vec<Seen> = join_all(reading).await.into_iter().map(|seen| seen.expect("no panic")).collect();
        server = folder.serve();

        let gaps = sum(&server.get("/metrics").body, "fanline_topic_status_total", "kind=\"gap\"");
        assert!(gaps > 0.0, "kill {kill}: each topic has a gap where the server was away");

        // One client has all that the new server has, from the beginning.
        let last = seen.iter().map(|seen| seen.cursor).max().expect("clients");
        let until = last + FRAMES;
        let whole = Seen { epoch: seen[0].epoch.clone(), ..Seen::default() };
        let whole = whole.clone().read(whole.url(&server), until, newest.clone()).await;
        assert_eq!(whole.skipped, [] as [Value; 0], "kill {kill}: the ring holds all");
        let archived = whole.frames.keys().take_while(|offset| **offset <= last).last().copied().unwrap_or(0);
        assert!(archived > FRAMES / 2, "kill {kill}: {archived} of {last} were archived");
        let resumed = seen.iter().map(|seen| seen.clone().read(seen.url(&server), until, newest.clone()));
        for (before, after) in seen.iter().zip(join_all(resumed).await) {
            assert_eq!(after.skipped, [] as [Value; 0], "kill {kill}");
            for (offset, text) in &before.frames {
                match whole.frames.get(offset) {
                    Some(same) => assert_eq!(same, text, "kill {kill}"),
                    // It was shown in the last moment, and stands for nothing since.
                    None => assert!(*offset > archived, "kill {kill}: {offset} is gone, {archived} is not"),
                }
            }
            let missed = whole.frames.range(before.cursor + 1..=until.min(after.cursor));
            let got: Vec<_> = after.frames.range(before.cursor + 1..=until.min(after.cursor)).collect();
            assert!(missed.collect::<Vec<_>>() == got, "kill {kill}: after {}", before.cursor);
        }
        let again = seen.into_iter().map(|mut seen| {
            // What stands for nothing is accounted for.
            seen.frames.retain(|offset, _| whole.frames.contains_key(offset));
            let url = seen.url(&server);
            tokio::spawn(seen.read(url, u64::MAX, newest.clone()))
        });
        reading = again.collect();
    }
    server.kill();
    join_all(reading).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_orderly_stop_values_and_cursors_are_there_and_a_second_server_is_refused() {
    let folder = ArchiveFolder::new("stop");
    let mut server = folder.serve();
    let newest = Arc::new(AtomicU64::new(0));
    let url = server.ws("/v1/ws?policy=lossless&topics=%3E");
    let seen = Seen::default().read(url, 500, newest.clone()).await;

    let (status, _, told) = run(&["--listen", "127.0.0.1:0"], &[("ARCHIVE_DIR", folder.path())]);
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("archive.dir") && told.contains("found another"), "{told}");

    server.terminate();
    assert!(server.wait().success());
    let server = folder.serve();
    let metrics = server.get("/metrics");
    assert!(metrics.body.contains("fanline_archive_bytes"), "{}", metrics.body);
    let (epoch, until) = (seen.epoch.clone(), seen.cursor + 2_000);
    let resumed = seen.clone().read(seen.url(&server), until, newest).await;
    assert_eq!((resumed.epoch, resumed.skipped), (epoch, Vec::new()));
    assert!(resumed.frames.len() > 1_000, "{}", resumed.frames.len());
}
