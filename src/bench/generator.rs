//! The message generator of the bench's feed: the simulated market's messages, optionally of another size, each with the
//! timestamp of its sending.

use crate::bus::clock::Clock;
use crate::settings::table::MarketSettings;
use crate::simulator::SimulatorError;
use crate::simulator::market::Market;

use super::timestamp;

/// Bytes of the timestamp after a few seconds of measuring, for the size of a message.
const TIMESTAMP_BYTES: usize = r#","sent_ns":12345678901"#.len();

/// An endless sequence of messages; the same settings produce the same one, except for times.
pub struct Generator {
    market: Market,
    /// Size of a message; 0: as in the market.
    bytes: usize,
    /// State of the padding's letters.
    letters: u64,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedMessage {
    pub text: Vec<u8>,
    /// Number of its topic in the market.
    pub number: usize,
}

/// The names of a market's topics, by number.
pub fn topics(settings: MarketSettings) -> Result<Vec<String>, SimulatorError> {
    let mut market = Market::new(settings)?;
    // The opening has one message of each topic.
    let opening = (0..market.topics()).map(|_| String::from_utf8_lossy(topic(market.next(0).text.as_bytes())).into());
    Ok(opening.collect())
}

impl Generator {
    /// Messages of about `bytes` bytes; 0: as in the market.
    pub fn new(settings: MarketSettings, bytes: usize) -> Result<Generator, SimulatorError> {
        Ok(Generator { market: Market::new(settings)?, bytes, letters: settings.seed | 1 })
    }

    /// Number of topics; the opening is one message of each.
    pub fn topics(&self) -> usize {
        self.market.topics()
    }

    /// The next message, as if sent now.
    pub fn next(&mut self, clock: &Clock) -> GeneratedMessage {
        let now = clock.now();
        let tick = self.market.next(now.wall_ms);
        let mut text = tick.text.into_bytes();
        if (1..text.len() + TIMESTAMP_BYTES).contains(&self.bytes) {
            text = [br#"{"topic":""#, topic(&text), br#""}"#].concat();
        }
        self.pad(&mut text);
        timestamp::put(&mut text, now.mono_ns);
        GeneratedMessage { text, number: tick.topic }
    }

    /// Pads with random letters, so that compression gains only from their small alphabet.
    fn pad(&mut self, text: &mut Vec<u8>) {
        const PAD: &[u8] = b",\"pad\":\"\"}";
        let missing = self.bytes.saturating_sub(text.len() + TIMESTAMP_BYTES);
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

    fn generator(bytes: usize) -> Generator {
        Generator::new(MarketSettings::default(), bytes).expect("a market")
    }

    #[test]
    fn messages_are_json_with_topic_and_timestamp() {
        let clock = Clock::start();
        let mut generator = generator(0);
        let topics = topics(MarketSettings::default()).expect("a market");
        assert_eq!(topics.len(), generator.topics());
        for _ in 0..1000 {
            let message = generator.next(&clock);
            let value: serde_json::Value = serde_json::from_slice(&message.text).expect("JSON");
            assert_eq!(value["topic"], message.topic());
            assert_eq!(value["sent_ns"].as_u64(), timestamp::find(&message.text));
            assert_eq!(message.topic(), topics[message.number]);
        }
    }

    #[test]
    fn messages_have_the_requested_size() {
        let clock = Clock::start();
        for bytes in [50, 160, 1000] {
            let mut generator = generator(bytes);
            for _ in 0..100 {
                let text = generator.next(&clock).text;
                assert!(text.len().abs_diff(bytes) <= 16, "{} for {bytes}", text.len());
                let value: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
                assert!(value["topic"].is_string() && value["sent_ns"].is_u64(), "{value}");
            }
        }
    }
}
