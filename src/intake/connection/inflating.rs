//! The stream below a WebSocket whose feed compresses (permessage-deflate, RFC 7692): what is above it reads the same
//! messages, uncompressed.
//!
//! It holds back what follows the head of the handshake until the caller has read there what was agreed on. Then each
//! compressed message is collected, inflated and passed on as one frame; every other frame is passed on as it came, for
//! the WebSocket above to judge. It holds one compressed message, inflated or not, each of at most `bytes_max`.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use shared_deflate::deflate::{InflateError, Inflater};
use shared_deflate::frame::{Opcode, put_header};
use shared_deflate::scan::FrameHeader;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much as TLS gives at a time.
const READ_BYTES: usize = 16 << 10;
/// Longest head of an answer to a handshake; behind more there is no WebSocket.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEAD_END: &[u8] = b"\r\n\r\n";
const FIN: u8 = 0x80;

/// Why compressed messages cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CompressionFault {
    #[error("a compressed message is larger than {max} bytes")]
    TooBig { max: usize },
    #[error("{0}")]
    Broken(String),
}

#[derive(Debug)]
pub(crate) struct Inflating<S> {
    stream: S,
    state: InflatingState,
    /// To be passed on, and how much of it already is.
    ready: Vec<u8>,
    passed_bytes: usize,
}

#[derive(Debug)]
enum InflatingState {
    /// Everything is passed on.
    Plain,
    /// In the head of the answer to the handshake, which so far is this.
    Head(Vec<u8>),
    /// Behind the head; what has arrived waits for `begin`.
    Held(Vec<u8>),
    Frames(Box<FrameInflater>),
}

/// The frames of one connection.
#[derive(Debug)]
struct FrameInflater {
    inflater: Inflater,
    bytes_max: usize,
    /// The beginning of a header.
    head: Vec<u8>,
    /// Bytes of the current frame's payload that have not arrived, and whether they are passed on.
    rest: u64,
    is_passed: bool,
    is_last: bool,
    /// The compressed message under way.
    message: Option<(Opcode, Vec<u8>)>,
}

impl<S> Inflating<S> {
    /// A stream on which nothing is compressed.
    pub(super) fn plain(stream: S) -> Inflating<S> {
        Inflating { stream, state: InflatingState::Plain, ready: Vec::new(), passed_bytes: 0 }
    }

    /// A stream whose handshake offers compression; `begin` must follow it.
    pub(super) fn offered(stream: S) -> Inflating<S> {
        Inflating { state: InflatingState::Head(Vec::new()), ..Inflating::plain(stream) }
    }

    /// The handshake is done, and the feed compresses messages or not.
    pub(super) fn begin(&mut self, is_compressed: bool, bytes_max: usize) -> Result<(), CompressionFault> {
        let held = match std::mem::replace(&mut self.state, InflatingState::Plain) {
            InflatingState::Held(held) => held,
            // A head that ends in another way: frames were passed on already.
            _ if is_compressed => return Err(unread_head()),
            _ => return Ok(()),
        };
        if !is_compressed {
            self.ready.extend_from_slice(&held);
            return Ok(());
        }
        let mut frames = Box::new(FrameInflater::new(bytes_max));
        frames.take(&held, &mut self.ready)?;
        self.state = InflatingState::Frames(frames);
        Ok(())
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Takes received bytes: what can be passed on now is in `ready`.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.state {
            InflatingState::Plain | InflatingState::Held(_) => self.ready.extend_from_slice(bytes),
            InflatingState::Frames(frames) => frames.take(bytes, &mut self.ready).map_err(io::Error::other)?,
            InflatingState::Head(head) => {
                let before = head.len();
                head.extend_from_slice(bytes);
                let from = before.saturating_sub(HEAD_END.len() - 1);
                let end = head[from..].windows(HEAD_END.len()).position(|window| window == HEAD_END);
                let end = end.map(|at| from + at + HEAD_END.len());
                self.ready.extend_from_slice(&head[before..end.unwrap_or(head.len())]);
                let is_switching = head.get(8..12).is_none_or(|status| status == b" 101");
                match end {
                    Some(end) if is_switching => self.state = InflatingState::Held(head.split_off(end)),
                    Some(end) => {
                        self.ready.extend_from_slice(&head[end..]);
                        self.state = InflatingState::Plain;
                    }
                    None if head.len() > HEAD_BYTES_MAX => self.state = InflatingState::Plain,
                    None => {}
                }
            }
        }
        Ok(())
    }
}

