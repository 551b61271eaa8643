//! With which delays a tier shows what patterns match.

use std::time::Duration;

use crate::access::rights::{GrantedPattern, GrantedTopics, Rights};
use crate::words::topic::Pattern;

/// The patterns by the delay of what they show. A wildcard that shows topics with several delays is under each of them.
pub fn by_delay<'p>(rights: &Rights, patterns: &'p [Pattern]) -> Vec<(Duration, Vec<&'p str>)> {
    let mut found: Vec<(Duration, Vec<&'p str>)> = Vec::new();
    for pattern in patterns {
        for delay in delays_of(rights, pattern) {
            match found.iter_mut().find(|(known, _)| *known == delay) {
                Some((_, patterns)) => patterns.push(pattern.as_str()),
                None => found.push((delay, vec![pattern.as_str()])),
            }
        }
    }
    found
}

fn delays_of(rights: &Rights, pattern: &Pattern) -> Vec<Duration> {
    let granted = match &rights.topics {
        GrantedTopics::All => return vec![Duration::ZERO],
        GrantedTopics::Matching(granted) | GrantedTopics::Narrowed { within: granted, .. } => granted,
    };
    if pattern.is_exact() {
        return rights.topics.delay_of(pattern.as_str()).into_iter().collect();
    }
    let mut delays = Vec::new();
    for GrantedPattern { pattern: allowed, delay } in granted.iter().filter(|it| it.pattern.overlaps(pattern)) {
        if !delays.contains(delay) {
            delays.push(*delay);
        }
        if covers(allowed, pattern) {
            // Nothing is left for those that follow.
            break;
        }
    }
    delays
}

/// Whether all topics of a wildcard match the pattern: it has wildcards wherever the other one has.
fn covers(pattern: &Pattern, wildcard: &Pattern) -> bool {
    let is_open = |pattern: &Pattern| pattern.as_str().ends_with('>');
    pattern.matches(wildcard.as_str()) && (is_open(pattern) || !is_open(wildcard))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::rights::ViewId;

    #[test]
    fn patterns_have_each_delay_of_what_they_show() {
        let pattern = |text: &str| Pattern::parse(text).expect(text);
        let granted = [("a.x", 5), ("a.*", 0), ("b.>", 900), ("c.t*", 60), (">", 900)];
        let granted = granted.map(|(text, s)| GrantedPattern { pattern: pattern(text), delay: Duration::from_secs(s) });
        let all = Rights::unlimited();
        let matching = Rights { topics: GrantedTopics::Matching(Box::new(granted.clone())), ..Rights::unlimited() };
        let named = Box::new([pattern("a.>")]);
        let within = Box::new(granted);
        let narrowed =
            Rights { topics: GrantedTopics::Narrowed { named, within }, view: ViewId(1), ..Rights::unlimited() };
        let cases: &[(&Rights, &str, &[u64])] = &[
            (&all, ">", &[0]),
            (&matching, "a.x", &[5]),
            (&matching, "a.y", &[0]),
            (&matching, "d", &[900]),
            (&matching, "a.*", &[5, 0]),
            (&matching, "a.z*", &[0]),
            (&matching, "a.>", &[5, 0, 900]),
            (&matching, "b.*", &[900]),
            (&matching, "b.>", &[900]),
            (&matching, "c.tt*", &[60]),
            (&matching, "c.*", &[60, 900]),
            (&matching, ">", &[5, 0, 900, 60]),
            (&narrowed, "a.x", &[5]),
            (&narrowed, "b.x", &[]),
        ];
        for (rights, text, expected) in cases {
            let expected: Vec<Duration> = expected.iter().map(|s| Duration::from_secs(*s)).collect();
            assert_eq!(delays_of(rights, &pattern(text)), expected, "{text}");
        }
        let patterns = [pattern("a.y"), pattern("b.y"), pattern("a.*")];
        let seconds = Duration::from_secs;
        let expected = vec![(seconds(0), vec!["a.y", "a.*"]), (seconds(900), vec!["b.y"]), (seconds(5), vec!["a.*"])];
        assert_eq!(by_delay(&matching, &patterns), expected);
    }
}
