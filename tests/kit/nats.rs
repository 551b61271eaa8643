//! nats-server with JetStream, as it is, for the time of a test.

use std::ffi::OsString;
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::http::get;
use super::namespace::Namespace;
use super::program::send_signal;
use super::{eventually, skip_without_tool, tool};

/// Name of the group of servers of [`NatsServer::group`].
const GROUP: &str = "fanline-test";

pub struct NatsServer {
    child: Option<Child>,
    program: PathBuf,
    pub address: SocketAddr,
    arguments: Vec<OsString>,
    /// Where it shows its connections; only of a group.
    monitor: Option<SocketAddr>,
    /// Only of one that is alone.
    store: Option<PathBuf>,
}

impl NatsServer {
    /// With an empty store. None if the program is missing.
    pub fn start(test: &str) -> Option<NatsServer> {
        let (program, folder) = prepare(test)?;
        let [address] = free_addresses();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let arguments = ["-js", "-a", &host, "-p", &port, "-sd"].map(OsString::from);
        let arguments = arguments.into_iter().chain([folder.clone().into_os_string()]).collect();
        let mut server = NatsServer { child: None, program, address, arguments, monitor: None, store: Some(folder) };
        server.run();
        Some(server)
    }

    /// With an empty store, in a network of its own, where it listens on all links. None if the program is missing.
    pub fn within(test: &str, network: &Namespace) -> Option<NatsServer> {
        const PORT: u16 = 4222;
        let (program, folder) = prepare(test)?;
        let mut command = network.command(&program);
        command.args(["-js", "-a", "0.0.0.0", "-p", &PORT.to_string(), "-sd"]).arg(&folder);
        let (program, arguments) = (command.get_program().into(), command.get_args().map(OsString::from).collect());
        let address = network.reached_by(0, PORT);
        let mut server = NatsServer { child: None, program, address, arguments, monitor: None, store: Some(folder) };
        server.run();
        Some(server)
    }

    /// Three that keep each other's copies, with empty stores: `nats-0`, `nats-1`, `nats-2`.
    pub fn group(test: &str) -> Option<[NatsServer; 3]> {
        let (program, folder) = prepare(test)?;
        let addresses: [SocketAddr; 9] = free_addresses();
        let routes = addresses[..3].iter().map(|route| format!("\"nats://{route}\"")).collect::<Vec<_>>().join(", ");
        let mut group = [0, 1, 2].map(|index| {
            let [route, address, monitor] = [addresses[index], addresses[3 + index], addresses[6 + index]];
            let mut text = format!("server_name: nats-{index}\nlisten: \"{address}\"\nhttp: \"{monitor}\"\n");
            let store = folder.join(format!("nats-{index}"));
            let _ = writeln!(text, "jetstream {{ store_dir: {store:?}, sync_interval: always }}");
            let _ = writeln!(text, "cluster {{ name: {GROUP}, listen: \"{route}\", routes: [{routes}] }}");
            let _ = writeln!(text, "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"");
            let file = folder.join(format!("nats-{index}.conf"));
            std::fs::write(&file, text).expect("a folder to write to");
            let arguments = vec!["-c".into(), file.into_os_string()];
            let monitor = Some(monitor);
            NatsServer { child: None, program: program.clone(), address, arguments, monitor, store: None }
        });
        // Each one waits for others before it answers anything.
        group.iter_mut().for_each(NatsServer::run);
        Some(group)
    }

    /// As `cluster.urls` names it.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Starts it on its port and its store.
    pub fn run(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("nats-server starts"));
        eventually("nats-server listens", || TcpStream::connect(self.address).ok());
    }

    /// What its store holds after an end at once. It runs again afterwards.
    pub fn copy_store(&mut self) -> PathBuf {
        self.kill();
        let store = self.store.as_ref().expect("it is alone");
        let copy = store.with_extension("copy");
        let _ = std::fs::remove_dir_all(&copy);
        copy_folder(store, &copy);
        self.run();
        copy
    }

    /// Ends it at once, and starts it with the store of before: what came since is lost, as after a loss of power.
    pub fn roll_back(&mut self, copy: &Path) {
        self.kill();
        let store = self.store.as_ref().expect("it is alone");
        std::fs::remove_dir_all(store).expect("a folder of its own");
        copy_folder(copy, store);
        self.run();
    }

    /// Sends a signal by its name; of those that `nats-server --signal` documents, too.
    pub fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        assert!(send_signal(child.id(), name), "SIG{name}");
    }

    /// Waits for its end.
    pub fn wait(&mut self) {
        self.child.take().expect("it runs").wait().expect("a child of this process");
    }

    /// Whether a client with this name is connected to it. Only of a group.
    pub fn has_client(&self, name: &str) -> bool {
        get(self.monitor.expect("of a group"), "/connz").body.contains(&format!("\"name\": \"{name}\""))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a writable target directory");
    for entry in std::fs::read_dir(from).expect("a folder").map_while(Result::ok) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a file that nobody writes");
        }
    }
}

/// The program, and an empty folder.
fn prepare(test: &str) -> Option<(PathBuf, PathBuf)> {
    let Some(program) = tool("nats-server") else {
        skip_without_tool(test, "nats-server");
        return None;
    };
    let folder = super::scratch().join("nats").join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a writable target directory");
    Some((program, folder))
}

/// Addresses that nobody listens at.
fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound"))
}