fn unread_head() -> CompressionFault {
    CompressionFault::Broken("the head of the handshake does not end as HTTP has it".into())
}

impl FrameInflater {
    fn new(bytes_max: usize) -> FrameInflater {
        FrameInflater {
            inflater: Inflater::new(),
            bytes_max,
            head: Vec::new(),
            rest: 0,
            is_passed: true,
            is_last: false,
            message: None,
        }
    }

    fn take(&mut self, mut bytes: &[u8], ready: &mut Vec<u8>) -> Result<(), CompressionFault> {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let (payload, after) =
                    bytes.split_at(bytes.len().min(usize::try_from(self.rest).unwrap_or(usize::MAX)));
                bytes = after;
                self.rest -= payload.len() as u64;
                match &mut self.message {
                    Some((_, message)) if !self.is_passed => message.extend_from_slice(payload),
                    _ => ready.extend_from_slice(payload),
                }
            } else {
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
                match FrameHeader::read(&self.head) {
                    Ok(Some(header)) => self.begin(&header, ready)?,
                    Ok(None) => continue,
                    Err(masked) => return Err(CompressionFault::Broken(masked.to_string())),
                }
            }
            if self.rest == 0 && !self.is_passed && self.is_last {
                self.finish(ready)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, header: &FrameHeader, ready: &mut Vec<u8>) -> Result<(), CompressionFault> {
        let opcode = header.opcode();
        let starts = matches!(opcode, Some(Opcode::Text | Opcode::Binary));
        if starts && self.message.is_some() {
            return Err(CompressionFault::Broken("a message begins inside another".into()));
        }
        if let Some(opcode) = opcode.filter(|_| starts && header.is_compressed()) {
            self.message = Some((opcode, Vec::new()));
        }
        self.rest = header.payload_bytes;
        self.is_last = header.first & FIN != 0;
        // Continuations cannot be compressed by themselves (RFC 7692 section 6.1); the WebSocket above refuses them.
        let continues = opcode == Some(Opcode::Continuation) && !header.is_compressed();
        self.is_passed = !(self.message.is_some() && (starts || continues));
        if self.is_passed {
            ready.append(&mut self.head);
        }
        self.head.clear();
        let before = self.message.as_ref().map_or(0, |(_, message)| message.len() as u64);
        if !self.is_passed && before.saturating_add(self.rest) > self.bytes_max as u64 {
            return Err(CompressionFault::TooBig { max: self.bytes_max });
        }
        Ok(())
    }

