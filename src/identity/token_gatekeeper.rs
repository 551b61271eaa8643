//! The gatekeeper of a server with `[auth]`: it verifies on a thread of its own, and knows places, tickets, revocations.
//!
//! A client waits in no queue of a shard: at most `auth.waiting_max` credentials wait for the thread, and a further one is
//! refused. Few of them wait for new keys, so that tokens with unknown keys do not hold up the others.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::access::gatekeeper::{
    Admitted, AuthRefusal, AuthReply, AuthRequest, Credential, Gatekeeper, KeyTrouble, TicketReply,
};
use crate::access::grant::Grant;
use crate::access::identity::Identity;
use crate::access::rights::ViewDelay;
use crate::access::selector::{ReachedSessions, SessionOrder, SessionSelector};
use crate::identity::address_failures::AddressFailures;
use crate::identity::error::Error;
use crate::identity::keys::fetch::tls_config;
use crate::identity::keys::issuer_keys::{FetchTimes, IssuerKeys};
use crate::identity::meters::IdentityMeters;
use crate::identity::places::SubjectPlaces;
use crate::identity::revocations::{RevocationRule, RevocationTarget, Revocations};
use crate::identity::tables::AuthTables;
use crate::identity::tickets::Tickets;
use crate::identity::tiers::{TierGrant, Tiers};
use crate::identity::token::claims::TokenTimes;
use crate::identity::token::fault::TokenFault;
use crate::identity::verifier::{Issuer, TokenLimits, Verifier};
use crate::settings::table::AuthSettings;
use crate::words::goodbye::Goodbye;
use crate::words::metrics::Meters;

/// Tokens that wait for a fetch of keys at a time.
const RENEWALS_MAX: usize = 64;

/// Tells all shards what becomes of some sessions. Must not block.
pub type OrderSessions = Arc<dyn Fn(SessionSelector, SessionOrder) -> ReachedSessions + Send + Sync>;

/// What it is made from.
pub struct TokenGatekeeperParts {
    pub settings: AuthSettings,
    pub tables: AuthTables,
    pub fetch_times: FetchTimes,
    pub orders: OrderSessions,
    pub meters: Meters,
}

/// Verifies credentials. Its drop ends its thread.
pub struct TokenGatekeeper {
    core: Arc<GatekeeperCore>,
    /// None once it is dropped.
    runtime: Option<Runtime>,
    waiting: Arc<Semaphore>,
    /// Held while a configuration is read: two reloads at a time would lose one of them.
    reloading: Mutex<()>,
}

struct GatekeeperCore {
    policy: ArcSwap<GatePolicy>,
    tls: Arc<ClientConfig>,
    fetch_times: FetchTimes,
    places: SubjectPlaces,
    tickets: Tickets,
    revocations: Revocations,
    failures: AddressFailures,
    renewals: Semaphore,
    orders: OrderSessions,
    meters: IdentityMeters,
    key_meters: Meters,
}

/// What a reload replaces, in one step.
struct GatePolicy {
    is_required: bool,
    limits: TokenLimits,
    verifier: Verifier,
    tiers: Tiers,
}

impl GatePolicy {
    fn new(settings: &AuthSettings, issuers: Vec<Issuer>, tiers: Tiers) -> GatePolicy {
        let limits = TokenLimits {
            bytes_max: settings.token_bytes_max,
            times: TokenTimes { leeway: settings.leeway, life_max: settings.life_max },
        };
        GatePolicy { is_required: settings.required, limits, verifier: Verifier::new(issuers, limits), tiers }
    }
}

