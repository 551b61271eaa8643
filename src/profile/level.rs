//! Levels of an order book, as a rule describes them: the places of their parts, and how they are kept.

use crate::json::{PointerSet, is_json, pointer_part};

use crate::profile::optional;
use crate::profile::rules::fold::{FirstOf, LevelForm, LevelPart, SideMark};
use crate::profile::section::{ProfileEntry, ProfileError, ProfileSection};

/// Place of a field in a level.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LevelField {
    Position(usize),
    Key(String),
}

/// The keys of a profile about levels.
pub(crate) struct ReadLevel {
    price: Vec<LevelField>,
    size: Vec<LevelField>,
    gone: Vec<LevelField>,
    written: Option<Vec<LevelPart>>,
    mark: Option<(LevelField, SideField)>,
    /// The position of the side's word.
    pub side: Option<usize>,
}

enum SideField {
    Word { bid: String, ask: String },
    Sign,
}

impl ReadLevel {
    pub(crate) fn read(section: &ProfileSection<'_>) -> Result<ReadLevel, ProfileError> {
        let price = LevelField::read_some(&section.require("price", "price = 0")?)?;
        let size = LevelField::read_some(&section.require("size", "size = 1")?)?;
        let count = optional(section.get("count"), LevelField::read)?;
        let named = |name: &str| match (name, price.first()) {
            ("price", _) => Some(price.clone()),
            ("size", _) => Some(size.clone()),
            ("count", _) if count.is_some() => count.clone().map(|count| vec![count]),
            (name, Some(LevelField::Key(_))) => Some(vec![LevelField::Key(name.to_string())]),
            (name, _) => name.parse().ok().map(|position| vec![LevelField::Position(position)]),
        };
        let gone = optional(section.get("remove"), |entry| {
            let text = entry.text()?;
            let name = text.split_once("==").filter(|(_, zero)| zero.trim() == "0").map(|(name, _)| name.trim());
            name.filter(|name| !name.is_empty()).and_then(named).ok_or_else(|| {
                entry.error(format!(
                    "expected `size == 0`, `count == 0` beside `count = 1`, or another place of a level, found `{text}`"
                ))
            })
        })?;
        let word = optional(section.get("side"), LevelField::read)?;
        let sign = optional(section.get("sign"), LevelField::read)?;
        let side = match &word {
            Some(LevelField::Position(position)) => Some(*position),
            _ => None,
        };
        let mark = match (word, sign) {
            (Some(word), None) => {
                let text = |key, example| section.require(key, example)?.text().map(str::to_string);
                let mark = SideField::Word { bid: text("bid", "bid = \"buy\"")?, ask: text("ask", "ask = \"sell\"")? };
                Some((word, mark))
            }
            (None, Some(sign)) => Some((sign, SideField::Sign)),
            (None, None) if section.get("changes").is_none() => None,
            _ => {
                let problem =
                    "expected either `side`, `bid` and `ask`, or `sign` beside `changes`, found both or neither";
                return Err(section.error("side", problem));
            }
        };
        let written = optional(section.get("level"), read_written)?;
        Ok(ReadLevel { gone: gone.unwrap_or_else(|| size.clone()), price, size, written, mark, side })
    }

    /// The form of the levels in `changes`, or of those in `sides`, where the position `dropped` does not exist.
    pub(crate) fn form(&self, dropped: Option<usize>, in_changes: bool) -> LevelForm {
        let mut places = PointerSet::default();
        let mut add = |at: &LevelField| {
            let text = match (at, dropped.filter(|_| !in_changes)) {
                (LevelField::Position(position), Some(dropped)) if *position > dropped => format!("./{}", position - 1),
                (LevelField::Position(position), _) => format!("./{position}"),
                (LevelField::Key(key), _) => format!("./{}", pointer_part(key)),
            };
            places.add(&text).expect("one escaped segment can be read")
        };
        let mut add = |fields: &[LevelField]| FirstOf(fields.iter().map(&mut add).collect());
        let (price, size, gone) = (add(&self.price), add(&self.size), add(&self.gone));
        let side = self.mark.as_ref().filter(|_| in_changes).map(|(at, mark)| match mark {
            SideField::Word { bid, ask } => {
                SideMark::Word { place: add(std::slice::from_ref(at)), bid: bid.clone(), ask: ask.clone() }
            }
            SideField::Sign => SideMark::Sign { place: add(std::slice::from_ref(at)) },
        });
        let (dropped, written) = (dropped.filter(|_| in_changes), self.written.clone());
        LevelForm { places, price, size, gone, side, dropped, written }
    }
}

impl LevelField {
    /// One place, or a list of them of which the first that has something counts.
    fn read_some(entry: &ProfileEntry<'_>) -> Result<Vec<LevelField>, ProfileError> {
        match LevelField::read(entry) {
            Ok(field) => Ok(vec![field]),
            Err(error) => match entry.list() {
                Ok(list) if !list.is_empty() => list.iter().map(LevelField::read).collect(),
                _ => Err(error),
            },
        }
    }

    fn read(entry: &ProfileEntry<'_>) -> Result<LevelField, ProfileError> {
        if let Ok(key) = entry.text() {
            return Ok(LevelField::Key(key.to_string()));
        }
        entry.position().map(LevelField::Position)
    }
}

/// A level as it is kept: JSON in which `${price}` and `${size}` stand for the numbers as they were sent.
fn read_written(entry: &ProfileEntry<'_>) -> Result<Vec<LevelPart>, ProfileError> {
    let text = entry.text()?;
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        parts.push(LevelPart::Text(before.to_string()));
        let (name, tail) = after.split_once('}').unwrap_or((after, ""));
        parts.push(match name {
            "price" => LevelPart::Price,
            "size" => LevelPart::Size,
            other => return Err(entry.error(format!("expected `price` or `size` in `${{…}}`, found `{other}`"))),
        });
        rest = tail;
    }
    parts.push(LevelPart::Text(rest.to_string()));
    let sample = text.replace("${price}", "1").replace("${size}", "1");
    if !parts.contains(&LevelPart::Price) || !parts.contains(&LevelPart::Size) || !is_json(&sample) {
        return Err(entry.error(format!(
            "expected JSON with `${{price}}` and `${{size}}`, found `{text}`; write for example `[${{price}},${{size}}]`"
        )));
    }
    Ok(parts)
}
