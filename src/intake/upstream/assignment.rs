//! Assignment of items to connections.
//!
//! A leg is a whole copy of the feed. Of each branch of it, which has a URL of its own, it has a share of connections;
//! the branch's items are spread evenly over them. A connection that is lost
//! hands its items to the others of its leg, as far as they have room; one that comes back gets its share again, and
//! an item leaves its old place only when it has arrived at the new one. Items that fit nowhere have no place; they get
//! one when there is room again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::profile::subscribe::FeedItem;

use crate::intake::connection::FeedPart;
use crate::intake::update::ConnectionId;

/// A step towards the assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reassign {
    Want(ConnectionId, Vec<Arc<FeedItem>>),
    Drop(ConnectionId, Vec<Arc<FeedItem>>),
    /// The connections of this part have no room for these items: one more is needed.
    Add {
        part: FeedPart,
        items: Vec<Arc<FeedItem>>,
    },
}

#[derive(Debug)]
pub(super) struct Assignment {
    /// Items of one connection at most.
    items_max: usize,
    /// Items can leave a connection that stays open.
    can_drop: bool,
    items: BTreeMap<String, Arc<FeedItem>>,
    /// One of each branch for each leg.
    shares: Vec<Share>,
    /// Items on their way: to which connection, and from which.
    moves: HashMap<(String, ConnectionId), ConnectionId>,
}

#[derive(Debug, Default)]
struct Share {
    part: FeedPart,
    connections: BTreeMap<ConnectionId, ConnectionLoad>,
    /// Connection of each item; items without one found no room.
    places: HashMap<String, ConnectionId>,
}

#[derive(Debug, Default)]
struct ConnectionLoad {
    state: LinkState,
    count: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LinkState {
    /// Not open yet.
    #[default]
    Fresh,
    Open,
    /// Lost, or could not be opened.
    Lost,
}

impl Assignment {
    pub(super) fn new((legs, branches): (usize, usize), items_max: usize, can_drop: bool) -> Assignment {
        let parts = (0..legs).flat_map(|leg| (0..branches).map(move |branch| FeedPart { leg, branch }));
        Assignment {
            items_max,
            can_drop,
            items: BTreeMap::new(),
            shares: parts.map(|part| Share { part, ..Share::default() }).collect(),
            moves: HashMap::new(),
        }
    }

    /// From now on items are made by another profile.
    pub(super) fn change(&mut self, can_drop: bool, item: impl Fn(&str) -> Arc<FeedItem>) {
        self.can_drop = can_drop;
        self.items.iter_mut().for_each(|(name, it)| *it = item(name));
    }

    pub(super) fn item_count(&self) -> usize {
        self.items.len()
    }

    /// Adds a connection that will carry items of this part.
    pub(super) fn add_connection(&mut self, part: FeedPart, connection: ConnectionId) -> Vec<Reassign> {
        let Some(share) = self.shares.iter().position(|share| share.part == part) else { return Vec::new() };
        self.shares[share].connections.insert(connection, ConnectionLoad::default());
        let homeless = self.homeless(share);
        self.place(share, homeless)
    }

    /// Hands the items of one connection to its open successor.
    pub(super) fn replace(&mut self, old: ConnectionId, new: ConnectionId) -> Vec<Reassign> {
        for share in &mut self.shares {
            if let Some(load) = share.connections.remove(&old) {
                share.connections.insert(new, ConnectionLoad { state: LinkState::Open, count: load.count });
                share.places.values_mut().filter(|place| **place == old).for_each(|place| *place = new);
            }
        }
        self.moves.values_mut().filter(|from| **from == old).for_each(|from| *from = new);
        // Items on their way to the old one were subscribed on the new one as well.
        let arrived: Vec<String> =
            self.moves.keys().filter(|(_, to)| *to == old).map(|(name, _)| name.clone()).collect();
        arrived.into_iter().filter_map(|name| self.arrived(&name, old)).collect()
    }

    pub(super) fn add(&mut self, items: Vec<Arc<FeedItem>>) -> Vec<Reassign> {
        for item in &items {
            self.items.entry(item.name.clone()).or_insert_with(|| item.clone());
        }
        (0..self.shares.len()).flat_map(|share| self.place(share, items.clone())).collect()
    }

