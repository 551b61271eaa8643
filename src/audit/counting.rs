//! The count of usage, line by line: which sessions are open, whose they are, and what was the most of each.
//!
//! | bound | at the bound |
//! |---|---|
//! | `PATTERN_GROUPS_MAX` groups of patterns of one session | further ones count as `(other)` |
//! | `GROUPS_MAX` groups in all | further ones count as `(other)` of no tier |

use std::collections::HashMap;

use crate::audit::record::UsageRecord;
use crate::audit::usage::{AuditUsage, Day, GroupKey, GroupUsage, Period, SubjectUsage, UsageTotal};

const PATTERN_GROUPS_MAX: usize = 64;
const GROUPS_MAX: usize = 10_000;
const OTHER: &str = "(other)";

/// The state while lines are read.
pub(super) struct Counting {
    period: Period,
    /// The first line of the period has come.
    begun: bool,
    today: Day,
    numbers: HashMap<(Box<str>, Box<str>), usize>,
    subjects: Vec<SubjectCount>,
    group_numbers: HashMap<GroupKey, usize>,
    groups: Vec<GroupCount>,
    open: HashMap<u64, OpenSession>,
    total: UsageTotal,
}

#[derive(Default)]
struct SubjectCount {
    open: usize,
    peak: usize,
    sessions: u64,
    queries: u64,
    span: Option<Period>,
    groups: Vec<(usize, Period)>,
}

struct GroupCount {
    open: usize,
    peak: usize,
    subjects: usize,
    span: Option<Period>,
}

/// A session at the present line.
#[derive(Default)]
struct OpenSession {
    /// None before it has shown who it is.
    subject: Option<usize>,
    tier: Box<str>,
    status: Box<str>,
    patterns: Vec<(Box<str>, u64)>,
    /// In which it is counted at the moment.
    groups: Vec<usize>,
}

impl Counting {
    pub(super) fn new(period: Period) -> Counting {
        Counting {
            period,
            begun: false,
            today: period.first,
            numbers: HashMap::new(),
            subjects: Vec::new(),
            group_numbers: HashMap::new(),
            groups: Vec::new(),
            open: HashMap::new(),
            total: UsageTotal::default(),
        }
    }

    pub(super) fn take(&mut self, record: &UsageRecord<'_>, day: Day) {
        if day > self.period.last {
            return;
        }
        // Whatever was open before these is not open any more.
        let ends_all = matches!(&*record.event, "start" | "stop");
        if ends_all && !self.begun {
            self.end_all();
        }
        if !self.begun && day >= self.period.first {
            self.begin();
        }
        self.today = day.max(self.period.first);
        match &*record.event {
            _ if ends_all => self.end_all(),
            "session_close" => {
                if let Some(session) = record.session.and_then(|number| self.open.remove(&number)) {
                    self.leave(&session);
                }
            }
            "session_open" | "auth" | "refresh" | "rights_change" | "subscribe" => {
                if let Some(number) = record.session {
                    self.change(number, record);
                }
            }
            "query" => self.query(record),
            _ => {}
        }
    }

    /// What is open when the period begins counts in it.
    fn begin(&mut self) {
        self.begun = true;
        self.today = self.period.first;
        let open = std::mem::take(&mut self.open);
        for session in open.values() {
            if let Some(subject) = session.subject {
                self.subjects[subject].sessions += 1;
                self.total.sessions += 1;
                self.raise_peak(subject);
                self.mark(subject, &session.groups);
            }
        }
        for group in &mut self.groups {
            group.peak = group.open;
        }
        self.open = open;
        self.total.peak_sessions = self.open.len();
    }

