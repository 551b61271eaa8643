//! How many sessions each subject has, over all shards. A place is taken before a session is, and given back by its drop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::access::identity::Identity;
use crate::identity::tiers::OverSessions;

type SubjectKey = (Arc<str>, Arc<str>);

/// The places of all subjects; as many as there are sessions.
#[derive(Default)]
pub(super) struct SubjectPlaces {
    /// Held for a look at the places of one subject.
    taken: Arc<Mutex<HashMap<SubjectKey, Vec<TakenPlace>>>>,
}

struct TakenPlace {
    session: u64,
    /// Its session was told to end for a newer one, so it counts no more.
    leaving: bool,
}

/// One place; its drop gives it back.
pub(super) struct SubjectPlace {
    taken: Arc<Mutex<HashMap<SubjectKey, Vec<TakenPlace>>>>,
    subject: SubjectKey,
    session: u64,
}

impl SubjectPlaces {
    /// A place for this session, and the sessions that must end for it; none if all places are taken.
    pub(super) fn take(
        &self,
        identity: &Identity,
        session: u64,
        max: Option<u32>,
        over: OverSessions,
    ) -> Option<(SubjectPlace, Vec<u64>)> {
        let subject = (identity.issuer.clone(), identity.subject.clone());
        let max = max.map_or(usize::MAX, |max| max as usize);
        let mut taken = self.taken.lock().expect("no holder panics");
        let places = taken.entry(subject.clone()).or_default();
        let staying = places.iter().filter(|place| !place.leaving).count();
        if staying >= max && (over == OverSessions::Refuse || max == 0) {
            if places.is_empty() {
                taken.remove(&subject);
            }
            return None;
        }
        let surplus = (staying + 1).saturating_sub(max);
        let mut replaced = Vec::new();
        for place in places.iter_mut().filter(|place| !place.leaving).take(surplus) {
            place.leaving = true;
            replaced.push(place.session);
        }
        places.push(TakenPlace { session, leaving: false });
        drop(taken);
        Some((SubjectPlace { taken: self.taken.clone(), subject, session }, replaced))
    }

    #[cfg(test)]
    fn subjects(&self) -> usize {
        self.taken.lock().expect("no holder panics").len()
    }
}

impl Drop for SubjectPlace {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().expect("no holder panics");
        if let Some(places) = taken.get_mut(&self.subject) {
            if let Some(index) = places.iter().position(|place| place.session == self.session) {
                places.remove(index);
            }
            if places.is_empty() {
                taken.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_no_more_places_than_its_tier_gives() {
        let (places, alice, bob) =
            (SubjectPlaces::default(), Identity::of_subject("alice"), Identity::of_subject("bob"));
        let take = |who: &Identity, session| places.take(who, session, Some(2), OverSessions::Refuse);
        let (first, replaced) = take(&alice, 1).expect("a place");
        let _second = take(&alice, 2).expect("a place");
        assert!(replaced.is_empty() && take(&alice, 3).is_none());
        assert!(take(&bob, 4).is_some(), "places are of one subject");
        drop(first);
        let third = take(&alice, 5).expect("the place that was given back");
        assert!(take(&alice, 6).is_none());
        drop(third);
        assert!(places.take(&bob, 7, Some(0), OverSessions::ReplaceOldest).is_none());
        drop(_second);
        assert_eq!(places.subjects(), 0, "nothing is left of subjects without sessions");
    }

    #[test]
    fn the_oldest_session_makes_room_once() {
        let (places, alice) = (SubjectPlaces::default(), Identity::of_subject("alice"));
        let take =
            |session, max| places.take(&alice, session, Some(max), OverSessions::ReplaceOldest).expect("a place");
        let (first, _) = take(1, 2);
        let (_second, _) = take(2, 2);
        let (_third, replaced) = take(3, 2);
        assert_eq!(replaced, [1]);
        let (_fourth, replaced) = take(4, 2);
        assert_eq!(replaced, [2], "the one that leaves counts no more");
        drop(first);
        let (_fifth, replaced) = take(5, 1);
        assert_eq!(replaced, [3, 4]);
    }

    #[test]
    fn threads_that_race_for_places_get_exactly_as_many_as_there_are() {
        let (places, alice) = (SubjectPlaces::default(), Identity::of_subject("alice"));
        let got: Vec<SubjectPlace> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..8_u64)
                .map(|thread| {
                    let (places, alice) = (&places, &alice);
                    let take = move |n| places.take(alice, thread * 100 + n, Some(10), OverSessions::Refuse);
                    scope.spawn(move || (0..100_u64).filter_map(take).map(|(place, _)| place).collect::<Vec<_>>())
                })
                .collect();
            takers.into_iter().flat_map(|taker| taker.join().expect("no panic")).collect()
        });
        assert_eq!(got.len(), 10);
        drop(got);
        assert_eq!(places.subjects(), 0);
    }
}
