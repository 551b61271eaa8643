//! The same with identities: tokens, fresh ones, ends, revocations and tiers that change, at random.
//!
//! Nobody ever receives a byte of a topic that its rights at that moment do not allow, and everybody receives all that
//! they do.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard};

use super::client::ANONYMOUS;
use super::*;
use crate::access::gatekeeper::{Admitted, AuthRefusal, AuthReply, AuthRequest, Credential, Gatekeeper, TicketReply};
use crate::access::grant::Grant;
use crate::access::identity::{ClaimedRights, Identity, TokenId};
use crate::access::rights::{GrantedPattern, GrantedTopics, Rights};
use crate::access::selector::{SessionOrder, SessionSelector};
use crate::delivery::handoff::Presented;
use crate::delivery::sessions::mail::Mail;
use crate::words::goodbye::Goodbye;

const TIERS: [&str; 4] = [ANONYMOUS, "free", "pro", "all"];
const SUBJECTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// What tiers grant, and tokens name.
const GRANTED: [&str; 11] = ["a.x", "a.*", "*.x", "b.>", "c", "d.*", "m.*", "n", "*.y", "a.>", "*"];

/// Who decides, and what waits.
pub struct Identities {
    keeper: Arc<Keeper>,
    mail: Receiver<Mail>,
    /// How often each thing has happened.
    counts: HashMap<&'static str, u64>,
}

#[derive(Default)]
struct Keeper(Mutex<KeeperState>);

#[derive(Default)]
struct KeeperState {
    tiers: HashMap<String, Arc<Rights>>,
    admits_anonymous: bool,
    asked: Vec<(AuthRequest, AuthReply)>,
    revoked: Vec<String>,
}

impl Keeper {
    fn state(&self) -> MutexGuard<'_, KeeperState> {
        self.0.lock().expect("no holder panics")
    }
}

impl KeeperState {
    fn granted(&self, grant: &Grant) -> Result<Grant, AuthRefusal> {
        let refusal = AuthRefusal { goodbye: Goodbye::Forbidden, reason: "played" };
        let is_revoked = |identity: &Arc<Identity>| self.revoked.iter().any(|revoked| **revoked == *identity.subject);
        if grant.identity.as_ref().is_some_and(is_revoked) {
            return Err(refusal);
        }
        let rights = self.tiers.get(&*grant.rights.tier).cloned().ok_or(refusal)?;
        Ok(Grant { identity: grant.identity.clone(), rights })
    }
}

impl Gatekeeper for Keeper {
    fn anonymous(&self) -> Option<Grant> {
        let state = self.state();
        let rights = state.tiers.get(ANONYMOUS).filter(|_| state.admits_anonymous)?;
        Some(Grant { identity: None, rights: rights.clone() })
    }

    fn authenticate(&self, request: AuthRequest, reply: AuthReply) {
        self.state().asked.push((request, reply));
    }

    fn issue_ticket(&self, _: Box<str>, _: Option<IpAddr>, _: Option<Box<str>>, reply: TicketReply) {
        reply(Err(AuthRefusal { goodbye: Goodbye::Unauthenticated, reason: "no_tickets" }));
    }

    fn reassess(&self, grant: &Grant) -> Result<Grant, AuthRefusal> {
        self.state().granted(grant)
    }
}

impl Simulation {
    fn with_identities(seed: u64) -> Simulation {
        let mut simulation = Simulation::new(seed, History::default());
        let keeper = Arc::new(Keeper::default());
        let (sender, mail) = channel();
        simulation.shard.gatekeeper = keeper.clone();
        simulation.shard.set_mailbox(Arc::new(move |mail| sender.send(mail).unwrap_or_default()));
        simulation.shard.settings.access.deadline = Duration::from_secs(3);
        simulation.shard.settings.access.expiry_grace = Duration::ZERO;
        keeper.state().admits_anonymous = simulation.rng.random_bool(0.7);
        simulation.identities = Some(Identities { keeper, mail, counts: HashMap::new() });
        TIERS.iter().for_each(|tier| simulation.set_tier(tier));
        simulation
    }

