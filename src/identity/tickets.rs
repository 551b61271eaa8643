//! Tickets: what a page may put into a URL in place of its token. Each is good once, for 30 s, from one origin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::access::identity::Identity;

const LIFE: Duration = Duration::from_secs(30);
/// About 3 MiB. Each cost a verified token.
const TICKETS_MAX: usize = 10_000;
/// Of one subject: a page with that many connections at once.
const PER_SUBJECT_MAX: usize = 32;

#[derive(Default)]
pub(super) struct Tickets {
    /// By the SHA-256 of a ticket, so that no comparison tells how much of a guess is right. Held for a look-up, or a sweep
    /// when it is full.
    issued: Mutex<HashMap<[u8; 32], Ticket>>,
}

struct Ticket {
    identity: Arc<Identity>,
    origin: Option<Box<str>>,
    ends: Instant,
}

impl Tickets {
    /// 32 random bytes as base64url; none if there are too many.
    pub(super) fn issue(&self, identity: Arc<Identity>, origin: Option<Box<str>>, now: Instant) -> Option<Box<str>> {
        let mut issued = self.issued.lock().expect("no holder panics");
        let is_own = |ticket: &&Ticket| ticket.identity.is_same_subject(&identity) && ticket.ends > now;
        if issued.len() >= TICKETS_MAX {
            issued.retain(|_, ticket| ticket.ends > now);
        }
        if issued.len() >= TICKETS_MAX || issued.values().filter(is_own).count() >= PER_SUBJECT_MAX {
            return None;
        }
        let ticket = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        issued.insert(digest(&ticket), Ticket { identity, origin, ends: now + LIFE });
        Some(ticket.into())
    }

    /// Whose ticket it is. It is used up, also from a wrong origin.
    pub(super) fn redeem(&self, ticket: &str, origin: Option<&str>, now: Instant) -> Option<Arc<Identity>> {
        let found = self.issued.lock().expect("no holder panics").remove(&digest(ticket))?;
        (found.ends > now && found.origin.as_deref() == origin).then_some(found.identity)
    }
}

fn digest(ticket: &str) -> [u8; 32] {
    Sha256::digest(ticket.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(subject: &str) -> Arc<Identity> {
        Arc::new(Identity::of_subject(subject))
    }

    #[test]
    fn a_ticket_is_good_once_for_a_while_from_its_origin() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let issue = || tickets.issue(identity("alice"), Some("https://a.example".into()), now).expect("a ticket");
        let late = now + LIFE;
        let ticket = issue();
        assert_eq!(URL_SAFE_NO_PAD.decode(&*ticket).expect("base64url").len(), 32);
        assert!(tickets.redeem(&ticket, Some("https://a.example"), now).is_some());
        assert!(tickets.redeem(&ticket, Some("https://a.example"), now).is_none(), "once");
        assert!(tickets.redeem(&issue(), Some("https://b.example"), now).is_none());
        assert!(tickets.redeem(&issue(), None, now).is_none());
        assert!(tickets.redeem(&issue(), Some("https://a.example"), late).is_none());
        let without_origin = tickets.issue(identity("alice"), None, now).expect("a ticket");
        assert!(tickets.redeem(&without_origin, None, now).is_some());
        let of_a_program = tickets.issue(identity("alice"), None, now).expect("a ticket");
        let page = Some("https://a.example");
        assert!(tickets.redeem(&of_a_program, page, now).is_none(), "no page uses the ticket of a program");
    }

    #[test]
    fn tickets_are_bounded_for_each_subject_and_for_all() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let of = |subject: usize, at| tickets.issue(identity(&subject.to_string()), None, at);
        assert_eq!((0..100).filter_map(|_| of(0, now)).count(), PER_SUBJECT_MAX);
        assert!(of(0, now + LIFE).is_some(), "those that have ended count no more");
        let others = (1..2 * TICKETS_MAX).map(|number| of(number / 8 + 1, now)).take_while(Option::is_some).count();
        assert_eq!(others, TICKETS_MAX - PER_SUBJECT_MAX - 1);
        assert!(of(0, now + 2 * LIFE).is_some());
    }
}
