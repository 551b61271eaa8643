//! Attacks by connections themselves, and the control: a machine that is busy with something else.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::attack::Found;
use super::field::Field;
use super::line::Line;

/// Of the server's priority, whatever it is: what a neighbour on the same machine does.
pub fn spin(field: &Field) -> Found {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !field.is_over() {
                    std::hint::black_box((0..100_000u64).fold(0, |sum, number| sum ^ number.wrapping_mul(number)));
                }
            });
        }
    });
    Found::default()
}

pub fn silent(field: &Field) -> Found {
    const CONNECTIONS: usize = 10_400;
    Found::standing(field.hold(CONNECTIONS, |_| Line::dial(field, 0), |_| Ok(())))
}

pub fn slow_heads(field: &Field) -> Found {
    const CONNECTIONS: usize = 2_000;
    let open = |number: usize| {
        let mut line = Line::dial(field, number / 100)?;
        line.write(b"GET /v1/ws HTTP/1.1\r\nhost: localhost\r\nx-slow: ")?;
        Ok(line)
    };
    Found::standing(field.hold(CONNECTIONS, open, |line| line.write(b"x")))
}

pub fn storm(field: &Field) -> Found {
    const THREADS: usize = 4;
    /// All of them together: 500 a second.
    const PAUSE: Duration = Duration::from_millis(2 * THREADS as u64);
    let joined = AtomicU64::new(0);
    let begun = Instant::now();
    field.repeat(THREADS, |thread| -> io::Result<()> {
        let number = joined.fetch_add(1, Ordering::Relaxed) as usize;
        let line = Line::join(field, thread * 10 + number % 10, "?topics=live.1")?;
        if number.is_multiple_of(2) {
            // A reset instead of an end.
            socket2::SockRef::from(&line.socket).set_linger(Some(Duration::ZERO))?;
        }
        drop(line);
        let due = PAUSE * (number / THREADS) as u32;
        field.rest(due.saturating_sub(begun.elapsed()));
        Ok(())
    });
    Found::note(format!("{} clients", joined.into_inner()))
}
