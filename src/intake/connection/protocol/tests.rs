//! What is sent on a connection, and when it is given up.

use super::*;
use crate::intake::connection::protocol_config::{IDLE_TIMEOUT, Timing};
use crate::profile::check;
use crate::profile::secrets::Secrets;

fn at(ms: u64) -> Stamp {
    Stamp { wall_ms: ms, mono_ns: ms * 1_000_000 }
}

/// A connection of a profile with these sections, opened at 0, that subscribes to these items.
fn opened(sections: &str, items: &[&str]) -> Protocol {
    let text = format!("profile = 1\nname = \"t\"\n{sections}\n");
    let profile = check(&text, "t").unwrap_or_else(|error| panic!("{error}"));
    let timing = Timing { idle_timeout: None, ws_ping: None, pong_timeout: Duration::from_secs(1) };
    let config = Arc::new(ProtocolConfig::new(&profile, timing, Secrets::default()));
    let item = |name: &&str| Arc::new(profile.subscribe.as_ref().expect("a section").item(name));
    Protocol::open((config, Arc::default()), &items.iter().map(item).collect::<Vec<_>>(), at(0))
}

const RULES: &str = r#"
    [[on]]
    name = "hello"
    as = "greeting"
    [[on]]
    name = "in"
    as = "auth_ok"
    [[on]]
    name = "pong"
    as = "pong"
"#;
const QUIET: &str = "[keepalive]\nidle_timeout = \"none\"\n";

/// The actions at this time, as text.
fn steps(protocol: &mut Protocol, now: Stamp) -> Vec<String> {
    std::iter::from_fn(|| protocol.next(now, &|item| Some(format!("key of {}", item.name))))
        .take(20)
        .map(|step| match step {
            ProtocolAction::Send(text) => text,
            ProtocolAction::Ping => "ping".to_string(),
            ProtocolAction::ReportSilence { since } => format!("silent since {}", since.wall_ms),
            ProtocolAction::Replace => "replace".to_string(),
            ProtocolAction::End(loss) => format!("end: {}", loss.label()),
        })
        .collect()
}

fn learn(protocol: &mut Protocol, class: MessageClass, rule: &str, text: &str, now: Stamp) {
    protocol.learned((class, &rule.into()), text, text, now);
}

#[test]
fn requests_keep_their_rate_and_replies_go_first() {
    let sections = format!("{QUIET}[send]\nrate = \"1/250ms\"\n[subscribe]\nsend = '${{item}}'\n{RULES}");
    let mut protocol = opened(&sections, &["a", "b"]);
    assert_eq!(steps(&mut protocol, at(0)), ["a"]);
    protocol.reply("pong".into());
    assert_eq!(protocol.deadline_ns(), Some(255_000_000));
    assert_eq!(steps(&mut protocol, at(254)), [""; 0]);
    assert_eq!(steps(&mut protocol, at(255)), ["pong"]);
    assert_eq!(steps(&mut protocol, at(510)), ["b"]);
}

#[test]
fn a_budget_holds_back_subscriptions_but_no_replies() {
    let sections = format!("{QUIET}[send]\nbudget = \"1/10s\"\n[subscribe]\nsend = '${{item}}'\n{RULES}");
    let mut protocol = opened(&sections, &["a", "b"]);
    assert_eq!(steps(&mut protocol, at(0)), ["a"]);
    protocol.reply("pong".into());
    assert_eq!(steps(&mut protocol, at(1)), ["pong"]);
    assert_eq!(steps(&mut protocol, at(10_200)), ["b"]);
}

