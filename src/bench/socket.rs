//! A client's socket: TCP, or TLS above it. Blocking while it is dialed, non-blocking in the pool.

use std::io::{self, ErrorKind, Read, Write};

use rustls::ClientConnection;

/// `S` is a TCP stream.
pub struct LoadSocket<S> {
    pub stream: S,
    tls: Option<Box<ClientConnection>>,
}

impl<S> LoadSocket<S> {
    /// TLS of which no byte has been sent yet.
    pub fn with_tls(stream: S, tls: ClientConnection) -> LoadSocket<S> {
        LoadSocket { stream, tls: Some(Box::new(tls)) }
    }

    /// The same connection with another type of stream.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> LoadSocket<T> {
        LoadSocket { stream: change(self.stream), tls: self.tls }
    }
}

impl<S: Read + Write> LoadSocket<S> {
    /// Carries out the handshake of a blocking stream, if there is one.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        Ok(())
    }

    /// What `received` holds for the client, together with what arrived before and was not opened. `opened` is room.
    ///
    /// Errors: these are no records of TLS, or the stream has failed.
    pub fn open<'b>(&mut self, received: &'b [u8], opened: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        let Some(tls) = &mut self.tls else { return Ok(received) };
        opened.clear();
        let mut sealed = received;
        loop {
            let state = tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            let start = opened.len();
            opened.resize(start + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut opened[start..])?;
            if sealed.is_empty() || state.peer_has_closed() {
                break;
            }
            tls.read_tls(&mut sealed)?;
        }
        // Answers of the handshake, and to new keys.
        self.flush_some()?;
        Ok(opened)
    }

    /// Whether the stream has taken all of it.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        match &mut self.tls {
            None => Ok(self.stream.write(bytes)? == bytes.len()),
            Some(tls) => {
                tls.writer().write_all(bytes)?;
                self.flush_some()
            }
        }
    }

    /// Sends what the stream takes of what is sealed; whether that was all.
    pub fn flush_some(&mut self) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                sent => sent?,
            };
        }
        Ok(true)
    }
}

impl<S> From<S> for LoadSocket<S> {
    fn from(stream: S) -> LoadSocket<S> {
        LoadSocket { stream, tls: None }
    }
}

/// Of a blocking stream.
impl<S: Read + Write> Read for LoadSocket<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.read(buffer),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(buffer),
        }
    }
}

/// Of a blocking stream.
impl<S: Read + Write> Write for LoadSocket<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.write(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.flush(),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).flush(),
        }
    }
}