impl TokenGatekeeper {
    pub fn start(parts: TokenGatekeeperParts) -> Result<TokenGatekeeper, Error> {
        let TokenGatekeeperParts { settings, tables, fetch_times, orders, meters } = parts;
        let tls = tls_config().map_err(Error::Tls)?;
        require_complete(settings.required, &tables)?;
        let issuers = open_issuers(&tables, &[], (&tls, fetch_times), &meters)?;
        let tiers = Tiers::new(&tables, settings.grant_max.as_deref(), None)?;
        let policy = GatePolicy::new(&settings, issuers, tiers);
        let revocations_file = settings.revocations_file.as_ref().map(PathBuf::from);
        let revocations = Revocations::open(revocations_file.as_deref(), wall_clock_ms())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("identity")
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let core = Arc::new(GatekeeperCore {
            policy: ArcSwap::from_pointee(policy),
            tls,
            fetch_times,
            places: SubjectPlaces::default(),
            tickets: Tickets::default(),
            revocations,
            failures: AddressFailures::new(settings.failures_per_address_max, Instant::now()),
            renewals: Semaphore::new(RENEWALS_MAX),
            orders,
            meters: IdentityMeters::new(&meters),
            key_meters: meters,
        });
        core.meters.revocations.set(core.revocations.count() as f64);
        for issuer in core.policy.load().verifier.issuers() {
            runtime.spawn(IssuerKeys::keep_fresh(Arc::downgrade(&issuer.keys)));
        }
        let waiting = Arc::new(Semaphore::new(settings.waiting_max));
        Ok(TokenGatekeeper { core, runtime: Some(runtime), waiting, reloading: Mutex::default() })
    }

    /// The views of the feed besides the live one: the first is `ViewId(1)`.
    pub fn views(&self) -> Box<[ViewDelay]> {
        self.core.policy.load().tiers.views().into()
    }

    /// Puts other issuers and tiers into force, in one step, and has all sessions reassessed. Of the settings, what is said
    /// of single tokens; bounds and files stay as they were at the start.
    ///
    /// Errors: what is wrong with them; those in force stay.
    pub fn reload(&self, settings: &AuthSettings, tables: &AuthTables) -> Result<(), Error> {
        let core = &self.core;
        require_complete(settings.required, tables)?;
        let _reloading = self.reloading.lock().expect("no holder panics");
        let before = core.policy.load_full();
        let known = before.verifier.issuers();
        let issuers = open_issuers(tables, known, (&core.tls, core.fetch_times), &core.key_meters)?;
        let tiers = Tiers::new(tables, settings.grant_max.as_deref(), Some(before.tiers.views()))?;
        let is_new = |issuer: &&Issuer| !known.iter().any(|known| Arc::ptr_eq(&known.keys, &issuer.keys));
        for issuer in issuers.iter().filter(is_new) {
            if let Some(runtime) = &self.runtime {
                runtime.spawn(IssuerKeys::keep_fresh(Arc::downgrade(&issuer.keys)));
            }
        }
        core.policy.store(Arc::new(GatePolicy::new(settings, issuers, tiers)));
        (core.orders)(SessionSelector::All, SessionOrder::Reassess);
        Ok(())
    }

    /// Revokes, and has the sessions that it concerns reassessed. Writes to the disk. Without an end it ends when the longest
    /// life of a token is over. Returns the end, in milliseconds since the Unix epoch, and the sessions that end for it.
    ///
    /// Errors: it is not in force, or it is and could not be written.
    pub fn revoke(&self, target: RevocationTarget, until_ms: Option<u64>) -> Result<(u64, ReachedSessions), Error> {
        let core = &self.core;
        let now_ms = wall_clock_ms();
        let TokenTimes { leeway, life_max } = core.policy.load().limits.times;
        let longest_ms = u64::try_from((life_max + 2 * leeway).as_millis()).unwrap_or(u64::MAX);
        let until_ms = until_ms.unwrap_or(now_ms.saturating_add(longest_ms));
        let selector = target.selector();
        let added = core.revocations.add(RevocationRule { target, until_ms }, now_ms);
        if let Err(refused @ Error::TooManyRevocations { .. }) = added {
            return Err(refused);
        }
        core.meters.revocations.set(core.revocations.count() as f64);
        let reached = (core.orders)(selector, SessionOrder::Reassess);
        added.map(|()| (until_ms, reached))
    }

    /// The revocations in force.
    pub fn revocations(&self) -> Vec<RevocationRule> {
        self.core.revocations.list(wall_clock_ms())
    }

