//! Which connection carries which items, as connections come and go.

use super::*;

fn item(name: &str) -> Arc<FeedItem> {
    let name = name.to_string();
    Arc::new(FeedItem {
        branch: usize::from(name.starts_with("b.")),
        venue: name.clone(),
        channel: String::new(),
        symbol: name.clone(),
        params: None,
        known: None,
        name,
    })
}

/// The feed's own URL, on this leg.
fn own(leg: usize) -> FeedPart {
    FeedPart { leg, branch: 0 }
}

fn items(count: usize) -> Vec<Arc<FeedItem>> {
    (0..count).map(|n| item(&format!("t{n:04}"))).collect()
}

fn pool(connections: u32, items_max: usize, count: usize) -> Assignment {
    let mut assignment = Assignment::new((1, 1), items_max, true);
    (0..connections).for_each(|connection| assert_eq!(assignment.add_connection(own(0), ConnectionId(connection)), []));
    assignment.add(items(count));
    (0..connections).for_each(|connection| assert_eq!(assignment.opened(ConnectionId(connection)), []));
    assignment
}

fn loads(assignment: &Assignment, connections: u32) -> Vec<usize> {
    (0..connections).map(|connection| assignment.items_of(ConnectionId(connection)).len()).collect()
}

#[test]
fn items_are_spread_evenly_and_every_leg_has_them_all() {
    assert_eq!(loads(&pool(3, 1000, 3000), 3), [1000, 1000, 1000]);
    let mut assignment = Assignment::new((2, 1), 10, true);
    assignment.add_connection(own(0), ConnectionId(0));
    assignment.add_connection(own(1), ConnectionId(1));
    assignment.add(items(4));
    assert_eq!(loads(&assignment, 2), [4, 4]);
    assert_eq!(assignment.connections_of("t0002"), [ConnectionId(0), ConnectionId(1)]);
}

#[test]
fn items_of_a_branch_go_to_its_connections_only() {
    let mut assignment = Assignment::new((2, 2), 10, true);
    for leg in [0, 1] {
        assignment.add_connection(own(leg), ConnectionId(leg as u32));
    }
    let changes = assignment.add(vec![item("a"), item("b.a")]);
    let wanted: Vec<FeedPart> = changes
        .iter()
        .filter_map(|change| if let Reassign::Add { part, .. } = change { Some(*part) } else { None })
        .collect();
    assert_eq!(wanted, [FeedPart { leg: 0, branch: 1 }, FeedPart { leg: 1, branch: 1 }]);
    for part in wanted {
        let connection = ConnectionId(10 + part.leg as u32);
        let changes = assignment.add_connection(part, connection);
        assert!(
            matches!(&changes[..], [Reassign::Want(id, one)] if *id == connection && one.len() == 1),
            "{changes:?}"
        );
    }
    assert_eq!(assignment.connections_of("a"), [ConnectionId(0), ConnectionId(1)]);
    assert_eq!(assignment.connections_of("b.a"), [ConnectionId(10), ConnectionId(11)]);
    assignment.opened(ConnectionId(0));
    assert_eq!(assignment.lost(ConnectionId(10)), [], "no other connection of the branch");
    assert!(matches!(&assignment.remove(&["b.a".to_string()])[..], [Reassign::Drop(..), Reassign::Drop(..)]));
}

#[test]
fn a_leg_without_room_requests_another_connection() {
    let mut assignment = Assignment::new((1, 1), 2, true);
    assignment.add_connection(own(0), ConnectionId(0));
    let changes = assignment.add(items(3));
    assert!(
        matches!(&changes[..], [Reassign::Want(ConnectionId(0), two), Reassign::Add { part: FeedPart { leg: 0, branch: 0 }, items }] if (two.len(), items.len()) == (2, 1)),
        "{changes:?}"
    );
    let changes = assignment.add_connection(own(0), ConnectionId(1));
    assert!(matches!(&changes[..], [Reassign::Want(ConnectionId(1), one)] if one.len() == 1), "{changes:?}");
}

#[test]
fn the_items_of_a_lost_connection_go_to_the_others_and_come_back() {
    let mut assignment = pool(3, 2000, 3000);
    let changes = assignment.lost(ConnectionId(1));
    let moved: usize =
        changes.iter().map(|change| if let Reassign::Want(_, items) = change { items.len() } else { 0 }).sum();
    assert_eq!((moved, loads(&assignment, 3)), (1000, vec![1500, 0, 1500]));
    let changes = assignment.opened(ConnectionId(1));
    let [Reassign::Want(ConnectionId(1), back)] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((back.len(), loads(&assignment, 3)), (1000, vec![1000, 1000, 1000]));
    assert!(assignment.is_moving());
    let left: Vec<Reassign> = back.iter().filter_map(|item| assignment.arrived(&item.name, ConnectionId(1))).collect();
    assert_eq!(left.len(), back.len());
    assert!(!assignment.is_moving());
    assert!(
        left.iter().all(|change| !matches!(change, Reassign::Drop(ConnectionId(1), _))),
        "only the old places let go"
    );
}

