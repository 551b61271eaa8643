//! An order book built from deltas: levels of two sides, each as received, in the order of their prices.
//!
//! A new level replaces the level of its price; the profile's `remove` tells which level is removed. A message is
//! applied as a whole before the sides are cut to their depth.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use crate::json::{Document, FoundElement, Matches, Type, decode_string, list_parts};
use crate::profile::rules::fold::{FirstOf, LevelForm, LevelPart, SideMark};

use crate::intake::assemble::decimal::Decimal;
use crate::intake::assemble::fold::Unfit;

/// 50,000 levels of a side: the longest list in 11 recorded feeds has 1341.
const LEVELS_MAX: usize = 50_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Bid,
    Ask,
}

/// Reused buffers, so that reading levels allocates nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct LevelScratch {
    matches: Matches,
    levels: Vec<FoundElement>,
    parts: Vec<FoundElement>,
}

#[derive(Clone, Debug)]
pub(super) struct BookState {
    bids: Levels,
    asks: Levels,
    depth: usize,
}

/// The levels of one side.
#[derive(Clone, Debug)]
struct Levels {
    side: Side,
    /// The best last, because most changes are near the best and nothing behind them must move.
    levels: Vec<Level>,
    /// Levels are rendered from the best to the worst.
    best_first: bool,
    bytes: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Level {
    text: Box<str>,
    /// Range of the price's token in the text.
    price: (u32, u32),
}

impl BookState {
    /// An empty book with this depth; the snapshot's levels are loaded into it.
    pub(super) fn new(depth: Option<usize>) -> BookState {
        let levels = |side| Levels { side, levels: Vec::new(), best_first: true, bytes: 0 };
        BookState { bids: levels(Side::Bid), asks: levels(Side::Ask), depth: depth.unwrap_or(usize::MAX) }
    }

    /// Takes the levels of a snapshot's list; `arrange` follows the last list. `side` is the list's, if its levels have
    /// none.
    pub(super) fn load(
        &mut self,
        form: &LevelForm,
        list: &str,
        side: Option<Side>,
        scratch: &mut LevelScratch,
    ) -> Result<(), Unfit> {
        each_level(form, (list, side), scratch, |side, gone, level| {
            if !gone {
                self.side(side).levels.push(level);
            }
        })
    }

    /// Orders the loaded levels, and cuts them to the depth.
    pub(super) fn arrange(&mut self) -> Result<(), Unfit> {
        self.bids.arrange();
        self.asks.arrange();
        self.cut()
    }

    /// Takes the levels of a delta's list; `cut` follows the last list. After an error it holds only some of them.
    pub(super) fn change(
        &mut self,
        form: &LevelForm,
        list: &str,
        side: Option<Side>,
        scratch: &mut LevelScratch,
    ) -> Result<(), Unfit> {
        each_level(form, (list, side), scratch, |side, gone, level| {
            self.side(side).put(level, gone);
        })
    }

    /// Cuts both sides to their depth.
    pub(super) fn cut(&mut self) -> Result<(), Unfit> {
        for side in [&mut self.bids, &mut self.asks] {
            let over = side.levels.len().saturating_sub(self.depth);
            side.bytes -= side.levels.drain(..over).map(|level| level.bytes()).sum::<usize>();
        }
        if self.bids.levels.len().max(self.asks.levels.len()) > LEVELS_MAX { Err(Unfit::TooLarge) } else { Ok(()) }
    }

    fn side(&mut self, side: Side) -> &mut Levels {
        match side {
            Side::Bid => &mut self.bids,
            Side::Ask => &mut self.asks,
        }
    }

    /// Appends the levels of these sides as one list.
    pub(super) fn render(&self, sides: &[Side], out: &mut Vec<u8>) {
        out.push(b'[');
        let mut first = true;
        for side in sides {
            let levels = if *side == Side::Bid { &self.bids } else { &self.asks };
            levels.each_in_order(|level| {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                out.extend_from_slice(level.text.as_bytes());
            });
        }
        out.push(b']');
    }