    fn finish(&mut self, ready: &mut Vec<u8>) -> Result<(), CompressionFault> {
        self.is_passed = true;
        let Some((opcode, message)) = self.message.take() else { return Ok(()) };
        // Messages that stand alone can be read with a window as well.
        let inflated = self.inflater.inflate_with_context(&message, self.bytes_max).map_err(|error| match error {
            InflateError::TooBig { max } => CompressionFault::TooBig { max },
            InflateError::Broken(_) => CompressionFault::Broken(error.to_string()),
        })?;
        put_header(ready, opcode, false, inflated.len());
        ready.extend_from_slice(&inflated);
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Inflating<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.passed_bytes == this.ready.len() {
            this.ready.clear();
            this.passed_bytes = 0;
            match this.state {
                InflatingState::Plain => return Pin::new(&mut this.stream).poll_read(cx, buf),
                InflatingState::Held(_) => return Poll::Ready(Err(io::Error::other(unread_head()))),
                InflatingState::Head(_) | InflatingState::Frames(_) => {}
            }
            let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.take(read.filled())?;
        }
        let rest = &this.ready[this.passed_bytes..];
        let bytes = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..bytes]);
        this.passed_bytes += bytes;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Inflating<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use shared_deflate::deflate::Deflater;
    use shared_deflate::frame::{put_close, put_frame};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        assert!(payload.len() < 126);
        [&[first, payload.len() as u8], payload].concat()
    }

    /// Messages in one frame, in several, compressed and not, with control frames between; and what they are.
    fn messages() -> (Vec<u8>, Vec<u8>) {
        let (mut sent, mut plain) = (Vec::new(), Vec::new());
        let mut deflater = Deflater::new(6, 15);
        for n in 0..20 {
            let text = format!(r#"{{"s":"EURUSD","bid":"1.0{n}","ask":"1.1{n}","at":{n}}}"#);
            let mut deflated = Vec::new();
            deflater.deflate(text.as_bytes(), &mut deflated);
            let (one, two) = deflated.split_at(deflated.len() / 2);
            match n % 4 {
                0 => sent.extend(frame(0xC1, &deflated)),
                1 => {
                    sent.extend([frame(0x41, one), frame(0x00, b""), frame(0x80, two)].concat());
                }
                2 => {
                    sent.extend([frame(0x41, one), frame(0x89, b"ping"), frame(0x80, two)].concat());
                    plain.extend(frame(0x89, b"ping"));
                }
                _ => {
                    sent.extend(frame(0xC1, &deflated));
                    let parts = [frame(0x02, b"not "), frame(0x80, b"compressed")].concat();
                    sent.extend(&parts);
                    put_frame(&mut plain, Opcode::Text, text.as_bytes());
                    plain.extend(&parts);
                    continue;
                }
            }
            put_frame(&mut plain, Opcode::Text, text.as_bytes());
        }
        put_close(&mut sent, 1000, "over");
        put_close(&mut plain, 1000, "over");
        (sent, plain)
    }

    /// What is read behind a head, of a server that sends these bytes in pieces.
    async fn read(head: &[u8], sent: &[u8], piece: usize, is_compressed: bool) -> io::Result<Vec<u8>> {
        let (mut server, client) = tokio::io::duplex(64);
        let all = [head, sent].concat();
        let sending = tokio::spawn(async move {
            for piece in all.chunks(piece) {
                // The client may have left.
                if server.write_all(piece).await.is_err() {
                    return;
                }
            }
        });
        let mut client = Inflating::offered(client);
        let mut found = vec![0; head.len()];
        client.read_exact(&mut found).await?;
        assert_eq!(found, head);
        client.begin(is_compressed, 1000).map_err(io::Error::other)?;
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await?;
        sending.await.expect("no panic");
        Ok(rest)
    }

    #[tokio::test]
    async fn messages_are_the_same_however_they_are_compressed_and_cut() {
        let (sent, plain) = messages();
        for piece in [1, 2, 3, 7, 50, 1000, 100_000] {
            assert_eq!(read(SWITCHING, &sent, piece, true).await.expect("sound"), plain, "pieces of {piece}");
            assert_eq!(read(SWITCHING, &plain, piece, false).await.expect("sound"), plain, "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_passed_on_with_its_body() {
        let (mut server, client) = tokio::io::duplex(1000);
        let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nhush";
        server.write_all(refusal).await.expect("room");
        drop(server);
        let mut found = Vec::new();
        Inflating::offered(client).read_to_end(&mut found).await.expect("sound");
        assert_eq!(found, refusal);
    }

    #[tokio::test]
    async fn what_cannot_be_inflated_is_an_error() {
        let mut bomb = Vec::new();
        Deflater::new(9, 15).deflate(&[b'x'; 1001], &mut bomb);
        let mut open = vec![0xC1, 126, 0x10, 0x00];
        open.resize(100, 0);
        for (sent, part) in [
            (frame(0xC1, &bomb), "larger than 1000 bytes"),
            (open, "larger than 1000 bytes"),
            (frame(0xC1, b"\xFF\xFF\xFF\xFF"), "expected DEFLATE data"),
            ([frame(0x41, b"\x00"), frame(0x81, b"x")].concat(), "a message begins inside another"),
            (vec![0x81, 0x80, 0, 0, 0, 0], "found a masked one"),
        ] {
            let error = read(SWITCHING, &sent, 5, true).await.expect_err(part);
            assert!(error.to_string().contains(part), "expected `{part}`, found `{error}`");
        }
        let error = read(b"HTTP/1.1 101 Switching\n\n", b"", 5, true).await.expect_err("another end of lines");
        assert!(error.to_string().contains("does not end as HTTP has it"), "{error}");
    }
}
