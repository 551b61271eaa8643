//! The header of the PROXY protocol, version 1 and 2 (haproxy's doc/proxy-protocol.txt): the client's address, before the
//! first byte of the client.
//!
//! Nothing behind the header is read, so the stream goes on with TLS or HTTP. Whoever reads this has checked that the peer
//! is trusted, and bounds the time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::edge::listen::forwarded::WebScheme;

/// The longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;
/// Behind the fixed part of version 2: the longest addresses (two unix paths), and 2 KiB of TLVs.
const REST_BYTES_MAX: usize = 216 + 2048;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Both versions have at least this many bytes: `PROXY UNKNOWN\r\n`.
const FIRST_BYTES: usize = 15;
/// Fixed part of version 2.
const FIXED_BYTES: usize = 16;

/// TLV about TLS between the client and the proxy, and the bit that says so.
const TLV_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// What the proxy says about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxiedClient {
    /// The proxy asks for itself, as in a health check, or does not know: the connection counts as the proxy's own.
    Unknown,
    Known {
        address: IpAddr,
        /// The client spoke TLS with the proxy.
        scheme: Option<WebScheme>,
    },
}

/// Why the begin of a connection is not a header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    #[error("expected a header of the PROXY protocol, found other bytes")]
    Malformed,
    #[error("expected at most {max} bytes in a header of the PROXY protocol, found more")]
    TooLong { max: usize },
    #[error("expected a whole header of the PROXY protocol, found: {0}")]
    Lost(#[from] io::Error),
}

/// Reads exactly the header.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<ProxiedClient, ProxyHeaderError> {
    let mut header = [0; LINE_BYTES_MAX];
    stream.read_exact(&mut header[..FIRST_BYTES]).await?;
    if header.starts_with(&SIGNATURE) {
        stream.read_exact(&mut header[FIRST_BYTES..FIXED_BYTES]).await?;
        let bytes = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if bytes > REST_BYTES_MAX {
            return Err(ProxyHeaderError::TooLong { max: FIXED_BYTES + REST_BYTES_MAX });
        }
        let mut rest = vec![0; bytes];
        stream.read_exact(&mut rest).await?;
        return version_2(header[12], header[13], &rest).ok_or(ProxyHeaderError::Malformed);
    }
    if !header.starts_with(b"PROXY ") {
        return Err(ProxyHeaderError::Malformed);
    }
    let mut held = FIRST_BYTES;
    while !header[..held].ends_with(b"\r\n") {
        // The line ends with two bytes, so as many may be read without touching what follows it.
        let wanted = if header[held - 1] == b'\r' { 1 } else { 2 };
        if held + wanted > LINE_BYTES_MAX {
            return Err(ProxyHeaderError::TooLong { max: LINE_BYTES_MAX });
        }
        stream.read_exact(&mut header[held..held + wanted]).await?;
        held += wanted;
    }
    version_1(&header[..held - 2]).ok_or(ProxyHeaderError::Malformed)
}

/// A line without its end.
fn version_1(line: &[u8]) -> Option<ProxiedClient> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("PROXY ")?;
    // The rest of such a line is to be ignored.
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(ProxiedClient::Unknown);
    }
    let words: Vec<&str> = rest.split(' ').collect();
    let &[family, source, destination, source_port, destination_port] = words.as_slice() else { return None };
    let (source, destination): (IpAddr, IpAddr) = (source.parse().ok()?, destination.parse().ok()?);
    let is_port = |port: &str| {
        let is_canonical = port == "0" || (port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0'));
        is_canonical && port.parse::<u16>().is_ok()
    };
    let fits = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    let known = ProxiedClient::Known { address: source.to_canonical(), scheme: None };
    (fits && is_port(source_port) && is_port(destination_port)).then_some(known)
}

