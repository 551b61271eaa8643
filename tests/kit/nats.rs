//! nats-server with JetStream, as it is, for the time of a test.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{eventually, skip_without_tool, tool};

pub struct NatsServer {
    child: Option<Child>,
    program: PathBuf,
    pub address: SocketAddr,
    folder: PathBuf,
}

impl NatsServer {
    /// With an empty store. None if the program is missing.
    pub fn start(test: &str) -> Option<NatsServer> {
        let Some(program) = tool("nats-server") else {
            skip_without_tool(test, "nats-server");
            return None;
        };
        let folder = super::scratch().join("nats").join(test);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a writable target directory");
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
        let address = ([127, 0, 0, 1], port).into();
        let mut server = NatsServer { child: None, program, address, folder };
        server.run();
        Some(server)
    }

    /// As `cluster.urls` names it.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Starts it on its port and its store.
    pub fn run(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(["-js", "-a", "127.0.0.1", "-p", &self.address.port().to_string(), "-sd"]).arg(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("nats-server starts"));
        eventually("nats-server listens", || TcpStream::connect(self.address).ok());
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