    /// A session is there, and this is what it says of itself now.
    fn change(&mut self, number: u64, record: &UsageRecord<'_>) {
        let mut session = self.open.remove(&number).unwrap_or_default();
        self.uncount(&session);
        if let Some(subject) = self.subject_of(record) {
            let earlier = session.subject.replace(subject);
            if earlier != Some(subject) && self.begun {
                self.subjects[subject].sessions += 1;
                // A session that has become another's is still one session.
                self.total.sessions += u64::from(earlier.is_none());
            }
        }
        if let Some(tier) = &record.tier {
            session.tier = tier.as_str().into();
            session.status = record.status.as_deref().unwrap_or_default().into();
        }
        for pattern in &record.patterns {
            let group = (pattern_group(pattern), record.delay_ms.unwrap_or_default());
            if !session.patterns.contains(&group) {
                let is_full = session.patterns.len() >= PATTERN_GROUPS_MAX;
                let group = if is_full { (OTHER.into(), group.1) } else { group };
                if !is_full || session.patterns.len() == PATTERN_GROUPS_MAX {
                    session.patterns.push(group);
                }
            }
        }
        self.recount(&mut session);
        self.open.insert(number, session);
        if self.begun {
            self.total.peak_sessions = self.total.peak_sessions.max(self.open.len());
        }
    }

    fn uncount(&mut self, session: &OpenSession) {
        if let Some(subject) = session.subject {
            self.subjects[subject].open -= 1;
        }
        for group in &session.groups {
            self.groups[*group].open -= 1;
        }
    }

    fn recount(&mut self, session: &mut OpenSession) {
        session.groups.clear();
        let Some(subject) = session.subject else { return };
        self.subjects[subject].open += 1;
        let key = |patterns| GroupKey { tier: session.tier.clone(), status: session.status.clone(), patterns };
        let keys = std::iter::once(key(None)).chain(session.patterns.iter().map(|group| key(Some(group.clone()))));
        for key in keys.collect::<Vec<_>>() {
            let group = self.group(key);
            if !session.groups.contains(&group) {
                self.groups[group].open += 1;
                session.groups.push(group);
            }
        }
        if self.begun {
            self.raise_peak(subject);
            for group in &session.groups {
                let group = &mut self.groups[*group];
                group.peak = group.peak.max(group.open);
            }
            self.mark(subject, &session.groups);
        }
    }

    fn raise_peak(&mut self, subject: usize) {
        let subject = &mut self.subjects[subject];
        subject.peak = subject.peak.max(subject.open);
    }

    fn leave(&mut self, session: &OpenSession) {
        self.uncount(session);
        if let (Some(subject), true) = (session.subject, self.begun) {
            self.mark(subject, &session.groups);
        }
    }

    fn end_all(&mut self) {
        // The last day of these is not known: they were open when the server was killed.
        for session in std::mem::take(&mut self.open).into_values() {
            self.uncount(&session);
        }
    }

    fn query(&mut self, record: &UsageRecord<'_>) {
        if !self.begun {
            return;
        }
        let Some(subject) = self.subject_of(record) else { return };
        let queries = record.queries.unwrap_or(1);
        self.subjects[subject].queries += queries;
        self.total.queries += queries;
        let (tier, status) = (record.tier.as_deref().unwrap_or_default(), record.status.as_deref().unwrap_or_default());
        let mut patterns: Vec<_> = record.patterns.iter().map(|pattern| pattern_group(pattern)).collect();
        patterns.sort();
        patterns.dedup();
        let delay = record.delay_ms.unwrap_or_default();
        let patterns = patterns.into_iter().take(PATTERN_GROUPS_MAX).map(|group| Some((group, delay)));
        let groups: Vec<usize> = std::iter::once(None)
            .chain(patterns)
            .map(|patterns| self.group(GroupKey { tier: tier.into(), status: status.into(), patterns }))
            .collect();
        self.mark(subject, &groups);
    }

