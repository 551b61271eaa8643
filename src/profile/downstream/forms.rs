//! Forms: the same payload, as a slice of it, with something around it, or as received.

use std::str::from_utf8;

use crate::json::{Pointer, find};
use crate::profile::downstream::Dialect;
use crate::profile::downstream::words::{Word, around};
use crate::profile::template::Template;
use crate::protocol::encoding::Envelope;
use crate::protocol::form::{FormId, Forms};
use crate::words::topic::Pattern;

#[derive(Debug)]
pub(super) struct DialectForm {
    pub name: String,
    /// The first that fits a topic counts; none: as received.
    pub cases: Vec<FormCase>,
}

#[derive(Debug)]
pub(super) struct FormCase {
    /// None: all topics.
    pub topics: Option<Pattern>,
    pub at: Option<Pointer>,
    pub wrap: Option<Template<Word>>,
}

impl Forms for Dialect {
    fn put(&self, form: FormId, envelope: &Envelope<'_>, out: &mut Vec<u8>) {
        let payload: &[u8] = &envelope.payload.bytes;
        let cases = self.forms.get(usize::from(form.0)).map_or(&[][..], |form| &form.cases);
        let case = cases.iter().find(|case| case.topics.as_ref().is_none_or(|topics| topics.matches(envelope.topic)));
        let (Some(case), Ok(whole)) = (case, from_utf8(payload)) else { return out.extend_from_slice(payload) };
        let part = case.at.as_ref().and_then(|at| find(whole, at)).unwrap_or(whole);
        match &case.wrap {
            Some(wrap) => out.extend_from_slice(around(wrap, envelope, whole, part).as_bytes()),
            None => out.extend_from_slice(part.as_bytes()),
        }
    }
}