#[test]
fn what_finds_no_room_waits_for_its_connection() {
    let mut assignment = pool(3, 1024, 3000);
    assert_eq!(assignment.lost(ConnectionId(0)).len(), 2);
    assert_eq!(loads(&assignment, 3), [1000 - 48, 1024, 1024]);
}

#[test]
fn a_removed_item_is_dropped_wherever_it_is() {
    let mut assignment = pool(2, 100, 2);
    assert_eq!(assignment.remove(&["t0001".to_string()]), [Reassign::Drop(ConnectionId(1), vec![item("t0001")])]);
    assert_eq!((assignment.item_count(), loads(&assignment, 2)), (1, vec![1, 0]));
    assert_eq!(assignment.remove(&["t0001".to_string()]), []);
}

#[test]
fn a_successor_carries_what_its_predecessor_did() {
    let mut assignment = pool(2, 100, 10);
    assert_eq!(assignment.replace(ConnectionId(0), ConnectionId(7)), []);
    assert_eq!((assignment.items_of(ConnectionId(0)).len(), assignment.items_of(ConnectionId(7)).len()), (0, 5));
}

#[test]
fn whichever_connection_comes_back_last_the_load_is_even_again() {
    for change in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut assignment = pool(3, 100, 30);
        (0..3).for_each(|connection| drop(assignment.lost(ConnectionId(connection))));
        assert_eq!(loads(&assignment, 3).iter().sum::<usize>(), 30);
        for connection in change {
            assignment.opened(ConnectionId(connection));
            let standing: Vec<Arc<FeedItem>> =
                (0..3).flat_map(|connection| assignment.items_of(ConnectionId(connection))).collect();
            assert_eq!(standing.len(), 30, "each item has one place");
            for connection in (0..3).map(ConnectionId) {
                assignment
                    .items_of(connection)
                    .iter()
                    .for_each(|item| drop(assignment.arrived(&item.name, connection)));
            }
        }
        assert_eq!(loads(&assignment, 3), [10, 10, 10], "{change:?}");
    }
}

#[test]
fn new_items_go_to_a_connection_that_is_not_lost() {
    let mut assignment = pool(2, 100, 4);
    assignment.lost(ConnectionId(1));
    let changes = assignment.add(vec![item("new")]);
    assert_eq!(changes, [Reassign::Want(ConnectionId(0), vec![item("new")])]);
}

#[test]
fn what_is_on_its_way_stays_where_it_was_if_it_does_not_arrive() {
    let moving = || {
        let mut assignment = pool(2, 100, 4);
        assignment.lost(ConnectionId(1));
        assert_eq!(loads(&assignment, 2), [4, 0]);
        assignment.opened(ConnectionId(1));
        (assignment.items_of(ConnectionId(1)), assignment)
    };
    let (moved, mut assignment) = moving();
    assert_eq!(moved.len(), 2);
    assert_eq!(assignment.lost(ConnectionId(1)), [], "nothing needs to be asked for again");
    assert_eq!((loads(&assignment, 2), assignment.is_moving()), (vec![4, 0], false));

    let (moved, mut assignment) = moving();
    let change = assignment.refused(&moved[0].name, ConnectionId(1));
    assert_eq!(change, Some(Reassign::Drop(ConnectionId(1), vec![moved[0].clone()])));
    assert_eq!((loads(&assignment, 2), assignment.connections_of(&moved[0].name)), (vec![3, 1], vec![ConnectionId(0)]));

    let (moved, mut assignment) = moving();
    assert_eq!(assignment.replace(ConnectionId(0), ConnectionId(5)), []);
    assert_eq!(
        assignment.arrived(&moved[0].name, ConnectionId(1)),
        Some(Reassign::Drop(ConnectionId(5), vec![moved[0].clone()]))
    );
    let dropped = assignment.replace(ConnectionId(1), ConnectionId(6));
    assert_eq!(dropped, [Reassign::Drop(ConnectionId(5), vec![moved[1].clone()])]);
    assert!(!assignment.is_moving());
}

#[test]
fn what_found_no_room_gets_a_place_when_there_is_some() {
    let mut assignment = Assignment::new((1, 1), 2, true);
    assignment.add_connection(own(0), ConnectionId(0));
    assignment.add(items(3));
    let changes = assignment.remove(&["t0000".to_string()]);
    let expected =
        [Reassign::Drop(ConnectionId(0), vec![item("t0000")]), Reassign::Want(ConnectionId(0), vec![item("t0002")])];
    assert_eq!(changes, expected);
}
