//! Tiers: from the configuration and what a token claims to the rights of a session. Equal rights are one `Arc`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::access::identity::ClaimedRights;
use crate::access::rights::{GrantedCommands, GrantedPattern, GrantedTopics, Rights, ViewDelay, ViewId};
use crate::identity::error::Error;
use crate::identity::tables::{AuthTables, TierTable};
use crate::identity::token::fault::TokenFault;

/// Views of the feed besides the live one: each has a log of its own.
pub const VIEWS_MAX: usize = 4;
/// Different narrowed rights that are kept before those that nobody has are looked for.
const NARROWED_MIN: usize = 1024;

/// What happens when a subject opens more sessions than its tier gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverSessions {
    #[default]
    Refuse,
    ReplaceOldest,
}

/// The tiers of one configuration.
pub struct Tiers {
    tiers: HashMap<Box<str>, Tier>,
    /// What tokens may name beyond their own tier.
    grant_max: Option<Box<str>>,
    anonymous: Option<Box<str>>,
    views: Box<[ViewDelay]>,
    narrowed: Mutex<NarrowedRights>,
}

struct Tier {
    rights: Arc<Rights>,
    sessions_max: Option<u32>,
    over_sessions: OverSessions,
}

/// Rights of tokens that ask for less than their tier, once each.
#[derive(Default)]
struct NarrowedRights {
    known: HashSet<Arc<Rights>>,
    sweep_at: usize,
}

/// What a verified subject may have.
pub struct TierGrant {
    pub rights: Arc<Rights>,
    /// None: without limit.
    pub sessions_max: Option<u32>,
    pub over_sessions: OverSessions,
}

impl Tiers {
    /// `known`: the views that exist already, none at the start.
    ///
    /// Errors: a name of a tier that there is not, or more views than there may be.
    pub fn new(tables: &AuthTables, grant_max: Option<&str>, known: Option<&[ViewDelay]>) -> Result<Tiers, Error> {
        let exists = |tier: &str| tables.tiers.iter().any(|table| &*table.name == tier);
        let issuers = tables.issuers.iter().filter_map(|issuer| {
            let place = format!("`tier` of the issuer `{}`", issuer.issuer);
            issuer.tier.as_deref().map(|tier| (place, tier))
        });
        let named = [("auth.grant_max", grant_max), ("auth.anonymous.tier", tables.anonymous.as_deref())];
        let named = named.into_iter().filter_map(|(place, tier)| tier.map(|tier| (place.to_owned(), tier)));
        for (place, tier) in named.chain(issuers) {
            if !exists(tier) {
                return Err(Error::NoTier { place, tier: tier.into() });
            }
        }
        let mut views: Vec<ViewDelay> = known.unwrap_or_default().to_vec();
        let mut tiers = HashMap::new();
        for table in &tables.tiers {
            let rights = Arc::new(rights(table, &mut views, known.is_some())?);
            let tier = Tier { rights, sessions_max: table.sessions_max, over_sessions: table.over_sessions };
            tiers.insert(table.name.clone(), tier);
        }
        Ok(Tiers {
            tiers,
            grant_max: grant_max.map(Into::into),
            anonymous: tables.anonymous.clone(),
            views: views.into(),
            narrowed: Mutex::default(),
        })
    }

    /// The views besides the live one, in the order of their numbers: the first is `ViewId(1)`.
    pub fn views(&self) -> &[ViewDelay] {
        &self.views
    }

    /// Rights without a credential.
    pub fn anonymous(&self) -> Option<Arc<Rights>> {
        Some(self.tiers.get(self.anonymous.as_deref()?)?.rights.clone())
    }

    /// The rights of a token: those of its tier, narrowed by what it claims. With `auth.grant_max` the topics and the pace
    /// that a token names are measured by that tier instead of its own; the topics only if both tiers see the same view:
    /// whoever names some topics of a delayed tier must not see them live for it.
    ///
    /// Errors: [`TokenFault::UnknownTier`].
    pub fn grant(&self, claimed: &ClaimedRights, default: Option<&str>) -> Result<TierGrant, TokenFault> {
        let name = claimed.tier.as_deref().or(default);
        let tier = name.and_then(|name| self.tiers.get(name)).ok_or(TokenFault::UnknownTier)?;
        let most = self.grant_max.as_deref().and_then(|name| self.tiers.get(name)).unwrap_or(tier);
        let sessions_max = match (claimed.sessions_max, most.sessions_max) {
            (None, _) => tier.sessions_max,
            (Some(claimed), most) => Some(most.map_or(claimed, |most| claimed.min(most))),
        };
        let own = &tier.rights;
        let mut rights = (**own).clone();
        if let Some(named) = &claimed.topics {
            let bounds = if most.rights.view == own.view { &most.rights } else { own };
            let within: Box<[GrantedPattern]> = match &bounds.topics {
                GrantedTopics::Matching(granted) | GrantedTopics::Narrowed { within: granted, .. } => granted.clone(),
                GrantedTopics::All => Box::default(),
            };
            rights.topics = GrantedTopics::Narrowed { named: named.clone(), within };
        }
        if let Some(pace) = claimed.pace_min {
            rights.pace_min = Some(most.rights.pace_min.map_or(pace, |most| pace.max(most)));
        }
        let rights = if rights == **own { own.clone() } else { self.interned(rights) };
        Ok(TierGrant { rights, sessions_max, over_sessions: tier.over_sessions })
    }

