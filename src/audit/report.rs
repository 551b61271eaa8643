//! A month's usage as CSV (RFC 4180): a summary by group, or a row for each subject and group.

use std::fmt::{self, Display};

use crate::audit::usage::{GroupKey, Period, Usage};

/// Usage in a month, to be shown as CSV.
pub struct CsvReport<'u> {
    pub month: &'u str,
    pub usage: &'u Usage,
    /// A row for each subject and group, instead of one for each group.
    pub by_subject: bool,
}

const GROUPS: &str = "month,rows,tier,status,patterns,delay_ms,subjects,first_day,last_day,\
    peak_sessions,peak_sessions_of_one,sessions,queries";
const SUBJECTS: &str = "month,iss,sub,tier,status,patterns,delay_ms,first_day,last_day,\
    sessions,peak_sessions,queries";

impl Display for CsvReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.by_subject { self.write_subjects(f) } else { self.write_groups(f) }
    }
}

impl CsvReport<'_> {
    fn write_groups(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CsvReport { month, usage, .. } = self;
        let total = &usage.total;
        let (first, last) = days(total.span);
        writeln!(f, "{GROUPS}")?;
        writeln!(
            f,
            "{month},all,,,,,{},{first},{last},{},{},{},{}",
            total.subjects, total.peak_sessions, total.peak_sessions_of_one, total.sessions, total.queries
        )?;
        for group in &usage.groups {
            let rows = if group.key.patterns.is_some() { "patterns" } else { "tier" };
            let (first, last) = days(Some(group.span));
            writeln!(
                f,
                "{month},{rows},{},{},{first},{last},{},{},,",
                KeyFields(&group.key),
                group.subjects,
                group.peak_sessions,
                group.peak_sessions_of_one
            )?;
        }
        Ok(())
    }

    fn write_subjects(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{SUBJECTS}")?;
        for subject in &self.usage.subjects {
            for (key, span) in &subject.groups {
                let (first, last) = days(Some(*span));
                writeln!(
                    f,
                    "{},{},{},{},{first},{last},{},{},{}",
                    self.month,
                    Field(&subject.issuer),
                    Field(&subject.subject),
                    KeyFields(key),
                    subject.sessions,
                    subject.peak_sessions,
                    subject.queries
                )?;
            }
        }
        Ok(())
    }
}

fn days(span: Option<Period>) -> (String, String) {
    span.map_or_else(Default::default, |span| (span.first.to_string(), span.last.to_string()))
}

/// Tier, status, patterns and delay.
struct KeyFields<'u>(&'u GroupKey);

impl Display for KeyFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GroupKey { tier, status, patterns } = self.0;
        write!(f, "{},{},", Field(tier), Field(status))?;
        match patterns {
            Some((group, delay_ms)) => write!(f, "{},{delay_ms}", Field(group)),
            None => f.write_str(","),
        }
    }
}

/// A field, in quotes where needed. Text that a spreadsheet would take for a formula begins with `'`: subjects may choose
/// their names.
struct Field<'u>(&'u str);

impl Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guard = if self.0.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
        if self.0.contains(['"', ',', '\n', '\r']) {
            write!(f, "\"{guard}{}\"", self.0.replace('"', "\"\""))
        } else {
            write!(f, "{guard}{}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_one_field_and_no_formula() {
        for (text, field) in [
            ("u-1", "u-1"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=cmd()", "'=cmd()"),
            ("@SUM(A1,B1)", "\"'@SUM(A1,B1)\""),
            ("", ""),
        ] {
            assert_eq!(Field(text).to_string(), field);
        }
    }
}
