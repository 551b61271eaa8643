//! What clients say, and what they are answered.
//!
//! [`Dialect::hear`] finds the rule for a message and the items that it asks for. The session then does what it may, and
//! [`SaidRequest::replies`] makes the answer from the outcome. A message that no rule fits is not answered.

use crate::json::FoundTokens;
use crate::profile::downstream::Dialect;
use crate::profile::downstream::kept::KeptValues;
use crate::profile::downstream::words::{Word, groups as groups_of, of_moment, rendered, said, text};
use crate::profile::rule::{Field, FieldValue, View};
use crate::profile::template::{SourceValue, Template};
use crate::profile::test::Test;
use crate::protocol::form::FormId;
use crate::words::stamp::Stamp;

/// 256 bytes: what an answer repeats of a message, in each of its places. A request for many items is answered as often.
const REPEATED_BYTES_MAX: usize = 256;
/// 16: the messages of one. No client is known to say more than three at once.
pub const LINES_MAX: usize = 16;

/// What a message of a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Subscribe,
    Unsubscribe,
    /// The answer says what is in force.
    List,
    /// Messages go out in this form from now on.
    Set(FormId),
    /// Answered, and nothing else.
    Answer,
    Ignore,
    Refuse,
    /// The client asks for the end of the session.
    Close,
}

#[derive(Debug)]
pub(super) struct SaidRule {
    pub when: Vec<Test>,
    pub deed: Deed,
    pub from: ItemSource,
    /// Number of the path whose elements each of the items is combined with.
    pub with: Option<usize>,
    pub item: Template<Word>,
    pub per: ReplyPer,
    /// How an item stands in a list; none: its name.
    pub listed: Option<Template<Word>>,
    pub reply: Option<Template<Word>>,
    pub refuse: Option<Template<Word>>,
    /// What the session keeps of the message, by the number of its name.
    pub keep: Vec<(usize, Template<Word>)>,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyPer {
    /// The request, which is granted as one or not at all.
    Request,
    Item,
    /// The request, of which some items may be granted.
    List,
}

/// Where a message has its items.
#[derive(Clone, Debug)]
pub(super) enum ItemSource {
    Message,
    /// Number of the path among those of the rules' pointers.
    Each(usize),
    /// A text, and what separates the items in it.
    Split(Field, String),
}

/// A message of a client that a rule fits.
pub struct SaidRequest<'d> {
    dialect: &'d Dialect,
    rule: &'d SaidRule,
    text: &'d str,
    /// The same, if it is JSON.
    json: &'d str,
    found: FoundTokens,
    asked: Vec<AskedItem>,
}

/// One item that a message asks for.
#[derive(Debug)]
pub struct AskedItem {
    /// A valid one, if nothing is wrong with it.
    pub name: String,
    /// Why it cannot be granted, whoever asks.
    pub fault: Option<String>,
    /// Its number among the elements.
    index: usize,
    /// Its part of a text.
    part: Option<String>,
}

/// What became of a request.
pub struct SaidOutcome<'o> {
    /// The items that were not granted, by their place in the request, and why.
    pub refused: &'o [(usize, String)],
    /// The items in force now.
    pub all: &'o [String],
    pub kept: &'o KeptValues,
    pub now: Stamp,
}

/// The client cannot be told what is refused: the session must end.
#[derive(Debug, PartialEq, Eq)]
pub struct Unspeakable(pub String);

impl Dialect {
    /// What the client asks for; none if no rule fits.
    pub fn hear<'d>(&'d self, text: &'d str) -> Option<SaidRequest<'d>> {
        let mut found = FoundTokens::default();
        let is_json = self.pointers.locate(text, &mut found);
        let json = if is_json { text } else { "" };
        let view = View { text, json, found: &found, bound: None, element: None };
        let rule = self.rules.iter().find(|rule| rule.fits(&view, is_json))?;
        let asked = if rule.deed.has_items() { self.asked(rule, view) } else { Vec::new() };
        Some(SaidRequest { dialect: self, rule, text, json, found, asked })
    }

