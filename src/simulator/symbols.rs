//! Instruments of the simulated market: real names, plausible prices, invented behaviour.

/// The sizes of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SizeClass {
    /// Quoted in lots of 100 shares, traded by the share.
    Equity,
    /// Quoted and traded in millions of the first currency.
    Fx,
    /// Quoted and traded in fractions with 4 decimals.
    Crypto,
}

/// One instrument. Prices are integers in units of the last decimal, so that no rounding shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    pub name: &'static str,
    pub class: SizeClass,
    /// The price at the start, to which it is pulled back.
    pub price: u32,
    /// Digits after the point, always all printed.
    pub decimals: u32,
    /// Smallest step of a price.
    pub tick: u32,
    /// Ask minus bid, in ticks, when the market is calm.
    pub spread_ticks: u32,
    /// Messages of this instrument, relative to the others.
    pub activity: u32,
}

use SizeClass::{Crypto, Equity, Fx};

const fn row(name: &'static str, class: SizeClass, price: (u32, u32), tick: (u32, u32), activity: u32) -> Symbol {
    let (price, decimals) = price;
    let (tick, spread_ticks) = tick;
    Symbol { name, class, price, decimals, tick, spread_ticks, activity }
}

/// Classes alternate, so that a market of few symbols has some of each. Columns: name, class, (price, decimals),
/// (tick, spread in ticks), activity.
#[rustfmt::skip]
pub(super) const SYMBOLS: [Symbol; 60] = [
    row("AAPL",     Equity, (22752, 2),   (1, 1),   60),
    row("EURUSD",   Fx,     (108412, 5),  (1, 2),   90),
    row("BTC-USD",  Crypto, (6183760, 2), (10, 1),  100),
    row("MSFT",     Equity, (41526, 2),   (1, 2),   45),
    row("USDJPY",   Fx,     (149823, 3),  (1, 3),   80),
    row("ETH-USD",  Crypto, (268380, 2),  (1, 2),   90),
    row("NVDA",     Equity, (13481, 2),   (1, 1),   95),
    row("GBPUSD",   Fx,     (129784, 5),  (1, 3),   60),
    row("SOL-USD",  Crypto, (15472, 2),   (1, 2),   70),
    row("AMZN",     Equity, (18640, 2),   (1, 1),   45),
    row("AUDUSD",   Fx,     (66931, 5),   (1, 3),   35),
    row("XRP-USD",  Crypto, (5847, 4),    (1, 2),   45),
    row("TSLA",     Equity, (21916, 2),   (1, 3),   85),
    row("USDCHF",   Fx,     (86457, 5),   (1, 4),   30),
    row("DOGE-USD", Crypto, (10742, 5),   (1, 3),   40),
    row("GOOGL",    Equity, (16416, 2),   (1, 1),   40),
    row("USDCAD",   Fx,     (137245, 5),  (1, 4),   30),
    row("ADA-USD",  Crypto, (3451, 4),    (1, 1),   20),
    row("META",     Equity, (57368, 2),   (1, 5),   40),
    row("EURGBP",   Fx,     (83526, 5),   (1, 4),   20),
    row("LTC-USD",  Crypto, (6531, 2),    (1, 2),   15),
    row("SPY",      Equity, (57104, 2),   (1, 1),   100),
    row("EURJPY",   Fx,     (162431, 3),  (1, 5),   25),
    row("LINK-USD", Crypto, (11274, 3),   (1, 3),   18),
    row("QQQ",      Equity, (48807, 2),   (1, 1),   80),
    row("NZDUSD",   Fx,     (60871, 5),   (1, 5),   15),
    row("AVAX-USD", Crypto, (2683, 2),    (1, 1),   15),
    row("JPM",      Equity, (22229, 2),   (1, 3),   20),
    row("GBPJPY",   Fx,     (194452, 3),  (1, 8),   18),
    row("DOT-USD",  Crypto, (4238, 3),    (1, 4),   8),
    row("BRK-B",    Equity, (46131, 2),   (1, 8),   6),
    row("EURCHF",   Fx,     (93734, 5),   (1, 6),   10),
    row("BTC-EUR",  Crypto, (5704120, 2), (10, 4),  25),
    row("V",        Equity, (27840, 2),   (1, 4),   14),
    row("USDSEK",   Fx,     (1052340, 5), (10, 8),  6),
    row("ETH-BTC",  Crypto, (43400, 6),   (10, 2),  12),
    row("XOM",      Equity, (12078, 2),   (1, 1),   22),
    row("USDNOK",   Fx,     (1089120, 5), (10, 9),  5),
    row("BCH-USD",  Crypto, (34218, 2),   (1, 5),   7),
    row("UNH",      Equity, (56714, 2),   (1, 20),  6),
    row("AUDJPY",   Fx,     (100284, 3),  (1, 6),   9),
    row("UNI-USD",  Crypto, (7512, 3),    (1, 6),   6),
    row("WMT",      Equity, (8092, 2),    (1, 1),   18),
    row("USDMXN",   Fx,     (1981240, 5), (10, 20), 7),
    row("ATOM-USD", Crypto, (4617, 3),    (1, 4),   4),
    row("KO",       Equity, (6981, 2),    (1, 1),   16),
    row("USDSGD",   Fx,     (131462, 5),  (1, 8),   6),
    row("XLM-USD",  Crypto, (92412, 6),   (1, 40),  4),
    row("DIS",      Equity, (9654, 2),    (1, 1),   14),
    row("USDZAR",   Fx,     (1762310, 5), (10, 60), 4),
    row("AAVE-USD", Crypto, (15344, 2),   (1, 8),   3),
    row("INTC",     Equity, (2268, 2),    (1, 1),   35),
    row("XAUUSD",   Fx,     (272140, 2),  (1, 25),  45),
    row("NEAR-USD", Crypto, (4731, 3),    (1, 5),   3),
    row("AMD",      Equity, (15597, 2),   (1, 2),   55),
    row("XAGUSD",   Fx,     (33712, 3),   (1, 15),  20),
    row("ALGO-USD", Crypto, (124310, 6),  (10, 6),  2),
    row("NFLX",     Equity, (76389, 2),   (1, 25),  12),
    row("CADJPY",   Fx,     (109162, 3),  (1, 9),   3),
    row("FIL-USD",  Crypto, (3742, 3),    (1, 4),   1),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_symbol_is_its_own_and_starts_on_a_tick() {
        let mut names = HashSet::new();
        for symbol in SYMBOLS {
            assert!(names.insert(symbol.name), "{}", symbol.name);
            assert_eq!(symbol.price % symbol.tick, 0, "{}", symbol.name);
            assert!(symbol.activity > 0 && symbol.price > 100 * symbol.spread_ticks * symbol.tick, "{}", symbol.name);
        }
    }
}