    /// The levels of a side, the best first.
    pub(super) fn best(&self, side: Side) -> impl Iterator<Item = &Level> {
        let levels = if side == Side::Bid { &self.bids } else { &self.asks };
        levels.levels.iter().rev()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bids.bytes + self.asks.bytes
    }
}

/// Reads every level of a list, or the one level that the list is.
fn each_level(
    form: &LevelForm,
    (list, side): (&str, Option<Side>),
    scratch: &mut LevelScratch,
    mut take: impl FnMut(Side, bool, Level),
) -> Result<(), Unfit> {
    let LevelScratch { matches, levels, parts } = scratch;
    let levels = match Type::of(list) {
        Type::Array => list_parts(list, levels),
        Type::Object => &[],
        Type::Bool | Type::Null | Type::Number | Type::String => {
            let key = if side.is_some() { "book.sides" } else { "book.changes" };
            return Err(Unfit::at("", key, "a list of levels", Some(list)));
        }
    };
    // Bounds the excess that is cut at the end.
    if levels.len() > 2 * LEVELS_MAX {
        return Err(Unfit::TooLarge);
    }
    let nested = |level: &str| matches!(Type::of(level), Type::Array | Type::Object);
    let alone = match levels.first() {
        Some(first) => !list.get(first.range.clone()).is_some_and(nested),
        None => Type::of(list) == Type::Object,
    };
    if alone {
        let (side, gone, level) = read_level(form, (list, side), matches, parts)?;
        take(side, gone, level);
        return Ok(());
    }
    for (index, level) in levels.iter().enumerate() {
        let Some(text) = list.get(level.range.clone()) else { continue };
        let read = read_level(form, (text, side), matches, parts);
        let (side, gone, level) = read.map_err(|unfit| unfit.below(&format!("/{index}")))?;
        take(side, gone, level);
    }
    Ok(())
}

/// A level, its side, and whether it is gone.
fn read_level(
    form: &LevelForm,
    (text, side): (&str, Option<Side>),
    matches: &mut Matches,
    parts: &mut Vec<FoundElement>,
) -> Result<(Side, bool, Level), Unfit> {
    let document = Document::whole(text);
    form.places.locate(&document, matches);
    let unlike = |place: &FirstOf, key, expected: Cow<'static, str>| {
        let found = place.get(&form.places, &document, matches).map(|found| found.token);
        Unfit::at(place.text(&form.places).trim_start_matches('.'), key, expected, found)
    };
    let read = |place: &FirstOf| {
        let found = place.get(&form.places, &document, matches)?;
        Some((Decimal::parse(found.token)?, found))
    };
    let number = |place: &FirstOf, key| read(place).ok_or_else(|| unlike(place, key, "a number".into()));
    let (_, price) = number(&form.price, "book.price")?;
    let (gone, _) = read(&form.gone).ok_or_else(|| {
        let is_size = form.gone.text(&form.places) == form.size.text(&form.places);
        unlike(&form.gone, if is_size { "book.size" } else { "book.remove" }, "a number".into())
    })?;
    let marked = match &form.side {
        None => side,
        Some(SideMark::Sign { place }) => match number(place, "book.sign")?.0.sign() {
            1 => Some(Side::Bid),
            -1 => Some(Side::Ask),
            _ => return Err(unlike(place, "book.sign", "a number other than 0".into())),
        },
        Some(SideMark::Word { place, bid, ask }) => {
            let token = place.get(&form.places, &document, matches).map_or("", |found| found.token);
            match &*decode_string(token).unwrap_or(token.into()) {
                word if word == bid => Some(Side::Bid),
                word if word == ask => Some(Side::Ask),
                _ => return Err(unlike(place, "book.side", format!("`{bid}` or `{ask}`").into())),
            }
        }
    };
    let level = match &form.written {
        None => Level::new(text, price.range, form.dropped, parts),
        Some(written) => Level::written(written, price.token, number(&form.size, "book.size")?.1.token),
    };
    let taken = marked.zip(level).map(|(side, level)| (side, gone.is_zero(), level));
    taken.ok_or_else(|| Unfit::at("", "book", "a level", Some(text)))
}

