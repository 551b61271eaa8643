//! Tokens, rights and orders against a shard whose gatekeeper the test plays.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::access::gatekeeper::{Admitted, AuthRefusal, AuthReply, AuthRequest, Credential, Gatekeeper, TicketReply};
use crate::access::grant::Grant;
use crate::access::identity::{ClaimedRights, Identity, TokenId};
use crate::access::rights::{GrantedCommands, GrantedPattern, GrantedTopics, Rights};
use crate::access::selector::{SessionOrder, SessionSelector};
use crate::access::session_row::{SessionFilter, SessionState};
use crate::delivery::handoff::{Presented, SessionOptions};
use crate::delivery::harness::{Harness, HarnessClient};
use crate::delivery::shard::walks::ListQuery;
use crate::words::goodbye::Goodbye;
use crate::words::topic::Pattern;

/// Takes tokens such as `alice:free:60000` (subject, tier, milliseconds), and gives the verdicts when the test says so.
pub struct Played {
    tiers: Mutex<HashMap<String, Arc<Rights>>>,
    anonymous: Option<&'static str>,
    asked: Mutex<Vec<(AuthRequest, AuthReply)>>,
    pub revoked: Mutex<Vec<String>>,
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).expect("a pattern")
}

pub fn rights(tier: &str, patterns: &[&str]) -> Arc<Rights> {
    let granted = patterns.iter().map(|text| GrantedPattern { pattern: pattern(text), delay: Duration::ZERO });
    let topics = GrantedTopics::Matching(granted.collect());
    Arc::new(Rights { tier: tier.into(), topics, send: GrantedCommands::None, ..Rights::unlimited() })
}

fn refusal(goodbye: Goodbye) -> AuthRefusal {
    AuthRefusal { goodbye, reason: "played" }
}

impl Played {
    fn new(anonymous: Option<&'static str>) -> Arc<Played> {
        let tiers = [rights("free", &["ticker.>"]), rights("pro", &["ticker.>", "book.>"])];
        let tiers = tiers.into_iter().map(|rights| (rights.tier.to_string(), rights)).collect();
        Arc::new(Played { tiers: Mutex::new(tiers), anonymous, asked: Mutex::default(), revoked: Mutex::default() })
    }

    fn tier(&self, name: &str) -> Option<Arc<Rights>> {
        self.tiers.lock().expect("no holder panics").get(name).cloned()
    }

    pub fn set(&self, rights: Arc<Rights>) {
        self.tiers.lock().expect("no holder panics").insert(rights.tier.to_string(), rights);
    }

    /// The verdict about a token; the clock of the harness begins at 1.
    fn grant(&self, token: &str) -> Result<Grant, AuthRefusal> {
        let parts: Vec<&str> = token.split(':').collect();
        let [subject, tier, expires_ms] = parts[..] else { return Err(refusal(Goodbye::Unauthenticated)) };
        let identity = Identity {
            issuer: "issuer".into(),
            subject: subject.into(),
            token_id: TokenId([0; 32]),
            status: None,
            issued_ms: 0,
            expires_ms: expires_ms.parse().map_err(|_| refusal(Goodbye::TooManySubjectSessions))?,
            claimed: ClaimedRights::default(),
        };
        let rights = self.tier(tier).ok_or(refusal(Goodbye::Forbidden))?;
        Ok(Grant { identity: Some(Arc::new(identity)), rights })
    }

    /// Gives the verdicts that are due.
    fn decide(&self) -> usize {
        let asked = std::mem::take(&mut *self.asked.lock().expect("no holder panics"));
        let count = asked.len();
        for (request, reply) in asked {
            let Credential::Token(token) = &request.credential else { panic!("a token") };
            reply(self.grant(token).map(|grant| Admitted { grant, place: None }));
        }
        count
    }
}

impl Gatekeeper for Played {
    fn anonymous(&self) -> Option<Grant> {
        self.anonymous.and_then(|tier| Some(Grant { identity: None, rights: self.tier(tier)? }))
    }

