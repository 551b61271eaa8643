//! The sockets there are: what the edge hands over and a shard's poll watches.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::delivery::transport::socket::Socket;

/// A client's socket, in non-blocking mode.
#[derive(Debug)]
pub enum ClientSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl ClientSocket {
    /// Bounds what the kernel holds unsent. A Unix socket has a bounded buffer already.
    pub fn limit_unsent(&self, bytes_max: u32) -> io::Result<()> {
        match self {
            ClientSocket::Tcp(stream) => SockRef::from(stream).set_tcp_notsent_lowat(bytes_max),
            ClientSocket::Unix(_) => Ok(()),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            ClientSocket::Tcp(stream) => stream,
            ClientSocket::Unix(stream) => stream,
        }
    }
}

/// The stream must be in non-blocking mode.
impl From<std::net::TcpStream> for ClientSocket {
    fn from(stream: std::net::TcpStream) -> ClientSocket {
        ClientSocket::Tcp(TcpStream::from_std(stream))
    }
}

/// The stream must be in non-blocking mode.
impl From<std::os::unix::net::UnixStream> for ClientSocket {
    fn from(stream: std::os::unix::net::UnixStream) -> ClientSocket {
        ClientSocket::Unix(UnixStream::from_std(stream))
    }
}

impl Source for ClientSocket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

impl Read for ClientSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            ClientSocket::Tcp(stream) => stream.read(buffer),
            ClientSocket::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for ClientSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            ClientSocket::Tcp(stream) => stream.write(bytes),
            ClientSocket::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for ClientSocket {
    fn has_unsent(&self) -> bool {
        false
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            ClientSocket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            ClientSocket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}