impl Level {
    /// `price` is the range of its token in `text`; the part at `dropped` is left out.
    fn new(
        text: &str,
        mut price: Range<usize>,
        dropped: Option<usize>,
        parts: &mut Vec<FoundElement>,
    ) -> Option<Level> {
        let mut kept = text.to_string();
        if let Some(dropped) = dropped {
            let parts = list_parts(text, parts);
            let part = parts.get(dropped)?.range.clone();
            // With the comma after it, or the one before it if it is the last.
            let cut = match (parts.get(dropped + 1), dropped.checked_sub(1).and_then(|before| parts.get(before))) {
                (Some(next), _) => part.start..next.range.start,
                (None, Some(before)) => before.range.end..part.end,
                (None, None) => part,
            };
            if price.start >= cut.start {
                price = price.start.checked_sub(cut.len())?..price.end.checked_sub(cut.len())?;
            }
            kept.replace_range(cut, "");
            // In a text that is not JSON the cut may have removed the price.
            kept.get(price.clone()).and_then(Decimal::parse)?;
        }
        Some(Level { text: kept.into(), price: (price.start.try_into().ok()?, price.end.try_into().ok()?) })
    }

    /// A level that is written anew, in one form whatever the feed's is.
    fn written(parts: &[LevelPart], price: &str, size: &str) -> Option<Level> {
        let mut text = String::new();
        let mut range = 0..0;
        for part in parts {
            match part {
                LevelPart::Text(plain) => text.push_str(plain),
                LevelPart::Price => {
                    range = text.len()..text.len() + price.len();
                    text.push_str(price);
                }
                LevelPart::Size => text.push_str(size),
            }
        }
        Some(Level { text: text.into(), price: (range.start.try_into().ok()?, range.end.try_into().ok()?) })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn price(&self) -> Decimal<'_> {
        let (start, end) = self.price;
        let token = self.text.get(start as usize..end as usize).unwrap_or_default();
        Decimal::parse(token).expect("a level is kept only if its price can be read")
    }

    fn bytes(&self) -> usize {
        self.text.len() + size_of::<Level>()
    }
}

impl Levels {
    /// Rank of a level, the best greatest.
    fn compare(side: Side, left: &Level, right: &Level) -> Ordering {
        let by_price = left.price().compare(right.price());
        if side == Side::Bid { by_price } else { by_price.reverse() }
    }

    fn put(&mut self, level: Level, gone: bool) {
        let side = self.side;
        // Bids from the lowest price to the highest, asks from the highest to the lowest.
        let found = self.levels.binary_search_by(|known| Levels::compare(side, known, &level));
        self.bytes += if gone { 0 } else { level.bytes() };
        match (found, gone) {
            (Ok(place), true) => self.bytes -= self.levels.remove(place).bytes(),
            (Ok(place), false) => self.bytes -= std::mem::replace(&mut self.levels[place], level).bytes(),
            (Err(_), true) => {}
            (Err(place), false) => self.levels.insert(place, level),
        }
    }

    /// Orders levels from their order of arrival; of levels with one price the last counts.
    fn arrange(&mut self) {
        let side = self.side;
        if let [first, .., last] = &self.levels[..] {
            self.best_first = Levels::compare(side, first, last) == Ordering::Greater;
        }
        self.levels.reverse();
        self.levels.sort_by(|left, right| Levels::compare(side, left, right));
        self.levels.dedup_by(|later, earlier| Levels::compare(side, later, earlier) == Ordering::Equal);
        self.bytes = self.levels.iter().map(Level::bytes).sum();
    }

    fn each_in_order(&self, visit: impl FnMut(&Level)) {
        if self.best_first {
            self.levels.iter().rev().for_each(visit);
        } else {
            self.levels.iter().for_each(visit);
        }
    }
}