    fn authenticate(&self, request: AuthRequest, reply: AuthReply) {
        self.asked.lock().expect("no holder panics").push((request, reply));
    }

    fn issue_ticket(&self, _: Box<str>, _: Option<IpAddr>, _: Option<Box<str>>, reply: TicketReply) {
        reply(Err(AuthRefusal { goodbye: Goodbye::Unauthenticated, reason: "no_tickets" }));
    }

    fn reassess(&self, grant: &Grant) -> Result<Grant, AuthRefusal> {
        let subject = grant.identity.as_ref().map(|identity| identity.subject.to_string());
        if subject.is_some_and(|subject| self.revoked.lock().expect("no holder panics").contains(&subject)) {
            return Err(refusal(Goodbye::Forbidden));
        }
        let rights = self.tier(&grant.rights.tier).ok_or(refusal(Goodbye::Forbidden))?;
        Ok(Grant { identity: grant.identity.clone(), rights })
    }
}

pub struct Door {
    pub harness: Harness,
    pub keeper: Arc<Played>,
}

impl Door {
    pub fn new(anonymous: Option<&'static str>) -> Door {
        let keeper = Played::new(anonymous);
        let mut harness = Harness::open();
        harness.shard.gatekeeper = keeper.clone();
        for topic in ["ticker.A", "ticker.B", "book.A", "trade.A"] {
            harness.publish(topic);
        }
        Door { harness, keeper }
    }

    /// What the client receives until there is nothing to do, verdicts included.
    pub fn answers(&mut self, client: &HarnessClient, command: Value) -> Vec<Value> {
        self.harness.send(client, &command.to_string());
        self.settle();
        client.received()
    }

    pub fn settle(&mut self) {
        self.harness.settle();
        while self.keeper.decide() > 0 {
            self.harness.settle();
        }
        self.harness.settle();
    }

    pub fn join_as(&mut self, token: &str) -> HarnessClient {
        let client = self.harness.join();
        let heard = self.answers(&client, json!({"op": "auth", "token": token}));
        assert_eq!(heard[0]["op"], "authenticated", "{heard:?}");
        client
    }

    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.harness.now.wall_ms += 100;
            self.harness.now.mono_ns += 100_000_000;
            self.harness.shard.tick(self.harness.now);
            self.harness.turn();
        }
    }
}

/// The topics of frames among these.
fn topics(heard: &[Value]) -> Vec<&str> {
    heard.iter().filter(|message| message["op"].is_null()).filter_map(|frame| frame["topic"].as_str()).collect()
}

fn close_code(client: &HarnessClient) -> Option<u16> {
    let bytes = client.pipe.borrow();
    let close = bytes.to_client.windows(2).position(|two| two[0] == 0x88)?;
    Some(u16::from_be_bytes([bytes.to_client[close + 2], bytes.to_client[close + 3]]))
}

/// The messages, and the close code behind them.
fn end_of(client: &HarnessClient) -> (Vec<Value>, Option<u16>) {
    let code = close_code(client);
    (client.received(), code)
}

#[test]
fn nothing_but_auth_and_ping_is_done_before_a_credential_where_one_is_required() {
    let mut door = Door::new(None);
    let client = door.harness.join();
    for (command, expected) in [
        (json!({"op": "subscribe", "topics": ["ticker.A"]}), "unauthenticated"),
        (json!({"op": "unsubscribe", "topics": ["ticker.A"]}), "unauthenticated"),
        (json!({"op": "send", "topic": "chat.a", "data": 1}), "unauthenticated"),
        (json!({"op": "request", "data": {}}), "unauthenticated"),
    ] {
        assert_eq!(door.answers(&client, command)[0]["code"], expected);
    }
    assert_eq!(door.answers(&client, json!({"op": "ping"}))[0]["op"], "pong");
    door.pass(4000);
    assert_eq!(close_code(&client), None, "within the deadline");
    door.pass(2100);
    assert_eq!(close_code(&client), Some(4401));
}

