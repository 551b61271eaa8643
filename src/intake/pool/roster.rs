//! Which connection carries which items.
//!
//! A leg is a whole copy of the feed; its items are spread evenly over its connections. A connection that is lost
//! hands its items to the others of its leg, as far as they have room; one that comes back gets its share again, and
//! an item leaves its old place only when it has arrived at the new one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::intake::profile::subscribe::Item;

/// One connection, for as long as the process runs; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// Something to be done for the roster to become true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Want(LinkId, Vec<Arc<Item>>),
    Drop(LinkId, Vec<Arc<Item>>),
    /// The connections of this leg have no room for its items: one more is needed.
    Add {
        leg: usize,
    },
}

#[derive(Debug)]
pub struct Roster {
    /// Items of one connection at most.
    items_max: usize,
    /// Items can leave a connection that goes on.
    can_drop: bool,
    items: BTreeMap<String, Arc<Item>>,
    legs: Vec<Leg>,
    /// Where items are on their way to, and from where.
    moves: HashMap<(String, LinkId), LinkId>,
}

#[derive(Debug, Default)]
struct Leg {
    links: BTreeMap<LinkId, Load>,
    /// Where each item is; those that are nowhere found no room.
    places: HashMap<String, LinkId>,
}

#[derive(Debug, Default)]
struct Load {
    is_open: bool,
    count: usize,
}

