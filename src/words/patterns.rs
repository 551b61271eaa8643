//! Many patterns at once: which of them match a topic, without trying each.
//!
//! A tree over tokens. A topic goes from a node to its literal token, to `*`, and to the globs (`BTC*`) whose anchor
//! the token holds: what stands before the first `*` or behind the last one, or three bytes in between. So a topic
//! costs its tokens and what it matches, not the number of patterns. Two kinds of patterns are tried one by one: few
//! that begin alike (a node holds up to eight before it branches, so that long patterns cost little memory), and globs
//! with too little to be found by (`*a*`), if the token holds the same bytes. `visit` reports the work, so that a caller can
//! bound it.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use crate::words::globs::{Anchor, GRAM_BYTES, anchor, bytes_of};
use crate::words::topic::{Pattern, text_matches, token_matches};

/// Patterns that a node tries one by one before it branches: as costly as one look into a branch.
const LOOSE_MAX: usize = 8;
/// Tokens that get nodes; patterns below are tried one by one. More would make long patterns costly in memory.
const DEPTH_MAX: usize = 16;
/// Globs that are skipped in about 5 ns, the time of one step.
const PASSED_PER_STEP: usize = 8;

/// Patterns, compiled once, to find out whether any of them matches.
#[derive(Debug, Default)]
pub struct PatternSet {
    table: PatternTable<()>,
}

impl PatternSet {
    pub fn matches(&self, topic: &str) -> bool {
        self.matches_counted(topic).0
    }

    /// The same, with the number of steps.
    pub fn matches_counted(&self, topic: &str) -> (bool, usize) {
        let mut any = false;
        let steps = self.table.visit(topic, |()| {
            any = true;
            ControlFlow::Break(())
        });
        (any, steps)
    }
}

impl<'p> FromIterator<&'p Pattern> for PatternSet {
    fn from_iter<I: IntoIterator<Item = &'p Pattern>>(patterns: I) -> PatternSet {
        let mut set = PatternSet::default();
        patterns.into_iter().for_each(|pattern| *set.table.entry(pattern) = ());
        set
    }
}

/// A value for each pattern; found by the topics that the pattern matches.
#[derive(Debug)]
pub struct PatternTable<T> {
    root: PatternNode<T>,
}

#[derive(Debug)]
struct PatternNode<T> {
    /// Of the pattern that ends here.
    end: Option<T>,
    /// Patterns that go on, by what is left of them: few, or at the greatest depth.
    loose: Vec<(Box<str>, T)>,
    branches: Option<Box<Branches<T>>>,
}

/// Patterns that go on, by their next token.
#[derive(Debug)]
struct Branches<T> {
    literal: HashMap<Box<str>, PatternNode<T>>,
    /// `*`
    any: PatternNode<T>,
    /// `>`
    rest: Option<T>,
    globs: Option<Box<Globs<T>>>,
}

type Bucket<T> = BTreeMap<Box<str>, Glob<T>>;

#[derive(Debug)]
struct Glob<T> {
    /// The bytes that a token must hold, from `bytes_of`: they rule out most tokens, however little
    /// there is to find a glob by.
    needs: u64,
    node: PatternNode<T>,
}

/// Tokens with `*` among other characters, by their anchors.
#[derive(Debug)]
struct Globs<T> {
    before: Affixes<T>,
    behind: Affixes<T>,
    between: HashMap<[u8; GRAM_BYTES], Bucket<T>>,
    nowhere: Bucket<T>,
}

#[derive(Debug)]
struct Affixes<T> {
    buckets: HashMap<Box<[u8]>, Bucket<T>>,
    /// Of the longest affix so far.
    bytes_max: usize,
}

/// One search for a topic.
struct Search<F> {
    steps: usize,
    found: F,
}

