//! A server that speaks TLS at its second listener, and plain HTTP at the first.

use std::net::TcpStream;

use super::DEADLINE;
use super::http::sum;
use super::program::Program;

pub struct TlsServer {
    pub program: Program,
    /// Of the listener of TLS.
    pub port: u16,
}

impl TlsServer {
    /// With a simulated market, and `certificates` as in `tls.certificates`.
    pub fn start(certificates: &str, settings: &[(&str, &str)]) -> TlsServer {
        TlsServer::serve(certificates, &[], settings)
    }

    pub fn serve(certificates: &str, args: &[&str], settings: &[(&str, &str)]) -> TlsServer {
        let settings = [settings, &[("TLS_CERTIFICATES", certificates)]].concat();
        let program = Program::serve_on("127.0.0.1:0,tls://127.0.0.1:0", args, &settings);
        let address = program.next_address();
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        assert!(address.starts_with("https://"), "{address}");
        TlsServer { program, port }
    }

    /// A WebSocket URL; `path` starts with `/`.
    pub fn wss(&self, path: &str) -> String {
        format!("wss://localhost:{}{path}", self.port)
    }

    pub fn https(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    pub fn dial(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline above 0");
        socket
    }

    pub fn handshakes(&self, labels: &str) -> f64 {
        sum(&self.program.get("/metrics").body, "fanline_tls_handshakes_total", labels)
    }
}