    /// Verifies on the own thread; `finish` gets the outcome, always.
    fn verify(
        &self,
        token: Box<str>,
        address: Option<IpAddr>,
        finish: impl FnOnce(&GatekeeperCore, Result<Identity, TokenFault>) + Send + 'static,
    ) {
        let core = self.core.clone();
        let mut pending = PendingVerdict { core, finish: Some(finish) };
        let core = &self.core;
        if core.failures.is_over(address, Instant::now()) {
            return pending.settle(Err(TokenFault::TooManyFailures));
        }
        if core.policy.load().verifier.is_too_large(&token) {
            core.failures.count(address, Instant::now());
            return pending.settle(Err(TokenFault::TooLarge));
        }
        let (Ok(permit), Some(runtime)) = (self.waiting.clone().try_acquire_owned(), &self.runtime) else {
            return pending.settle(Err(TokenFault::Busy));
        };
        core.meters.waiting.increment(1.0);
        runtime.spawn(async move {
            let verdict = pending.core.verify(&token).await;
            if verdict.as_ref().is_err_and(|fault| fault.is_suspicious()) {
                pending.core.failures.count(address, Instant::now());
            }
            pending.core.meters.waiting.decrement(1.0);
            pending.settle(verdict);
            drop(permit);
        });
    }
}

impl Drop for TokenGatekeeper {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped where blocking is not allowed.
            runtime.shutdown_background();
        }
    }
}

/// Who waits for a verdict gets one, also if the thread ends before.
struct PendingVerdict<F: FnOnce(&GatekeeperCore, Result<Identity, TokenFault>)> {
    core: Arc<GatekeeperCore>,
    finish: Option<F>,
}

impl<F: FnOnce(&GatekeeperCore, Result<Identity, TokenFault>)> PendingVerdict<F> {
    fn settle(&mut self, verdict: Result<Identity, TokenFault>) {
        if let Some(finish) = self.finish.take() {
            finish(&self.core, verdict);
        }
    }
}

impl<F: FnOnce(&GatekeeperCore, Result<Identity, TokenFault>)> Drop for PendingVerdict<F> {
    fn drop(&mut self) {
        self.settle(Err(TokenFault::Busy));
    }
}

impl Gatekeeper for TokenGatekeeper {
    fn anonymous(&self) -> Option<Grant> {
        self.core.anonymous()
    }

    fn authenticate(&self, request: AuthRequest, reply: AuthReply) {
        let AuthRequest { credential, address, origin, current, session } = request;
        let finish = move |core: &GatekeeperCore, verdict: Result<Identity, TokenFault>| {
            let admitted = verdict.and_then(|identity| core.admit(Arc::new(identity), current.as_deref(), session));
            core.meters.count(&admitted);
            reply(admitted.map_err(TokenFault::refusal));
        };
        match credential {
            Credential::Token(token) => self.verify(token, address, finish),
            Credential::Ticket(ticket) => {
                let (core, now) = (&self.core, Instant::now());
                let verdict = match core.failures.is_over(address, now) {
                    true => Err(TokenFault::TooManyFailures),
                    false => core.tickets.redeem(&ticket, origin.as_deref(), now).ok_or(TokenFault::Ticket),
                };
                if verdict == Err(TokenFault::Ticket) {
                    core.failures.count(address, now);
                }
                finish(core, verdict.map(|identity| Identity::clone(&identity)));
            }
        }
    }

    fn key_troubles(&self) -> Vec<KeyTrouble> {
        let policy = self.core.policy.load();
        let trouble = |issuer: &Issuer| {
            let message = issuer.keys.trouble()?;
            Some(KeyTrouble { issuer: issuer.name().to_owned(), message })
        };
        policy.verifier.issuers().iter().filter_map(trouble).collect()
    }

    fn admits_anybody(&self) -> bool {
        let policy = self.core.policy.load();
        self.anonymous().is_some() || policy.verifier.issuers().iter().any(|issuer| issuer.keys.current().is_some())
    }

    fn issue_ticket(&self, token: Box<str>, address: Option<IpAddr>, origin: Option<Box<str>>, reply: TicketReply) {
        self.verify(token, address, move |core, verdict| {
            let issued = verdict.and_then(|identity| {
                core.rights_of(&identity)?;
                core.tickets.issue(Arc::new(identity), origin, Instant::now()).ok_or(TokenFault::Busy)
            });
            core.meters.count(&issued);
            reply(issued.map_err(TokenFault::refusal));
        });
    }

    fn reassess(&self, grant: &Grant) -> Result<Grant, AuthRefusal> {
        let withdrawn = |reason| AuthRefusal { goodbye: Goodbye::Forbidden, reason };
        match &grant.identity {
            // It may come back with a token.
            None => {
                let refusal = AuthRefusal { goodbye: Goodbye::Unauthenticated, reason: "anonymous" };
                self.core.anonymous().ok_or(refusal)
            }
            Some(identity) => {
                let granted = self.core.rights_of(identity).map_err(|fault| withdrawn(fault.label()))?;
                Ok(Grant { identity: Some(identity.clone()), rights: granted.rights })
            }
        }
    }
}