impl<T> PatternTable<T> {
    /// The value of this pattern.
    pub fn entry(&mut self, pattern: &Pattern) -> &mut T
    where
        T: Default,
    {
        let mut value = Some(T::default());
        self.root.place(Some(pattern.as_str()), 0, &mut value)
    }

    pub fn get_mut(&mut self, pattern: &Pattern) -> Option<&mut T> {
        self.root.get_mut(Some(pattern.as_str()))
    }

    pub fn remove(&mut self, pattern: &Pattern) -> Option<T> {
        self.root.remove(Some(pattern.as_str()))
    }

    /// Visits the values of all matching patterns until `Break`; returns the number of steps: looks into a branch, patterns
    /// tried, values found.
    pub fn visit<'t>(&'t self, topic: &str, found: impl FnMut(&'t T) -> ControlFlow<()>) -> usize {
        let mut search = Search { steps: 0, found };
        // Work counts, even if the visit ended early.
        let _ = self.root.visit(Some(topic), &mut search);
        search.steps
    }
}

impl<T> Default for PatternTable<T> {
    fn default() -> Self {
        PatternTable { root: PatternNode::default() }
    }
}

impl<T> Default for PatternNode<T> {
    fn default() -> Self {
        PatternNode { end: None, loose: Vec::new(), branches: None }
    }
}

impl<T> PatternNode<T> {
    fn is_empty(&self) -> bool {
        self.end.is_none() && self.loose.is_empty() && self.branches.is_none()
    }

    /// The value at what is left of a pattern; `value`, which is taken then, if there was none.
    fn place(&mut self, left: Option<&str>, depth: usize, value: &mut Option<T>) -> &mut T {
        let mut fresh = || value.take().expect("a pattern is placed once");
        let Some(left) = left else { return self.end.get_or_insert_with(fresh) };
        if self.branches.is_none() {
            let index = self.loose.iter().position(|(other, _)| **other == *left);
            if index.is_some() || self.loose.len() < LOOSE_MAX || depth >= DEPTH_MAX {
                let index = index.unwrap_or_else(|| {
                    self.loose.push((left.into(), fresh()));
                    self.loose.len() - 1
                });
                return &mut self.loose[index].1;
            }
        }
        let branches = self.branches.get_or_insert_default();
        for (other, value) in self.loose.drain(..) {
            branches.place(&other, depth, &mut Some(value));
        }
        self.loose = Vec::new();
        branches.place(left, depth, value)
    }

    fn get_mut(&mut self, left: Option<&str>) -> Option<&mut T> {
        let Some(left) = left else { return self.end.as_mut() };
        let Some(branches) = &mut self.branches else {
            return self.loose.iter_mut().find(|(other, _)| **other == *left).map(|(_, value)| value);
        };
        match split(left) {
            (">", None) => branches.rest.as_mut(),
            (token, below) => branches.child(token)?.get_mut(below),
        }
    }

    fn remove(&mut self, left: Option<&str>) -> Option<T> {
        let Some(left) = left else { return self.end.take() };
        let Some(branches) = &mut self.branches else {
            let index = self.loose.iter().position(|(other, _)| **other == *left)?;
            return Some(self.loose.swap_remove(index).1);
        };
        let removed = match split(left) {
            (">", None) => branches.rest.take(),
            (token, below) => {
                let child = branches.child(token)?;
                let removed = child.remove(below);
                if child.is_empty() {
                    branches.prune(token);
                }
                removed
            }
        };
        if branches.is_empty() {
            self.branches = None;
        }
        removed
    }

    fn visit<'t, F: FnMut(&'t T) -> ControlFlow<()>>(
        &'t self,
        topic: Option<&str>,
        search: &mut Search<F>,
    ) -> ControlFlow<()> {
        let Some(topic) = topic else { return self.end.iter().try_for_each(|end| search.find(end)) };
        for (pattern, value) in &self.loose {
            search.steps += 1;
            if text_matches(pattern, topic) {
                search.find(value)?;
            }
        }
        let Some(branches) = &self.branches else { return ControlFlow::Continue(()) };
        if let Some(rest) = &branches.rest {
            search.find(rest)?;
        }
        let (token, below) = split(topic);
        search.steps += 1;
        if let Some(child) = branches.literal.get(token) {
            child.visit(below, search)?;
        }
        branches.any.visit(below, search)?;
        branches.globs.iter().try_for_each(|globs| globs.visit(token, below, search))
    }
}

