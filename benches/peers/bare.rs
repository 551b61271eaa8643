//! The bare loop: each line of stdin goes to every socket, up to 64 ready ones in one `send`. It knows nothing else.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use shared_deflate::frame::{Opcode, put_frame};
use tokio_tungstenite::tungstenite;

const MESSAGES_PER_SEND_MAX: usize = 64;

pub fn serve(port: u16) {
    let sockets = Arc::new(Mutex::new(Vec::new()));
    let joined = sockets.clone();
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            socket.set_nodelay(true).expect("a TCP socket");
            if let Ok(upgraded) = tungstenite::accept(socket) {
                joined.lock().expect("no panic").push(upgraded.into_inner());
            }
        }
    });
    let mut lines = BufReader::with_capacity(64 << 10, std::io::stdin().lock());
    let (mut line, mut frames) = (Vec::new(), Vec::new());
    while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        for _ in 1..MESSAGES_PER_SEND_MAX {
            put_line(&mut frames, &mut line);
            if !lines.buffer().contains(&b'\n') {
                break;
            }
            lines.read_until(b'\n', &mut line).expect("a line that is there");
        }
        put_line(&mut frames, &mut line);
        sockets.lock().expect("no panic").retain_mut(|socket| socket.write_all(&frames).is_ok());
        frames.clear();
    }
}

/// Moves a line into a WireFrame; nothing if there is none.
fn put_line(frames: &mut Vec<u8>, line: &mut Vec<u8>) {
    if line.pop().is_some() {
        put_frame(frames, Opcode::Text, line);
        line.clear();
    }
}
