//! What our own feed says: the simulated market's messages, of another size on demand, each with the mark of its sending.

use crate::bus::clock::Clock;
use crate::settings::table::MarketSettings;
use crate::simulator::SimulatorError;
use crate::simulator::market::Market;

use super::mark;

/// Digits of the mark's time on a machine that has measured for some seconds, for the size of a message.
const MARK_BYTES: usize = r#","sent_ns":12345678901"#.len();

/// An endless sequence of messages; the same settings give the same one, but for times.
pub struct Generator {
    market: Market,
    /// Size of a message; 0: as the market says it.
    bytes: usize,
    /// State of the padding's letters.
    letters: u64,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedMessage {
    pub text: Vec<u8>,
    /// Of its topic, in the market.
    pub number: usize,
}

/// The names of a market's topics, by number.
pub fn topics(settings: MarketSettings) -> Result<Vec<String>, SimulatorError> {
    let mut market = Market::new(settings)?;
    // It opens with one message of each.
    let opening = (0..market.topics()).map(|_| String::from_utf8_lossy(topic(market.next(0).text.as_bytes())).into());
    Ok(opening.collect())
}

impl Generator {
    /// Messages of so many bytes, a few more or less; 0: as the market says them.
    pub fn new(settings: MarketSettings, bytes: usize) -> Result<Generator, SimulatorError> {
        Ok(Generator { market: Market::new(settings)?, bytes, letters: settings.seed | 1 })
    }

    /// How many topics there are; so many messages, one of each, are the opening.
    pub fn topics(&self) -> usize {
        self.market.topics()
    }

    /// The next message, as if sent now.
    pub fn next(&mut self, clock: &Clock) -> GeneratedMessage {
        let now = clock.now();
        let tick = self.market.next(now.wall_ms);
        let mut text = tick.text.into_bytes();
        if (1..text.len() + MARK_BYTES).contains(&self.bytes) {
            text = [br#"{"topic":""#, topic(&text), br#""}"#].concat();
        }
        self.pad(&mut text);
        mark::put(&mut text, now.mono_ns);
        GeneratedMessage { text, number: tick.topic }
    }

    /// Letters without a pattern, so that compression finds no more in them than their alphabet.
    fn pad(&mut self, text: &mut Vec<u8>) {
        const PAD: &[u8] = b",\"pad\":\"\"}";
        let missing = self.bytes.saturating_sub(text.len() + MARK_BYTES);
        if missing < PAD.len() {
            return;
        }
        text.pop();
        text.extend_from_slice(&PAD[..PAD.len() - 2]);
        for _ in PAD.len()..=missing {
            // xorshift64 (Marsaglia 2003).
            self.letters ^= self.letters << 13;
            self.letters ^= self.letters >> 7;
            self.letters ^= self.letters << 17;
            text.push(b'a' + (self.letters >> 60) as u8);
        }
        text.extend_from_slice(b"\"}");
    }
}

impl GeneratedMessage {
    pub fn topic(&self) -> &str {
        std::str::from_utf8(topic(&self.text)).unwrap_or_default()
    }
}

/// Between the quotes of the market's first member; its names need no escapes.
fn topic(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b'"').nth(3).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(bytes: usize) -> Generator {
        Generator::new(MarketSettings::default(), bytes).expect("a market")
    }

    #[test]
    fn messages_are_json_with_topic_and_mark() {
        let clock = Clock::start();
        let mut speech = speech(0);
        let topics = topics(MarketSettings::default()).expect("a market");
        assert_eq!(topics.len(), speech.topics());
        for _ in 0..1000 {
            let message = speech.next(&clock);
            let value: serde_json::Value = serde_json::from_slice(&message.text).expect("JSON");
            assert_eq!(value["topic"], message.topic());
            assert_eq!(value["sent_ns"].as_u64(), mark::find(&message.text));
            assert_eq!(message.topic(), topics[message.number]);
        }
    }

    #[test]
    fn messages_have_the_size_asked_for() {
        let clock = Clock::start();
        for bytes in [50, 160, 1000] {
            let mut speech = speech(bytes);
            for _ in 0..100 {
                let text = speech.next(&clock).text;
                assert!(text.len().abs_diff(bytes) <= 16, "{} for {bytes}", text.len());
                let value: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
                assert!(value["topic"].is_string() && value["sent_ns"].is_u64(), "{value}");
            }
        }
    }
}
