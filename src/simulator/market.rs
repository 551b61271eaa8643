//! An invented market: the sequence of its messages is a pure function of its settings.
//!
//! It opens with one quote and one trade of every symbol and continues without end: prices walk at random and are pulled
//! back to where they started, busy symbols have more messages than quiet ones, and now and then one symbol has a burst.
//! Only `time_ms` is given from outside. Arithmetic is limited to what IEEE 754 defines exactly
//! (no logarithms, no sines), so that one seed produces the same bytes on every machine.

use std::fmt::Write;

use crate::settings::table::MarketSettings;
use crate::simulator::SimulatorError;
use crate::simulator::dice::Dice;
use crate::simulator::symbols::{SYMBOLS, SizeClass, Symbol};

/// Ten times what one core writes to one connection.
const RATE_MAX: f64 = 10_000_000.0;
/// Ten times the default bound on topics (two topics per symbol).
const SYMBOLS_MAX: usize = 500_000;

/// Four quotes to one trade.
const MESSAGES_PER_TRADE: u32 = 5;
/// One in this many messages starts a burst.
const MESSAGES_PER_BURST: u32 = 50;
const BURST_MESSAGES_MIN: u32 = 5;
const BURST_MESSAGES_MAX: u32 = 20;
/// Share of the usual pause between two messages inside a burst.
const BURST_PAUSE: f64 = 0.1;
/// Share of the mean pause between two messages outside bursts. A burst adds 12 messages on average to every 50, at
/// `BURST_PAUSE` each; so the mean over all is 1: (50 x + 12.5 * 0.1) / 62.5 = 1.
const CALM_PAUSE: f64 = (62.5 - 12.5 * BURST_PAUSE) / 50.0;

/// Standard deviation of one step, as a part of the price: with `PULL` a price stays within about 0.5 % of its anchor.
const STEP: f64 = 1e-4;
/// Part of the distance from the anchor that a step takes back.
const PULL: f64 = 2e-4;

/// The market: an endless sequence of messages.
pub struct Market {
    dice: Dice,
    books: Vec<Instrument>,
    /// Sum of the activities of all books up to and including this one.
    activity_sums: Vec<u64>,
    /// Opening messages already produced, of two per symbol.
    opened: usize,
    /// Symbol and remaining messages of the current burst.
    burst: Option<(usize, u32)>,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Number of its topic: 0 to 2 * symbols - 1.
    pub topic: usize,
    /// How long to wait before it, in mean pauses (1 / rate).
    pub pause: f64,
    pub text: String,
}

/// State of one instrument.
struct Instrument {
    symbol: Symbol,
    name: String,
    /// Middle of bid and ask, in units of the last decimal.
    mid: f64,
    bid: i64,
    ask: i64,
    quotes: u64,
    trades: u64,
}

impl Market {
    pub fn new(settings: MarketSettings) -> Result<Market, SimulatorError> {
        let MarketSettings { seed, rate, symbols } = settings;
        if !(rate > 0.0 && rate <= RATE_MAX) {
            return Err(SimulatorError::Rate { found: rate, max: RATE_MAX });
        }
        if symbols == 0 || symbols > SYMBOLS_MAX {
            return Err(SimulatorError::Symbols { found: symbols, max: SYMBOLS_MAX });
        }
        let books: Vec<Instrument> = (0..symbols).map(Instrument::open).collect();
        let activity_sums = books
            .iter()
            .scan(0, |sum, book| {
                *sum += u64::from(book.symbol.activity);
                Some(*sum)
            })
            .collect();
        Ok(Market { dice: Dice::of(seed), books, activity_sums, opened: 0, burst: None })
    }

    /// Two per symbol: quotes and trades.
    pub fn topics(&self) -> usize {
        2 * self.books.len()
    }

    /// The next message. `time_ms` is its time, in milliseconds since the Unix epoch.
    pub fn next(&mut self, time_ms: u64) -> Tick {
        if self.opened < self.topics() {
            let topic = self.opened;
            self.opened += 1;
            return self.speak(topic, 0.0, time_ms);
        }
        let (index, pause) = self.pick();
        let kind = usize::from(self.dice.below(MESSAGES_PER_TRADE) == 0);
        self.speak(2 * index + kind, pause, time_ms)
    }

    /// The next symbol, and the pause before it.
    fn pick(&mut self) -> (usize, f64) {
        if let Some((index, left)) = self.burst {
            self.burst = (left > 1).then_some((index, left - 1));
            return (index, BURST_PAUSE);
        }
        let total = self.activity_sums.last().copied().unwrap_or(1);
        let at = self.dice.below_u64(total);
        let index = self.activity_sums.partition_point(|sum| *sum <= at);
        if self.dice.below(MESSAGES_PER_BURST) == 0 {
            let messages = BURST_MESSAGES_MIN + self.dice.below(BURST_MESSAGES_MAX - BURST_MESSAGES_MIN + 1);
            self.burst = Some((index, messages));
        }
        (index, CALM_PAUSE)
    }