#[test]
fn commands_behind_auth_wait_for_its_verdict_and_frames_do_not() {
    let mut door = Door::new(Some("free"));
    let client = door.harness.join();
    door.answers(&client, json!({"op": "subscribe", "topics": ["ticker.A"]}));
    door.harness.send(&client, r#"{"op":"auth","id":1,"token":"alice:pro:60000"}"#);
    door.harness.send(&client, r#"{"op":"subscribe","id":2,"topics":["book.A"]}"#);
    door.harness.settle();
    assert_eq!(client.received(), Vec::<Value>::new());
    door.harness.publish("ticker.A");
    door.harness.settle();
    assert_eq!(topics(&client.received()), ["ticker.A"]);
    door.settle();
    let heard = client.received();
    assert_eq!(
        (&heard[0]["op"], &heard[0]["id"], &heard[0]["sub"]),
        (&json!("authenticated"), &json!(1), &json!("alice"))
    );
    assert_eq!(heard[0]["within"], json!(["ticker.>", "book.>"]));
    let subscribed = heard.iter().find(|message| message["id"] == 2).expect("an answer");
    assert!(subscribed["forbidden"].is_null());
    assert_eq!(topics(&heard), ["book.A"]);
}

#[test]
fn a_credential_of_the_upgrade_is_verified_before_its_query_is_done() {
    let mut door = Door::new(None);
    for (token, expected) in [("alice:free:60000", vec!["ticker.A", "ticker.B"]), ("nobody", vec![])] {
        let presented = Presented { credential: Some(Credential::Token(token.into())), ..Presented::default() };
        let patterns = vec![pattern(">")];
        let client = door.harness.adopt(SessionOptions { patterns, presented, ..SessionOptions::default() });
        door.settle();
        let (heard, code) = end_of(&client);
        assert_eq!(topics(&heard), expected);
        assert_eq!(code, expected.is_empty().then_some(4401), "{heard:?}");
    }
}

#[test]
fn a_query_waits_for_the_first_command_where_it_is_promised() {
    let mut door = Door::new(Some("free"));
    let presented = Presented { promises_auth: true, ..Presented::default() };
    let patterns = vec![pattern("book.*")];
    let client = door.harness.adopt(SessionOptions { patterns, presented, ..SessionOptions::default() });
    door.settle();
    assert_eq!(client.received().len(), 1, "the greeting");
    let heard = door.answers(&client, json!({"op": "auth", "token": "alice:pro:60000"}));
    assert_eq!(topics(&heard), ["book.A"]);
}

#[test]
fn a_bad_credential_ends_the_session_and_says_no_more_than_that() {
    for (token, code, name) in
        [("bad", 4401, "unauthenticated"), ("bob:gone:1", 4503, "forbidden"), ("bob:free:x", 4429, "too_many_sessions")]
    {
        let mut door = Door::new(Some("free"));
        let client = door.harness.join();
        door.harness.send(&client, &json!({"op": "auth", "id": 7, "token": token}).to_string());
        door.settle();
        let (heard, found) = end_of(&client);
        assert_eq!((found, &heard[0]["code"], &heard[0]["id"]), (Some(code), &json!(name), &json!(7)), "{heard:?}");
        assert_eq!(heard.len(), if code == 4429 { 2 } else { 1 });
        assert!(!heard[0].to_string().contains(token));
    }
}

#[test]
fn a_verdict_that_nobody_gives_is_a_refusal() {
    let mut door = Door::new(None);
    let client = door.harness.join();
    door.harness.send(&client, r#"{"op":"auth","token":"alice:free:60000"}"#);
    door.harness.settle();
    door.keeper.asked.lock().expect("no holder panics").clear();
    door.settle();
    assert_eq!(close_code(&client), Some(4401));
}

#[test]
fn what_is_asked_for_is_narrowed_to_what_is_allowed() {
    let mut door = Door::new(Some("free"));
    let client = door.harness.join();
    let heard = door.answers(&client, json!({"op": "subscribe", "topics": [">", "book.A", "trade.*", "ticker.C"]}));
    assert_eq!(heard[0]["forbidden"], json!(["book.A", "trade.*"]));
    assert_eq!(heard[0]["within"], json!(["ticker.>"]));
    let mut in_force: Vec<&str> =
        heard[0]["topics"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    in_force.sort_unstable();
    assert_eq!(in_force, [">", "ticker.C"]);
    assert_eq!(topics(&heard), ["ticker.A", "ticker.B"]);
    for topic in ["book.B", "ticker.D", "trade.A", "ticker.C"] {
        door.harness.publish(topic);
    }
    door.settle();
    assert_eq!(topics(&client.received()), ["ticker.D", "ticker.C"]);
    let wanted: Vec<_> = door.harness.interest.wanted().into_iter().collect();
    assert_eq!(wanted.len(), 1, "a topic that is not allowed is not wanted: {wanted:?}");
}

#[test]
fn the_pace_is_that_of_the_rights_where_it_is_slower() {
    let mut door = Door::new(Some("slow"));
    let pace_min = Some(Duration::from_secs(1));
    door.keeper.set(Arc::new(Rights { pace_min, ..Rights::clone(&rights("slow", &["ticker.>"])) }));
    let client = door.harness.join();
    for (every_ms, expected) in [(2000, 2000), (100, 1000), (0, 1000)] {
        let command = json!({"op": "subscribe", "topics": ["ticker.>"], "every_ms": every_ms});
        assert_eq!(door.answers(&client, command)[0]["every_ms"], expected);
    }
    let heard = door.answers(&client, json!({"op": "auth", "token": "alice:free:60000"}));
    assert_eq!(heard[1]["topics"], json!(["ticker.>"]));
    assert!(heard[1]["every_ms"].is_null(), "what it has asked for holds again: {heard:?}");
}

#[test]
fn commands_to_the_feed_are_those_that_the_rights_allow() {
    let mut door = Door::new(Some("free"));
    let client = door.harness.join();
    let heard = door.answers(&client, json!({"op": "send", "topic": "chat.a", "data": 1}));
    assert_eq!(heard[0]["code"], "forbidden");
}

#[test]
fn a_fresh_token_takes_and_gives_rights_without_a_repeat() {
    let mut door = Door::new(None);
    let client = door.join_as("alice:pro:60000");
    door.answers(&client, json!({"op": "subscribe", "topics": [">", "book.A"]}));
    let heard = door.answers(&client, json!({"op": "auth", "id": 1, "token": "alice:free:90000"}));
    assert_eq!(heard[0]["op"], "authenticated");
    assert_eq!((&heard[1]["op"], &heard[1]["forbidden"]), (&json!("unsubscribed"), &json!(["book.A"])));
    assert_eq!((&heard[1]["topics"], &heard[1]["reason"]), (&json!([">"]), &json!("forbidden")));
    assert_eq!((&heard[2]["op"], &heard[2]["reason"]), (&json!("subscribed"), &json!("rights")));
    assert_eq!(heard.len(), 3, "what it knows is not repeated");
    door.harness.publish("book.A");
    door.harness.publish("ticker.A");
    door.settle();
    assert_eq!(topics(&client.received()), ["ticker.A"]);
    let heard = door.answers(&client, json!({"op": "auth", "token": "alice:pro:90000"}));
    assert_eq!(topics(&heard), ["book.A"], "what it had not been sent: {heard:?}");
}

#[test]
fn a_fresh_token_that_is_refused_takes_nothing() {
    let mut door = Door::new(None);
    let client = door.join_as("alice:free:60000");
    for token in ["bad", "bob:free:60000"] {
        let heard = door.answers(&client, json!({"op": "auth", "token": token}));
        assert_eq!((heard.len(), &heard[0]["code"]), (1, &json!("unauthenticated")));
    }
    assert_eq!(topics(&door.answers(&client, json!({"op": "subscribe", "topics": ["ticker.A"]}))), ["ticker.A"]);
}

#[test]
fn nothing_is_sent_after_the_end_of_a_token_and_it_is_told_before() {
    let mut door = Door::new(Some("free"));
    let grace_ms = door.harness.shard.settings.access.expiry_grace.as_millis() as u64;
    let client = door.join_as("alice:free:600000");
    door.answers(&client, json!({"op": "subscribe", "topics": ["ticker.A"]}));
    let (mut warned_ms, mut last_ms) = (None, 0);
    while close_code(&client).is_none() {
        door.harness.publish("ticker.A");
        door.pass(100);
        let (heard, code) = end_of(&client);
        let now_ms = door.harness.now.wall_ms;
        if heard.iter().any(|message| message["op"] == "token_expiring") {
            assert_eq!(warned_ms.replace(now_ms), None, "once");
        }
        if !topics(&heard).is_empty() {
            last_ms = now_ms;
        }
        if let Some(code) = code {
            assert_eq!(code, 4401, "not degraded to an anonymous client");
            break;
        }
    }
    assert!((540_000..=541_100).contains(&warned_ms.expect("it is warned")), "{warned_ms:?}");
    assert!((599_000 + grace_ms..=600_000 + grace_ms).contains(&last_ms), "{last_ms}");
}

#[test]
fn a_session_that_is_amid_a_chunk_when_its_token_ends_is_not_sent_the_rest() {
    let mut door = Door::new(None);
    let client = door.join_as("alice:free:10000");
    door.answers(&client, json!({"op": "subscribe", "topics": ["ticker.A"]}));
    client.pipe.borrow_mut().room = 10;
    door.harness.publish("ticker.A");
    door.settle();
    door.pass(36_000);
    client.pipe.borrow_mut().room = 1 << 20;
    door.harness.shard.ready(client.id, false, door.harness.now);
    door.settle();
    assert_eq!(client.pipe.borrow().to_client.len(), 10);
    assert!(!door.harness.shard.sessions.contains(client.id));
}

#[test]
fn a_fresh_token_moves_the_end() {
    let mut door = Door::new(None);
    let client = door.join_as("alice:free:10000");
    for step in 1..20 {
        door.answers(&client, json!({"op": "auth", "token": format!("alice:free:{}", 10_000 + 5000 * step)}));
        door.pass(5000);
    }
    assert_eq!(close_code(&client), None);
    assert_eq!(door.harness.shard.ends.len(), 1);
    door.harness.vanish(&client);
    door.settle();
    assert!(door.harness.shard.ends.is_empty());
}

fn order(door: &mut Door, selector: SessionSelector, order: SessionOrder) {
    let mut next = 0;
    let reconnect_ms = Box::new(move || {
        next += 1;
        next
    });
    door.harness.shard.order_uncounted(selector, order, reconnect_ms, door.harness.now);
    door.settle();
}

#[test]
fn sessions_that_are_sent_away_each_have_their_own_delay_and_others_stay() {
    let mut door = Door::new(Some("free"));
    let clients: Vec<HarnessClient> = (0..1000).map(|n| door.join_as(&format!("s{}:free:60000", n % 2))).collect();
    let anonymous = door.harness.join();
    let subject = SessionSelector::Subject { issuer: None, subject: "s1".into() };
    let end = SessionOrder::End { goodbye: Goodbye::Kicked, spread: Duration::from_secs(1) };
    let mut turns = 0;
    let reconnect_ms = {
        let mut next = 0;
        Box::new(move || {
            next += 1;
            next
        })
    };
    door.harness.shard.order_uncounted(subject, end, reconnect_ms, door.harness.now);
    while door.harness.shard.has_work() {
        door.harness.turn();
        turns += 1;
    }
    assert!(turns > 2, "some in each turn: {turns}");
    let mut delays = std::collections::BTreeSet::new();
    for (number, client) in clients.iter().enumerate() {
        let (heard, code) = end_of(client);
        assert_eq!(code, (number % 2 == 1).then_some(4412));
        delays.extend(heard.iter().filter_map(|message| message["reconnect_ms"].as_u64()));
    }
    assert_eq!(delays.len(), 500);
    assert_eq!(close_code(&anonymous), None);
}

#[test]
fn a_changed_tier_reaches_live_sessions() {
    let mut door = Door::new(None);
    let client = door.join_as("alice:pro:60000");
    let other = door.join_as("bob:free:60000");
    door.answers(&client, json!({"op": "subscribe", "topics": ["*.A", "book.A"]}));
    door.answers(&other, json!({"op": "subscribe", "topics": ["ticker.A"]}));
    door.keeper.set(rights("pro", &["ticker.>", "trade.>"]));
    order(&mut door, SessionSelector::Tier("pro".into()), SessionOrder::Reassess);
    let heard = client.received();
    assert_eq!(heard[0]["forbidden"], json!(["book.A"]));
    assert_eq!(topics(&heard), ["trade.A"]);
    for topic in ["book.A", "trade.A", "ticker.A"] {
        door.harness.publish(topic);
    }
    door.settle();
    assert_eq!(topics(&client.received()), ["trade.A", "ticker.A"]);
    assert_eq!(topics(&other.received()), ["ticker.A"]);
}

#[test]
fn a_revocation_reaches_live_sessions_and_verdicts_on_their_way() {
    let mut door = Door::new(None);
    let client = door.join_as("alice:free:60000");
    let late = door.harness.join();
    door.harness.send(&late, r#"{"op":"auth","token":"alice:free:60000"}"#);
    door.harness.settle();
    // The verdict is good, and the order comes before it.
    let asked = std::mem::take(&mut *door.keeper.asked.lock().expect("no holder panics"));
    door.keeper.revoked.lock().expect("no holder panics").push("alice".into());
    order(&mut door, SessionSelector::All, SessionOrder::Reassess);
    assert_eq!(close_code(&client), Some(4503));
    for (_, reply) in asked {
        reply(door.keeper.grant("alice:free:60000").map(|grant| Admitted { grant, place: None }));
    }
    door.settle();
    assert_eq!(close_code(&late), Some(4503));
}

#[test]
fn sessions_are_listed_by_pages() {
    let mut door = Door::new(Some("free"));
    for n in 0..25 {
        let client = door.join_as(&format!("s{n}:{}:60000", if n % 5 == 0 { "pro" } else { "free" }));
        door.answers(&client, json!({"op": "subscribe", "topics": [">"]}));
    }
    let mut list = |filter: SessionFilter, after, limit| {
        let (reply, rows) = std::sync::mpsc::channel();
        door.harness.shard.list(Arc::new(ListQuery { filter, after, limit }), reply);
        door.harness.settle();
        rows.recv().expect("an answer")
    };
    let first = list(SessionFilter::default(), 0, 10);
    let second = list(SessionFilter::default(), first[9].number, 100);
    let numbers: Vec<u64> = first.iter().chain(&second).map(|row| row.number).collect();
    assert_eq!(numbers.len(), 25);
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert!(first.iter().all(|row| row.state == SessionState::InStep && row.patterns == [">".into()] && row.lag == 0));
    for (filter, expected) in [
        (SessionFilter { subject: Some("s7".into()), ..SessionFilter::default() }, 1),
        (SessionFilter { tier: Some("pro".into()), ..SessionFilter::default() }, 5),
        (SessionFilter { topic: Some("book.A".into()), ..SessionFilter::default() }, 5),
        (SessionFilter { topic: Some("ticker.A".into()), ..SessionFilter::default() }, 25),
    ] {
        assert_eq!(list(filter.clone(), 0, 100).len(), expected, "{filter:?}");
    }
}

#[test]
fn a_server_without_identities_refuses_tokens_and_goes_on() {
    let mut harness = Harness::open();
    let client = harness.join();
    let heard = harness.answers(&client, r#"{"op":"auth","id":1,"token":"alice:free:60000"}"#);
    assert_eq!((&heard[0]["code"], &heard[0]["id"]), (&json!("bad_request"), &json!(1)));
    assert_eq!(harness.answers(&client, r#"{"op":"ping"}"#)[0]["op"], "pong");
}
