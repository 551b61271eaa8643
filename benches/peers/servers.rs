//! The servers: how each is started, published to and subscribed to, with what its documentation recommends for fan-out.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fanline::bench::client_tls::Trust;
use fanline::bench::dial::DialTarget;
use fanline::bench::subscribe::subscribe;
use shared_deflate::deflate::Inflater;
use shared_deflate::frame::{Decoder, Message, Opcode, put_frame};
use tokio_tungstenite::tungstenite;

use super::processes::{Processes, bounded};

const START_DEADLINE: Duration = Duration::from_secs(10);
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(20);
const NATS_CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
/// Of the first topic of a list.
const NATS_SID: u32 = 100;
const FEED_MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A running server. Killed on drop.
pub struct Server {
    pub processes: Processes,
    pub target: DialTarget,
    pub publisher: Publisher,
    folder: PathBuf,
}

/// How messages are published to a server.
pub struct Publisher {
    /// Appends a message as this server wants it.
    wrap: fn(&[u8], &mut Vec<u8>),
    line: Box<dyn Write>,
}

/// What to start a server with.
pub struct Wish<'f> {
    pub deflate: bool,
    /// An empty folder of its own.
    pub folder: &'f Path,
    /// Where benches/peers/setup has put Debian's programs.
    pub peers: &'f Path,
    pub port: u16,
    /// A second port, for the publisher.
    pub back_port: u16,
    /// Each client subscribes to a list of topics; a message goes to the topic that it names.
    pub lists: bool,
}

pub struct Peer {
    pub name: &'static str,
    pub deflates: bool,
    /// Bytes of a message in a client's stream, given those of its topic's name and of itself, if several may share a
    /// WireFrame.
    pub packed: Option<fn(usize, usize) -> usize>,
    /// Prepares the connection of a client with a list of topics, if the server knows topics.
    pub subscribe: Option<fn(&mut DialTarget, &[&str])>,
    pub start: fn(&Wish<'_>) -> Option<Server>,
}

const fn peer(name: &'static str, deflates: bool, start: fn(&Wish<'_>) -> Option<Server>) -> Peer {
    Peer { name, deflates, packed: None, subscribe: None, start }
}

/// The bare loop is the first, fanline the second.
pub const SERVERS: [Peer; 11] = [
    peer("bare loop", false, |wish| built_in(wish, "bare")),
    Peer { subscribe: Some(fanline_list), ..peer("fanline", true, fanline) },
    Peer { subscribe: Some(nchan_list), ..peer("nchan, 1 worker", true, |wish| nchan(wish, "1")) },
    Peer { subscribe: Some(nchan_list), ..peer("nchan, a worker for each core", true, |wish| nchan(wish, "auto")) },
    Peer { packed: Some(nats_bytes), subscribe: Some(nats_list), ..peer("nats-server", true, nats) },
    peer("mosquitto (MQTT, QoS 0)", false, mosquitto),
    Peer { subscribe: Some(node_list), ..peer("Node ws", true, node) },
    peer("Python websockets", true, python),
    peer("axum, tokio broadcast, a task a client", false, |wish| built_in(wish, "one-task")),
    peer("axum, tokio broadcast, two tasks", false, |wish| built_in(wish, "two-tasks")),
    peer("axum, two tasks, small buffers", false, |wish| built_in(wish, "two-tasks-small-buffers")),
];

impl Publisher {
    pub fn publish(&mut self, messages: &[Vec<u8>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| (self.wrap)(message, &mut bytes));
        self.line.write_all(&bytes)
    }
}

