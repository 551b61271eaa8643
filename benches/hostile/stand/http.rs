//! Attacks by HTTP requests.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::attack::Found;
use super::field::Field;
use super::line::{Line, RECEIVE_BYTES_MIN, waits};

pub fn snapshot_not_read(field: &Field) -> Found {
    const READERS: usize = 300;
    let open = |number: usize| {
        let mut line = Line::dial_with(field, number / 10, Some(RECEIVE_BYTES_MIN))?;
        let path = ["/v1/snapshot", "/v1/topics"][number % 2];
        line.write(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes())?;
        Ok(line)
    };
    Found::standing(field.hold(READERS, open, |_| Ok(())))
}

pub fn snapshot_wildcards(field: &Field) -> Found {
    const WILDCARDS: usize = 999;
    let patterns: Vec<String> = (0..WILDCARDS).map(|number| format!("*{number}x.*")).collect();
    let request = format!(
        "GET /v1/snapshot?topics={} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        patterns.join(",")
    );
    let requests = AtomicU64::new(0);
    field.repeat(8, |source| {
        let mut line = Line::dial(field, source)?;
        line.write(request.as_bytes())?;
        line.hear_out()?;
        requests.fetch_add(1, Ordering::Relaxed);
        field.rest(Duration::from_millis(10));
        Ok(())
    });
    Found::note(format!("{} requests answered", requests.into_inner()))
}

pub fn metrics_pipelined(field: &Field) -> Found {
    let requests = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    let received = AtomicU64::new(0);
    field.repeat(2, |source| {
        let mut line = Line::dial(field, source)?;
        line.socket.set_nonblocking(true)?;
        let (mut at, mut buffer) = (0, vec![0; 256 << 10]);
        while !field.is_over() {
            let wrote = line.socket.write(&requests.as_bytes()[at..]);
            let read = line.socket.read(&mut buffer);
            if let Ok(bytes) = wrote {
                field.count_sent(bytes);
                at = (at + bytes) % requests.len();
            }
            match (wrote, read) {
                (_, Ok(0)) => return Ok(()),
                (_, Ok(bytes)) => drop(received.fetch_add(bytes as u64, Ordering::Relaxed)),
                (Err(error), _) if !waits(&error) => return Err(error),
                (_, Err(error)) if !waits(&error) => return Err(error),
                (Ok(_), Err(_)) => {}
                (Err(_), Err(_)) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        Ok(())
    });
    Found::note(format!("{} MiB received", received.into_inner() >> 20))
}
