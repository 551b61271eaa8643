//! Where a WebSocket speaks the dialect, and what its URL asks for before any message.

use percent_encoding::percent_decode_str;
use regex::Regex;
use url::form_urlencoded;

use crate::profile::downstream::Dialect;
use crate::profile::downstream::words::{Word, rendered, text};
use crate::profile::template::Template;
use crate::protocol::form::FormId;

#[derive(Debug)]
pub(super) struct DialectPath {
    /// Without the `*` at the end.
    pub text: String,
    pub is_open: bool,
    pub items: Option<Template<Word>>,
    pub by: Option<String>,
    pub unless: Option<Regex>,
    pub form: FormId,
}

/// What a URL asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTerms {
    pub form: FormId,
    /// Valid ones, each once.
    pub items: Vec<String>,
}

impl Dialect {
    /// What this path and query ask for; none if the dialect is not spoken there. The error is a sentence.
    pub fn terms_of(&self, path: &str, query: Option<&str>) -> Option<Result<UrlTerms, String>> {
        let fits = |known: &&DialectPath| match known.is_open {
            true => path.len() > known.text.len() && path.starts_with(&known.text),
            false => path == known.text,
        };
        let known = self.paths.iter().filter(fits).max_by_key(|known| (!known.is_open, known.text.len()))?;
        let asked = known.items.as_ref().and_then(|template| known.asked(template, (path, query)));
        let mut items: Vec<String> = Vec::new();
        for item in asked.iter().flat_map(|text| known.split(text)).filter(|item| !item.is_empty()) {
            if let Err(error) = self.check_item(item) {
                return Some(Err(format!("expected an item in the URL: {error}")));
            }
            if !items.iter().any(|other| other == item) {
                items.push(item.to_string());
            }
            if items.len() > self.items_max {
                let max = self.items_max;
                return Some(Err(format!(
                    "expected at most {max} items in the URL, found more; connect again for them"
                )));
            }
        }
        Some(Ok(UrlTerms { form: known.form, items }))
    }
}

impl DialectPath {
    fn asked(&self, template: &Template<Word>, (path, query): (&str, Option<&str>)) -> Option<String> {
        let value = |word: &Word| match word {
            Word::Path => {
                let rest = percent_decode_str(&path[self.text.len()..]).decode_utf8_lossy();
                Some(text(rest.into_owned()))
            }
            Word::Query(name) => {
                let mut parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
                parameters.find(|(other, _)| other == name).map(|(_, value)| text(value.into_owned()))
            }
            _ => None,
        };
        let asked = rendered(template, value)?;
        self.unless.as_ref().is_none_or(|unless| !unless.is_match(&asked)).then_some(asked)
    }

    fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        match &self.by {
            Some(by) => text.split(&**by).collect(),
            None => vec![text],
        }
    }
}
