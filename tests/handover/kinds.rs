//! Hand-overs of all kinds: those that fail, each kind of listener, a venue of one connection, the service manager.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use kit::certificate::CertificateFiles;
use kit::client::Client;
use kit::fake_feed::{FakeFeed, PROFILE};
use kit::http::sum;
use kit::program::{Program, run};
use kit::{DEADLINE, certificate, eventually, skip_without_tool, tool};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::{Scratch, market, serve};

fn failures(server: &Program) -> f64 {
    sum(&server.get("/metrics").body, "fanline_handovers_total", "result=\"failed\"")
}

/// Asks for a hand-over that fails; gives what the log says of it.
fn fail_to_hand_over(server: &Program) -> String {
    let before = failures(server);
    let marker = "SIGUSR2: expected";
    let lines = |log: &str| log.lines().filter(|line| line.contains(marker)).map(str::to_owned).collect::<Vec<_>>();
    let told = lines(&server.log()).len();
    server.signal("USR2");
    let line = eventually("the log says why", || lines(&server.log()).get(told).cloned());
    assert_eq!(failures(server), before + 1.0);
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_that_fails_changes_nothing_and_another_may_be_asked() {
    let (folder, market) = (Scratch::new("fails"), market("500"));
    let (file, archive) = (folder.path("fanline.toml"), folder.path("archive"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let good = format!("[archive]\ndir = '{archive}'\n[upstream]\nurl = '{}'\nprofile = 'simulated'\n", market.ws("/"));
    std::fs::write(&file, &good).expect("writable");
    let server = serve(&market, &[("CONFIG", &file)]);
    let mut client = Client::connect(&server.ws("/v1/ws?policy=lossless&topics=%3E")).await;
    let epoch = client.expect_op("welcome").await["epoch"].clone();
    let mut offset = 0;
    let mut go_on = async |frames| {
        for _ in 0..frames {
            let text = client.text().await;
            if text.starts_with("{\"topic\":") {
                let frame: kit::client::Envelope = serde_json::from_str(&text).expect("a frame");
                assert!(frame.offset > offset, "{} after {offset}", frame.offset);
                offset = frame.offset;
            } else {
                assert!(!text.contains("\"skipped\"") && !text.contains("\"goodbye\""), "{text}");
            }
        }
        offset
    };
    go_on(200).await;

    // One that is refused before it asks for anything, and one that fails after the feed and the archive are its own.
    let broken = format!("{good}[ring]\nframes_mx = 3\n");
    let in_use = format!("[admin]\nlisten = '{}'\n{good}", taken.local_addr().expect("bound"));
    for (text, remedy) in [(&broken, "frames_max"), (&in_use, "in use by another program")] {
        std::fs::write(&file, text).expect("writable");
        let line = tokio::task::block_in_place(|| fail_to_hand_over(&server));
        assert!(line.contains("has ended (exit status: ") && line.contains("this process goes on"), "{line}");
        assert!(server.log().contains(remedy), "{}", server.log());
        let before = go_on(1).await;
        while go_on(1).await < before + 500 {}
    }
    assert_eq!(server.successors(), [] as [u32; 0]);

    std::fs::write(&file, &good).expect("writable");
    let last = go_on(1).await;
    tokio::task::block_in_place(|| server.hand_over());
    let url = server.ws(&format!("/v1/ws?policy=lossless&topics=%3E&since={}:{last}", epoch.as_str().expect("a text")));
    let mut resumed = Client::connect(&url).await;
    assert_eq!(resumed.expect_op("welcome").await["epoch"], epoch, "the archive has gone from one to the other and on");
    resumed.expect_op("subscribed").await;
    assert!(resumed.newest_offset().await > last);
}

/// Whether a client that trusts this certificate shakes hands at this port.
fn shakes_hands(port: u16, trusted: &CertificateFiles) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().into()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    while client.is_handshaking() {
        if client.complete_io(&mut socket).is_err() {
            return false;
        }
    }
    true
}

#[test]
fn every_kind_of_listener_is_handed_over_and_the_operator_asks_for_it() {
    let folder = Scratch::new("listeners");
    let certificate = certificate::write("handover", &["localhost"]);
    let (open, admin) = (folder.path("open.sock"), folder.path("admin.sock"));
    let listen = format!("127.0.0.1:0,tls://127.0.0.1:0,unix:{open}?mode=666");
    let settings = [("TLS_CERTIFICATES", &*certificate.pair()), ("DRAIN_RECONNECT_SPREAD", "0s")];
    let mut server = Program::serve_on(&listen, &["--admin-listen", &format!("unix:{admin}")], &settings);
    let port = server.next_address().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    for round in 0..2 {
        let (status, told, error) = run(&["admin", "--socket", &admin, "handover"], &[]);
        assert!(status.success() && told.starts_with("handed over to process "), "{round}: {told}{error}");
        if round == 0 {
            assert_eq!(server.wait().code(), Some(0));
        }
        assert_eq!(server.get("/healthz").status, 200);
        assert!(shakes_hands(port, &certificate), "{round}");
        assert!(UnixStream::connect(&open).is_ok(), "{round}: the file of the socket is there");
        let (status, told, error) = run(&["admin", "--socket", &admin, "sessions"], &[]);
        assert!(status.success(), "{round}: {told}{error}");
    }
    assert_eq!(server.successors().len(), 2);
    server.end_successor();
    assert!(!Path::new(&open).exists() && !Path::new(&admin).exists(), "the last one removes them");
}

/// A server of a feed that says nothing by itself.
fn serve_quiet(feed: &FakeFeed, folder: &Scratch, more: &str) -> Program {
    let profile = folder.path("profile.toml");
    std::fs::write(&profile, PROFILE.replace("[subscribe]", &format!("{more}\n[subscribe]"))).expect("writable");
    Program::serve(&[&feed.url(), "--profile", &profile, "--subscribe", "a"], &[])
}

#[test]
fn a_stop_in_the_middle_stops_both_and_one_hand_over_is_made_at_a_time() {
    let (folder, feed) = (Scratch::new("stop"), FakeFeed::open());
    let mut server = serve_quiet(&feed, &folder, "");
    let subscribed = |count| eventually("the feed is subscribed", || (feed.ready(&["a"]).len() == count).then_some(()));
    subscribed(1);
    // The new process waits for the first message of the feed.
    server.signal("USR2");
    subscribed(2);
    server.signal("USR2");
    eventually("the second one is refused", || server.log().contains("found another one under way").then_some(()));
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    subscribed(0);
    assert!(server.log().contains("given up, because the server is to stop"), "{}", server.log());
    assert_eq!(server.successors(), [] as [u32; 0]);
}

/// The process that this one has started.
fn child_of(pid: u32) -> Option<u32> {
    let numbers = std::fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parent = |number: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let mut numbers = numbers;
    numbers.find(|number| parent(number) == Some(pid))
}

#[test]
fn a_stop_of_the_new_process_before_it_serves_leaves_the_old_one_where_it_is() {
    let (folder, feed) = (Scratch::new("stop-new"), FakeFeed::open());
    let server = serve_quiet(&feed, &folder, "");
    let subscribed = |count| eventually("the feed is subscribed", || (feed.ready(&["a"]).len() == count).then_some(()));
    subscribed(1);
    server.signal("USR2");
    subscribed(2);
    let new = child_of(server.pid()).expect("the new process");
    assert!(Command::new("kill").arg(new.to_string()).status().expect("kill").success());
    eventually("the old process goes on", || server.log().contains("this process goes on").then_some(()));
    assert_eq!((server.get("/healthz").status, server.successors().len()), (200, 0));
    subscribed(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_on_without_an_archive_that_cannot_go_on() {
    let (folder, market) = (Scratch::new("no-archive"), market("500"));
    let archive = folder.path("archive");
    let server = serve(&market, &[("ARCHIVE_DIR", &archive)]);
    let mut client = Client::connect(&server.ws("/v1/ws?topics=%3E")).await;
    client.expect_op("welcome").await;
    client.expect_op("subscribed").await;
    client.frame().await;
    std::fs::rename(&archive, format!("{archive}.away")).expect("it is there");
    std::fs::write(&archive, "").expect("a file in its place");
    let line = tokio::task::block_in_place(|| fail_to_hand_over(&server));
    assert!(line.contains("this process goes on"), "{line}");
    let is_told = || server.log().contains("the archive cannot go on").then_some(());
    tokio::task::block_in_place(|| eventually("the log says that nothing is archived", is_told));
    tokio::task::block_in_place(|| {
        eventually("the feed is live again", || (server.get("/readyz").status == 200).then_some(()));
    });
    client.frame().await;
}

#[test]
fn a_new_process_without_messages_does_not_take_over_from_one_that_has_some() {
    let (folder, feed) = (Scratch::new("deaf"), FakeFeed::open());
    let server = serve_quiet(&feed, &folder, "");
    eventually("the feed is subscribed", || (feed.ready(&["a"]) == [0]).then_some(()));
    server.signal("USR2");
    let line = eventually("the log says why", || {
        feed.publish("a", r#"{"topic":"a","n":1}"#, |connection| connection > 0);
        server.log().lines().find(|line| line.contains("to receive messages of the feed")).map(str::to_owned)
    });
    assert!(line.contains("this process goes on"), "{line}");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_venue_of_one_connection_never_has_two() {
    let (folder, feed) = (Scratch::new("one"), FakeFeed::open());
    let mut server = serve_quiet(&feed, &folder, "[connect]\nmax_conns = 1\n");
    eventually("the feed is subscribed", || (feed.ready(&["a"]) == [0]).then_some(()));
    server.signal("USR2");
    eventually("the feed is subscribed by the other", || (feed.ready(&["a"]) == [1]).then_some(()));
    feed.publish("a", r#"{"topic":"a","n":1}"#, |_| false);
    eventually("another process serves", || server.successors().first().copied());
    assert_eq!(server.wait().code(), Some(0));
    let state = feed.state();
    assert_eq!((state.connections.len(), state.most_open()), (2, 1), "one after the other");
}

#[test]
fn the_service_manager_is_told_which_process_serves() {
    let folder = Scratch::new("notify");
    let path = folder.path("notify");
    let manager = UnixDatagram::bind(&path).expect("a short path");
    manager.set_read_timeout(Some(DEADLINE)).expect("a deadline above 0");
    let heard = || {
        let mut text = [0; 256];
        let bytes = manager.recv(&mut text).expect("something is told");
        String::from_utf8(text[..bytes].to_vec()).expect("UTF-8")
    };
    let mut server = Program::serve_knowing(&[], &[], &[("NOTIFY_SOCKET", &path)]);
    assert_eq!(heard(), "READY=1");
    let pid = server.hand_over();
    assert_eq!(heard(), format!("MAINPID={pid}"));
    assert_eq!(heard(), "READY=1");
    assert_eq!(server.wait().code(), Some(0));
    server.end_successor();
    assert_eq!(heard(), "STOPPING=1");
}

/// Listens at two places, and becomes the program with these sockets, as systemd does.
const ACTIVATE: &str = r#"
import os, socket, sys
tcp = socket.create_server(("127.0.0.1", int(sys.argv[1])))
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[2])
unix.listen()
for at, held in enumerate([os.dup(tcp.fileno()), os.dup(unix.fileno())]):
    os.dup2(held, 10 + at)
for at in range(2):
    os.dup2(10 + at, 3 + at)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="fanline.socket:fanline.socket")
os.execv(sys.argv[3], sys.argv[3:])
"#;

#[test]
fn sockets_of_the_service_manager_are_used_and_handed_over() {
    let test = "sockets_of_the_service_manager_are_used_and_handed_over";
    let Some(python) = tool("python3") else { return skip_without_tool(test, "python3") };
    let folder = Scratch::new("activation");
    let path = folder.path("open.sock");
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let listen = format!("127.0.0.1:{port}");
    let at_unix = format!("unix:{path}");
    let mut command = Command::new(python);
    command.args(["-c", ACTIVATE, &port.to_string(), &path]);
    let mut server = Program::serve_through(command, &["--listen", &listen, "--listen", &at_unix], &[]);
    assert_eq!((server.addr().to_string(), server.next_address()), (listen, at_unix));
    server.hand_over();
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.get("/healthz").status, 200);
    assert!(UnixStream::connect(&path).is_ok());
    server.end_successor();
    assert!(Path::new(&path).exists(), "the file is the service manager's");
}