#[test]
fn a_log_in_waits_for_its_rule_and_the_subscriptions_for_the_log_in() {
    let sections = format!(
        "{QUIET}[[open]]\nsend = 'first'\n[login]\nafter = \"hello\"\nsend = 'login ${{req}}'\nok = \"in\"\n\
         [subscribe]\nsend = '${{items|json}}'\n{RULES}"
    );
    let mut protocol = opened(&sections, &["a", "b"]);
    assert_eq!(steps(&mut protocol, at(0)), ["first"]);
    learn(&mut protocol, MessageClass::Greeting, "hello", "", at(5));
    assert_eq!(steps(&mut protocol, at(5)), ["login 2"]);
    assert_eq!(protocol.deadline_ns(), Some(10_005_000_000));
    learn(&mut protocol, MessageClass::AuthOk, "in", "", at(7));
    assert_eq!(steps(&mut protocol, at(7)), [r#"["a","b"]"#]);
}

#[test]
fn an_opening_without_its_answer_ends_the_connection() {
    let sections = format!("{QUIET}[login]\nsend = 'login'\nok = \"in\"\ntimeout = \"2s\"\n{RULES}");
    let mut protocol = opened(&sections, &[]);
    assert_eq!(steps(&mut protocol, at(0)), ["login"]);
    assert_eq!(steps(&mut protocol, at(2000))[0], "end: not_opened");
}

#[test]
fn a_login_that_ends_is_renewed_at_half_of_its_life() {
    let sections = |renew: &str| {
        format!("{QUIET}[login]\nsend = 'login ${{req}}'\nok = \"in\"\ntimeout = \"2s\"\n{renew}\n{RULES}")
    };
    let answer = r#"{"left":100}"#;
    let mut protocol = opened(&sections("life = \"/left\""), &[]);
    assert_eq!(steps(&mut protocol, at(0)), ["login 1"]);
    learn(&mut protocol, MessageClass::AuthOk, "in", answer, at(1000));
    assert_eq!(protocol.deadline_ns(), Some(51_000_000_000));
    assert_eq!(steps(&mut protocol, at(50_999)), [""; 0]);
    assert_eq!(steps(&mut protocol, at(51_000)), ["login 2"]);
    learn(&mut protocol, MessageClass::AuthOk, "in", answer, at(51_500));
    assert_eq!(steps(&mut protocol, at(101_500)), ["login 3"]);
    assert_eq!(protocol.deadline_ns(), Some(103_500_000_000), "the answer is awaited");
    assert_eq!(steps(&mut protocol, at(103_500)), ["replace"]);
    assert_eq!(protocol.deadline_ns(), None);

    let mut protocol = opened(&sections("life = \"10s\"\nrenew = \"connection\""), &[]);
    assert_eq!(steps(&mut protocol, at(0)), ["login 1"]);
    learn(&mut protocol, MessageClass::AuthOk, "in", "", at(0));
    assert_eq!(steps(&mut protocol, at(5000)), ["replace"]);
}

#[test]
fn a_ping_without_any_answer_ends_the_connection() {
    let mut protocol = opened(&format!("[keepalive]\nidle_timeout = \"none\"\nws_ping = \"5s\"\n{RULES}"), &[]);
    assert_eq!(protocol.deadline_ns(), Some(5_000_000_000));
    assert_eq!(steps(&mut protocol, at(5000)), ["ping"]);
    protocol.alive();
    assert_eq!(steps(&mut protocol, at(10_000)), ["ping"]);
    assert!(steps(&mut protocol, at(10_999)).is_empty());
    assert_eq!(protocol.deadline_ns(), Some(11_000_000_000));
    assert_eq!(steps(&mut protocol, at(11_000))[0], "end: pong_timeout");
}

#[test]
fn silence_is_reported_first_and_ends_the_connection_later() {
    let mut protocol = opened(&format!("[keepalive]\nidle_timeout = \"1s\"\n{RULES}"), &[]);
    protocol.received(at(500));
    assert_eq!(protocol.deadline_ns(), Some(1_500_000_000));
    assert_eq!(steps(&mut protocol, at(1500)), ["silent since 500"]);
    protocol.alive();
    assert_eq!(protocol.deadline_ns(), Some(2_500_000_000));
    protocol.received(at(2000));
    assert_eq!(steps(&mut protocol, at(2999)), [""; 0]);
    assert_eq!(steps(&mut protocol, at(3000)), ["silent since 2000"]);
    assert_eq!(steps(&mut protocol, at(4000))[0], "end: silent");
}

#[test]
fn a_feed_that_may_be_quiet_is_judged_by_its_pongs_alone() {
    let profile = check(&format!("profile = 1\nname = \"t\"\n{RULES}"), "t").expect("a good profile");
    let timing = |idle_timeout| {
        let (ws_ping, pong_timeout) = (Some(Duration::from_secs(15)), Duration::from_secs(10));
        Timing { idle_timeout, ws_ping, pong_timeout }
    };
    assert_eq!(timing(None).with_profile(&profile).idle_timeout, Some(IDLE_TIMEOUT));
    let config = ProtocolConfig::new(&profile, timing(Some(Duration::ZERO)), Secrets::default());
    let mut protocol = Protocol::open((Arc::new(config), Arc::default()), &[], at(0));
    for minute in 1..=600 {
        assert_eq!(steps(&mut protocol, at(minute * 60_000)), ["ping"]);
        protocol.alive();
    }
    steps(&mut protocol, at(601 * 60_000));
    assert_eq!(steps(&mut protocol, at(602 * 60_000))[0], "end: pong_timeout");
}

#[test]
fn heartbeats_are_sent_and_their_answers_awaited() {
    let ping = "ping = { every = \"2s\", send = 'beat ${req}', expect = \"pong\", timeout = \"1s\" }";
    let mut protocol = opened(&format!("{QUIET}{ping}\n{RULES}"), &[]);
    assert_eq!(steps(&mut protocol, at(2000)), ["beat 1"]);
    learn(&mut protocol, MessageClass::Pong, "other", "", at(2000));
    assert_eq!(protocol.deadline_ns(), Some(3_000_000_000));
    learn(&mut protocol, MessageClass::Pong, "pong", "", at(2001));
    assert_eq!(steps(&mut protocol, at(4000)), ["beat 2"]);
    protocol.received(at(4500));
    assert_eq!(steps(&mut protocol, at(5000))[0], "end: heartbeat_timeout");
}

#[test]
fn an_idle_only_heartbeat_is_sent_in_silence() {
    let mut protocol =
        opened(&format!("{QUIET}ping = {{ every = \"2s\", send = 'p', idle_only = true }}\n{RULES}"), &[]);
    protocol.received(at(1500));
    assert_eq!(steps(&mut protocol, at(2000)), [""; 0]);
    assert_eq!(protocol.deadline_ns(), Some(3_500_000_000));
    assert_eq!(steps(&mut protocol, at(3500)), ["p"]);
}

#[test]
fn a_flood_of_pings_or_of_clients_is_not_queued_without_bound() {
    let mut protocol = opened(&format!("{QUIET}{RULES}"), &[]);
    (0..100).for_each(|n| protocol.reply(n.to_string()));
    let sent = steps(&mut protocol, at(0));
    assert_eq!((sent.len(), sent[0].as_str()), (REPLIES_MAX, "84"));
    let taken = (0..1000).filter(|n: &u32| protocol.forward(n.to_string())).count();
    assert_eq!(taken, FORWARDS_MAX);
}