impl<T> Default for Branches<T> {
    fn default() -> Self {
        Branches { literal: HashMap::new(), any: PatternNode::default(), rest: None, globs: None }
    }
}

impl<T> Branches<T> {
    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.any.is_empty() && self.rest.is_none() && self.globs.is_none()
    }

    fn place(&mut self, left: &str, depth: usize, value: &mut Option<T>) -> &mut T {
        match split(left) {
            (">", None) => self.rest.get_or_insert_with(|| value.take().expect("a pattern is placed once")),
            (token, below) => {
                let child = match token {
                    "*" => &mut self.any,
                    glob if glob.contains('*') => {
                        let bucket = self.globs.get_or_insert_default().bucket_or_new(glob);
                        let fresh = || Glob { needs: bytes_of(glob), node: PatternNode::default() };
                        &mut bucket.entry(glob.into()).or_insert_with(fresh).node
                    }
                    literal => self.literal.entry(literal.into()).or_default(),
                };
                child.place(below, depth + 1, value)
            }
        }
    }

    fn child(&mut self, token: &str) -> Option<&mut PatternNode<T>> {
        match token {
            "*" => Some(&mut self.any),
            glob if glob.contains('*') => Some(&mut self.globs.as_mut()?.bucket(glob)?.get_mut(glob)?.node),
            literal => self.literal.get_mut(literal),
        }
    }

    /// Takes out a child that has become empty.
    fn prune(&mut self, token: &str) {
        if token == "*" {
            return;
        }
        if !token.contains('*') {
            self.literal.remove(token);
            if self.literal.capacity() > 4 * self.literal.len() {
                self.literal.shrink_to_fit();
            }
            return;
        }
        if let Some(globs) = &mut self.globs {
            globs.prune(token);
            if globs.is_empty() {
                self.globs = None;
            }
        }
    }
}

impl<T> Default for Globs<T> {
    fn default() -> Self {
        let (before, behind) = (Affixes::default(), Affixes::default());
        Globs { before, behind, between: HashMap::new(), nowhere: Bucket::new() }
    }
}

impl<T> Globs<T> {
    fn is_empty(&self) -> bool {
        let affixes = self.before.buckets.is_empty() && self.behind.buckets.is_empty();
        affixes && self.between.is_empty() && self.nowhere.is_empty()
    }

    fn bucket(&mut self, glob: &str) -> Option<&mut Bucket<T>> {
        match anchor(glob) {
            Anchor::Before(affix) => self.before.buckets.get_mut(affix),
            Anchor::Behind(affix) => self.behind.buckets.get_mut(affix),
            Anchor::Between(gram) => self.between.get_mut(&gram),
            Anchor::Nowhere => Some(&mut self.nowhere),
        }
    }

    fn bucket_or_new(&mut self, glob: &str) -> &mut Bucket<T> {
        match anchor(glob) {
            Anchor::Before(affix) => self.before.bucket_or_new(affix),
            Anchor::Behind(affix) => self.behind.bucket_or_new(affix),
            Anchor::Between(gram) => self.between.entry(gram).or_default(),
            Anchor::Nowhere => &mut self.nowhere,
        }
    }

    fn prune(&mut self, glob: &str) {
        let Some(bucket) = self.bucket(glob) else { return };
        bucket.remove(glob);
        if !bucket.is_empty() {
            return;
        }
        match anchor(glob) {
            Anchor::Before(affix) => drop(self.before.buckets.remove(affix)),
            Anchor::Behind(affix) => drop(self.behind.buckets.remove(affix)),
            Anchor::Between(gram) => drop(self.between.remove(&gram)),
            Anchor::Nowhere => {}
        }
    }

