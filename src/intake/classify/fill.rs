//! A rule's templates filled from a message: topics of updates, the reply to a ping.

use std::ops::Range;

use crate::json::{ELEMENTS_MAX, Pointers, Type, decode_string};
use crate::profile::rule::{Field, FieldValue, MessageClass, Naming, Rule, View};
use crate::profile::template::{SourceValue, Template};
use crate::protocol::encoding::PayloadKind;

use crate::intake::classify::Unnamed;
use crate::intake::classify::found::{Finding, FoundUpdates};
use crate::intake::classify::naming::make_topic;

/// A data rule that holds for a message.
pub(crate) struct RuleMatch<'a> {
    pub rule: &'a Rule,
    /// Index of the rule, and of its treatment.
    pub index: usize,
    /// What the topic begins with.
    pub prefix: &'a str,
    pub topic: &'a Template<Field>,
    pub pointers: &'a Pointers,
    pub view: View<'a>,
    pub kind: PayloadKind,
}

impl<'a> RuleMatch<'a> {
    /// Finds the updates to publish.
    pub(super) fn collect(&self, found: &mut FoundUpdates) -> (MessageClass, Option<Unnamed>) {
        let Some(path) = self.rule.each else {
            return match self.collect_one(&self.view, 0..self.view.text.len(), found) {
                Ok(problem) => (MessageClass::Data, problem),
                Err(problem) => (MessageClass::Unmatched, Some(problem)),
            };
        };
        let (count, kept) = self.view.found.count(path);
        let mut problem = (count > kept).then_some(Unnamed::TooManyElements { count });
        let mut named = 0;
        let kept = kept.min(ELEMENTS_MAX);
        for place in 0..kept {
            let index = if self.rule.newest_first { kept - 1 - place } else { place };
            let view = View { element: Some((path, index)), ..self.view };
            let element = view.found.element_range(path, index);
            match self.collect_one(&view, element, found) {
                Ok(unread) => {
                    named += 1;
                    problem = problem.or(unread);
                }
                Err(unnamed) => problem = Some(unnamed),
            }
        }
        // An empty batch is data without updates.
        let class = if named == 0 && problem.is_some() { MessageClass::Unmatched } else { MessageClass::Data };
        (class, problem)
    }

    /// The updates of this rule, and, where it continues, of the later rules of data that hold as well.
    #[inline]
    pub(super) fn collect_all(&self, rules: &[Rule], found: &mut FoundUpdates) -> (MessageClass, Option<Unnamed>) {
        let first = self.collect(found);
        if self.rule.continues { self.collect_later(rules, first, found) } else { first }
    }

    /// Few rules continue: the others need not pay for it.
    #[cold]
    fn collect_later(
        &self,
        rules: &[Rule],
        (mut class, mut problem): (MessageClass, Option<Unnamed>),
        found: &mut FoundUpdates,
    ) -> (MessageClass, Option<Unnamed>) {
        let holds = |rule: &Rule| {
            let readable = !self.view.json.is_empty() || rule.looks_at_text();
            readable && rule.class == MessageClass::Data && rule.holds(&self.view)
        };
        let (mut index, mut continues) = (self.index, true);
        while continues
            && let Some((later, rule)) = rules.iter().enumerate().skip(index + 1).find(|(_, rule)| holds(rule))
            && let Some(Naming::Template(topic)) = &rule.topic
        {
            let (its_class, its_problem) = RuleMatch { rule, index: later, topic, ..*self }.collect(found);
            // One kind that is data is enough.
            class = if its_class == MessageClass::Data { its_class } else { class };
            problem = problem.or(its_problem);
            (index, continues) = (later, rule.continues);
        }
        (class, problem)
    }

    /// Finds one update; returns its problem, if it has one.
    fn collect_one(
        &self,
        view: &View<'a>,
        element: Range<usize>,
        found: &mut FoundUpdates,
    ) -> Result<Option<Unnamed>, Unnamed> {
        self.write_name(view, &mut found.topic)?;
        let (numbers, unread) = self.rule.treatment.sequence.map(|_| self.rule.numbers.read(view)).unzip();
        let (treatment, kind, snapshot) = (self.index, self.kind, self.rule.is_snapshot(view));
        found.add(Finding { treatment, element, kind, numbers, snapshot });
        Ok((unread == Some(true)).then_some(Unnamed::NoNumber))
    }

    /// Writes the topic of the view.
    pub(super) fn write_name(&self, view: &View<'a>, name: &mut String) -> Result<(), Unnamed> {
        name.clear();
        name.push_str(self.prefix);
        self.topic.render(name, |field| self.name_part(view, *field))?;
        Ok(make_topic(name)?)
    }

    /// The text of a string; anything else names nothing.
    fn name_part(&self, view: &View<'a>, field: Field) -> Result<SourceValue<'a>, Unnamed> {
        let found = match view.look(field) {
            None => "nothing",
            Some(FieldValue::Text("")) => "an empty string",
            Some(FieldValue::Text(text)) => return Ok(SourceValue::Text(text.into())),
            Some(FieldValue::Token(token)) => match decode_string(token) {
                Some(text) if text.is_empty() => "an empty string",
                Some(text) => return Ok(SourceValue::Text(text)),
                None if field.takes_number(token) => return Ok(SourceValue::Text(token.into())),
                None => Type::of(token).a_name(),
            },
        };
        let place = match field {
            Field::Text => "text".to_string(),
            Field::Whole(slot) | Field::WholeNumber(slot) => self.pointers.pointer(slot).to_string(),
            Field::Either(slot, _) => self.pointers.pointer(slot as usize).to_string(),
            Field::Element(slot) | Field::ElementNumber(slot) => {
                let inside = self.rule.each.map(|path| self.pointers.inside(path, slot).as_str());
                format!(".{}", inside.unwrap_or_default())
            }
            Field::Key => "#".to_string(),
            Field::Bound(_) => "the message's binding".to_string(),
        };
        Err(Unnamed::NoTopic { pointer: place, found })
    }
}

/// The reply to a ping: placeholders copy the raw token, so that no number is reformatted. A missing value is null.
pub(crate) fn answer(reply: &Template<Field>, view: &View<'_>) -> String {
    let mut out = String::new();
    let rendered: Result<(), ()> = reply.render(&mut out, |field| match view.look(*field) {
        Some(FieldValue::Token(text) | FieldValue::Text(text)) => Ok(SourceValue::Text(text.into())),
        None => Err(()),
    });
    debug_assert!(rendered.is_ok(), "every placeholder of a reply has an `or`");
    out
}

/// Writes a key; false if the message has none.
pub(crate) fn write_key(template: &Template<Field>, view: &View<'_>, key: &mut String) -> bool {
    key.clear();
    let scalar = |field: &Field| view.look(*field).and_then(FieldValue::scalar).map(SourceValue::Text).ok_or(());
    template.render(key, scalar).is_ok() && !key.is_empty()
}
