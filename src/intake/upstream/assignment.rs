//! Which connection carries which items.
//!
//! A leg is a whole copy of the feed; its items are spread evenly over its connections. A connection that is lost
//! hands its items to the others of its leg, as far as they have room; one that comes back gets its share again, and
//! an item leaves its old place only when it has arrived at the new one. Items that fit nowhere have no place; they get
//! one when there is room again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::profile::subscribe::FeedItem;

/// One connection, for as long as the process runs; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// Something to be done for the roster to become true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reassign {
    Want(ConnectionId, Vec<Arc<FeedItem>>),
    Drop(ConnectionId, Vec<Arc<FeedItem>>),
    /// The connections of this leg have no room for these items: one more is needed.
    Add {
        leg: usize,
        items: Vec<Arc<FeedItem>>,
    },
}

#[derive(Debug)]
pub struct Assignment {
    /// Items of one connection at most.
    items_max: usize,
    /// Items can leave a connection that goes on.
    can_drop: bool,
    items: BTreeMap<String, Arc<FeedItem>>,
    legs: Vec<Leg>,
    /// Where items are on their way to, and from where.
    moves: HashMap<(String, ConnectionId), ConnectionId>,
}

#[derive(Debug, Default)]
struct Leg {
    links: BTreeMap<ConnectionId, ConnectionLoad>,
    /// Where each item is; those that are nowhere found no room.
    places: HashMap<String, ConnectionId>,
}

#[derive(Debug, Default)]
struct ConnectionLoad {
    standing: LinkState,
    count: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LinkState {
    /// It was not open yet.
    #[default]
    Fresh,
    Open,
    /// It was lost, or could not be opened.
    Lost,
}

impl Assignment {
    pub fn new(legs: usize, items_max: usize, can_drop: bool) -> Assignment {
        Assignment {
            items_max,
            can_drop,
            items: BTreeMap::new(),
            legs: (0..legs).map(|_| Leg::default()).collect(),
            moves: HashMap::new(),
        }
    }

    pub fn item_count(&self) -> usize {
        self.items.len()
    }

    /// A connection that will carry items of this leg.
    pub fn add_link(&mut self, leg: usize, link: ConnectionId) -> Vec<Reassign> {
        self.legs[leg].links.insert(link, ConnectionLoad::default());
        let homeless = self.homeless(leg);
        self.place(leg, homeless)
    }

    /// Gives what one connection carries to another that takes its place, and stands.
    pub fn replace(&mut self, old: ConnectionId, new: ConnectionId) -> Vec<Reassign> {
        for leg in &mut self.legs {
            if let Some(load) = leg.links.remove(&old) {
                leg.links.insert(new, ConnectionLoad { standing: LinkState::Open, count: load.count });
                leg.places.values_mut().filter(|place| **place == old).for_each(|place| *place = new);
            }
        }
        self.moves.values_mut().filter(|from| **from == old).for_each(|from| *from = new);
        // Whatever was on its way to the old one was asked for on the new one as well.
        let arrived: Vec<String> =
            self.moves.keys().filter(|(_, to)| *to == old).map(|(name, _)| name.clone()).collect();
        arrived.into_iter().filter_map(|name| self.arrived(&name, old)).collect()
    }

    pub fn add(&mut self, items: Vec<Arc<FeedItem>>) -> Vec<Reassign> {
        for item in &items {
            self.items.entry(item.name.clone()).or_insert_with(|| item.clone());
        }
        (0..self.legs.len()).flat_map(|leg| self.place(leg, items.clone())).collect()
    }

    pub fn remove(&mut self, names: &[String]) -> Vec<Reassign> {
        let mut drops: BTreeMap<ConnectionId, Vec<Arc<FeedItem>>> = BTreeMap::new();
        for name in names {
            let Some(item) = self.items.remove(name) else { continue };
            for leg in &mut self.legs {
                if let Some(place) = leg.places.remove(name) {
                    leg.links.entry(place).or_default().count -= 1;
                    drops.entry(place).or_default().push(item.clone());
                }
            }
            let leaving = self.moves.extract_if(|(moving, _), _| moving == name);
            for ((_, _), from) in leaving {
                drops.entry(from).or_default().push(item.clone());
            }
        }
        let mut orders: Vec<Reassign> = drops.into_iter().map(|(link, items)| Reassign::Drop(link, items)).collect();
        for leg in 0..self.legs.len() {
            let homeless = self.homeless(leg);
            // Those that still find no room were told so before.
            orders.extend(self.place(leg, homeless).into_iter().filter(|order| !matches!(order, Reassign::Add { .. })));
        }
        orders
    }