impl GatekeeperCore {
    fn anonymous(&self) -> Option<Grant> {
        let policy = self.policy.load();
        let rights = policy.tiers.anonymous().filter(|_| !policy.is_required)?;
        Some(Grant { identity: None, rights })
    }

    /// For a key that the issuer does not have, new ones are fetched once, unless that happened a moment ago.
    async fn verify(&self, token: &str) -> Result<Identity, TokenFault> {
        let verify = || {
            let policy = self.policy.load();
            policy.verifier.verify(token, wall_clock_ms()).map(|verified| verified.identity)
        };
        let rejection = match verify() {
            Ok(identity) => return Ok(identity),
            Err(rejection) => rejection,
        };
        let (Some(keys), Ok(_permit)) = (rejection.keys, self.renewals.try_acquire()) else {
            return Err(rejection.fault);
        };
        match keys.renew().await {
            true => verify().map_err(|rejection| rejection.fault),
            false => Err(rejection.fault),
        }
    }

    /// What a verified identity may have by now.
    fn rights_of(&self, identity: &Identity) -> Result<TierGrant, TokenFault> {
        if self.revocations.is_revoked(identity, wall_clock_ms()) {
            return Err(TokenFault::Revoked);
        }
        let policy = self.policy.load();
        let issuer = policy.verifier.issuer(&identity.issuer).ok_or(TokenFault::UnknownIssuer)?;
        policy.tiers.grant(&identity.claimed, issuer.tier())
    }

    /// Gives rights, and a place for a new session.
    fn admit(
        &self,
        identity: Arc<Identity>,
        current: Option<&Identity>,
        session: Option<u64>,
    ) -> Result<Admitted, TokenFault> {
        if current.is_some_and(|current| !current.is_same_subject(&identity)) {
            return Err(TokenFault::OtherSubject);
        }
        // A ticket may be older than the token it stands for.
        let leeway_ms = u64::try_from(self.policy.load().limits.times.leeway.as_millis()).unwrap_or(u64::MAX);
        if identity.expires_ms.saturating_add(leeway_ms) <= wall_clock_ms() {
            return Err(TokenFault::Expired);
        }
        let TierGrant { rights, sessions_max, over_sessions } = self.rights_of(&identity)?;
        let place = match (session, current) {
            (Some(session), None) => {
                let taken = self.places.take(&identity, session, sessions_max, over_sessions);
                let (place, replaced) = taken.ok_or(TokenFault::TooManySessions)?;
                for number in replaced {
                    let order = SessionOrder::End { goodbye: Goodbye::Replaced, spread: Duration::ZERO };
                    (self.orders)(SessionSelector::Number(number), order);
                }
                Some(Box::new(place) as Box<dyn std::any::Any + Send>)
            }
            _ => None,
        };
        Ok(Admitted { grant: Grant { identity: Some(identity), rights }, place })
    }
}

/// Does everything for which a start can refuse the tables, except fetching and writing.
pub fn check(settings: &AuthSettings, tables: &AuthTables) -> Result<(), Error> {
    let times = FetchTimes::with_stale_max(settings.jwks_stale_max);
    let tls = tls_config().map_err(Error::Tls)?;
    require_complete(settings.required, tables)?;
    open_issuers(tables, &[], (&tls, times), &Meters::unread())?;
    Tiers::new(tables, settings.grant_max.as_deref(), None)?;
    Ok(())
}

/// A server that admits nobody is a mistake.
fn require_complete(is_required: bool, tables: &AuthTables) -> Result<(), Error> {
    if tables.issuers.is_empty() && (is_required || tables.anonymous.is_none()) {
        return Err(Error::NoIssuer);
    }
    if tables.tiers.is_empty() { Err(Error::NoTiers) } else { Ok(()) }
}

fn open_issuers(
    tables: &AuthTables,
    known: &[Issuer],
    fetching: (&Arc<ClientConfig>, FetchTimes),
    meters: &Meters,
) -> Result<Vec<Issuer>, Error> {
    tables.issuers.iter().map(|table| Issuer::open(table, known, fetching, meters)).collect()
}

/// Milliseconds since the Unix epoch; 0 before it, and then no token counts yet.
fn wall_clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
