//! Resume cursor of a feed: the newest one in its data.

use crate::intake::assemble::sequence::Sequence;
use crate::json::{Pointer, find};
use crate::profile::connection::Resume;
use crate::profile::rules::numbers::{Continuity, Number, Numbers, read_number};
use crate::words::stamp::Stamp;

#[derive(Debug, Default)]
pub(super) struct ResumeCursor {
    resume: Option<(Pointer, Number)>,
    newest: Sequence,
}

impl ResumeCursor {
    /// None: the feed has no cursor.
    pub(super) fn new(resume: Option<&Resume>) -> ResumeCursor {
        let resume = resume.map(|resume| (resume.cursor.clone(), Number::from(resume.rewind)));
        ResumeCursor { resume, newest: Sequence::default() }
    }

    /// A data message arrived.
    pub(super) fn pass(&mut self, text: &str, received: Stamp) {
        if let Some((pointer, _)) = &self.resume
            && let Some(cursor) = find(text, pointer).and_then(|token| read_number(token.trim_matches('"')))
        {
            let numbers = Numbers { last: Some(cursor), ..Numbers::default() };
            self.newest.step(Continuity::Monotonic, numbers, received.mono_ns);
        }
    }

    /// Cursor of the next connection; none: from the beginning.
    pub(super) fn resume_at(&self) -> Option<String> {
        let (_, rewind) = self.resume.as_ref()?;
        self.newest.newest().map(|newest| (newest - rewind).to_string())
    }
}