    pub fn items_of(&self, link: ConnectionId) -> Vec<Arc<FeedItem>> {
        let places = self.legs.iter().flat_map(|leg| &leg.places).filter(|(_, place)| **place == link);
        let mut items: Vec<Arc<FeedItem>> = places.filter_map(|(name, _)| self.items.get(name).cloned()).collect();
        items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        items
    }

    /// Whether this connection carries nothing.
    pub fn is_idle(&self, link: ConnectionId) -> bool {
        self.legs.iter().filter_map(|leg| leg.links.get(&link)).all(|load| load.count == 0)
    }

    /// The connections that carry this item.
    pub fn links_of(&self, name: &str) -> Vec<ConnectionId> {
        self.legs.iter().filter_map(|leg| leg.places.get(name).copied()).collect()
    }

    /// The connection stands, and has been asked for what it carries. It takes over its share.
    pub fn opened(&mut self, link: ConnectionId) -> Vec<Reassign> {
        let Some(leg) = self.leg_of(link) else { return Vec::new() };
        let links = &mut self.legs[leg].links;
        links.entry(link).or_default().standing = LinkState::Open;
        let lost: Vec<ConnectionId> =
            links.iter().filter(|(_, load)| load.standing == LinkState::Lost).map(|(id, _)| *id).collect();
        let mut orders: Vec<Reassign> = lost.into_iter().flat_map(|lost| self.rehome(leg, lost)).collect();
        orders.extend(self.balance(leg));
        orders
    }

    /// An item has arrived on this connection; its old place may let it go.
    pub fn arrived(&mut self, name: &str, link: ConnectionId) -> Option<Reassign> {
        let from = self.moves.remove(&(name.to_string(), link))?;
        Some(Reassign::Drop(from, vec![self.items.get(name)?.clone()]))
    }

    /// An item is refused on this connection. If it was on its way there it stays where it was.
    pub fn refused(&mut self, name: &str, link: ConnectionId) -> Option<Reassign> {
        let from = self.moves.remove(&(name.to_string(), link))?;
        self.send_back(name, link, from);
        Some(Reassign::Drop(link, vec![self.items.get(name)?.clone()]))
    }

    pub fn has(&self, name: &str) -> bool {
        self.items.contains_key(name)
    }

    /// The names of all items.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.items.keys().map(String::as_str)
    }

    /// Items are on two connections of one leg.
    pub fn is_moving(&self) -> bool {
        !self.moves.is_empty()
    }

    /// The connection is gone, or cannot be had. What it carried goes to the others that stand, as far as they have room.
    pub fn lost(&mut self, link: ConnectionId) -> Vec<Reassign> {
        let Some(leg) = self.leg_of(link) else { return Vec::new() };
        self.legs[leg].links.entry(link).or_default().standing = LinkState::Lost;
        // What was on its way here is still carried where it was.
        let back: Vec<((String, ConnectionId), ConnectionId)> =
            self.moves.extract_if(|(_, to), _| *to == link).collect();
        for ((name, _), from) in back {
            self.send_back(&name, link, from);
        }
        self.moves.retain(|_, from| *from != link);
        self.rehome(leg, link)
    }

    fn leg_of(&self, link: ConnectionId) -> Option<usize> {
        self.legs.iter().position(|leg| leg.links.contains_key(&link))
    }

    fn send_back(&mut self, name: &str, to: ConnectionId, from: ConnectionId) {
        for leg in &mut self.legs {
            if let Some(place) = leg.places.get_mut(name).filter(|place| **place == to) {
                *place = from;
                leg.links.entry(to).or_default().count -= 1;
                leg.links.entry(from).or_default().count += 1;
            }
        }
    }