fn version_2(version_and_command: u8, family: u8, rest: &[u8]) -> Option<ProxiedClient> {
    match version_and_command {
        0x20 => return Some(ProxiedClient::Unknown),
        0x21 => {}
        _ => return None,
    }
    let (address, tlvs): (IpAddr, &[u8]) = match family {
        // Unspecified, and a unix socket at the proxy: no address that could be counted.
        0x00 | 0x31 => return Some(ProxiedClient::Unknown),
        0x11 => {
            let (addresses, tlvs) = rest.split_first_chunk::<12>()?;
            (Ipv4Addr::from(*addresses.first_chunk::<4>()?).into(), tlvs)
        }
        0x21 => {
            let (addresses, tlvs) = rest.split_first_chunk::<36>()?;
            (Ipv6Addr::from(*addresses.first_chunk::<16>()?).into(), tlvs)
        }
        _ => return None,
    };
    let scheme = scheme(tlvs).ok()?;
    Some(ProxiedClient::Known { address: address.to_canonical(), scheme })
}

/// What the proxy says about TLS between the client and itself, if anything.
///
/// # Errors
/// The TLVs do not end where they should.
fn scheme(mut tlvs: &[u8]) -> Result<Option<WebScheme>, ProxyHeaderError> {
    let mut said = None;
    while !tlvs.is_empty() {
        let malformed = || ProxyHeaderError::Malformed;
        let ([kind, high, low], rest) = tlvs.split_first_chunk::<3>().ok_or_else(malformed)?;
        let bytes = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(bytes).ok_or_else(malformed)?;
        if *kind == TLV_SSL {
            let is_encrypted = value.first().ok_or_else(malformed)? & CLIENT_SSL != 0;
            said = Some(if is_encrypted { WebScheme::Https } else { WebScheme::Http });
        }
        tlvs = rest;
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn known(address: &str) -> ProxiedClient {
        ProxiedClient::Known { address: address.parse().expect(address), scheme: None }
    }

    /// Reads the header from what is there; also what is left of the stream.
    async fn read_from(bytes: &[u8]) -> (Result<ProxiedClient, ProxyHeaderError>, Vec<u8>) {
        let mut stream = bytes;
        let found = read(&mut stream).await;
        (found, stream.to_vec())
    }

    fn version_2_of(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    fn v6() -> Vec<u8> {
        let address = |text: &str| text.parse::<Ipv6Addr>().expect(text).octets();
        [&address("2001:db8::7")[..], &address("2001:db8::1"), &[0x12, 0x34, 0, 80]].concat()
    }

    fn headers() -> Vec<(Vec<u8>, ProxiedClient)> {
        let https = ProxiedClient::Known { address: [192, 0, 2, 7].into(), scheme: Some(WebScheme::Https) };
        let http = ProxiedClient::Known { address: [192, 0, 2, 7].into(), scheme: Some(WebScheme::Http) };
        let long = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_owned();
        vec![
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n".to_vec(), known("192.0.2.7")),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n".to_vec(), known("1.1.1.1")),
            (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_vec(), known("255.255.255.255")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n".to_vec(), known("2001:db8::7")),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 0 0\r\n".to_vec(), known("192.0.2.7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), ProxiedClient::Unknown),
            (long.into_bytes(), ProxiedClient::Unknown),
            (version_2_of(0x21, 0x11, &V4), known("192.0.2.7")),
            (version_2_of(0x21, 0x21, &v6()), known("2001:db8::7")),
            (version_2_of(0x21, 0x11, &[&V4[..], &[4, 0, 3, 1, 2, 3]].concat()), known("192.0.2.7")),
            (version_2_of(0x21, 0x11, &[&V4[..], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat()), https),
            (version_2_of(0x21, 0x11, &[&V4[..], &[0x20, 0, 5, 0, 0, 0, 0, 0]].concat()), http),
            (version_2_of(0x21, 0x31, &[0; 216]), ProxiedClient::Unknown),
            (version_2_of(0x21, 0x00, &[]), ProxiedClient::Unknown),
            (version_2_of(0x20, 0x00, &[]), ProxiedClient::Unknown),
            (version_2_of(0x20, 0x11, &V4), ProxiedClient::Unknown),
            (version_2_of(0x20, 0x00, &[7; REST_BYTES_MAX]), ProxiedClient::Unknown),
        ]
    }

    #[tokio::test]
    async fn a_header_is_read_to_its_last_byte_and_not_further() {
        for (header, expected) in headers() {
            for rest in [&b""[..], b"\r", b"GET / HTTP/1.1\r\n\r\n", b"PROXY UNKNOWN\r\n"] {
                let (found, left) = read_from(&[&header, rest].concat()).await;
                assert_eq!(found.ok(), Some(expected), "{}", header.escape_ascii());
                assert_eq!(left, rest, "{}", header.escape_ascii());
            }
        }
    }

    #[tokio::test]
    async fn a_header_that_breaks_off_anywhere_is_lost_and_nothing_else() {
        for (header, _) in headers() {
            for end in 0..header.len() {
                let (found, _) = read_from(&header[..end]).await;
                assert!(matches!(found, Err(ProxyHeaderError::Lost(_))), "{}", header[..end].escape_ascii());
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh".to_vec(),
            b"proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY\tTCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(),
            line("TCP4 192.0.2.7 10.0.0.1 1"),
            line("TCP4 192.0.2.7 10.0.0.1 1 2 3"),
            line("TCP4  192.0.2.7 10.0.0.1 1 2"),
            line("TCP4 192.0.2.7 10.0.0.1 1 2 "),
            line("TCP4 192.0.2.7 10.0.0.1 1 65536"),
            line("TCP4 192.0.2.7 10.0.0.1 -1 2"),
            line("TCP4 192.0.2.7 10.0.0.1 +1 2"),
            line("TCP4 192.0.2.7 10.0.0.1 01 2"),
            line("TCP4 192.0.2.07 10.0.0.1 1 2"),
            line("TCP4 2001:db8::7 2001:db8::1 1 2"),
            line("TCP6 192.0.2.7 10.0.0.1 1 2"),
            line("TCP6 2001:db8::7%1 2001:db8::1 1 2"),
            line("UDP4 192.0.2.7 10.0.0.1 1 2"),
            line("UNKNOWNS"),
            line("TCP4 192.0.2.7\r10.0.0.1 1 2"),
            version_2_of(0x22, 0x11, &V4),
            version_2_of(0x11, 0x11, &V4),
            version_2_of(0x21, 0x12, &V4),
            version_2_of(0x21, 0x13, &V4),
            version_2_of(0x21, 0x11, &V4[..11]),
            version_2_of(0x21, 0x21, &V4),
            version_2_of(0x21, 0x11, &[&V4[..], &[4, 0]].concat()),
            version_2_of(0x21, 0x11, &[&V4[..], &[4, 0, 9, 1]].concat()),
            version_2_of(0x21, 0x11, &[&V4[..], &[0x20, 0, 0]].concat()),
        ] {
            let (found, _) = read_from(&bytes).await;
            assert!(matches!(found, Err(ProxyHeaderError::Malformed)), "{}: {found:?}", bytes.escape_ascii());
        }
        let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 1000]].concat();
        let large = version_2_of(0x20, 0, &[0; REST_BYTES_MAX + 1]);
        for bytes in [endless, large] {
            let (found, left) = read_from(&bytes).await;
            assert!(matches!(found, Err(ProxyHeaderError::TooLong { .. })), "{found:?}");
            assert!(bytes.len() - left.len() <= LINE_BYTES_MAX, "no more than that is read");
        }
    }

    /// Whatever arrives, in whatever portions: no panic, a verdict, and never more read than the bound.
    #[tokio::test]
    async fn no_bytes_make_it_panic_or_read_beyond_the_bounds() {
        let mut random = SmallRng::seed_from_u64(13);
        let headers = headers();
        for _ in 0..20_000 {
            let mut bytes = headers[random.random_range(0..headers.len())].0.clone();
            bytes.extend(std::iter::repeat_n(b'x', 3000));
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len().min(120));
                bytes[at] =
                    if random.random() { random.random() } else { b"\r\n 0129:.QPTU"[random.random_range(0..13)] };
            }
            let (_, left) = read_from(&bytes).await;
            assert!(bytes.len() - left.len() <= FIXED_BYTES + REST_BYTES_MAX, "{}", bytes[..120].escape_ascii());
        }
    }
}
