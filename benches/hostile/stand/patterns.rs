//! Attacks by subscriptions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::attack::Found;
use super::field::Field;
use super::line::{Line, PONG};
use super::newcomers::get;

/// What a session may have of each by default, less the one that is added.
const WILDCARDS: usize = 99;
const NAMES: usize = 900;

/// Wildcards that match no topic, but must be tried.
fn wildcards(salt: usize) -> Vec<String> {
    (0..WILDCARDS).map(|number| format!("*{number}x*.{salt}*y")).collect()
}

pub fn one_more_wildcard(field: &Field) -> Found {
    let rounds = AtomicU64::new(0);
    field.repeat(1, |_| {
        let mut line = Line::join(field, 0, "")?;
        line.ask("subscribe", &wildcards(0))?;
        line.ask("subscribe", &(0..NAMES).map(|number| format!("no.{number}")).collect::<Vec<_>>())?;
        while !field.is_over() {
            line.ask("subscribe", &[">".into()])?;
            // The frames that the session is due are sent first.
            line.say(r#"{"op":"ping"}"#)?;
            line.hear_until(PONG)?;
            line.ask("unsubscribe", &[">".into()])?;
            rounds.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    Found::note(format!("{} rounds", rounds.into_inner()))
}

pub fn toggle_wildcards(field: &Field) -> Found {
    let rounds = AtomicU64::new(0);
    field.repeat(1, |_| {
        let mut line = Line::join(field, 0, "")?;
        for salt in 0.. {
            if field.is_over() {
                break;
            }
            line.ask("subscribe", &wildcards(salt))?;
            line.ask("unsubscribe", &wildcards(salt))?;
            rounds.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    Found::note(format!("{} rounds", rounds.into_inner()))
}

pub fn junk_names(field: &Field) -> Found {
    const JUNK: usize = 12_000;
    const REAL: usize = 200;
    let (asked_before, said) = (field.venue.asked_bytes(), AtomicU64::new(0));
    field.repeat(1, |_| {
        let mut line = Line::join(field, 0, "")?;
        let names: Vec<String> = (0..JUNK).map(|number| format!("junk.{number}")).collect();
        for names in names.chunks(NAMES) {
            line.ask("subscribe", names)?;
            line.ask("unsubscribe", names)?;
            said.fetch_add(names.len() as u64, Ordering::Relaxed);
        }
        // It stays, so that what it has done stays.
        field.rest(field.span());
        Ok(())
    });
    field.venue.announce((0..REAL).map(|number| format!("real.{number}")));
    let mut real = 0;
    let mut faults = Vec::new();
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        real = topics(field, "real.*").unwrap_or(0);
        if real == REAL {
            break;
        }
    }
    if real < REAL {
        faults.push(format!("{} of {REAL} new topics of the feed refused", REAL - real));
    }
    let (all, asked) = (topics(field, "%3E").unwrap_or(0), field.venue.asked_bytes() - asked_before);
    let said = said.into_inner();
    Found {
        note: format!("{said} names, {} KiB asked of the feed, {all} topics", asked >> 10),
        faults,
        ..Found::default()
    }
}

/// How many topics match.
fn topics(field: &Field, pattern: &str) -> Option<usize> {
    let body = get(field.address(), &format!("/v1/topics?topics={pattern}")).ok()?;
    let name = b"{\"topic\":";
    Some(body.windows(name.len()).filter(|window| window == name).count())
}

pub fn new_topics(field: &Field) -> Found {
    const CLIENTS: usize = 300;
    const BURST: usize = 2_000;
    let accepted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for burst in 1..=2 {
                // A third of the time for each: until all have subscribed, for the first burst, for the second.
                field.rest(field.span() / 3);
                field.venue.announce((0..BURST).map(|number| format!("fresh-{burst}.{number}")));
            }
        });
        let open = |number| {
            let mut line = Line::join(field, number / 10, "")?;
            line.ask("subscribe", &wildcards(number))?;
            accepted.fetch_add(WILDCARDS as u64, Ordering::Relaxed);
            Ok(line)
        };
        field.hold(CLIENTS, open, |_| Ok(()));
    });
    Found::note(format!("{} wildcards asked for", accepted.into_inner()))
}

pub fn long_patterns(field: &Field) -> Found {
    const SESSIONS: usize = 100;
    const PATTERN_BYTES: usize = 242;
    /// Of one command, which may have 64 KiB.
    const PART: usize = 225;
    let open = |session| {
        let mut line = Line::join(field, session, "")?;
        for part in 0..NAMES / PART {
            let name = |number| format!("{:x<PATTERN_BYTES$}", format!("{session}-{part}-{number}-"));
            line.ask("subscribe", &(0..PART).map(name).collect::<Vec<_>>())?;
        }
        Ok(line)
    };
    Found::standing(field.hold(SESSIONS, open, |_| Ok(())))
}