impl Server {
    /// Publishes lines to stdin, unless set otherwise.
    fn start(wish: &Wish<'_>, command: &mut Command, path: &str) -> Option<Server> {
        let (processes, stdin) = Processes::start(command).ok()?;
        let wrap = |message: &[u8], out: &mut Vec<u8>| out.extend([message, b"\n"].concat());
        let publisher = Publisher { wrap, line: Box::new(stdin) };
        let mut target = DialTarget::parse(&format!("ws://127.0.0.1:{}{path}", wish.port), &Trust::Anyone).ok()?;
        target.deflate = wish.deflate;
        let mut server = Server { processes, target, publisher, folder: wish.folder.to_owned() };
        let listens = || TcpStream::connect(("127.0.0.1", wish.port)).ok();
        until(|| server.processes.have_ended().then_some(None).or_else(|| listens().map(Some)))??;
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Asks repeatedly, until there is an answer or the deadline passes.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    while started.elapsed() < START_DEADLINE {
        let answer = ask();
        if answer.is_some() {
            return answer;
        }
        std::thread::sleep(GLANCE);
    }
    None
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// With its defaults, but for the limit by address: all clients have one. What is published is its feed.
fn fanline(wish: &Wish<'_>) -> Option<Server> {
    let listener = TcpListener::bind(("127.0.0.1", wish.back_port)).ok()?;
    listener.set_nonblocking(true).ok()?;
    let mut command = bounded(env!("CARGO_BIN_EXE_fanline"));
    command.arg("--listen").arg(format!("127.0.0.1:{}", wish.port)).args(["--profile", "simulated"]);
    command.args(["--limits-sessions-per-address-max", "0"]);
    command.arg(format!("ws://127.0.0.1:{}/", wish.back_port));
    let path = if wish.lists { "/v1/ws?format=raw" } else { "/v1/ws?topics=%3E&format=raw" };
    let mut server = Server::start(wish, &mut command, path)?;
    let socket = until(|| listener.accept().ok())?.0;
    socket.set_nonblocking(false).ok()?;
    socket.set_nodelay(true).ok()?;
    let socket = tungstenite::accept(socket).ok()?.into_inner();
    socket.set_write_timeout(Some(WRITE_DEADLINE)).ok()?;
    let line = FeedLine(Arc::new(Mutex::new(socket.try_clone().ok()?)));
    let pongs = line.clone();
    std::thread::spawn(move || answer_pings(socket, pongs));
    let wrap = |message: &[u8], out: &mut Vec<u8>| put_frame(out, Opcode::Text, message);
    server.publisher = Publisher { wrap, line: Box::new(line) };
    Some(server)
}

fn fanline_list(target: &mut DialTarget, topics: &[&str]) {
    target.first_command = subscribe(topics);
}

/// The connection to fanline: the publisher's messages, and pongs between them.
#[derive(Clone)]
struct FeedLine(Arc<Mutex<TcpStream>>);

impl Write for FeedLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // All of it under one lock, so that nothing is written between its parts.
        self.0.lock().expect("no panic").write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn answer_pings(mut socket: TcpStream, mut line: FeedLine) -> Option<()> {
    let (mut decoder, mut inflater) = (Decoder::new(FEED_MESSAGE_BYTES_MAX, false), Inflater::new());
    let mut piece = [0; 4096];
    loop {
        let bytes = socket.read(&mut piece).ok().filter(|bytes| *bytes > 0)?;
        decoder.push(&piece[..bytes]);
        while let Some(message) = decoder.next(&mut inflater).ok()? {
            if let Message::Ping(payload) = message {
                let mut pong = Vec::new();
                put_frame(&mut pong, Opcode::Pong, &payload);
                line.write_all(&pong).ok()?;
            }
        }
    }
}

/// The program of a Debian package that benches/peers/setup has unpacked.
fn debian(wish: &Wish<'_>, program: &str) -> Option<Command> {
    let mut command = bounded(fs::canonicalize(wish.peers.join(program)).ok()?);
    command.env("LD_LIBRARY_PATH", libraries(wish));
    Some(command)
}

fn libraries(wish: &Wish<'_>) -> PathBuf {
    wish.peers.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH))
}

