//! What to say on one connection and when: subscriptions, replies, pings, heartbeats; and when it must be given up.
//!
//! No sockets and no clock: the caller says what was heard and what time it is, and does the steps it is told.
//! Silence is judged by messages; WebSocket pings and pongs show only that the connection stands. Whatever is sent
//! keeps the profile's distance in time, pings included; answers to WebSocket pings are not ours to delay.

use std::collections::VecDeque;
use std::time::Duration;

use crate::words::stamp::Stamp;

use super::loss::Loss;
use crate::intake::profile::subscribe::filled;
use crate::intake::profile::{Heartbeat, Profile};

/// More unsent replies than this, and the oldest is dropped: who asks that often needs no answer to each.
const REPLIES_MAX: usize = 16;

/// Used if neither the settings nor the profile say how long an upstream may be silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The times of a connection: the profile's where it has them, else the settings'; for the idle timeout it is the other
/// way round, because only a user knows how quiet the topics are that were asked for.
#[derive(Clone, Debug)]
pub struct Timing {
    pub idle_timeout: Option<Duration>,
    pub ws_ping: Option<Duration>,
    pub pong_timeout: Duration,
    pub send_spacing: Duration,
    pub heartbeat: Option<Heartbeat>,
}

impl Timing {
    /// `timing` holds what the settings say.
    pub fn with_profile(self, profile: &Profile) -> Timing {
        let keepalive = &profile.keepalive;
        Timing {
            idle_timeout: self.idle_timeout.or(keepalive.idle_timeout.unwrap_or(Some(IDLE_TIMEOUT))),
            ws_ping: keepalive.ws_ping.unwrap_or(self.ws_ping),
            pong_timeout: keepalive.pong_timeout.unwrap_or(self.pong_timeout),
            send_spacing: profile.send_spacing,
            heartbeat: keepalive.ping.clone(),
        }
    }
}

/// Something for the owner of the socket to do.
#[derive(Debug)]
pub enum Step {
    Send(String),
    /// A WebSocket ping.
    Ping,
    /// The upstream has been silent since then: say so. The connection is kept for now.
    TellSilence {
        since: Stamp,
    },
    /// Give the connection up.
    End(Loss),
}

#[derive(Debug)]
pub struct Dialogue {
    timing: Timing,
    requests: VecDeque<String>,
    replies: VecDeque<String>,
    /// Number of the last request.
    req: u64,
    send_at_ns: u64,
    last_message: Stamp,
    told_silence: bool,
    ping_at_ns: Option<u64>,
    pong_by_ns: Option<u64>,
    beat_at_ns: Option<u64>,
    answer_by_ns: Option<u64>,
}

impl Dialogue {
    /// A connection that was opened `now`; `requests` are sent first, and `req` is the number of the last of them.
    pub fn open(timing: Timing, requests: Vec<String>, req: u64, now: Stamp) -> Dialogue {
        let after = |wait: Duration| now.mono_ns + ns(wait);
        Dialogue {
            requests: requests.into(),
            replies: VecDeque::new(),
            req,
            send_at_ns: now.mono_ns,
            last_message: now,
            told_silence: false,
            ping_at_ns: timing.ws_ping.map(after),
            pong_by_ns: None,
            beat_at_ns: timing.heartbeat.as_ref().map(|heartbeat| after(heartbeat.every)),
            answer_by_ns: None,
            timing,
        }
    }

    /// A message came.
    pub fn heard(&mut self, now: Stamp) {
        self.last_message = now;
        self.told_silence = false;
        self.pong_by_ns = None;
    }

    /// Something came that is no message, or not yet: a WebSocket ping or pong, a part of a long message.
    pub fn alive(&mut self) {
        self.pong_by_ns = None;
    }

    /// A message of class `pong` came, by this rule.
    pub fn answered(&mut self, rule: &str) {
        let expected = self.timing.heartbeat.as_ref().and_then(|heartbeat| heartbeat.expect.as_ref());
        if expected.is_some_and(|(name, _)| name == rule) {
            self.answer_by_ns = None;
        }
    }