    /// Hands the items of a lost connection to those that stand, as far as they have room.
    fn rehome(&mut self, leg: usize, lost: ConnectionId) -> Vec<Reassign> {
        let leg = &mut self.legs[leg];
        let mut orphans: Vec<String> =
            leg.places.iter().filter(|(_, place)| **place == lost).map(|(name, _)| name.clone()).collect();
        orphans.sort_unstable();
        let mut wanted: BTreeMap<ConnectionId, Vec<Arc<FeedItem>>> = BTreeMap::new();
        for name in orphans {
            let open =
                leg.links.iter().filter(|(_, load)| load.standing == LinkState::Open && load.count < self.items_max);
            let Some(to) = open.min_by_key(|(_, load)| load.count).map(|(id, _)| *id) else { break };
            leg.links.entry(lost).or_default().count -= 1;
            leg.links.entry(to).or_default().count += 1;
            wanted.entry(to).or_default().extend(self.items.get(&name).cloned());
            leg.places.insert(name, to);
        }
        wanted.into_iter().map(|(link, items)| Reassign::Want(link, items)).collect()
    }

    /// Moves items from connections that carry more than their share to those that carry less.
    fn balance(&mut self, leg: usize) -> Vec<Reassign> {
        let leg = &mut self.legs[leg];
        let mut counts: BTreeMap<ConnectionId, usize> = BTreeMap::new();
        counts.extend(
            leg.links.iter().filter(|(_, load)| load.standing == LinkState::Open).map(|(id, load)| (*id, load.count)),
        );
        if !self.can_drop || counts.len() < 2 {
            return Vec::new();
        }
        let share = counts.values().sum::<usize>() / counts.len();
        let is_rich = |place: &ConnectionId| counts.get(place).is_some_and(|count| *count > share);
        let mut spare: Vec<(String, ConnectionId)> =
            leg.places.iter().filter(|(_, place)| is_rich(place)).map(|(name, place)| (name.clone(), *place)).collect();
        // What has not arrived yet does not go on.
        spare.retain(|move_| !self.moves.contains_key(move_));
        spare.sort_unstable();
        let mut wanted: BTreeMap<ConnectionId, Vec<Arc<FeedItem>>> = BTreeMap::new();
        for (name, from) in spare {
            let poorest = counts.iter().min_by_key(|(_, count)| **count).map(|(id, count)| (*id, *count));
            let Some((to, _)) = poorest.filter(|(_, count)| *count < share) else { break };
            if counts.get(&from).is_none_or(|count| *count <= share) {
                continue;
            }
            for (link, delta) in [(from, -1), (to, 1)] {
                let count = counts.entry(link).or_default();
                *count = count.saturating_add_signed(delta);
                leg.links.entry(link).or_default().count = *count;
            }
            wanted.entry(to).or_default().extend(self.items.get(&name).cloned());
            leg.places.insert(name.clone(), to);
            self.moves.insert((name, to), from);
        }
        wanted.into_iter().map(|(link, items)| Reassign::Want(link, items)).collect()
    }

    fn homeless(&self, leg: usize) -> Vec<Arc<FeedItem>> {
        let places = &self.legs[leg].places;
        if places.len() == self.items.len() {
            return Vec::new();
        }
        self.items.values().filter(|item| !places.contains_key(&item.name)).cloned().collect()
    }