/// `workers`: as nginx's `worker_processes`. With several, each has a listening socket, as nginx recommends.
fn nchan(wish: &Wish<'_>, workers: &str) -> Option<Server> {
    let (to, from) = if wish.lists { ("$arg_t", "nchan_channel_id_split_delimiter ,;") } else { ("t", "") };
    let deflate = if wish.deflate { "nchan_deflate_message_for_websocket on;" } else { "" };
    let reuse = if workers == "1" { "" } else { "reuseport" };
    let config = format!(
        "load_module {}/usr/lib/nginx/modules/ngx_nchan_module.so;\n\
         daemon off; worker_processes {workers}; pid nginx.pid; error_log error.log;\n\
         events {{ worker_connections 32768; }}\n\
         http {{ access_log off; keepalive_requests 100000000; client_body_temp_path b; proxy_temp_path p;\n\
         fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         server {{ listen 127.0.0.1:{} {reuse}; tcp_nodelay on;\n\
         location = /sub {{ nchan_subscriber websocket; nchan_channel_id {to}; {from} }}\n\
         location = /pub {{ nchan_publisher; nchan_channel_id {to}; nchan_message_buffer_length 32768; {deflate} }} }} }}\n",
        fs::canonicalize(wish.peers).ok()?.display(),
        wish.port
    );
    fs::write(wish.folder.join("nginx.conf"), config).ok()?;
    // The module insists on a folder that the program was built with: it gets one in a mount namespace of its own.
    const SHELL: &str = "mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/nginx && exec \"$@\"";
    let mut command = bounded("unshare");
    command.env("LD_LIBRARY_PATH", libraries(wish));
    // Not as root, so that nginx has no user to change to.
    command.args(["--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "--mount", "sh", "-c", SHELL, "sh"]);
    command.arg(fs::canonicalize(wish.peers.join("usr/sbin/nginx")).ok()?);
    command.arg("-p").arg(wish.folder).args(["-e", "error.log", "-c", "nginx.conf"]);
    let mut server = Server::start(wish, &mut command, "/sub")?;
    let line = connect(wish.port)?;
    let wrap = |message: &[u8], out: &mut Vec<u8>| {
        let topic = topic(message);
        let head = format!("POST /pub?t={topic} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", message.len());
        out.extend([head.as_bytes(), message].concat());
    };
    server.publisher = Publisher { wrap, line: Box::new(line) };
    Some(server)
}

/// At most 255 channels: the limit of nchan.
fn nchan_list(target: &mut DialTarget, topics: &[&str]) {
    target.path = format!("/sub?t={}", topics.join(","));
}

/// Limits are the defaults: 64 MB pending and a write deadline of 10 s for a client, more than this load needs.
fn nats(wish: &Wish<'_>) -> Option<Server> {
    let config = format!(
        "host: 127.0.0.1\nport: {}\nping_interval: \"1h\"\n\
         websocket {{ host: 127.0.0.1, port: {}, no_tls: true, compression: {} }}\n",
        wish.back_port, wish.port, wish.deflate
    );
    let file = wish.folder.join("nats.conf");
    fs::write(&file, config).ok()?;
    let mut server = Server::start(wish, debian(wish, "usr/sbin/nats-server")?.arg("-c").arg(&file), "/")?;
    server.target.path = "/".into();
    server.target.first_command = masked(format!("{NATS_CONNECT}SUB t 1\r\n").as_bytes());
    let mut line = connect(wish.back_port)?;
    line.write_all(NATS_CONNECT.as_bytes()).ok()?;
    let to_one = |message: &[u8], out: &mut Vec<u8>| {
        out.extend([format!("PUB t {}\r\n", message.len()).as_bytes(), message, b"\r\n"].concat());
    };
    let to_topics = |message: &[u8], out: &mut Vec<u8>| {
        let head = format!("PUB {} {}\r\n", topic(message), message.len());
        out.extend([head.as_bytes(), message, b"\r\n"].concat());
    };
    server.publisher = Publisher { wrap: if wish.lists { to_topics } else { to_one }, line: Box::new(line) };
    Some(server)
}

fn nats_list(target: &mut DialTarget, topics: &[&str]) {
    // Three digits each, so that the bytes of a message do not depend on its place in the list.
    let lines = topics.iter().zip(NATS_SID..).map(|(topic, sid)| format!("SUB {topic} {sid}\r\n"));
    target.first_command = masked(format!("{NATS_CONNECT}{}", lines.collect::<String>()).as_bytes());
}

/// As `MSG SUBJECT SID BYTES`, payload and two line ends. The topic `t` has the SID 1, others have three digits.
fn nats_bytes(topic_bytes: usize, payload_bytes: usize) -> usize {
    let sid_bytes = if topic_bytes > 1 { 3 } else { 1 };
    format!("MSG   {payload_bytes}\r\n\r\n").len() + topic_bytes + sid_bytes + payload_bytes
}

/// Queues for a client hold more messages than the publisher is ever ahead.
fn mosquitto(wish: &Wish<'_>) -> Option<Server> {
    /// Protocol MQTT 3.1.1, clean session, no keep-alive, no client identifier.
    const CONNECT: &[u8] = b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00\x00";
    const SUBSCRIBE: &[u8] = b"\x82\x06\x00\x01\x00\x01t\x00";
    let config = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nlistener {} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n\
         max_inflight_messages 0\nmax_queued_messages 100000\nset_tcp_nodelay true\nsys_interval 0\nlog_type none\n\
         user root\n",
        wish.back_port, wish.port
    );
    let file = wish.folder.join("mosquitto.conf");
    fs::write(&file, config).ok()?;
    let mut server = Server::start(wish, debian(wish, "usr/sbin/mosquitto")?.arg("-c").arg(&file), "/mqtt")?;
    server.target.headers = "sec-websocket-protocol: mqtt\r\n".into();
    server.target.first_command = masked(&[CONNECT, SUBSCRIBE].concat());
    let mut line = connect(wish.back_port)?;
    line.write_all(CONNECT).ok()?;
    let wrap = |message: &[u8], out: &mut Vec<u8>| {
        let bytes = message.len() + 3;
        out.extend([0x30, 0x80 | (bytes % 128) as u8, (bytes / 128) as u8, 0, 1, b't']);
        out.extend_from_slice(message);
    };
    server.publisher = Publisher { wrap, line: Box::new(line) };
    Some(server)
}

fn node(wish: &Wish<'_>) -> Option<Server> {
    script(wish, Path::new("node"), "benches/peers/ws.mjs")
}

/// The names, separated by commas.
fn node_list(target: &mut DialTarget, topics: &[&str]) {
    target.first_command = masked(topics.join(",").as_bytes());
}

fn python(wish: &Wish<'_>) -> Option<Server> {
    let python = wish.peers.parent()?.join("venv/bin/python");
    script(wish, &python, "benches/peers/ws.py")
}

fn script(wish: &Wish<'_>, program: &Path, file: &str) -> Option<Server> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let mut command = bounded(program);
    command.arg(file).arg(wish.port.to_string()).args(wish.deflate.then_some("deflate"));
    command.args(wish.lists.then_some("lists"));
    Server::start(wish, &mut command, "/any")
}

/// A server of this program itself.
fn built_in(wish: &Wish<'_>, name: &str) -> Option<Server> {
    let mut command = bounded(std::env::current_exe().ok()?);
    Server::start(wish, command.args(["serve", name]).arg(wish.port.to_string()), "/any")
}

/// Whatever the server sends is read and forgotten.
fn connect(port: u16) -> Option<TcpStream> {
    let socket = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).ok()?;
    socket.set_nodelay(true).ok()?;
    socket.set_write_timeout(Some(WRITE_DEADLINE)).ok()?;
    let mut answers = socket.try_clone().ok()?;
    std::thread::spawn(move || {
        let mut piece = [0; 65_536];
        while let Ok(1..) = answers.read(&mut piece) {}
    });
    Some(socket)
}

/// The topic that a message of the market names first.
fn topic(message: &[u8]) -> &str {
    let topic = message.split(|byte| *byte == b'"').nth(3).unwrap_or_default();
    std::str::from_utf8(topic).unwrap_or_default()
}

/// A client's binary WireFrame with the mask 0.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    put_frame(&mut frame, Opcode::Binary, payload);
    let head_bytes = frame.len() - payload.len();
    frame[1] |= 0x80;
    frame.splice(head_bytes..head_bytes, [0; 4]);
    frame
}