    /// The messages that one is, which a client has sent.
    pub fn messages<'t>(&self, text: &'t str) -> Result<Vec<&'t str>, Unspeakable> {
        if !self.is_in_lines {
            return Ok(vec![text]);
        }
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).take(LINES_MAX + 1).collect();
        if lines.len() > LINES_MAX {
            return Err(Unspeakable(format!("expected at most {LINES_MAX} lines in a message, found more")));
        }
        Ok(lines)
    }

    fn asked(&self, rule: &SaidRule, view: View<'_>) -> Vec<AskedItem> {
        let max = self.items_max;
        let mut asked: Vec<AskedItem> = Vec::new();
        let (times, times_kept) = rule.with.map_or((1, 1), |path| view.found.count(path));
        let mut put = |index: usize, part: Option<&str>, with: usize| {
            let place = place_of(rule, index);
            let view = View { element: place, ..view };
            let beside = rule.with.map(|path| (path, with));
            let name = rendered(&rule.item, |word| word_of_item(word, &view, (part, beside)).map(text));
            let fault = match &name {
                None => Some("expected an item, found none".to_string()),
                Some(name) => self.check_item(name).err().map(|error| error.to_string()),
            };
            let part = part.map(str::to_string);
            asked.push(AskedItem { name: name.unwrap_or_default(), fault, index, part });
        };
        let mut put_all = |index: usize, part: Option<&str>| {
            (0..times_kept.min(max)).for_each(|with| put(index, part, with));
        };
        let count = match &rule.from {
            ItemSource::Message => {
                put_all(0, None);
                1
            }
            ItemSource::Each(path) => {
                let (count, kept) = view.found.count(*path);
                // No more than are allowed are made, whatever they are combined with.
                (0..kept.min(max.div_ceil(times_kept.max(1)))).for_each(|index| put_all(index, None));
                count
            }
            ItemSource::Split(field, by) => {
                let whole = said(&view, *field, true).unwrap_or_default();
                let parts = || whole.split(&**by).map(str::trim).filter(|part| !part.is_empty());
                parts().take(max).enumerate().for_each(|(index, part)| put_all(index, Some(part)));
                parts().count()
            }
        };
        let count = count.saturating_mul(times);
        if count > max || asked.is_empty() {
            let fault = match count {
                0 => "expected an item, found none".to_string(),
                _ => format!("expected at most {max} items, found {count}"),
            };
            return vec![AskedItem { name: String::new(), fault: Some(fault), index: 0, part: None }];
        }
        asked
    }
}