    fn speak(&mut self, topic: usize, pause: f64, time_ms: u64) -> Tick {
        let book = &mut self.books[topic / 2];
        let text = match topic % 2 {
            0 => book.quote(&mut self.dice, time_ms),
            _ => book.trade(&mut self.dice, time_ms),
        };
        Tick { topic, pause, text }
    }
}

impl Instrument {
    fn open(index: usize) -> Instrument {
        let symbol = SYMBOLS[index % SYMBOLS.len()];
        let name = match index / SYMBOLS.len() {
            0 => symbol.name.to_string(),
            round => format!("{}-{}", symbol.name, round + 1),
        };
        Instrument { symbol, name, mid: f64::from(symbol.price), bid: 0, ask: 0, quotes: 0, trades: 0 }
    }

    fn quote(&mut self, dice: &mut Dice, time_ms: u64) -> String {
        let anchor = f64::from(self.symbol.price);
        self.mid += dice.normal() * STEP * anchor + (anchor - self.mid) * PULL;
        let tick = f64::from(self.symbol.tick);
        let wider = u32::from(dice.below(8) == 0) * dice.below(self.symbol.spread_ticks + 2);
        let spread = i64::from(self.symbol.spread_ticks + wider) * i64::from(self.symbol.tick);
        // Truncation, not rounding, keeps this exact; the mid is never near zero.
        self.bid = ((self.mid - spread as f64 / 2.0) / tick) as i64 * i64::from(self.symbol.tick);
        self.ask = self.bid + spread;
        self.quotes += 1;
        let decimals = self.symbol.decimals;
        let mut text = String::with_capacity(192);
        let _ = write!(text, r#"{{"topic":"quote.{0}","type":"quote","symbol":"{0}","bid":"#, self.name);
        put_decimal(&mut text, self.bid, decimals);
        text.push_str(r#","bid_size":"#);
        self.put_quoted_size(&mut text, dice);
        text.push_str(r#","ask":"#);
        put_decimal(&mut text, self.ask, decimals);
        text.push_str(r#","ask_size":"#);
        self.put_quoted_size(&mut text, dice);
        let _ = write!(text, r#","seq":{},"time_ms":{time_ms}}}"#, self.quotes);
        text
    }

    fn trade(&mut self, dice: &mut Dice, time_ms: u64) -> String {
        let (side, price) = if dice.below(2) == 0 { ("buy", self.ask) } else { ("sell", self.bid) };
        self.trades += 1;
        let mut text = String::with_capacity(160);
        let _ = write!(text, r#"{{"topic":"trade.{0}","type":"trade","symbol":"{0}","price":"#, self.name);
        put_decimal(&mut text, price, self.symbol.decimals);
        text.push_str(r#","size":"#);
        self.put_traded_size(&mut text, dice);
        let _ = write!(text, r#","side":"{side}","seq":{},"time_ms":{time_ms}}}"#, self.trades);
        text
    }

    fn put_quoted_size(&self, text: &mut String, dice: &mut Dice) {
        match self.symbol.class {
            SizeClass::Equity => put_decimal(text, 100 * i64::from(1 + dice.few(30)), 0),
            SizeClass::Fx => put_decimal(text, 1_000_000 * i64::from(1 + dice.few(12)), 0),
            SizeClass::Crypto => put_decimal(text, self.fraction(dice, 40), 4),
        }
    }

    fn put_traded_size(&self, text: &mut String, dice: &mut Dice) {
        match self.symbol.class {
            SizeClass::Equity => put_decimal(text, i64::from(1 + dice.few(400)), 0),
            SizeClass::Fx => put_decimal(text, 500_000 * i64::from(1 + dice.few(6)), 0),
            SizeClass::Crypto => put_decimal(text, self.fraction(dice, 8), 4),
        }
    }

    /// A size in ten-thousandths, worth at most about `thousands` thousand of the second currency.
    fn fraction(&self, dice: &mut Dice, thousands: u32) -> i64 {
        let unit = 10i64.pow(self.symbol.decimals);
        let largest = i64::from(thousands) * 1000 * 10_000 * unit / i64::from(self.symbol.price);
        1 + i64::from(dice.few(u32::try_from(largest).unwrap_or(u32::MAX)))
    }
}

/// Writes `units` of the last of `decimals` digits after the point; not negative.
fn put_decimal(text: &mut String, units: i64, decimals: u32) {
    let one = 10i64.pow(decimals);
    let _ = match decimals {
        0 => write!(text, "{units}"),
        _ => write!(text, "{}.{:0width$}", units / one, units % one, width = decimals as usize),
    };
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde_json::Value;

    use super::*;

    fn texts(settings: MarketSettings, count: usize, time_ms: u64) -> Vec<String> {
        let mut market = Market::new(settings).expect("sound settings");
        (0..count).map(|_| market.next(time_ms).text).collect()
    }

    #[test]
    fn one_seed_gives_one_market() {
        let settings = MarketSettings::default();
        assert_eq!(texts(settings, 5000, 7), texts(settings, 5000, 7));
        assert_eq!(texts(settings, 500, 7).concat(), texts(settings, 500, 8).concat().replace(":8}", ":7}"));
        assert_ne!(texts(settings, 500, 7), texts(MarketSettings { seed: 2, ..settings }, 500, 7));
        // Pinned: a change here changes what users have recorded under a seed.
        let first = texts(settings, 2, 1_767_225_600_123);
        let quote = r#"{"topic":"quote.AAPL","type":"quote","symbol":"AAPL","bid":227.54,"bid_size":2300,"ask":227.55,"ask_size":900,"seq":1,"time_ms":1767225600123}"#;
        assert_eq!(first[0], quote);
        let last = texts(settings, 5000, 1_767_225_600_123).pop();
        let trade = r#"{"topic":"trade.ADA-USD","type":"trade","symbol":"ADA-USD","price":0.3452,"size":20267.8050,"side":"sell","seq":9,"time_ms":1767225600123}"#;
        assert_eq!(last.as_deref(), Some(trade));
    }

    #[test]
    fn the_market_opens_with_a_quote_and_a_trade_of_every_symbol() {
        let mut market = Market::new(MarketSettings { symbols: 130, ..Default::default() }).expect("sound settings");
        let mut names = std::collections::HashSet::new();
        for expected in 0..260 {
            let tick = market.next(0);
            assert_eq!((tick.topic, tick.pause), (expected, 0.0));
            let message: Value = serde_json::from_str(&tick.text).expect("valid JSON");
            names.insert(message["topic"].as_str().expect("a topic").to_string());
        }
        assert_eq!(names.len(), 260);
        assert!(names.contains("quote.AAPL") && names.contains("trade.AAPL-3"), "{names:?}");
    }

    #[test]
    fn prices_are_plausible_and_printed_with_fixed_decimals() {
        let mut trades = 0;
        let mut activity: HashMap<String, u32> = HashMap::new();
        let messages = texts(MarketSettings::default(), 50_000, 1);
        for text in &messages {
            let message: Value = serde_json::from_str(text).expect("valid JSON");
            let name = message["symbol"].as_str().expect("a symbol");
            let symbol = SYMBOLS.iter().find(|symbol| symbol.name == name).expect("a known symbol");
            *activity.entry(name.to_string()).or_default() += 1;
            let price = |key: &str| {
                let raw = text.split(&format!("\"{key}\":")).nth(1).and_then(|rest| rest.split(',').next());
                let raw = raw.expect("the member is there");
                let (whole, fraction) = raw.split_once('.').expect("a decimal point");
                assert_eq!(fraction.len(), symbol.decimals as usize, "{text}");
                let units: u32 = format!("{whole}{fraction}").parse().expect("digits");
                assert!(
                    units.abs_diff(symbol.price) < symbol.price / 20 && units.is_multiple_of(symbol.tick),
                    "{text}"
                );
                units
            };
            if message["type"] == "quote" {
                assert!(price("bid") < price("ask"), "{text}");
                assert!(message["bid_size"].as_f64() > Some(0.0) && message["ask_size"].as_f64() > Some(0.0), "{text}");
            } else {
                trades += 1;
                price("price");
                assert!(message["size"].as_f64() > Some(0.0), "{text}");
            }
        }
        assert!((9_000..11_500).contains(&trades), "about 4 quotes per trade, found {trades} trades");
        assert_eq!(activity.len(), SYMBOLS.len());
        assert!(activity["BTC-USD"] > 20 * activity["FIL-USD"], "{activity:?}");
    }

    #[test]
    fn pauses_have_a_mean_of_one() {
        let mut market = Market::new(MarketSettings::default()).expect("sound settings");
        let opening = market.topics();
        let sum: f64 = (0..100_000).map(|_| market.next(0).pause).sum();
        let mean = sum / (100_000 - opening) as f64;
        assert!((0.97..1.03).contains(&mean), "{mean}");
    }

    #[test]
    fn settings_that_make_no_market_are_refused() {
        let sound = MarketSettings::default();
        for (settings, part) in [
            (MarketSettings { rate: 0.0, ..sound }, "found `0`"),
            (MarketSettings { rate: f64::NAN, ..sound }, "found `NaN`"),
            (MarketSettings { symbols: 0, ..sound }, "found `0`"),
        ] {
            let error = Market::new(settings).err().expect("refused").to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
