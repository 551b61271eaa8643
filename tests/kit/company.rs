//! A client that agrees to permessage-deflate and takes whatever comes without a look at it: company for a lane.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use super::DEADLINE;
use super::program::Program;

/// Leaves without a goodbye when it is dropped.
pub struct Company {
    socket: TcpStream,
}

impl Company {
    /// Connects to `path` and offers what browsers offer.
    pub fn join(server: &Program, path: &str) -> Company {
        let mut socket = TcpStream::connect(server.addr()).expect("the server accepts");
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline above 0");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
            server.addr()
        );
        socket.write_all(request.as_bytes()).expect("the request is taken");
        let mut status = [0; 12];
        socket.read_exact(&mut status).expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 101", "{path}");
        let mut ears = socket.try_clone().expect("descriptors");
        ears.set_read_timeout(None).expect("no deadline");
        // Ends with the connection.
        thread::spawn(move || io::copy(&mut ears, &mut io::sink()));
        Company { socket }
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        // The server may have been faster.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}
