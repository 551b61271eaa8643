//! All searches as one tree, whose nodes are followed while the text is read.
//!
//! A wildcard and a name may lie at the same place (`/*` and `/data/0`). The node of the name then holds what is below
//! the wildcard as well, so that no part of a text is read twice. Only an index from the end is known too late: that
//! element is read again.

use crate::json::{Path, PathSegment, Pointer};

/// A place in a text that is a finding or leads to one.
#[derive(Clone, Debug, Default)]
pub(super) struct SearchNode {
    pub goals: Vec<Goal>,
    pub children: Vec<(PathSegment, SearchNode)>,
    /// Lengths of the children's names, one bit each, so that most other names need not be compared.
    lengths: u64,
    /// Node of every other element or member.
    pub star: Option<Box<SearchNode>>,
    /// The children with an index from the end, for arrays.
    pub from_end: Vec<(usize, SearchNode)>,
    /// Paths whose `*` leads here.
    pub starred: Vec<usize>,
}

/// What a finding is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// By the pointer with this slot.
    Slot(usize),
    /// As an element of this path.
    Element(usize),
    /// By a pointer that starts at the path's element.
    Inside { path: usize, slot: usize },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SearchStep<'a> {
    Named(&'a PathSegment),
    Any,
}

/// The rest of the way to a goal.
#[derive(Clone, Copy)]
struct Way<'a> {
    steps: &'a [SearchStep<'a>],
    goal: Goal,
}

impl SearchNode {
    pub(super) fn is_leaf(&self) -> bool {
        self.children.is_empty() && self.star.is_none()
    }

    /// Child with this name.
    #[inline]
    pub(super) fn named(&self, name: &[u8]) -> Option<&SearchNode> {
        if self.lengths & length_bit(name.len()) == 0 {
            return None;
        }
        let is_named = |own: &[u8]| own.len() == name.len() && own.first() == name.first() && own == name;
        self.children.iter().find(|(segment, _)| is_named(segment.name.as_bytes())).map(|(_, child)| child)
    }

    /// Child that a key token with escapes stands for.
    #[cold]
    pub(super) fn named_by_escaped(&self, token: &[u8]) -> Option<&SearchNode> {
        let name: String = serde_json::from_slice(token).ok()?;
        self.named(name.as_bytes())
    }

    /// Node of the element with this index.
    pub(super) fn at(&self, index: i64) -> Option<&SearchNode> {
        let named = self.children.iter().find(|(segment, _)| segment.index == Some(index));
        named.map(|(_, node)| node).or(self.star.as_deref())
    }
}

/// The tree of all pointers and paths.
pub(super) fn build(known: &[Pointer], paths: &[Path]) -> SearchNode {
    let plain = known.iter().enumerate().map(|(slot, pointer)| (named(pointer).collect(), Goal::Slot(slot)));
    let starred = paths.iter().enumerate().flat_map(|(number, path)| {
        let inside = path.known.iter().enumerate().map(move |(slot, pointer)| {
            (steps(path).chain(named(pointer)).collect(), Goal::Inside { path: number, slot })
        });
        std::iter::once((steps(path).collect(), Goal::Element(number))).chain(inside)
    });
    let all: Vec<(Vec<SearchStep<'_>>, Goal)> = plain.chain(starred).collect();
    grow(&all.iter().map(|(steps, goal)| Way { steps, goal: *goal }).collect::<Vec<_>>())
}

/// All lengths from 63 on share a bit.
fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

fn named(pointer: &Pointer) -> impl Iterator<Item = SearchStep<'_>> {
    pointer.segments.iter().map(SearchStep::Named)
}

fn steps(path: &Path) -> impl Iterator<Item = SearchStep<'_>> {
    let step = |segment| if PathSegment::is_star(segment) { SearchStep::Any } else { SearchStep::Named(segment) };
    path.each.pointer.segments.iter().map(step)
}

fn grow(ways: &[Way<'_>]) -> SearchNode {
    let mut node = SearchNode::default();
    let mut segments: Vec<&PathSegment> = Vec::new();
    for way in ways {
        match way.steps.first() {
            None => node.goals.push(way.goal),
            Some(SearchStep::Named(segment)) if !segments.contains(segment) => segments.push(segment),
            Some(_) => {}
        }
    }
    let any = after(ways, SearchStep::Any);
    for segment in segments {
        let own = after(ways, SearchStep::Named(segment));
        if let Some(index) = segment.index.filter(|index| *index < 0) {
            node.from_end.push((index.unsigned_abs() as usize, grow(&own)));
        }
        node.lengths |= length_bit(segment.name.len());
        node.children.push((segment.clone(), lead(&[&own[..], &any].concat(), &any)));
    }
    if !any.is_empty() {
        node.star = Some(Box::new(lead(&any, &any)));
    }
    node
}

/// The node for these ways, some of them through `*`.
fn lead(ways: &[Way<'_>], starred: &[Way<'_>]) -> SearchNode {
    let path = |way: &Way<'_>| match way.goal {
        Goal::Slot(_) => None,
        Goal::Element(path) | Goal::Inside { path, .. } => Some(path),
    };
    let mut starred: Vec<usize> = starred.iter().filter_map(path).collect();
    starred.dedup();
    SearchNode { starred, ..grow(ways) }
}

/// The rest of the ways that begin with this step.
fn after<'a>(ways: &[Way<'a>], step: SearchStep<'_>) -> Vec<Way<'a>> {
    let rest = |way: &Way<'a>| {
        let (first, steps) = way.steps.split_first()?;
        (*first == step).then_some(Way { steps, goal: way.goal })
    };
    ways.iter().filter_map(rest).collect()
}