impl SaidRequest<'_> {
    pub fn deed(&self) -> Deed {
        self.rule.deed
    }

    pub fn items(&self) -> &[AskedItem] {
        &self.asked
    }

    /// What the session keeps of the message, by the number of its name.
    pub(super) fn kept(&self) -> impl Iterator<Item = (usize, String)> {
        let view = View { text: self.text, json: self.json, found: &self.found, bound: None, element: None };
        self.rule.keep.iter().filter_map(move |(name, template)| {
            let value = rendered(template, |word| word_of_item(word, &view, (None, None)).map(text))?;
            is_short(&value).then_some((*name, value))
        })
    }

    /// It is granted as a whole or not at all.
    pub fn is_one(&self) -> bool {
        self.rule.per == ReplyPer::Request
    }

    /// The answers, in order.
    pub fn replies(&self, outcome: &SaidOutcome<'_>) -> Result<Vec<String>, Unspeakable> {
        let mut reasons: Vec<Option<&str>> = vec![None; self.asked.len()];
        for (place, reason) in outcome.refused {
            reasons[*place] = Some(reason);
        }
        let listed = |refused: bool| {
            let places = (0..self.asked.len()).filter(|place| reasons[*place].is_some() == refused);
            places.map(|place| self.listed(place, outcome)).collect::<Vec<_>>()
        };
        let lists = [listed(false), listed(true)];
        if self.rule.per == ReplyPer::Item && self.rule.deed.has_items() {
            let answers =
                reasons.iter().enumerate().map(|(place, reason)| self.answer(place, *reason, &lists, outcome));
            return Ok(answers.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect());
        }
        let is_partial = self.rule.per == ReplyPer::List && !lists[0].is_empty();
        let reason = outcome.refused.first().map(|(_, reason)| &**reason).filter(|_| !is_partial);
        let refusal = (self.rule.deed == Deed::Refuse).then_some("the message is not known here");
        Ok(self.answer(0, reason.or(refusal), &lists, outcome)?.into_iter().collect())
    }

    fn answer(
        &self,
        place: usize,
        reason: Option<&str>,
        [granted, refused]: &[Vec<String>; 2],
        outcome: &SaidOutcome<'_>,
    ) -> Result<Option<String>, Unspeakable> {
        let template = match (reason, &self.rule.refuse) {
            (None, _) => self.rule.reply.as_ref(),
            (Some(_), Some(refuse)) => Some(refuse),
            (Some(reason), None) => return Err(Unspeakable(reason.to_string())),
        };
        let fill = |template| self.fill(template, place, (reason, [granted, refused]), outcome);
        Ok(template.map(fill))
    }

    /// The item as it stands in a list.
    fn listed(&self, place: usize, outcome: &SaidOutcome<'_>) -> String {
        let name = || self.asked[place].name.clone();
        self.rule.listed.as_ref().map_or_else(name, |template| self.fill(template, place, (None, [&[], &[]]), outcome))
    }

    fn fill(
        &self,
        template: &Template<Word>,
        place: usize,
        (reason, [granted, refused]): (Option<&str>, [&[String]; 2]),
        outcome: &SaidOutcome<'_>,
    ) -> String {
        let asked = self.asked.get(place);
        let element = asked.and_then(|asked| place_of(self.rule, asked.index));
        let view = View { text: self.text, json: self.json, found: &self.found, bound: None, element };
        let groups = self.dialect.group.as_ref().filter(|_| template.sources().any(|word| *word == Word::Groups));
        let groups = groups.map_or_else(Vec::new, |group| groups_of(group, outcome.all));
        let value = |word: &Word| -> Option<SourceValue<'_>> {
            match word {
                Word::Said(field) => said(&view, *field, false).filter(|token| is_short(token)).map(text),
                Word::Element => {
                    let part = asked.and_then(|asked| asked.part.clone());
                    part.or_else(|| element_of(&view, false)).filter(|token| is_short(token)).map(text)
                }
                Word::Item => asked.map(|asked| text(asked.name.clone())),
                Word::Items => Some(SourceValue::List(granted)),
                Word::Refused => Some(SourceValue::List(refused)),
                Word::All => Some(SourceValue::List(outcome.all)),
                Word::Groups => Some(SourceValue::List(&groups)),
                Word::Kept(name) => outcome.kept.get(*name).map(|kept| text(kept.to_string())),
                Word::Reason => reason.map(|reason| text(reason.to_string())),
                word => of_moment(word, outcome.now).map(text),
            }
        };
        let mut out = String::new();
        // Each placeholder of an answer has a value: `null` if there is none.
        template.render(&mut out, |word| value(word).ok_or(())).expect("an answer has `or` everywhere");
        out
    }
}

impl SaidRule {
    fn fits(&self, view: &View<'_>, is_json: bool) -> bool {
        let takes_text = self.when.is_empty() || self.when.iter().any(Test::looks_at_text);
        (is_json || takes_text) && self.when.iter().all(|test| test.holds(view))
    }
}

impl Deed {
    pub(super) fn has_items(self) -> bool {
        matches!(self, Deed::Subscribe | Deed::Unsubscribe)
    }
}

fn is_short(token: &str) -> bool {
    token.len() <= REPEATED_BYTES_MAX
}

fn place_of(rule: &SaidRule, index: usize) -> Option<(usize, usize)> {
    match rule.from {
        ItemSource::Each(path) => Some((path, index)),
        ItemSource::Message | ItemSource::Split(..) => None,
    }
}

/// `part` is that of a text, `with` the path and the number of the element that the item is combined with.
fn word_of_item(word: &Word, view: &View<'_>, (part, with): (Option<&str>, Option<(usize, usize)>)) -> Option<String> {
    match word {
        Word::Said(field) => said(view, *field, true),
        Word::Element => part.map(str::to_string).or_else(|| element_of(view, true)),
        Word::With => element_of(&View { element: Some(with?), ..*view }, true),
        _ => None,
    }
}

/// The element of `each`, or the message.
fn element_of(view: &View<'_>, as_text: bool) -> Option<String> {
    let token = match view.element {
        Some((path, index)) => view.found.element(view.json, path, index)?,
        None => view.text,
    };
    match as_text {
        true => FieldValue::Token(token).scalar().map(|text| text.into_owned()),
        false => Some(token.to_string()),
    }
}

#[cfg(test)]
mod tests;
