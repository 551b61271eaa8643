//! Single HTTP requests for data, gathered by client: the first is a line at once, and those of the minute after it are one
//! more. A client that asks each second for a month would else be millions of lines.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::access::grant::Grant;
use crate::access::network_counts::network;
use crate::audit::event::{AuditEvent, AuditKind};

const SPAN: Duration = Duration::from_secs(60);
/// Of all that is gathered; beyond it, all of it is written at once.
const BYTES_MAX: usize = 8 << 20;

/// What has been asked for: patterns with the delay of what they show.
pub type ShownPatterns<'p> = Vec<(Duration, Vec<&'p str>)>;

#[derive(Default)]
pub(super) struct GatheredQueries {
    clients: HashMap<QueryClient, ClientQueries>,
    bytes: usize,
    /// When the first of them has been there for a minute.
    due: Option<Instant>,
}

#[derive(PartialEq, Eq, Hash)]
struct QueryClient {
    /// Issuer and subject.
    subject: Option<(Arc<str>, Arc<str>)>,
    network: Option<IpAddr>,
    tier: Box<str>,
}

struct ClientQueries {
    began: Instant,
    /// Since its first line.
    queries: u64,
    /// What they asked for, an event for each delay.
    events: Vec<AuditEvent>,
}

impl GatheredQueries {
    /// Returns what is to be recorded now.
    pub(super) fn add(
        &mut self,
        grant: &Grant,
        address: Option<IpAddr>,
        shown: &ShownPatterns<'_>,
        now: Instant,
    ) -> Vec<AuditEvent> {
        let client = QueryClient {
            subject: grant.identity.as_ref().map(|identity| (identity.issuer.clone(), identity.subject.clone())),
            network: address.map(network),
            tier: grant.rights.tier.clone(),
        };
        if let Some(known) = self.clients.get_mut(&client).filter(|known| now < known.began + SPAN) {
            known.queries += 1;
            let before = known.weight();
            known.ask(grant, address, shown);
            self.bytes += known.weight() - before;
            return if self.bytes > BYTES_MAX { self.take_all() } else { Vec::new() };
        }
        let mut first = ClientQueries { began: now, queries: 1, events: Vec::new() };
        first.ask(grant, address, shown);
        let known = ClientQueries { began: now, queries: 0, events: Vec::new() };
        self.bytes += known.weight();
        self.due.get_or_insert(now + SPAN);
        let mut due = first.into_events();
        if let Some(earlier) = self.clients.insert(client, known) {
            self.bytes -= earlier.weight();
            due.splice(0..0, earlier.into_events());
        }
        if self.bytes > BYTES_MAX {
            due.extend(self.take_all());
        }
        due
    }

    /// What was gathered for a minute.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<AuditEvent> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let over = self.clients.extract_if(|_, known| known.began + SPAN <= now);
        let over: Vec<ClientQueries> = over.map(|(_, known)| known).collect();
        self.due = self.clients.values().map(|known| known.began + SPAN).min();
        self.bytes -= over.iter().map(ClientQueries::weight).sum::<usize>();
        over.into_iter().flat_map(ClientQueries::into_events).collect()
    }

    /// Everything that was gathered.
    pub(super) fn take_all(&mut self) -> Vec<AuditEvent> {
        (self.bytes, self.due) = (0, None);
        std::mem::take(&mut self.clients).into_values().flat_map(ClientQueries::into_events).collect()
    }
}

impl ClientQueries {
    fn ask(&mut self, grant: &Grant, address: Option<IpAddr>, shown: &ShownPatterns<'_>) {
        let event = || {
            let event = AuditEvent::new(AuditKind::Query).grant(grant).transport("http");
            match address {
                Some(address) => event.address(address),
                None => event,
            }
        };
        if shown.is_empty() && self.events.is_empty() {
            // Nothing that it asked for is shown to it.
            self.events.push(event());
        }
        for (delay, patterns) in shown {
            let found = self.events.iter().position(|event| event.is_of_delay(*delay));
            let gathered = match found {
                Some(index) => self.events.swap_remove(index),
                None => event(),
            };
            let new = patterns.iter().copied().filter(|pattern| !gathered.has_pattern(pattern)).collect::<Vec<_>>();
            self.events.push(gathered.patterns(new, *delay));
        }
    }

