//! Templates of JSON: values inside a string are escaped, so that neither a key nor a client's name can end it.

use crate::profile::template::{Filter, Segment, Template};

impl<S> Template<S> {
    /// The same template, in which no value can end the JSON string around it. Nothing changes if it is not JSON, that
    /// is, if it does not begin as an object or array; a number may stand before it.
    pub(crate) fn quoting(mut self) -> Template<S> {
        let text = self.source.trim_start().trim_start_matches(|c: char| c.is_ascii_digit());
        if text.starts_with(['{', '[']) {
            self.quote(false);
        }
        self
    }

    /// `inside`: a JSON string is open at the beginning.
    fn quote(&mut self, mut inside: bool) {
        for segment in &mut self.segments {
            match segment {
                Segment::Text(text) => inside = ends_inside(text, inside),
                Segment::Place(_, filters) if inside => filters.push(Filter::Escape),
                Segment::Place(..) => {}
                Segment::If(_, inner) | Segment::Unless(_, inner) => inner.quote(inside),
            }
        }
    }
}

/// Whether a JSON string is open at the end of a part of a JSON text.
fn ends_inside(text: &str, mut inside: bool) -> bool {
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = inside,
            b'"' => inside = !inside,
            _ => {}
        }
    }
    inside
}