    /// Finds a place in this leg for each of these items that has none: on a connection that is not lost, if there is one.
    fn place(&mut self, leg_index: usize, items: Vec<Arc<FeedItem>>) -> Vec<Reassign> {
        let leg = &mut self.legs[leg_index];
        let mut wanted: BTreeMap<ConnectionId, Vec<Arc<FeedItem>>> = BTreeMap::new();
        let mut homeless = Vec::new();
        for item in items {
            if leg.places.contains_key(&item.name) {
                continue;
            }
            let with_room = leg.links.iter().filter(|(_, load)| load.count < self.items_max);
            let best = with_room.min_by_key(|(_, load)| (load.standing == LinkState::Lost, load.count));
            let Some(to) = best.map(|(id, _)| *id) else {
                homeless.push(item);
                continue;
            };
            leg.links.entry(to).or_default().count += 1;
            leg.places.insert(item.name.clone(), to);
            wanted.entry(to).or_default().push(item);
        }
        let mut orders: Vec<Reassign> = wanted.into_iter().map(|(link, items)| Reassign::Want(link, items)).collect();
        if !homeless.is_empty() {
            orders.push(Reassign::Add { leg: leg_index, items: homeless });
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str) -> Arc<FeedItem> {
        let name = name.to_string();
        Arc::new(FeedItem { venue: name.clone(), channel: String::new(), symbol: name.clone(), params: None, name })
    }

    fn items(count: usize) -> Vec<Arc<FeedItem>> {
        (0..count).map(|n| item(&format!("t{n:04}"))).collect()
    }

    fn pool(links: u32, items_max: usize, count: usize) -> Assignment {
        let mut roster = Assignment::new(1, items_max, true);
        (0..links).for_each(|link| assert_eq!(roster.add_link(0, ConnectionId(link)), []));
        roster.add(items(count));
        (0..links).for_each(|link| assert_eq!(roster.opened(ConnectionId(link)), []));
        roster
    }

    fn loads(roster: &Assignment, links: u32) -> Vec<usize> {
        (0..links).map(|link| roster.items_of(ConnectionId(link)).len()).collect()
    }

    #[test]
    fn items_are_spread_evenly_and_every_leg_has_them_all() {
        assert_eq!(loads(&pool(3, 1000, 3000), 3), [1000, 1000, 1000]);
        let mut roster = Assignment::new(2, 10, true);
        roster.add_link(0, ConnectionId(0));
        roster.add_link(1, ConnectionId(1));
        roster.add(items(4));
        assert_eq!(loads(&roster, 2), [4, 4]);
        assert_eq!(roster.links_of("t0002"), [ConnectionId(0), ConnectionId(1)]);
    }

    #[test]
    fn a_leg_without_room_asks_for_another_connection() {
        let mut roster = Assignment::new(1, 2, true);
        roster.add_link(0, ConnectionId(0));
        let orders = roster.add(items(3));
        assert!(
            matches!(&orders[..], [Reassign::Want(ConnectionId(0), two), Reassign::Add { leg: 0, items }] if (two.len(), items.len()) == (2, 1)),
            "{orders:?}"
        );
        let orders = roster.add_link(0, ConnectionId(1));
        assert!(matches!(&orders[..], [Reassign::Want(ConnectionId(1), one)] if one.len() == 1), "{orders:?}");
    }

    #[test]
    fn the_items_of_a_lost_connection_go_to_the_others_and_come_back() {
        let mut roster = pool(3, 2000, 3000);
        let orders = roster.lost(ConnectionId(1));
        let moved: usize =
            orders.iter().map(|order| if let Reassign::Want(_, items) = order { items.len() } else { 0 }).sum();
        assert_eq!((moved, loads(&roster, 3)), (1000, vec![1500, 0, 1500]));
        let orders = roster.opened(ConnectionId(1));
        let [Reassign::Want(ConnectionId(1), back)] = &orders[..] else { panic!("{orders:?}") };
        assert_eq!((back.len(), loads(&roster, 3)), (1000, vec![1000, 1000, 1000]));
        assert!(roster.is_moving());
        let left: Vec<Reassign> = back.iter().filter_map(|item| roster.arrived(&item.name, ConnectionId(1))).collect();
        assert_eq!(left.len(), back.len());
        assert!(!roster.is_moving());
        assert!(
            left.iter().all(|order| !matches!(order, Reassign::Drop(ConnectionId(1), _))),
            "only the old places let go"
        );
    }

    #[test]
    fn what_finds_no_room_waits_for_its_connection() {
        let mut roster = pool(3, 1024, 3000);
        assert_eq!(roster.lost(ConnectionId(0)).len(), 2);
        assert_eq!(loads(&roster, 3), [1000 - 48, 1024, 1024]);
    }

    #[test]
    fn a_removed_item_is_dropped_wherever_it_is() {
        let mut roster = pool(2, 100, 2);
        assert_eq!(roster.remove(&["t0001".to_string()]), [Reassign::Drop(ConnectionId(1), vec![item("t0001")])]);
        assert_eq!((roster.item_count(), loads(&roster, 2)), (1, vec![1, 0]));
        assert_eq!(roster.remove(&["t0001".to_string()]), []);
    }

    #[test]
    fn a_successor_carries_what_its_predecessor_did() {
        let mut roster = pool(2, 100, 10);
        assert_eq!(roster.replace(ConnectionId(0), ConnectionId(7)), []);
        assert_eq!((roster.items_of(ConnectionId(0)).len(), roster.items_of(ConnectionId(7)).len()), (0, 5));
    }

    #[test]
    fn whichever_connection_comes_back_last_the_load_is_even_again() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut roster = pool(3, 100, 30);
            (0..3).for_each(|link| drop(roster.lost(ConnectionId(link))));
            assert_eq!(loads(&roster, 3).iter().sum::<usize>(), 30);
            for link in order {
                roster.opened(ConnectionId(link));
                let standing: Vec<Arc<FeedItem>> =
                    (0..3).flat_map(|link| roster.items_of(ConnectionId(link))).collect();
                assert_eq!(standing.len(), 30, "each item has one place");
                for link in (0..3).map(ConnectionId) {
                    roster.items_of(link).iter().for_each(|item| drop(roster.arrived(&item.name, link)));
                }
            }
            assert_eq!(loads(&roster, 3), [10, 10, 10], "{order:?}");
        }
    }

    #[test]
    fn new_items_go_to_a_connection_that_is_not_lost() {
        let mut roster = pool(2, 100, 4);
        roster.lost(ConnectionId(1));
        let orders = roster.add(vec![item("new")]);
        assert_eq!(orders, [Reassign::Want(ConnectionId(0), vec![item("new")])]);
    }

    #[test]
    fn what_is_on_its_way_stays_where_it_was_if_it_does_not_arrive() {
        let moving = || {
            let mut roster = pool(2, 100, 4);
            roster.lost(ConnectionId(1));
            assert_eq!(loads(&roster, 2), [4, 0]);
            roster.opened(ConnectionId(1));
            (roster.items_of(ConnectionId(1)), roster)
        };
        let (moved, mut roster) = moving();
        assert_eq!(moved.len(), 2);
        assert_eq!(roster.lost(ConnectionId(1)), [], "nothing needs to be asked for again");
        assert_eq!((loads(&roster, 2), roster.is_moving()), (vec![4, 0], false));

        let (moved, mut roster) = moving();
        let order = roster.refused(&moved[0].name, ConnectionId(1));
        assert_eq!(order, Some(Reassign::Drop(ConnectionId(1), vec![moved[0].clone()])));
        assert_eq!((loads(&roster, 2), roster.links_of(&moved[0].name)), (vec![3, 1], vec![ConnectionId(0)]));

        let (moved, mut roster) = moving();
        assert_eq!(roster.replace(ConnectionId(0), ConnectionId(5)), []);
        assert_eq!(
            roster.arrived(&moved[0].name, ConnectionId(1)),
            Some(Reassign::Drop(ConnectionId(5), vec![moved[0].clone()]))
        );
        let dropped = roster.replace(ConnectionId(1), ConnectionId(6));
        assert_eq!(dropped, [Reassign::Drop(ConnectionId(5), vec![moved[1].clone()])]);
        assert!(!roster.is_moving());
    }

    #[test]
    fn what_found_no_room_gets_a_place_when_there_is_some() {
        let mut roster = Assignment::new(1, 2, true);
        roster.add_link(0, ConnectionId(0));
        roster.add(items(3));
        let orders = roster.remove(&["t0000".to_string()]);
        let expected = [
            Reassign::Drop(ConnectionId(0), vec![item("t0000")]),
            Reassign::Want(ConnectionId(0), vec![item("t0002")]),
        ];
        assert_eq!(orders, expected);
    }
}