    fn interned(&self, rights: Rights) -> Arc<Rights> {
        let mut narrowed = self.narrowed.lock().expect("no holder panics");
        if let Some(known) = narrowed.known.get(&rights) {
            return known.clone();
        }
        if narrowed.known.len() >= narrowed.sweep_at.max(NARROWED_MIN) {
            narrowed.known.retain(|rights| Arc::strong_count(rights) > 1);
            narrowed.sweep_at = 2 * narrowed.known.len();
        }
        let rights = Arc::new(rights);
        narrowed.known.insert(rights.clone());
        rights
    }
}

fn rights(table: &TierTable, views: &mut Vec<ViewDelay>, are_fixed: bool) -> Result<Rights, Error> {
    let topics = GrantedTopics::Matching(table.topics.clone());
    let delay = ViewDelay::of(&topics);
    let known = views.iter().position(|known| *known == delay);
    let view = match known {
        _ if delay.is_live() => ViewId::LIVE,
        Some(index) => view_id(index),
        None if are_fixed => return Err(Error::NewView { tier: table.name.clone() }),
        None if views.len() == VIEWS_MAX => {
            return Err(Error::TooManyViews { tier: table.name.clone(), max: VIEWS_MAX });
        }
        None => {
            views.push(delay);
            view_id(views.len() - 1)
        }
    };
    // What a delayed client says or asks would reach the feed, and its answer the client, without the delay.
    let commands =
        |granted: &GrantedCommands| if view == ViewId::LIVE { granted.clone() } else { GrantedCommands::None };
    Ok(Rights {
        tier: table.name.clone(),
        topics,
        pace_min: table.pace_min,
        view,
        send: commands(&table.send),
        request: commands(&table.request),
    })
}