    fn weight(&self) -> usize {
        size_of::<QueryClient>()
            + size_of::<ClientQueries>()
            + self.events.iter().map(AuditEvent::weight).sum::<usize>()
    }

    /// The first event stands for all queries.
    fn into_events(self) -> Vec<AuditEvent> {
        if self.queries == 0 {
            return Vec::new();
        }
        let counts = std::iter::once(self.queries).chain(std::iter::repeat(0));
        self.events.into_iter().zip(counts).map(|(event, queries)| event.queries(queries)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::access::identity::Identity;

    fn of(subject: &str) -> Grant {
        Grant { identity: Some(Arc::new(Identity::of_subject(subject))), ..Grant::unlimited() }
    }

    /// Subject, queries, patterns and delay of each.
    fn short(events: Vec<AuditEvent>) -> Vec<Value> {
        let lines = events.into_iter().map(|event| serde_json::to_value(event).expect("JSON"));
        lines.map(|line| ["sub", "queries", "patterns", "delay_ms"].map(|name| line[name].clone()).into()).collect()
    }

    #[test]
    fn queries_of_a_minute_are_two_lines_that_count_them_all() {
        let (mut gathered, start) = (GatheredQueries::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let live = |pattern| vec![(Duration::ZERO, vec![pattern])];
        let address = "192.0.2.1".parse().ok();
        let first = gathered.add(&of("alice"), address, &live("a.*"), start);
        assert_eq!(short(first), [json!(["alice", 1, ["a.*"], 0])]);
        for second in 1..60 {
            assert!(gathered.add(&of("alice"), address, &live("a.*"), after(second)).is_empty());
        }
        let late = vec![(Duration::ZERO, vec!["a.*"]), (Duration::from_secs(900), vec!["b"])];
        assert!(gathered.add(&of("alice"), address, &late, after(59)).is_empty());
        assert_eq!(short(gathered.add(&of("bob"), address, &live("a.*"), after(59))), [json!(["bob", 1, ["a.*"], 0])]);
        assert!(gathered.take_due(after(59)).is_empty());
        let due = short(gathered.take_due(after(60)));
        assert_eq!(due, [json!(["alice", 60, ["a.*"], 0]), json!(["alice", 0, ["b"], 900_000])]);
        assert_eq!(short(gathered.add(&of("alice"), address, &vec![], after(61))), [json!(["alice", 1, null, null])]);
        assert!(gathered.take_due(after(600)).is_empty() && gathered.clients.is_empty() && gathered.bytes == 0);
    }

    #[test]
    fn what_is_gathered_is_bounded_and_loses_no_query() {
        let (mut gathered, now) = (GatheredQueries::default(), Instant::now());
        let pattern = "p".repeat(200);
        let (mut queries, mut most) = (0, 0);
        let count =
            |events: Vec<AuditEvent>| short(events).iter().map(|line| line[1].as_u64().expect("a number")).sum::<u64>();
        for n in 0..50_000_u32 {
            let patterns: Vec<String> = (0..8).map(|k| format!("{pattern}.{n}.{k}")).collect();
            let shown = vec![(Duration::ZERO, patterns.iter().map(String::as_str).collect())];
            queries += count(gathered.add(&of(&(n % 10_000).to_string()), None, &shown, now));
            most = gathered.bytes.max(most);
        }
        queries += count(gathered.take_all());
        assert_eq!(queries, 50_000);
        assert!((BYTES_MAX / 2..=BYTES_MAX).contains(&most), "{most}");
    }
}