    /// Queues the answer to a ping; it goes before everything else.
    pub fn reply(&mut self, reply: String) {
        if self.replies.len() == REPLIES_MAX {
            self.replies.pop_front();
        }
        self.replies.push_back(reply);
    }

    /// The next thing to do; none until something is heard or `deadline_ns` has come.
    pub fn next(&mut self, now: Stamp) -> Option<Step> {
        let due = |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now.mono_ns);
        if due(self.pong_by_ns) {
            return Some(Step::End(Loss::PongMissing { after: self.timing.pong_timeout }));
        }
        if due(self.answer_by_ns) {
            return Some(Step::End(Loss::AnswerMissing { after: self.answer_timeout().unwrap_or_default() }));
        }
        if due(self.silence_ns()) {
            if self.told_silence {
                return Some(Step::End(Loss::Silent { after: ns_to_duration(now.ns_since(self.last_message)) }));
            }
            self.told_silence = true;
            return Some(Step::TellSilence { since: self.last_message });
        }
        if self.send_at_ns > now.mono_ns {
            return None;
        }
        let step = self.next_sending(now)?;
        self.send_at_ns = now.mono_ns + ns(self.timing.send_spacing);
        Some(step)
    }

    fn next_sending(&mut self, now: Stamp) -> Option<Step> {
        if let Some(text) = self.replies.pop_front().or_else(|| self.requests.pop_front()) {
            return Some(Step::Send(text));
        }
        if self.ping_at_ns.is_some_and(|at| at <= now.mono_ns) {
            self.ping_at_ns = self.timing.ws_ping.map(|interval| now.mono_ns + ns(interval));
            self.pong_by_ns.get_or_insert(now.mono_ns + ns(self.timing.pong_timeout));
            return Some(Step::Ping);
        }
        if self.beat_at_ns.is_some_and(|at| at <= now.mono_ns) {
            let heartbeat = self.timing.heartbeat.as_ref()?;
            self.req += 1;
            let text = filled(&heartbeat.send, &[], self.req);
            self.beat_at_ns = Some(now.mono_ns + ns(heartbeat.every));
            if let Some(timeout) = self.answer_timeout() {
                self.answer_by_ns.get_or_insert(now.mono_ns + ns(timeout));
            }
            return Some(Step::Send(text));
        }
        None
    }

    /// When `next` may have something to do although nothing was heard; none if never.
    pub fn deadline_ns(&self) -> Option<u64> {
        let queued = !self.replies.is_empty() || !self.requests.is_empty();
        let sending = [queued.then_some(0), self.ping_at_ns, self.beat_at_ns];
        let sending = sending.into_iter().flatten().map(|at| at.max(self.send_at_ns));
        [self.pong_by_ns, self.answer_by_ns, self.silence_ns()].into_iter().flatten().chain(sending).min()
    }

    /// When silence is to be told, or, once it was told, to be ended.
    fn silence_ns(&self) -> Option<u64> {
        let timeouts = if self.told_silence { 2 } else { 1 };
        self.timing
            .idle_timeout
            .map(|timeout| self.last_message.mono_ns.saturating_add(ns(timeout).saturating_mul(timeouts)))
    }

    fn answer_timeout(&self) -> Option<Duration> {
        let expect = self.timing.heartbeat.as_ref()?.expect.as_ref();
        expect.map(|(_, timeout)| *timeout)
    }
}

fn ns(duration: Duration) -> u64 {
    // 2^62 ns are 146 years: the sum with any clock stays within 64 bits.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(1 << 62)
}