    fn identities(&mut self) -> &mut Identities {
        self.identities.as_mut().expect("it has identities")
    }

    fn count(&mut self, what: &'static str) {
        *self.identities().counts.entry(what).or_default() += 1;
    }

    fn set_tier(&mut self, tier: &str) {
        let mut some = |most: usize| {
            let count = self.rng.random_range(0..most);
            (0..count).map(|_| GRANTED[self.rng.random_range(0..GRANTED.len())]).collect::<Vec<&str>>()
        };
        let (granted, named) = (some(5), some(4));
        let pattern = |text: &&str| Pattern::parse(text).expect("a pattern");
        let within: Box<[GrantedPattern]> =
            granted.iter().map(|text| GrantedPattern { pattern: pattern(text), delay: Duration::ZERO }).collect();
        let topics = match self.rng.random_range(0..10) {
            _ if tier == "all" => GrantedTopics::All,
            0 => GrantedTopics::All,
            1..=6 => GrantedTopics::Matching(within),
            _ => GrantedTopics::Narrowed { named: named.iter().map(pattern).collect(), within },
        };
        let rights = Rights { tier: tier.into(), topics: topics.clone(), ..Rights::unlimited() };
        self.identities().keeper.state().tiers.insert(tier.into(), Arc::new(rights));
        if tier == ANONYMOUS && !self.identities().keeper.state().admits_anonymous {
            return;
        }
        // Until all sessions have been told, both hold.
        self.model.tiers.entry(tier.into()).or_default().push(topics);
    }

    /// Tiers change, or a subject is revoked, and all sessions are ordered to obey.
    fn order(&mut self) {
        match self.rng.random_range(0..10) {
            0..=5 => {
                let tier = self.pick(&TIERS[..3]);
                self.set_tier(tier);
                self.count("tier");
            }
            6..=7 => {
                let subject = self.pick(&SUBJECTS).to_string();
                self.identities().keeper.state().revoked.push(subject);
                self.count("revoked");
            }
            8 => {
                self.identities().keeper.state().revoked.clear();
                self.model.revoked.clear();
            }
            _ => {
                let subject = self.pick(&SUBJECTS).into();
                let end = SessionOrder::End { goodbye: Goodbye::Kicked, spread: Duration::ZERO };
                let selector = SessionSelector::Subject { issuer: None, subject };
                self.count("kicked");
                return self.shard.order_uncounted(selector, end, Box::new(|| 1), self.now);
            }
        }
        self.shard.order_uncounted(SessionSelector::All, SessionOrder::Reassess, Box::new(|| 1), self.now);
    }

    fn token(&mut self, subject: &str) -> String {
        let life_ms = if self.rng.random_bool(0.3) { 1_000_000 } else { self.rng.random_range(100..8000) };
        let tier = self.pick(&TIERS[1..]);
        format!("{subject} {tier} {}", self.now.wall_ms + life_ms)
    }