impl Roster {
    pub fn new(legs: usize, items_max: usize, can_drop: bool) -> Roster {
        Roster {
            items_max,
            can_drop,
            items: BTreeMap::new(),
            legs: (0..legs).map(|_| Leg::default()).collect(),
            moves: HashMap::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// A connection that will carry items of this leg.
    pub fn add_link(&mut self, leg: usize, link: LinkId) -> Vec<Order> {
        self.legs[leg].links.insert(link, Load::default());
        let places = &self.legs[leg].places;
        let waiting: Vec<Arc<Item>> =
            self.items.values().filter(|item| !places.contains_key(&item.name)).cloned().collect();
        self.place(leg, &waiting)
    }

    /// Gives what one connection carries to another that takes its place.
    pub fn replace(&mut self, old: LinkId, new: LinkId) {
        for leg in &mut self.legs {
            if let Some(load) = leg.links.remove(&old) {
                leg.links.insert(new, Load { is_open: true, count: load.count });
                leg.places.values_mut().filter(|place| **place == old).for_each(|place| *place = new);
            }
        }
        self.moves.retain(|(_, to), from| *to != old && *from != old);
    }

    pub fn add(&mut self, items: Vec<Arc<Item>>) -> Vec<Order> {
        for item in &items {
            self.items.entry(item.name.clone()).or_insert_with(|| item.clone());
        }
        (0..self.legs.len()).flat_map(|leg| self.place(leg, &items)).collect()
    }

    pub fn remove(&mut self, names: &[String]) -> Vec<Order> {
        let mut drops: BTreeMap<LinkId, Vec<Arc<Item>>> = BTreeMap::new();
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
        drops.into_iter().map(|(link, items)| Order::Drop(link, items)).collect()
    }

    pub fn items_of(&self, link: LinkId) -> Vec<Arc<Item>> {
        let places = self.legs.iter().flat_map(|leg| &leg.places).filter(|(_, place)| **place == link);
        let mut items: Vec<Arc<Item>> = places.filter_map(|(name, _)| self.items.get(name).cloned()).collect();
        items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        items
    }

    /// The connections that carry this item.
    pub fn links_of(&self, name: &str) -> Vec<LinkId> {
        self.legs.iter().filter_map(|leg| leg.places.get(name).copied()).collect()
    }

    /// The connection stands, and has been asked for what it carries. It takes over its share.
    pub fn opened(&mut self, link: LinkId) -> Vec<Order> {
        let Some(leg) = self.legs.iter_mut().find(|leg| leg.links.contains_key(&link)) else { return Vec::new() };
        leg.links.entry(link).or_default().is_open = true;
        let open: Vec<LinkId> = leg.links.iter().filter(|(_, load)| load.is_open).map(|(id, _)| *id).collect();
        if !self.can_drop || open.len() < 2 {
            return Vec::new();
        }
        let carried: usize = open.iter().map(|id| leg.links[id].count).sum();
        let share = carried / open.len();
        let mut wanted = Vec::new();
        let mut places: Vec<(&String, &mut LinkId)> = leg.places.iter_mut().collect();
        places.sort_unstable_by(|a, b| a.0.cmp(b.0));
        for (name, place) in places {
            let from = *place;
            // Only what is above everyone's share moves, and only while the newcomer is below it.
            let is_rich = open.contains(&from) && leg.links[&from].count > share + 1;
            if from == link || !is_rich || leg.links[&link].count >= share {
                continue;
            }
            *place = link;
            leg.links.entry(from).or_default().count -= 1;
            leg.links.entry(link).or_default().count += 1;
            self.moves.insert((name.clone(), link), from);
            wanted.extend(self.items.get(name).cloned());
        }
        if wanted.is_empty() { Vec::new() } else { vec![Order::Want(link, wanted)] }
    }

    /// An item has arrived on this connection; its old place may let it go.
    pub fn arrived(&mut self, name: &str, link: LinkId) -> Option<Order> {
        let from = self.moves.remove(&(name.to_string(), link))?;
        Some(Order::Drop(from, vec![self.items.get(name)?.clone()]))
    }

    /// Items are on two connections of one leg.
    pub fn is_moving(&self) -> bool {
        !self.moves.is_empty()
    }

    /// The connection is gone, or cannot be had. What it carried goes to the others that stand, as far as they have room.
    pub fn lost(&mut self, link: LinkId) -> Vec<Order> {
        self.moves.retain(|(_, to), from| *to != link && *from != link);
        let Some(leg) = self.legs.iter_mut().find(|leg| leg.links.contains_key(&link)) else { return Vec::new() };
        leg.links.entry(link).or_default().is_open = false;
        let mut orphans: Vec<String> =
            leg.places.iter().filter(|(_, place)| **place == link).map(|(name, _)| name.clone()).collect();
        orphans.sort_unstable();
        let mut wanted: BTreeMap<LinkId, Vec<Arc<Item>>> = BTreeMap::new();
        for name in orphans {
            let open = leg.links.iter().filter(|(_, load)| load.is_open && load.count < self.items_max);
            let Some(to) = open.min_by_key(|(_, load)| load.count).map(|(id, _)| *id) else { break };
            leg.links.entry(link).or_default().count -= 1;
            leg.links.entry(to).or_default().count += 1;
            wanted.entry(to).or_default().extend(self.items.get(&name).cloned());
            leg.places.insert(name, to);
        }
        wanted.into_iter().map(|(link, items)| Order::Want(link, items)).collect()
    }

    /// Finds a place in this leg for each of these items that has none.
    fn place(&mut self, leg_index: usize, items: &[Arc<Item>]) -> Vec<Order> {
        let leg = &mut self.legs[leg_index];
        let mut wanted: BTreeMap<LinkId, Vec<Arc<Item>>> = BTreeMap::new();
        let mut is_short = false;
        for item in items {
            if leg.places.contains_key(&item.name) {
                continue;
            }
            let with_room = leg.links.iter().filter(|(_, load)| load.count < self.items_max);
            let Some(to) = with_room.min_by_key(|(_, load)| load.count).map(|(id, _)| *id) else {
                is_short = true;
                break;
            };
            leg.links.entry(to).or_default().count += 1;
            leg.places.insert(item.name.clone(), to);
            wanted.entry(to).or_default().push(item.clone());
        }
        let mut orders: Vec<Order> = wanted.into_iter().map(|(link, items)| Order::Want(link, items)).collect();
        orders.extend(is_short.then_some(Order::Add { leg: leg_index }));
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str) -> Arc<Item> {
        let name = name.to_string();
        Arc::new(Item { venue: name.clone(), channel: String::new(), symbol: name.clone(), params: None, name })
    }

    fn items(count: usize) -> Vec<Arc<Item>> {
        (0..count).map(|n| item(&format!("t{n:04}"))).collect()
    }

    fn pool(links: u32, items_max: usize, count: usize) -> Roster {
        let mut roster = Roster::new(1, items_max, true);
        (0..links).for_each(|link| assert_eq!(roster.add_link(0, LinkId(link)), []));
        roster.add(items(count));
        (0..links).for_each(|link| assert_eq!(roster.opened(LinkId(link)), []));
        roster
    }

    fn loads(roster: &Roster, links: u32) -> Vec<usize> {
        (0..links).map(|link| roster.items_of(LinkId(link)).len()).collect()
    }

    #[test]
    fn items_are_spread_evenly_and_every_leg_has_them_all() {
        assert_eq!(loads(&pool(3, 1000, 3000), 3), [1000, 1000, 1000]);
        let mut roster = Roster::new(2, 10, true);
        roster.add_link(0, LinkId(0));
        roster.add_link(1, LinkId(1));
        roster.add(items(4));
        assert_eq!(loads(&roster, 2), [4, 4]);
        assert_eq!(roster.links_of("t0002"), [LinkId(0), LinkId(1)]);
    }

    #[test]
    fn a_leg_without_room_asks_for_another_connection() {
        let mut roster = Roster::new(1, 2, true);
        roster.add_link(0, LinkId(0));
        let orders = roster.add(items(3));
        assert!(
            matches!(&orders[..], [Order::Want(LinkId(0), two), Order::Add { leg: 0 }] if two.len() == 2),
            "{orders:?}"
        );
        let orders = roster.add_link(0, LinkId(1));
        assert!(matches!(&orders[..], [Order::Want(LinkId(1), one)] if one.len() == 1), "{orders:?}");
    }

    #[test]
    fn the_items_of_a_lost_connection_go_to_the_others_and_come_back() {
        let mut roster = pool(3, 2000, 3000);
        let orders = roster.lost(LinkId(1));
        let moved: usize =
            orders.iter().map(|order| if let Order::Want(_, items) = order { items.len() } else { 0 }).sum();
        assert_eq!((moved, loads(&roster, 3)), (1000, vec![1500, 0, 1500]));
        let orders = roster.opened(LinkId(1));
        let [Order::Want(LinkId(1), back)] = &orders[..] else { panic!("{orders:?}") };
        assert!((998..=1000).contains(&back.len()), "{}", back.len());
        assert!(roster.is_moving());
        let left: Vec<Order> = back.iter().filter_map(|item| roster.arrived(&item.name, LinkId(1))).collect();
        assert_eq!(left.len(), back.len());
        assert!(!roster.is_moving());
        assert!(loads(&roster, 3).iter().all(|load| (998..=1002).contains(load)), "{:?}", loads(&roster, 3));
    }

    #[test]
    fn what_finds_no_room_waits_for_its_connection() {
        let mut roster = pool(3, 1024, 3000);
        assert_eq!(roster.lost(LinkId(0)).len(), 2);
        assert_eq!(loads(&roster, 3), [1000 - 48, 1024, 1024]);
    }

    #[test]
    fn a_removed_item_is_dropped_wherever_it_is() {
        let mut roster = pool(2, 100, 2);
        assert_eq!(roster.remove(&["t0001".to_string()]), [Order::Drop(LinkId(1), vec![item("t0001")])]);
        assert_eq!((roster.len(), loads(&roster, 2)), (1, vec![1, 0]));
        assert_eq!(roster.remove(&["t0001".to_string()]), []);
    }

    #[test]
    fn a_successor_carries_what_its_predecessor_did() {
        let mut roster = pool(2, 100, 10);
        roster.replace(LinkId(0), LinkId(7));
        assert_eq!((roster.items_of(LinkId(0)).len(), roster.items_of(LinkId(7)).len()), (0, 5));
    }
}