fn ns_to_duration(ns: u64) -> Duration {
    Duration::from_nanos(ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::profile::subscribe::Word;
    use crate::intake::profile::template::Template;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Stamp {
        Stamp { wall_ms: ms, mono_ns: ms * 1_000_000 }
    }

    fn timing() -> Timing {
        Timing {
            idle_timeout: None,
            ws_ping: None,
            pong_timeout: SECOND,
            send_spacing: Duration::ZERO,
            heartbeat: None,
        }
    }

    /// What is done at each of these times, as words.
    fn steps(dialogue: &mut Dialogue, now: Stamp) -> Vec<String> {
        std::iter::from_fn(|| dialogue.next(now))
            .take(20)
            .map(|step| match step {
                Step::Send(text) => text,
                Step::Ping => "ping".to_string(),
                Step::TellSilence { since } => format!("silent since {}", since.wall_ms),
                Step::End(loss) => format!("end: {}", loss.label()),
            })
            .collect()
    }

    #[test]
    fn requests_keep_their_distance_and_replies_go_first() {
        let timing = Timing { send_spacing: Duration::from_millis(250), ..timing() };
        let mut dialogue = Dialogue::open(timing, vec!["a".into(), "b".into()], 2, at(0));
        assert_eq!(steps(&mut dialogue, at(0)), ["a"]);
        dialogue.reply("pong".into());
        assert_eq!(dialogue.deadline_ns(), Some(250_000_000));
        assert_eq!(steps(&mut dialogue, at(249)), [""; 0]);
        assert_eq!(steps(&mut dialogue, at(250)), ["pong"]);
        assert_eq!(steps(&mut dialogue, at(500)), ["b"]);
        assert_eq!(dialogue.deadline_ns(), None);
    }

    #[test]
    fn a_ping_without_any_answer_ends_the_connection() {
        let timing = Timing { ws_ping: Some(5 * SECOND), ..timing() };
        let mut dialogue = Dialogue::open(timing, vec![], 0, at(0));
        assert_eq!(dialogue.deadline_ns(), Some(5_000_000_000));
        assert_eq!(steps(&mut dialogue, at(5000)), ["ping"]);
        dialogue.alive();
        assert_eq!(steps(&mut dialogue, at(10_000)), ["ping"]);
        assert!(dialogue.next(at(10_999)).is_none());
        assert_eq!(dialogue.deadline_ns(), Some(11_000_000_000));
        assert_eq!(steps(&mut dialogue, at(11_000))[0], "end: pong_timeout");
    }

    #[test]
    fn silence_is_told_first_and_ends_the_connection_later() {
        let timing = Timing { idle_timeout: Some(SECOND), ..timing() };
        let mut dialogue = Dialogue::open(timing, vec![], 0, at(0));
        dialogue.heard(at(500));
        assert_eq!(dialogue.deadline_ns(), Some(1_500_000_000));
        assert_eq!(steps(&mut dialogue, at(1500)), ["silent since 500"]);
        dialogue.alive();
        assert_eq!(dialogue.deadline_ns(), Some(2_500_000_000));
        dialogue.heard(at(2000));
        assert_eq!(steps(&mut dialogue, at(2999)), [""; 0]);
        assert_eq!(steps(&mut dialogue, at(3000)), ["silent since 2000"]);
        assert_eq!(steps(&mut dialogue, at(4000))[0], "end: silent");
    }

    #[test]
    fn heartbeats_are_sent_and_their_answers_awaited() {
        let send = Template::parse("beat ${req}", |source| Word::parse(source, &[Word::Req])).expect("template");
        let heartbeat = Heartbeat { every: 2 * SECOND, send, expect: Some(("pong".into(), SECOND)) };
        let timing = Timing { heartbeat: Some(heartbeat), ..timing() };
        let mut dialogue = Dialogue::open(timing, vec![], 7, at(0));
        assert_eq!(steps(&mut dialogue, at(2000)), ["beat 8"]);
        dialogue.answered("other");
        assert_eq!(dialogue.deadline_ns(), Some(3_000_000_000));
        dialogue.answered("pong");
        assert_eq!(steps(&mut dialogue, at(4000)), ["beat 9"]);
        dialogue.heard(at(4500));
        assert_eq!(steps(&mut dialogue, at(5000))[0], "end: heartbeat_timeout");
    }

    #[test]
    fn a_flood_of_pings_is_not_queued_without_bound() {
        let mut dialogue = Dialogue::open(timing(), vec![], 0, at(0));
        (0..100).for_each(|n| dialogue.reply(n.to_string()));
        let sent = steps(&mut dialogue, at(0));
        assert_eq!((sent.len(), sent[0].as_str()), (REPLIES_MAX, "84"));
    }
}