    /// The subject of a line, or its address; none if it names neither, or if nobody has been admitted yet.
    fn subject_of(&mut self, record: &UsageRecord<'_>) -> Option<usize> {
        let key = match (&record.sub, &record.tier, &record.address) {
            (Some(sub), ..) => (record.iss.as_deref().unwrap_or_default().into(), sub.as_str().into()),
            (None, Some(_), Some(address)) => (Box::default(), address.as_str().into()),
            _ => return None,
        };
        let next = self.subjects.len();
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.subjects.push(SubjectCount::default());
        }
        Some(number)
    }

    fn group(&mut self, key: GroupKey) -> usize {
        let is_full = self.groups.len() >= GROUPS_MAX && !self.group_numbers.contains_key(&key);
        let key = if is_full { GroupKey { patterns: Some((OTHER.into(), 0)), ..GroupKey::default() } } else { key };
        let next = self.groups.len();
        let number = *self.group_numbers.entry(key).or_insert(next);
        if number == next {
            self.groups.push(GroupCount { open: 0, peak: 0, subjects: 0, span: None });
        }
        number
    }

    /// The subject has used these groups today.
    fn mark(&mut self, subject: usize, groups: &[usize]) {
        let today = self.today;
        let extend = |span: &mut Option<Period>| {
            let first = span.map_or(today, |span| span.first.min(today));
            *span = Some(Period { first, last: span.map_or(today, |span| span.last.max(today)) });
        };
        extend(&mut self.total.span);
        let count = &mut self.subjects[subject];
        extend(&mut count.span);
        for group in groups {
            extend(&mut self.groups[*group].span);
            match count.groups.iter_mut().find(|(number, _)| number == group) {
                Some((_, span)) => span.last = span.last.max(today),
                None => {
                    count.groups.push((*group, Period { first: today, last: today }));
                    self.groups[*group].subjects += 1;
                }
            }
        }
    }

    pub(super) fn finish(mut self) -> AuditUsage {
        // What is still open is used until the last day that is known.
        for session in std::mem::take(&mut self.open).into_values() {
            if let (Some(subject), true) = (session.subject, self.begun) {
                self.mark(subject, &session.groups);
            }
        }
        let mut keys: Vec<GroupKey> = vec![GroupKey::default(); self.groups.len()];
        for (key, number) in self.group_numbers {
            keys[number] = key;
        }
        let mut peaks_of_one = vec![0; self.groups.len()];
        let mut usage = AuditUsage { total: self.total, ..AuditUsage::default() };
        for ((issuer, subject), number) in self.numbers {
            let count = &self.subjects[number];
            let Some(span) = count.span else { continue };
            for (group, _) in &count.groups {
                peaks_of_one[*group] = count.peak.max(peaks_of_one[*group]);
            }
            usage.total.peak_sessions_of_one = usage.total.peak_sessions_of_one.max(count.peak);
            let mut groups: Vec<_> = count.groups.iter().map(|(group, span)| (keys[*group].clone(), *span)).collect();
            groups.sort_by(|one, other| one.0.cmp(&other.0));
            let (sessions, queries, peak_sessions) = (count.sessions, count.queries, count.peak);
            usage.subjects.push(SubjectUsage { issuer, subject, sessions, queries, peak_sessions, span, groups });
        }
        usage.total.subjects = usage.subjects.len();
        usage.subjects.sort_by(|one, other| (&one.issuer, &one.subject).cmp(&(&other.issuer, &other.subject)));
        let groups = keys.into_iter().zip(self.groups).zip(peaks_of_one);
        usage.groups = groups
            .filter_map(|((key, count), peak_sessions_of_one)| {
                let GroupCount { subjects, peak: peak_sessions, span, .. } = count;
                Some(GroupUsage { key, subjects, peak_sessions, peak_sessions_of_one, span: span? })
            })
            .collect();
        usage.groups.sort_by(|one, other| one.key.cmp(&other.key));
        usage
    }
}

/// The first token of a pattern; `*` if it is a wildcard.
fn pattern_group(pattern: &str) -> Box<str> {
    match pattern.split('.').next().unwrap_or_default() {
        ">" | "*" => "*".into(),
        token => token.into(),
    }
}