    fn visit<'t, F: FnMut(&'t T) -> ControlFlow<()>>(
        &'t self,
        token: &str,
        below: Option<&str>,
        search: &mut Search<F>,
    ) -> ControlFlow<()> {
        let bytes = token.as_bytes();
        let mut buckets: Vec<&'t Bucket<T>> = vec![&self.nowhere];
        let length_max = bytes.len().min(self.before.bytes_max);
        buckets.extend((1..=length_max).filter_map(|length| self.before.buckets.get(&bytes[..length])));
        search.steps += length_max;
        let length_max = bytes.len().min(self.behind.bytes_max);
        let ends = (1..=length_max).map(|length| &bytes[bytes.len() - length..]);
        buckets.extend(ends.filter_map(|end| self.behind.buckets.get(end)));
        search.steps += length_max;
        if !self.between.is_empty() {
            let mut grams: Vec<&[u8]> = bytes.windows(GRAM_BYTES).collect();
            // A glob is found once, however often the token holds its anchor.
            grams.sort_unstable();
            grams.dedup();
            search.steps += grams.len();
            buckets.extend(grams.into_iter().filter_map(|gram| self.between.get(gram)));
        }
        let (held, mut passed) = (bytes_of(token), 0);
        for (text, glob) in buckets.into_iter().flatten() {
            if glob.needs & !held != 0 {
                passed += 1;
                continue;
            }
            search.steps += 1;
            if token_matches(text, token) {
                glob.node.visit(below, search)?;
            }
        }
        search.steps += passed / PASSED_PER_STEP;
        ControlFlow::Continue(())
    }
}

impl<T> Default for Affixes<T> {
    fn default() -> Self {
        Affixes { buckets: HashMap::new(), bytes_max: 0 }
    }
}

impl<T> Affixes<T> {
    fn bucket_or_new(&mut self, affix: &[u8]) -> &mut Bucket<T> {
        self.bytes_max = self.bytes_max.max(affix.len());
        self.buckets.entry(affix.into()).or_default()
    }
}

impl<F> Search<F> {
    fn find<'t, T: 't>(&mut self, value: &'t T) -> ControlFlow<()>
    where
        F: FnMut(&'t T) -> ControlFlow<()>,
    {
        self.steps += 1;
        (self.found)(value)
    }
}

/// The first token, and what is behind it.
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('.').map_or((text, None), |(token, below)| (token, Some(below)))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn parse(text: &str) -> Pattern {
        Pattern::parse(text).expect(text)
    }

    /// Few letters, so that much matches; now and then a long token or many of them.
    fn random_text(rng: &mut StdRng, letters: &[u8], rest: bool) -> String {
        let tokens = if rng.random_bool(0.05) { rng.random_range(10..25) } else { rng.random_range(1..5) };
        let mut text: Vec<String> = (0..tokens)
            .map(|_| {
                let length_max = if rng.random_bool(0.3) { 7 } else { 3 };
                let length = rng.random_range(1..length_max);
                (0..length).map(|_| char::from(letters[rng.random_range(0..letters.len())])).collect()
            })
            .collect();
        if rest && rng.random_bool(0.2) {
            text.push(">".to_string());
        }
        text.join(".")
    }

    #[test]
    fn a_table_finds_what_each_pattern_by_itself_matches() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut table = PatternTable::<Option<usize>>::default();
        let mut patterns: Vec<Pattern> = [">", "*", "a.>", "**", "*.*"].map(parse).into();
        patterns.extend((0..600).map(|_| parse(&random_text(&mut rng, b"ab*", true))));
        let mut there: HashMap<Pattern, usize> = HashMap::new();
        let mut found_any = 0;
        for step in 0..6000 {
            let at = rng.random_range(0..patterns.len());
            let pattern = &patterns[at];
            // It fills first, and is almost emptied at the end.
            if rng.random_bool(if step < 3000 { 0.7 } else { 0.2 }) {
                there.insert(pattern.clone(), step);
                *table.entry(pattern) = Some(step);
            } else {
                assert_eq!(table.get_mut(pattern).map(|value| *value), there.get(pattern).map(|value| Some(*value)));
                assert_eq!(table.remove(pattern).flatten(), there.remove(pattern));
            }
            let topic = random_text(&mut rng, b"ab", false);
            let mut found = Vec::new();
            table.visit(&topic, |value| {
                found.extend(*value);
                ControlFlow::Continue(())
            });
            let matching = there.iter().filter(|(pattern, _)| pattern.matches(&topic));
            let mut expected: Vec<usize> = matching.map(|(_, value)| *value).collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{topic} in {there:?}");
            found_any += found.len();
        }
        assert!(found_any > 10_000, "{found_any}");
        there.keys().for_each(|pattern| assert!(table.remove(pattern).is_some()));
        assert!(table.root.is_empty(), "nothing is left of a table without patterns");
    }