    /// A client shows a token: its first one, or a fresh one.
    fn show_token(&mut self) {
        let Some(at) = self.any_client().filter(|at| !self.clients[*at].asked) else { return };
        if self.clients[at].format == Format::Raw || self.clients[at].stream.is_some() {
            return;
        }
        let other = self.pick(&SUBJECTS).to_string();
        let subject = self.clients[at].subject.clone().filter(|_| self.rng.random_bool(0.9)).unwrap_or(other);
        let token = self.token(&subject);
        let text = json!({"op": "auth", "token": token}).to_string();
        let client = &mut self.clients[at];
        client.asked = true;
        let mut pipe = client.pipe.borrow_mut();
        pipe.to_server.extend([0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
        pipe.to_server.extend(text.bytes());
        drop(pipe);
        let id = self.clients[at].id;
        self.shard.ready(id, true, self.now);
        self.count("token");
    }

    /// A client joins with a token in its request.
    fn join_with_token(&mut self) {
        let subject = self.pick(&SUBJECTS);
        let credential = Some(Credential::Token(self.token(subject).into()));
        let patterns = vec![Pattern::parse(self.pick(&PATTERNS)).expect("a pattern")];
        let presented = Presented { credential, ..Presented::default() };
        let kind = self.pick(&[None, None, Some((StreamKind::Events, false)), Some((StreamKind::Events, true))]);
        self.adopt(SessionOptions { patterns, presented, stream: kind.map(stream), ..SessionOptions::default() });
    }

    /// One of the verdicts that are due.
    fn decide(&mut self) {
        let (at, now_ms) = (self.rng.random::<u32>() as usize, self.now.wall_ms);
        let keeper = self.identities().keeper.clone();
        let mut state = keeper.state();
        if state.asked.is_empty() {
            return;
        }
        let at = at % state.asked.len();
        let (request, reply) = state.asked.swap_remove(at);
        let Credential::Token(token) = request.credential else { panic!("a token") };
        let parts: Vec<&str> = token.split(' ').collect();
        let expires_ms = parts[2].parse().expect("a time");
        let identity = Identity {
            issuer: "issuer".into(),
            subject: parts[0].into(),
            token_id: TokenId([0; 32]),
            status: None,
            issued_ms: now_ms,
            expires_ms,
            claimed: ClaimedRights::default(),
        };
        let rights = Arc::new(Rights { tier: parts[1].into(), ..Rights::unlimited() });
        let verdict = match expires_ms > now_ms {
            true => state.granted(&Grant { identity: Some(Arc::new(identity)), rights }),
            false => Err(AuthRefusal { goodbye: Goodbye::Unauthenticated, reason: "expired" }),
        };
        drop(state);
        reply(verdict.map(|grant| Admitted { grant, place: None }));
    }

    fn step_with_identities(&mut self) {
        match self.rng.random_range(0..100) {
            0..=9 => self.show_token(),
            10..=12 => self.join_with_token(),
            13..=22 => self.decide(),
            23..=24 => self.order(),
            25..=34 => self.read_mail(),
            _ => return self.step_without_resuming(),
        }
        self.receive();
        self.forget_old_rights();
    }

    fn step_without_resuming(&mut self) {
        self.step();
        self.forget_old_rights();
    }

    /// All verdicts that are due.
    pub fn decide_all(&mut self) {
        while !self.identities().keeper.state().asked.is_empty() {
            self.decide();
        }
        self.read_mail();
    }

    fn read_mail(&mut self) {
        while let Ok(mail) = self.identities().mail.try_recv() {
            self.shard.read_mail(mail, self.now);
        }
    }

    /// Once all sessions have been told, only what holds now may be sent.
    fn forget_old_rights(&mut self) {
        if self.shard.is_walking() {
            return;
        }
        let state = self.identities.as_ref().expect("it has identities").keeper.state();
        self.model.revoked.clone_from(&state.revoked);
        for granted in self.model.tiers.values_mut() {
            granted.drain(..granted.len() - 1);
        }
    }
}

#[test]
fn nobody_receives_what_its_rights_do_not_allow_and_everybody_all_that_they_do() {
    let seeds = std::env::var("FANLINE_SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let mut counts: HashMap<&'static str, u64> = HashMap::new();
    for seed in 0..seeds {
        let run = || {
            let mut simulation = Simulation::with_identities(seed);
            for _ in 0..1500 {
                simulation.step_with_identities();
            }
            simulation.settle();
            simulation.check();
            let identities = simulation.identities.take().expect("it has identities");
            (identities.counts, simulation.clients.len() as u64)
        };
        match std::panic::catch_unwind(run) {
            Ok((happened, left)) => {
                *counts.entry("left").or_default() += left;
                happened.into_iter().for_each(|(what, times)| *counts.entry(what).or_default() += times);
            }
            Err(panic) => {
                eprintln!("the simulation failed with seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    for what in ["tier", "revoked", "kicked", "token", "left"] {
        assert!(counts.get(what).is_some_and(|times| *times > seeds / 2), "{what}: {counts:?}");
    }
}