    pub(super) fn remove(&mut self, names: &[String]) -> Vec<Reassign> {
        let mut drops: BTreeMap<ConnectionId, Vec<Arc<FeedItem>>> = BTreeMap::new();
        for name in names {
            let Some(item) = self.items.remove(name) else { continue };
            for share in &mut self.shares {
                if let Some(place) = share.places.remove(name) {
                    share.connections.entry(place).or_default().count -= 1;
                    drops.entry(place).or_default().push(item.clone());
                }
            }
            let leaving = self.moves.extract_if(|(moving, _), _| moving == name);
            for ((_, _), from) in leaving {
                drops.entry(from).or_default().push(item.clone());
            }
        }
        let mut changes: Vec<Reassign> =
            drops.into_iter().map(|(connection, items)| Reassign::Drop(connection, items)).collect();
        for share in 0..self.shares.len() {
            let homeless = self.homeless(share);
            // Items that still find no room were refused before.
            changes.extend(
                self.place(share, homeless).into_iter().filter(|change| !matches!(change, Reassign::Add { .. })),
            );
        }
        changes
    }

    pub(super) fn items_of(&self, connection: ConnectionId) -> Vec<Arc<FeedItem>> {
        let places = self.shares.iter().flat_map(|share| &share.places).filter(|(_, place)| **place == connection);
        let mut items: Vec<Arc<FeedItem>> = places.filter_map(|(name, _)| self.items.get(name).cloned()).collect();
        items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        items
    }

    /// Whether this connection carries nothing.
    pub(super) fn is_idle(&self, connection: ConnectionId) -> bool {
        self.shares.iter().filter_map(|share| share.connections.get(&connection)).all(|load| load.count == 0)
    }

    /// The connections that carry this item.
    pub(super) fn connections_of(&self, name: &str) -> Vec<ConnectionId> {
        self.shares.iter().filter_map(|share| share.places.get(name).copied()).collect()
    }

    /// The connection is open and subscribed. It takes over its share.
    pub(super) fn opened(&mut self, connection: ConnectionId) -> Vec<Reassign> {
        let Some(share) = self.share_of(connection) else { return Vec::new() };
        let connections = &mut self.shares[share].connections;
        connections.entry(connection).or_default().state = LinkState::Open;
        let lost: Vec<ConnectionId> =
            connections.iter().filter(|(_, load)| load.state == LinkState::Lost).map(|(id, _)| *id).collect();
        let mut changes: Vec<Reassign> = lost.into_iter().flat_map(|lost| self.rehome(share, lost)).collect();
        changes.extend(self.balance(share));
        changes
    }

    /// An item has arrived on this connection; its old connection may drop it.
    pub(super) fn arrived(&mut self, name: &str, connection: ConnectionId) -> Option<Reassign> {
        let from = self.moves.remove(&(name.to_string(), connection))?;
        Some(Reassign::Drop(from, vec![self.items.get(name)?.clone()]))
    }

    /// An item is refused on this connection. If it was on its way there, it stays where it was.
    pub(super) fn refused(&mut self, name: &str, connection: ConnectionId) -> Option<Reassign> {
        let from = self.moves.remove(&(name.to_string(), connection))?;
        self.send_back(name, connection, from);
        Some(Reassign::Drop(connection, vec![self.items.get(name)?.clone()]))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.items.contains_key(name)
    }

    /// The names of all items.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.items.keys().map(String::as_str)
    }

    /// Whether items are on two connections of one leg.
    pub(super) fn is_moving(&self) -> bool {
        !self.moves.is_empty()
    }

    /// The connection is gone, or cannot be opened. Its items go to the open others, as far as they have room.
    pub(super) fn lost(&mut self, connection: ConnectionId) -> Vec<Reassign> {
        let Some(share) = self.share_of(connection) else { return Vec::new() };
        self.shares[share].connections.entry(connection).or_default().state = LinkState::Lost;
        // Items on their way here are still carried where they were.
        let back: Vec<((String, ConnectionId), ConnectionId)> =
            self.moves.extract_if(|(_, to), _| *to == connection).collect();
        for ((name, _), from) in back {
            self.send_back(&name, connection, from);
        }
        self.moves.retain(|_, from| *from != connection);
        self.rehome(share, connection)
    }

    fn share_of(&self, connection: ConnectionId) -> Option<usize> {
        self.shares.iter().position(|share| share.connections.contains_key(&connection))
    }

    fn send_back(&mut self, name: &str, to: ConnectionId, from: ConnectionId) {
        for share in &mut self.shares {
            if let Some(place) = share.places.get_mut(name).filter(|place| **place == to) {
                *place = from;
                share.connections.entry(to).or_default().count -= 1;
                share.connections.entry(from).or_default().count += 1;
            }
        }
    }