    #[test]
    fn a_set_matches_as_its_patterns_do() {
        let patterns = ["ticker.BTC*", "ticker.*USD", "*.x", "trade.ETH-USD", "book.>", "*mid*.y"].map(parse);
        let set: PatternSet = patterns.iter().collect();
        for (topic, expected) in [
            ("ticker.BTC-EUR", true),
            ("ticker.ETH-USD", true),
            ("ticker.ETH-EUR", false),
            ("a.x", true),
            ("a.b.x", false),
            ("trade.ETH-USD", true),
            ("trade.ETH", false),
            ("book", false),
            ("book.a.b", true),
            ("amidb.y", true),
            ("ami.y", false),
        ] {
            assert_eq!(set.matches(topic), expected, "{topic}");
        }
        assert!(!PatternSet::default().matches("a"));
    }

    #[test]
    fn a_topic_costs_its_tokens_and_not_the_number_of_patterns() {
        type Shape = (fn(usize) -> String, &'static str);
        let shapes: [Shape; 6] = [
            (|n| format!("ticker.s{n}.*"), "ticker.s77777.x"),
            (|n| format!("ticker.s{n}*.x"), "ticker.s77777.x"),
            (|n| format!("*{n}.*"), "t77777.x"),
            (|n| format!("*s{n:05}x*.>"), "as77777xb.x"),
            (|n| format!("*.s{n}"), "t.s77777"),
            (|n| format!("s{n}.>"), "s77777.x"),
        ];
        for (shape, topic) in shapes {
            let mut table = PatternTable::<usize>::default();
            (0..30_000).for_each(|n| *table.entry(&parse(&shape(n))) = n);
            let steps = table.visit(topic, |_| ControlFlow::Continue(()));
            assert!(steps < 400, "{} on {topic}: {steps} steps", shape(1));
        }
        // Nothing to find these by: the work shows it.
        let mut table = PatternTable::<usize>::default();
        (0..1000).for_each(|n| *table.entry(&parse(&format!("*{}*", n.to_string().replace("", "*")))) = n);
        assert!(table.visit("t0123456789", |_| ControlFlow::Continue(())) >= 1000);
        assert!(table.visit("t1", |_| ControlFlow::Continue(())) < 200, "most are passed over");
    }

    #[test]
    fn a_long_pattern_costs_memory_in_proportion() {
        let mut table = PatternTable::<()>::default();
        let long = |n: usize| parse(&format!("s{n}.{}*", "a.".repeat(100)));
        (0..LOOSE_MAX).for_each(|n| *table.entry(&long(n)) = ());
        assert!(table.root.branches.is_none(), "few patterns need no node for each token");
    }
}
