//! The topics that lanes name, each text once per shard, whether there is a topic of that name or not.
//!
//! A lane holds ids instead of texts. A name lives from the first lane that has it to the last; so long it is in demand.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use slab::Slab;

use crate::bus::demand::interest::Claim;
use crate::delivery::lanes::seats::Seats;
use crate::words::ids::TopicId;

/// Number of a name, in one shard; that of a forgotten name is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(u32);

#[derive(Default)]
pub struct Names {
    names: Slab<Name>,
    by_text: HashMap<Arc<str>, NameId>,
    text_bytes: usize,
    /// No client can foresee the numbers that it gives to names.
    mixer: RandomState,
}

/// A topic as lanes name it.
pub struct Name {
    pub text: Arc<str>,
    /// The topic, if there is one.
    pub topic: Option<TopicId>,
    /// The lanes that have the name.
    pub seats: Seats,
    /// None without `upstream.demand`, and for topics that the feed is not asked for.
    claim: Option<Claim>,
}

impl Names {
    pub fn find(&self, text: &str) -> Option<NameId> {
        self.by_text.get(text).copied()
    }

    /// Remembers a name that is not known yet. It must be given a seat at once.
    pub fn insert(&mut self, text: Arc<str>, topic: Option<TopicId>, claim: Option<Claim>) -> NameId {
        self.text_bytes += text.len();
        let name = Name { text: text.clone(), topic, seats: Seats::default(), claim };
        let id = NameId(self.names.insert(name) as u32);
        self.by_text.insert(text, id);
        id
    }

    pub fn remove(&mut self, id: NameId) -> Name {
        let name = self.names.remove(id.0 as usize);
        self.text_bytes -= name.text.len();
        self.by_text.remove(&name.text);
        if self.by_text.capacity() > 64 + 4 * self.by_text.len() {
            self.by_text.shrink_to_fit();
        }
        name
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// The approximate memory of the names, without their seats.
    pub fn bytes(&self) -> usize {
        self.names.len() * Name::BYTES + self.text_bytes
    }

    /// A number for the hash of a list with this name.
    pub fn mixed(&self, id: NameId) -> u64 {
        self.mixer.hash_one(id)
    }
}

impl Name {
    /// Its entry, that in the table of texts with the room that tables keep, the counts beside the text, and the least
    /// allocation of seats.
    pub const BYTES: usize = size_of::<Name>() + 2 * size_of::<(Arc<str>, NameId)>() + 32;

    /// The feed is asked for the topic.
    pub fn is_asked_for(&self) -> bool {
        self.claim.is_some()
    }
}

impl Index<NameId> for Names {
    type Output = Name;

    fn index(&self, id: NameId) -> &Name {
        #[cfg(test)]
        looked::NAMES.with(|names| names.set(names.get() + 1));
        &self.names[id.0 as usize]
    }
}

impl IndexMut<NameId> for Names {
    fn index_mut(&mut self, id: NameId) -> &mut Name {
        #[cfg(test)]
        looked::NAMES.with(|names| names.set(names.get() + 1));
        &mut self.names[id.0 as usize]
    }
}

/// Names that this thread has looked at: the work that tests bound.
#[cfg(test)]
pub mod looked {
    use std::cell::Cell;

    thread_local! {
        pub static NAMES: Cell<usize> = const { Cell::new(0) };
    }

    /// Of this work.
    pub fn during(work: impl FnOnce()) -> usize {
        let before = NAMES.get();
        work();
        NAMES.get() - before
    }
}
