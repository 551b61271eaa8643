//! The sockets there are: what the edge hands over and a shard's poll watches.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::delivery::transport::tls_socket::{TlsScratch, TlsSocket};

/// A client's socket, in non-blocking mode.
#[derive(Debug)]
pub enum ClientSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// After the handshake; its keys are beside it.
    Tls(Box<TlsSocket>),
}

impl ClientSocket {
    /// Bounds what the kernel holds unsent. A Unix socket has a bounded buffer already.
    pub fn limit_unsent(&self, bytes_max: u32) -> io::Result<()> {
        match self {
            ClientSocket::Tcp(stream) => SockRef::from(stream).set_tcp_notsent_lowat(bytes_max),
            ClientSocket::Tls(tls) => SockRef::from(tls.stream()).set_tcp_notsent_lowat(bytes_max),
            ClientSocket::Unix(_) => Ok(()),
        }
    }

    /// Bounds how long what was sent may go unacknowledged: the connection is lost then.
    pub fn limit_silence(&self, time: Duration) -> io::Result<()> {
        match self {
            ClientSocket::Tcp(stream) => SockRef::from(stream).set_tcp_user_timeout(Some(time)),
            ClientSocket::Tls(tls) => SockRef::from(tls.stream()).set_tcp_user_timeout(Some(time)),
            ClientSocket::Unix(_) => Ok(()),
        }
    }

    /// What the client has sent, decrypted.
    pub fn receive(&mut self, buffer: &mut [u8], scratch: &TlsScratch) -> io::Result<usize> {
        match self {
            ClientSocket::Tcp(stream) => stream.read(buffer),
            ClientSocket::Unix(stream) => stream.read(buffer),
            ClientSocket::Tls(tls) => tls.receive(buffer, scratch),
        }
    }

    /// Sends what the socket takes, encrypted.
    pub fn send(&mut self, bytes: &[u8], scratch: &TlsScratch) -> io::Result<usize> {
        match self {
            ClientSocket::Tcp(stream) => stream.write(bytes),
            ClientSocket::Unix(stream) => stream.write(bytes),
            ClientSocket::Tls(tls) => tls.send(bytes, scratch),
        }
    }

    /// The TLS that it speaks, if it does.
    pub fn tls(&self) -> Option<&TlsSocket> {
        match self {
            ClientSocket::Tls(tls) => Some(tls),
            ClientSocket::Tcp(_) | ClientSocket::Unix(_) => None,
        }
    }

    /// The same, to change it.
    pub fn tls_mut(&mut self) -> Option<&mut TlsSocket> {
        match self {
            ClientSocket::Tls(tls) => Some(tls),
            ClientSocket::Tcp(_) | ClientSocket::Unix(_) => None,
        }
    }

    /// Says that nothing more follows.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            ClientSocket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            ClientSocket::Unix(stream) => stream.shutdown(Shutdown::Write),
            ClientSocket::Tls(tls) => tls.shutdown_write(),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            ClientSocket::Tcp(stream) => stream,
            ClientSocket::Unix(stream) => stream,
            ClientSocket::Tls(tls) => tls.stream_mut(),
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
