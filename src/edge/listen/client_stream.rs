//! A connection before its upgrade, whatever it came over: bytes in and out, and the way to a shard.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::delivery::transport::client_socket::ClientSocket;
use crate::edge::listen::peer::ClientCertificate;
use crate::edge::listen::tls::certificate::subject_of;
use crate::edge::listen::tls::record_stream::TlsStream;

pub(in crate::edge) enum ClientStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// After the handshake.
    Tls(Box<TlsStream>),
}

impl ClientStream {
    /// Waits until the client has sent something, without reading it. Not by `readable`, which some sockets report
    /// before anything was sent.
    pub(crate) async fn first_byte(&self) -> io::Result<()> {
        let mut first = [0; 1];
        match self {
            ClientStream::Tcp(stream) => stream.peek(&mut first).await.map(drop),
            ClientStream::Unix(stream) => {
                let peek = || SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
                stream.async_io(Interest::READABLE, peek).await.map(drop)
            }
            ClientStream::Tls(tls) => tls.stream().peek(&mut first).await.map(drop),
        }
    }

    /// The certificate that the client has shown, if it had to.
    pub(crate) fn client_certificate(&self) -> Option<ClientCertificate> {
        let ClientStream::Tls(tls) = self else { return None };
        let certificate = tls.session().connection().peer_certificates()?.first()?;
        Some(ClientCertificate(subject_of(certificate).into()))
    }

    /// Bounds what the kernel holds unsent. A Unix socket has a bounded buffer already.
    pub(crate) fn limit_unsent(&self, bytes_max: u32) -> io::Result<()> {
        match self {
            ClientStream::Tcp(stream) => SockRef::from(stream).set_tcp_notsent_lowat(bytes_max),
            ClientStream::Tls(tls) => SockRef::from(tls.stream()).set_tcp_notsent_lowat(bytes_max),
            ClientStream::Unix(_) => Ok(()),
        }
    }

    /// Sends what the kernel takes at once, to a client that is about to be closed.
    pub(crate) fn hint(&self, bytes: &[u8]) {
        let sent = match self {
            ClientStream::Tcp(stream) => SockRef::from(stream).send(bytes),
            ClientStream::Unix(stream) => SockRef::from(stream).send(bytes),
            // It would have to be sealed, for a client that is not worth it.
            ClientStream::Tls(_) => return,
        };
        // A client that misses it sees the connection end.
        drop(sent);
    }

    /// Leaves tokio's reactor, with what was received and not read. `into_std` leaves a socket in non-blocking mode, as
    /// delivery needs it.
    pub(crate) fn into_client_socket(self) -> io::Result<(ClientSocket, Vec<u8>)> {
        Ok(match self {
            ClientStream::Tcp(stream) => (stream.into_std()?.into(), Vec::new()),
            ClientStream::Unix(stream) => (stream.into_std()?.into(), Vec::new()),
            ClientStream::Tls(tls) => return tls.into_client_socket(),
        })
    }

    /// Leaves tokio's reactor. What is given, called within another runtime, is the same connection there.
    pub(crate) fn detach(self) -> io::Result<DetachedStream> {
        Ok(match self {
            ClientStream::Tcp(stream) => {
                let stream = stream.into_std()?;
                Box::new(move || TcpStream::from_std(stream).map(ClientStream::from))
            }
            ClientStream::Unix(stream) => {
                let stream = stream.into_std()?;
                Box::new(move || UnixStream::from_std(stream).map(ClientStream::from))
            }
            ClientStream::Tls(tls) => {
                let attach = tls.detach()?;
                Box::new(move || Ok(ClientStream::Tls(Box::new(attach()?))))
            }
        })
    }

    fn pinned(self: Pin<&mut Self>) -> Pin<&mut dyn ByteStream> {
        match self.get_mut() {
            ClientStream::Tcp(stream) => Pin::new(stream),
            ClientStream::Unix(stream) => Pin::new(stream),
            ClientStream::Tls(tls) => Pin::new(tls.as_mut()),
        }
    }
}

/// A connection that no reactor watches, on its way to another runtime.
pub(in crate::edge) type DetachedStream = Box<dyn FnOnce() -> io::Result<ClientStream> + Send>;

/// What all of them can do.
trait ByteStream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> ByteStream for S {}

impl From<TcpStream> for ClientStream {
    fn from(stream: TcpStream) -> ClientStream {
        ClientStream::Tcp(stream)
    }
}

impl From<UnixStream> for ClientStream {
    fn from(stream: UnixStream) -> ClientStream {
        ClientStream::Unix(stream)
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.pinned().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pinned().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            ClientStream::Tcp(_) | ClientStream::Unix(_) => true,
            ClientStream::Tls(_) => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned().poll_shutdown(cx)
    }
}
