//! A small proxy, HTTP CONNECT or SOCKS5, that knows one name: that of the venue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::prelude::{BASE64_STANDARD, Engine};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Resolved by the proxy alone.
pub const NAME: &str = "venue.test";
pub const USER: &str = "me";
pub const PASSWORD: &str = "p@ss";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    Connect,
    Socks,
    /// Accepts connections and says nothing.
    Mute,
}

pub struct Tunnel {
    pub kind: TunnelKind,
    address: SocketAddr,
    opened: Arc<AtomicUsize>,
}

impl Tunnel {
    /// To `venue`; with `wants_password` only for those who have it.
    pub async fn open(kind: TunnelKind, venue: SocketAddr, wants_password: bool) -> Tunnel {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let opened = Arc::new(AtomicUsize::new(0));
        let counted = opened.clone();
        tokio::spawn(async move {
            while let Ok((mut guest, _)) = listener.accept().await {
                let counted = counted.clone();
                tokio::spawn(async move {
                    let is_open = match kind {
                        TunnelKind::Connect => connect(&mut guest, wants_password).await,
                        TunnelKind::Socks => socks(&mut guest, wants_password).await,
                        TunnelKind::Mute => std::future::pending().await,
                    };
                    if is_open {
                        counted.fetch_add(1, Ordering::Relaxed);
                        let mut venue = TcpStream::connect(venue).await.expect("the venue listens");
                        // Either side may end it.
                        let _ = copy_bidirectional(&mut guest, &mut venue).await;
                    }
                });
            }
        });
        Tunnel { kind, address, opened }
    }

    /// As `upstream.proxy`; `user` ends with `@` or is empty.
    pub fn url(&self, user: &str) -> String {
        let scheme = if self.kind == TunnelKind::Socks { "socks5" } else { "http" };
        format!("{scheme}://{user}{}", self.address)
    }

    /// Ways to the venue so far.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }
}

async fn connect(guest: &mut TcpStream, wants_password: bool) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(guest.read_u8().await.expect("a whole head"));
    }
    let head = String::from_utf8(head).expect("text");
    let pair = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let status = if wants_password && !head.contains(&format!("Basic {pair}\r\n")) {
        "407 Proxy Authentication Required"
    } else if !head.starts_with(&format!("CONNECT {NAME}:")) {
        "502 Bad Gateway"
    } else {
        "200 Connection established"
    };
    guest.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.expect("the guest listens");
    status.starts_with("200")
}

async fn socks(guest: &mut TcpStream, wants_password: bool) -> bool {
    const PASSWORD_METHOD: u8 = 2;
    const NO_METHOD: u8 = 0xff;
    const HOST_UNREACHABLE: u8 = 4;
    assert_eq!(guest.read_u8().await.expect("a version"), 5);
    let methods = counted(guest).await;
    let wanted = if wants_password { PASSWORD_METHOD } else { 0 };
    let method = if methods.contains(&wanted) { wanted } else { NO_METHOD };
    guest.write_all(&[5, method]).await.expect("the guest listens");
    if method == NO_METHOD {
        return false;
    }
    if method == PASSWORD_METHOD {
        assert_eq!(guest.read_u8().await.expect("a version"), 1);
        let is_right = [counted(guest).await, counted(guest).await] == [USER.as_bytes(), PASSWORD.as_bytes()];
        guest.write_all(&[1, u8::from(!is_right)]).await.expect("the guest listens");
        if !is_right {
            return false;
        }
    }
    let mut request = [0; 4];
    guest.read_exact(&mut request).await.expect("a request");
    assert_eq!(request, [5, 1, 0, 3], "a connection to a name");
    let name = counted(guest).await;
    guest.read_u16().await.expect("a port");
    let refusal = if name == NAME.as_bytes() { 0 } else { HOST_UNREACHABLE };
    guest.write_all(&[5, refusal, 0, 1, 0, 0, 0, 0, 0, 0]).await.expect("the guest listens");
    refusal == 0
}

/// Bytes behind their number.
async fn counted(guest: &mut TcpStream) -> Vec<u8> {
    let count = guest.read_u8().await.expect("a length");
    let mut bytes = vec![0; count.into()];
    guest.read_exact(&mut bytes).await.expect("so many bytes");
    bytes
}
