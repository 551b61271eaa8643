//! Echoes WebSocket messages, for conformance suites such as Autobahn: a server on plain threads.
//!
//! `cargo run --release --example ws_echo -- 127.0.0.1:9001`. Text comes back as text, binary as binary, compressed if
//! that was agreed on, with the window that was agreed on. Messages of up to 16 MiB.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use base64::prelude::{BASE64_STANDARD, Engine};
use sha1::{Digest, Sha1};
use shared_deflate::deflate::{Deflater, Inflater, WINDOW_BITS_MIN};
use shared_deflate::frame::{DecodeError, Decoder, Message, Opcode, put_close, put_deflated, put_frame, put_header};
use shared_deflate::negotiate::{Agreement, negotiate};

const MESSAGE_BYTES_MAX: usize = 16 << 20;

fn main() {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".to_string());
    let listener = match TcpListener::bind(&address) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("error: expected to listen on `{address}`: {error}");
            std::process::exit(1);
        }
    };
    println!("echoing on ws://{}", listener.local_addr().expect("a bound socket has an address"));
    for socket in listener.incoming().flatten() {
        std::thread::spawn(move || {
            // A client that breaks off is no news to an echo.
            let _ = serve(socket);
        });
    }
}

fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let Some((agreement, unread)) = shake_hands(&mut socket)? else { return Ok(()) };
    let mut echo = Echo::new(agreement);
    let mut buffer = vec![0; 64 * 1024];
    let mut goes_on = echo.receive(&unread);
    socket.write_all(&std::mem::take(&mut echo.out))?;
    while goes_on {
        let bytes = socket.read(&mut buffer)?;
        if bytes == 0 {
            return Ok(());
        }
        goes_on = echo.receive(&buffer[..bytes]);
        socket.write_all(&std::mem::take(&mut echo.out))?;
    }
    // The server ends the connection first (RFC 6455 section 7.1.1); what still comes is read, or it would be reset.
    socket.shutdown(Shutdown::Write)?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
    while socket.read(&mut buffer)? > 0 {}
    Ok(())
}

/// Reads the request and answers it; gives what was agreed on and what came after the request.
fn shake_hands(socket: &mut TcpStream) -> std::io::Result<Option<(Option<Agreement>, Vec<u8>)>> {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let bytes = socket.read(&mut buffer)?;
        if bytes == 0 {
            return Ok(None);
        }
        received.extend_from_slice(&buffer[..bytes]);
    };
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let header = |name: &'static str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_string())
    };
    let offers: Vec<String> = header("sec-websocket-extensions").collect();
    let (Some(key), Ok(agreement)) = (header("sec-websocket-key").next(), negotiate(offers.iter().map(String::as_str)))
    else {
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")?;
        return Ok(None);
    };
    let extensions = agreement.map(|agreed| format!("sec-websocket-extensions: {}\r\n", agreed.response()));
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {}\r\n{}\r\n",
        accept_key(&key),
        extensions.unwrap_or_default()
    );
    socket.write_all(response.as_bytes())?;
    Ok(Some((agreement, received.split_off(end))))
}

/// RFC 6455 section 4.2.2.
fn accept_key(key: &str) -> String {
    BASE64_STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")))
}

struct Echo {
    decoder: Decoder,
    inflater: Inflater,
    agreement: Option<Agreement>,
    deflater: Deflater,
    out: Vec<u8>,
}

impl Echo {
    fn new(agreement: Option<Agreement>) -> Echo {
        let window_bits = agreement.map_or(WINDOW_BITS_MIN, Agreement::window_bits).max(WINDOW_BITS_MIN);
        Echo {
            decoder: Decoder::new(MESSAGE_BYTES_MAX, agreement.is_some()),
            inflater: Inflater::new(),
            agreement,
            deflater: Deflater::new(6, window_bits),
            out: Vec::new(),
        }
    }

    /// Puts the answers to what was received into `out`. False if the connection is to end.
    fn receive(&mut self, bytes: &[u8]) -> bool {
        self.decoder.push(bytes);
        loop {
            match self.decoder.next(&mut self.inflater) {
                Ok(None) => return true,
                Ok(Some(Message::Text(text))) => self.send(Opcode::Text, text.as_bytes()),
                Ok(Some(Message::Binary(payload))) => self.send(Opcode::Binary, &payload),
                Ok(Some(Message::Ping(payload))) => put_frame(&mut self.out, Opcode::Pong, &payload),
                Ok(Some(Message::Pong)) => {}
                Ok(Some(Message::Close(code))) => {
                    match code {
                        Some(code) => put_close(&mut self.out, code, ""),
                        None => put_header(&mut self.out, Opcode::Close, false, 0),
                    }
                    return false;
                }
                Err(error) => {
                    put_close(&mut self.out, close_code(&error), &error.to_string());
                    return false;
                }
            }
        }
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        match self.agreement {
            // A window of 8 bits exists in the protocol, but zlib has none.
            Some(agreement) if agreement.window_bits() >= WINDOW_BITS_MIN => {
                if agreement.server_no_context_takeover {
                    self.deflater.cut();
                }
                put_deflated(&mut self.out, opcode, payload, &mut self.deflater);
            }
            _ => put_frame(&mut self.out, opcode, payload),
        }
    }
}

fn close_code(error: &DecodeError) -> u16 {
    match error {
        DecodeError::NotUtf8 | DecodeError::BadDeflate(_) => 1007,
        DecodeError::TooBig { .. } => 1009,
        _ => 1002,
    }
}
