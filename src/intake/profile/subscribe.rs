//! The messages that ask an upstream for its items, made from the profile's template.
//!
//! Items are sent in batches that respect the profile's count and bytes. Which requests were granted is not tracked
//! here: data may come before its acknowledgement, and some venues never send one.

use std::convert::Infallible;

use super::template::{Template, Value};

/// What a placeholder in a request stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// The items of this batch.
    Items,
    /// The one item of this batch.
    Item,
    /// The number of this request on its connection, from 1.
    Req,
}

impl Word {
    /// Reads a placeholder where only these words are possible.
    pub fn parse(source: &str, possible: &[Word]) -> Result<Word, String> {
        let name = |word: Word| match word {
            Word::Items => "items",
            Word::Item => "item",
            Word::Req => "req",
        };
        possible.iter().copied().find(|word| name(*word) == source).ok_or_else(|| {
            let names: Vec<String> = possible.iter().map(|word| format!("`${{{}}}`", name(*word))).collect();
            format!("expected {}, found `${{{source}}}`", names.join(" or "))
        })
    }
}

/// How a feed is asked for items.
#[derive(Clone, Debug)]
pub(crate) struct Subscribe {
    /// What the venue calls an item, made from what the user calls it.
    pub item: Option<Template<Word>>,
    /// Items in one message at most.
    pub batch: usize,
    pub send: Template<Word>,
    /// Bytes of one message at most.
    pub bytes_max: usize,
}

/// An item whose message alone is longer than the venue allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a subscribe message of at most {max} bytes, found {bytes} for `{item}`; shorten the item")]
pub struct ItemTooLong {
    pub item: String,
    pub bytes: usize,
    pub max: usize,
}

impl Subscribe {
    /// The messages for these items; `req` is the number of the last request and is moved on.
    pub fn messages(&self, items: &[String], req: &mut u64) -> Result<Vec<String>, ItemTooLong> {
        let named: Vec<String> = items.iter().map(|item| self.name(item)).collect();
        let mut messages = Vec::new();
        let mut rest = &named[..];
        while !rest.is_empty() {
            *req += 1;
            let (message, taken) = self.longest(rest, *req)?;
            messages.push(message);
            rest = &rest[taken..];
        }
        Ok(messages)
    }

    /// The message with as many of the items as fit, and how many those are.
    fn longest(&self, items: &[String], req: u64) -> Result<(String, usize), ItemTooLong> {
        let mut count = self.batch.min(items.len());
        loop {
            let message = filled(&self.send, &items[..count], req);
            if message.len() <= self.bytes_max {
                return Ok((message, count));
            }
            if count == 1 {
                let (item, bytes, max) = (items[0].clone(), message.len(), self.bytes_max);
                return Err(ItemTooLong { item, bytes, max });
            }
            count = count.div_ceil(2);
        }
    }

    fn name(&self, item: &str) -> String {
        match &self.item {
            Some(template) => filled(template, &[item.to_string()], 0),
            None => item.to_string(),
        }
    }
}

/// The template with its words filled in.
pub(crate) fn filled(template: &Template<Word>, items: &[String], req: u64) -> String {
    let mut out = String::new();
    let rendered: Result<(), Infallible> = template.render(&mut out, |word| {
        Ok(match word {
            Word::Items => Value::List(items),
            Word::Item => Value::Text(items.first().map_or("", String::as_str).into()),
            Word::Req => Value::Text(req.to_string().into()),
        })
    });
    match rendered {
        Ok(()) => out,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe(send: &str, batch: usize, bytes_max: usize) -> Subscribe {
        let word = |source: &str| Word::parse(source, &[Word::Items, Word::Item, Word::Req]);
        let item = Some(Template::parse("${item|lower}", word).expect("item"));
        Subscribe { item, batch, send: Template::parse(send, word).expect(send), bytes_max }
    }

    #[test]
    fn items_are_sent_in_batches_with_numbered_requests() {
        let items: Vec<String> = ["A", "B", "C"].map(String::from).to_vec();
        let mut req = 0;
        let messages = subscribe(r#"{"p":${items|json},"id":${req}}"#, 2, 4096).messages(&items, &mut req);
        assert_eq!(messages, Ok(vec![r#"{"p":["a","b"],"id":1}"#.to_string(), r#"{"p":["c"],"id":2}"#.to_string()]));
        assert_eq!(req, 2);
    }

    #[test]
    fn batches_shrink_to_the_byte_limit() {
        let items: Vec<String> = (0..100).map(|n| format!("symbol{n}")).collect();
        let messages = subscribe("${items|json}", 100, 200).messages(&items, &mut 0).expect("each fits alone");
        assert!(messages.iter().all(|message| message.len() <= 200));
        let sent: Vec<String> =
            messages.iter().flat_map(|m| serde_json::from_str::<Vec<String>>(m).expect("json")).collect();
        assert_eq!(sent, items);
        let error = subscribe("${items|json}", 100, 8).messages(&items, &mut 0).expect_err("too long");
        assert_eq!(error.bytes, 11);
    }
}
