//! The servers: how each is started, published to and subscribed to.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fanline::bench::dial::Target;

/// How a server is told a message.
type Publish = Box<dyn FnMut(&[u8]) -> std::io::Result<()>>;

/// A running server. Killed on drop.
pub struct Server {
    child: Child,
    pub target: Target,
    pub publish: Publish,
    folder: PathBuf,
}

/// What to start a server with.
pub struct Wish<'f> {
    pub deflate: bool,
    /// An empty folder of its own.
    pub folder: &'f Path,
    /// Where benches/peers/setup has put Debian's programs.
    pub peers: &'f Path,
    pub port: u16,
    /// A second port, for who publishes.
    pub back_port: u16,
}

pub struct Peer {
    pub name: &'static str,
    pub deflates: bool,
    pub start: fn(&Wish<'_>) -> Option<Server>,
}

pub const PEERS: [Peer; 6] = [
    Peer { name: "nchan (nginx, 1 worker)", deflates: true, start: nchan },
    Peer { name: "nats-server", deflates: true, start: nats },
    Peer { name: "mosquitto (MQTT)", deflates: false, start: mosquitto },
    Peer { name: "Node ws", deflates: true, start: node },
    Peer { name: "Python websockets", deflates: true, start: python },
    Peer { name: "tokio broadcast, a task per client", deflates: false, start: broadcast },
];

impl Server {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn start(wish: &Wish<'_>, command: &mut Command, path: &str) -> Option<Server> {
        let libraries = wish.peers.join("usr/lib/x86_64-linux-gnu");
        let command = command.env("LD_LIBRARY_PATH", libraries).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let mut stdin = child.stdin.take()?;
        let publish = move |message: &[u8]| stdin.write_all(&[message, b"\n"].concat());
        let mut target = Target::parse(&format!("ws://127.0.0.1:{}{path}", wish.port)).ok()?;
        target.deflate = wish.deflate;
        let mut server = Server { child, target, publish: Box::new(publish), folder: wish.folder.to_owned() };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", wish.port)).is_err() {
            if started.elapsed() > Duration::from_secs(10) || server.child.try_wait().ok()?.is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

fn nchan(wish: &Wish<'_>) -> Option<Server> {
    let deflate = if wish.deflate { "nchan_deflate_message_for_websocket on;" } else { "" };
    let config = format!(
        "load_module {}/usr/lib/nginx/modules/ngx_nchan_module.so;\n\
         user root; daemon off; master_process off; pid nginx.pid; error_log error.log; worker_rlimit_nofile 65536;\n\
         events {{ worker_connections 32768; }}\n\
         http {{ access_log off; keepalive_requests 100000000; client_body_temp_path b; proxy_temp_path p;\n\
         fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         server {{ listen 127.0.0.1:{}; tcp_nodelay on;\n\
         location = /sub {{ nchan_subscriber websocket; nchan_channel_id t; }}\n\
         location = /pub {{ nchan_publisher; nchan_channel_id t; nchan_message_buffer_length 4096; {deflate} }} }} }}\n",
        fs::canonicalize(wish.peers).ok()?.display(),
        wish.port
    );
    fs::write(wish.folder.join("nginx.conf"), config).ok()?;
    // The module insists on a folder that the program was built with: it gets one in a mount namespace of its own.
    const SHELL: &str = "mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/nginx && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", SHELL, "sh"]);
    command.arg(fs::canonicalize(wish.peers.join("usr/sbin/nginx")).ok()?);
    command.arg("-p").arg(wish.folder).args(["-e", "error.log", "-c", "nginx.conf"]);
    let mut server = Server::start(wish, &mut command, "/sub")?;
    let mut socket = connect(wish.port)?;
    drain(&socket)?;
    server.publish = Box::new(move |message| {
        let head = format!("POST /pub HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", message.len());
        socket.write_all(&[head.as_bytes(), message].concat())
    });
    Some(server)
}

fn nats(wish: &Wish<'_>) -> Option<Server> {
    let config = format!(
        "host: 127.0.0.1\nport: {}\nmax_connections: 100000\nmax_pending: 256MB\n\
         websocket {{ host: 127.0.0.1, port: {}, no_tls: true, compression: {} }}\n",
        wish.back_port, wish.port, wish.deflate
    );
    let file = wish.folder.join("nats.conf");
    fs::write(&file, config).ok()?;
    let mut server =
        Server::start(wish, Command::new(wish.peers.join("usr/sbin/nats-server")).arg("-c").arg(&file), "/")?;
    server.target.path = "/".into();
    server.target.hello = masked(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB t 1\r\n");
    let mut socket = connect(wish.back_port)?;
    drain(&socket)?;
    socket.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").ok()?;
    server.publish = Box::new(move |message| {
        socket.write_all(&[format!("PUB t {}\r\n", message.len()).as_bytes(), message, b"\r\n"].concat())
    });
    Some(server)
}

fn mosquitto(wish: &Wish<'_>) -> Option<Server> {
    /// Protocol MQTT 3.1.1, clean session, no keep-alive, no client identifier.
    const CONNECT: &[u8] = b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00\x00";
    const SUBSCRIBE: &[u8] = b"\x82\x06\x00\x01\x00\x01t\x00";
    let config = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nlistener {} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n\
         max_queued_messages 100000\nset_tcp_nodelay true\nuser root\n",
        wish.back_port, wish.port
    );
    let file = wish.folder.join("mosquitto.conf");
    fs::write(&file, config).ok()?;
    let mut server =
        Server::start(wish, Command::new(wish.peers.join("usr/sbin/mosquitto")).arg("-c").arg(&file), "/mqtt")?;
    server.target.headers = "sec-websocket-protocol: mqtt\r\n".into();
    server.target.hello = masked(&[CONNECT, SUBSCRIBE].concat());
    let mut socket = connect(wish.back_port)?;
    drain(&socket)?;
    socket.write_all(CONNECT).ok()?;
    server.publish = Box::new(move |message| {
        let length = message.len() + 3;
        let head = [0x30, 0x80 | (length % 128) as u8, (length / 128) as u8, 0, 1, b't'];
        socket.write_all(&[&head, message].concat())
    });
    Some(server)
}

fn node(wish: &Wish<'_>) -> Option<Server> {
    script(wish, Path::new("node"), "benches/peers/ws.mjs")
}

fn python(wish: &Wish<'_>) -> Option<Server> {
    let python = wish.peers.parent()?.join("venv/bin/python");
    script(wish, &python, "benches/peers/ws.py")
}

fn script(wish: &Wish<'_>, program: &Path, file: &str) -> Option<Server> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let mut command = Command::new(program);
    command.arg(file).arg(wish.port.to_string()).args(wish.deflate.then_some("deflate"));
    Server::start(wish, &mut command, "/any")
}

fn broadcast(wish: &Wish<'_>) -> Option<Server> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.arg("serve-broadcast").arg(wish.port.to_string());
    Server::start(wish, &mut command, "/any")
}

fn connect(port: u16) -> Option<TcpStream> {
    let socket = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).ok()?;
    socket.set_nodelay(true).ok()?;
    Some(socket)
}

/// Reads and forgets what comes back to the publisher.
fn drain(socket: &TcpStream) -> Option<()> {
    let mut socket = socket.try_clone().ok()?;
    std::thread::spawn(move || {
        let mut piece = [0; 65_536];
        while let Ok(1..) = socket.read(&mut piece) {}
    });
    Some(())
}

/// A client's binary WireFrame with the mask 0.
fn masked(payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126, "a short hello");
    [&[0x82, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}