    /// Hands the items of a lost connection to the open ones, as far as they have room.
    fn rehome(&mut self, share: usize, lost: ConnectionId) -> Vec<Reassign> {
        let share = &mut self.shares[share];
        let mut orphans: Vec<String> =
            share.places.iter().filter(|(_, place)| **place == lost).map(|(name, _)| name.clone()).collect();
        orphans.sort_unstable();
        let mut wanted: BTreeMap<ConnectionId, Vec<Arc<FeedItem>>> = BTreeMap::new();
        for name in orphans {
            let open = share
                .connections
                .iter()
                .filter(|(_, load)| load.state == LinkState::Open && load.count < self.items_max);
            let Some(to) = open.min_by_key(|(_, load)| load.count).map(|(id, _)| *id) else { break };
            share.connections.entry(lost).or_default().count -= 1;
            share.connections.entry(to).or_default().count += 1;
            wanted.entry(to).or_default().extend(self.items.get(&name).cloned());
            share.places.insert(name, to);
        }
        wanted.into_iter().map(|(connection, items)| Reassign::Want(connection, items)).collect()
    }

    /// Moves items from connections that carry more than their share to those that carry less.
    fn balance(&mut self, share: usize) -> Vec<Reassign> {
        let share = &mut self.shares[share];
        let mut counts: BTreeMap<ConnectionId, usize> = BTreeMap::new();
        counts.extend(
            share
                .connections
                .iter()
                .filter(|(_, load)| load.state == LinkState::Open)
                .map(|(id, load)| (*id, load.count)),
        );
        if !self.can_drop || counts.len() < 2 {
            return Vec::new();
        }
        let fair = counts.values().sum::<usize>() / counts.len();
        let is_rich = |place: &ConnectionId| counts.get(place).is_some_and(|count| *count > fair);
        let mut spare: Vec<(String, ConnectionId)> = share
            .places
            .iter()
            .filter(|(_, place)| is_rich(place))
            .map(|(name, place)| (name.clone(), *place))
            .collect();
        // An item that has not arrived yet does not move on.
        spare.retain(|move_| !self.moves.contains_key(move_));
        spare.sort_unstable();
        let mut wanted: BTreeMap<ConnectionId, Vec<Arc<FeedItem>>> = BTreeMap::new();
        for (name, from) in spare {
            let poorest = counts.iter().min_by_key(|(_, count)| **count).map(|(id, count)| (*id, *count));
            let Some((to, _)) = poorest.filter(|(_, count)| *count < fair) else { break };
            if counts.get(&from).is_none_or(|count| *count <= fair) {
                continue;
            }
            for (connection, delta) in [(from, -1), (to, 1)] {
                let count = counts.entry(connection).or_default();
                *count = count.saturating_add_signed(delta);
                share.connections.entry(connection).or_default().count = *count;
            }
            wanted.entry(to).or_default().extend(self.items.get(&name).cloned());
            share.places.insert(name.clone(), to);
            self.moves.insert((name, to), from);
        }
        wanted.into_iter().map(|(connection, items)| Reassign::Want(connection, items)).collect()
    }

    fn homeless(&self, share: usize) -> Vec<Arc<FeedItem>> {
        let Share { part, places, .. } = &self.shares[share];
        if places.len() == self.items.len() {
            return Vec::new();
        }
        let is_homeless = |item: &&Arc<FeedItem>| item.branch == part.branch && !places.contains_key(&item.name);
        self.items.values().filter(is_homeless).cloned().collect()
    }

    /// Finds a connection of this share for each of these items that has none: one that is not lost, if there is one.
    fn place(&mut self, index: usize, items: Vec<Arc<FeedItem>>) -> Vec<Reassign> {
        let share = &mut self.shares[index];
        let mut wanted: BTreeMap<ConnectionId, Vec<Arc<FeedItem>>> = BTreeMap::new();
        let mut homeless = Vec::new();
        for item in items {
            if item.branch != share.part.branch || share.places.contains_key(&item.name) {
                continue;
            }
            let with_room = share.connections.iter().filter(|(_, load)| load.count < self.items_max);
            let best = with_room.min_by_key(|(_, load)| (load.state == LinkState::Lost, load.count));
            let Some(to) = best.map(|(id, _)| *id) else {
                homeless.push(item);
                continue;
            };
            share.connections.entry(to).or_default().count += 1;
            share.places.insert(item.name.clone(), to);
            wanted.entry(to).or_default().push(item);
        }
        let mut changes: Vec<Reassign> =
            wanted.into_iter().map(|(connection, items)| Reassign::Want(connection, items)).collect();
        if !homeless.is_empty() {
            changes.push(Reassign::Add { part: share.part, items: homeless });
        }
        changes
    }
}

#[cfg(test)]
mod tests;