fn view_id(index: usize) -> ViewId {
    ViewId(u8::try_from(index + 1).expect("there are few views"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::words::topic::Pattern;

    fn tier(name: &str, topics: &[(&str, u64)]) -> TierTable {
        let granted = |(pattern, seconds): &(&str, u64)| GrantedPattern {
            pattern: Pattern::parse(pattern).expect(pattern),
            delay: Duration::from_secs(*seconds),
        };
        TierTable {
            name: name.into(),
            topics: topics.iter().map(granted).collect(),
            pace_min: None,
            sessions_max: Some(2),
            over_sessions: OverSessions::Refuse,
            send: GrantedCommands::All,
            request: GrantedCommands::All,
        }
    }

    fn tables(tiers: Vec<TierTable>) -> AuthTables {
        AuthTables { tiers, ..AuthTables::default() }
    }

    fn claimed(tier: &str) -> ClaimedRights {
        ClaimedRights { tier: Some(tier.into()), ..ClaimedRights::default() }
    }

    #[test]
    fn each_distinct_delay_is_a_view_in_the_order_of_the_tiers() {
        let tables = tables(vec![
            tier("live", &[("a.>", 0)]),
            tier("late", &[("a.>", 900)]),
            tier("later", &[("b.>", 900)]),
            tier("mixed", &[("a.>", 0), ("b.>", 900)]),
        ]);
        let tiers = Tiers::new(&tables, None, None).expect("good tiers");
        let view = |name: &str| tiers.grant(&claimed(name), None).expect("a tier").rights.view.0;
        assert_eq!(["live", "late", "later", "mixed"].map(view), [0, 1, 1, 2]);
        assert_eq!(tiers.views().len(), 2);
        assert_eq!(tiers.views()[0], ViewDelay::Uniform(Duration::from_secs(900)));
        let rights = tiers.grant(&claimed("late"), None).expect("a tier").rights;
        assert_eq!((&rights.send, &rights.request), (&GrantedCommands::None, &GrantedCommands::None));
    }

    #[test]
    fn views_are_few_and_a_reload_makes_no_new_ones() {
        let delays = |range: std::ops::Range<u64>| {
            tables(range.map(|seconds| tier(&format!("t{seconds}"), &[("a.>", seconds)])).collect())
        };
        let tiers = Tiers::new(&delays(0..5), None, None).expect("the live view and four more");
        let over = Tiers::new(&delays(0..6), None, None).err().expect("too many").to_string();
        assert!(over.contains("`t5`") && over.contains("at most 4"), "{over}");
        let reloaded = Tiers::new(&delays(3..5), None, Some(tiers.views())).expect("views that exist");
        assert_eq!(reloaded.grant(&claimed("t4"), None).expect("a tier").rights.view, ViewId(4));
        let new = Tiers::new(&delays(5..6), None, Some(tiers.views())).err().expect("a new view").to_string();
        assert!(new.contains("restart"), "{new}");
    }

    #[test]
    fn a_token_may_have_less_than_its_tier_and_no_more() {
        let mut slow = tier("slow", &[("a.>", 0), ("b.x", 0)]);
        slow.pace_min = Some(Duration::from_secs(1));
        let tables = tables(vec![slow, tier("pro", &[(">", 0)])]);
        let named = |topics: &[&str]| topics.iter().map(|text| Pattern::parse(text).expect(text)).collect();
        let claims = ClaimedRights {
            tier: Some("slow".into()),
            topics: Some(named(&["a.b", "b.>", "c"])),
            pace_min: Some(Duration::from_millis(10)),
            sessions_max: Some(9),
        };
        let within_own = Tiers::new(&tables, None, None).expect("good tiers");
        let grant = within_own.grant(&claims, None).expect("a tier");
        let allowed =
            |grant: &TierGrant| ["a.b", "a.c", "b.x", "b.y", "c"].map(|topic| grant.rights.topics.allows(topic));
        assert_eq!(allowed(&grant), [true, false, true, false, false]);
        assert_eq!((grant.rights.pace_min, grant.sessions_max), (Some(Duration::from_secs(1)), Some(2)));
        let within_most = Tiers::new(&tables, Some("pro"), None).expect("good tiers");
        let grant = within_most.grant(&claims, None).expect("a tier");
        assert_eq!(allowed(&grant), [true, false, true, true, true]);
        assert_eq!(grant.rights.pace_min, Some(Duration::from_millis(10)));
        assert_eq!(&*grant.rights.tier, "slow");
        let fault = |claims: &ClaimedRights, default| within_own.grant(claims, default).err();
        assert_eq!(fault(&claimed("gold"), Some("pro")), Some(TokenFault::UnknownTier));
        assert_eq!(fault(&ClaimedRights::default(), None), Some(TokenFault::UnknownTier));
        assert_eq!(fault(&ClaimedRights::default(), Some("pro")), None);
    }

    #[test]
    fn no_topic_that_a_token_names_is_earlier_than_its_tier_shows_it() {
        let tables = tables(vec![tier("pro", &[(">", 0)]), tier("free", &[("a.>", 900)]), tier("late", &[(">", 900)])]);
        let grant = |tier: &str, grant_max: &str| {
            let topics = Some(["a.x", "b.x"].map(|text| Pattern::parse(text).expect(text)).into());
            let tiers = Tiers::new(&tables, Some(grant_max), None).expect("good tiers");
            tiers.grant(&ClaimedRights { topics, ..claimed(tier) }, None).expect("a tier").rights
        };
        let (live, late) = (Some(Duration::ZERO), Some(Duration::from_secs(900)));
        for (tier, grant_max, view, delays) in
            [("free", "pro", 1, [late, None]), ("free", "late", 1, [late, late]), ("pro", "free", 0, [live, live])]
        {
            let rights = grant(tier, grant_max);
            let found = ["a.x", "b.x"].map(|topic| rights.topics.delay_of(topic));
            assert_eq!((rights.view, found), (ViewId(view), delays), "{tier} up to {grant_max}");
            assert_eq!(rights.send == GrantedCommands::All, view == 0, "{tier} up to {grant_max}");
        }
    }

    #[test]
    fn equal_rights_are_one_and_those_that_nobody_has_are_forgotten() {
        let tiers = Tiers::new(&tables(vec![tier("pro", &[(">", 0)])]), None, None).expect("good tiers");
        let grant = |topic: String| {
            let topics = Some([Pattern::parse(&topic).expect("a topic")].into());
            tiers.grant(&ClaimedRights { topics, ..claimed("pro") }, None).expect("a tier").rights
        };
        assert!(Arc::ptr_eq(&grant("a".into()), &grant("a".into())));
        let kept = grant("kept".into());
        for number in 0..10 * NARROWED_MIN {
            grant(format!("t{number}"));
        }
        assert!(tiers.narrowed.lock().expect("no holder panics").known.len() <= NARROWED_MIN);
        assert!(Arc::ptr_eq(&kept, &grant("kept".into())));
    }

    #[test]
    fn a_tier_that_is_named_and_not_there_is_refused() {
        let mut named = tables(vec![tier("pro", &[(">", 0)])]);
        named.anonymous = Some("fre".into());
        let error = Tiers::new(&named, None, None).err().expect("no such tier").to_string();
        assert!(error.contains("auth.anonymous.tier") && error.contains("`fre`"), "{error}");
        let error = Tiers::new(&tables(vec![]), Some("gold"), None).err().expect("no such tier").to_string();
        assert!(error.contains("auth.grant_max"), "{error}");
    }
}
