//! The keys of one issuer over time: from a file once, or from a JWKS URL again and again.
//!
//! A set that was fetched stays in force while fetches fail, until it is too old. Tokens that name an unknown key cause
//! at most one fetch in 30 s, which all of them wait for; until there is a first set, tokens are refused.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use rustls::ClientConfig;
use tokio::sync::watch;
use url::Url;

use crate::identity::keys::algorithm::SigningAlgorithm;
use crate::identity::keys::fetch::{FetchError, fetch};
use crate::identity::keys::key::KeyError;
use crate::identity::keys::key_set::KeySet;
use crate::identity::meters::KeyMeters;

/// When keys are fetched.
#[derive(Clone, Copy, Debug)]
pub struct FetchTimes {
    /// For the whole answer.
    pub timeout: Duration,
    /// Between two fetches that tokens cause, and between attempts after a failure.
    pub pause: Duration,
    /// Between attempts while there are no keys at all.
    pub first_pause: Duration,
    /// Between fetches that nobody asks for.
    pub interval: Duration,
    /// A set stays in force for this long without a fetch that succeeds.
    pub stale_max: Duration,
}

impl FetchTimes {
    pub fn with_stale_max(stale_max: Duration) -> FetchTimes {
        FetchTimes {
            timeout: Duration::from_secs(5),
            pause: Duration::from_secs(30),
            first_pause: Duration::from_secs(2),
            interval: Duration::from_secs(600).min(stale_max / 2),
            stale_max,
        }
    }
}

/// The keys of one issuer.
pub struct IssuerKeys {
    algorithms: Box<[SigningAlgorithm]>,
    current: ArcSwapOption<KeySet>,
    remote: Option<RemoteKeys>,
    meters: KeyMeters,
}

struct RemoteKeys {
    url: Url,
    tls: Arc<ClientConfig>,
    times: FetchTimes,
    /// Held for a few assignments, never across a fetch.
    state: Mutex<FetchState>,
}

#[derive(Default)]
struct FetchState {
    /// Begin of the newest fetch.
    attempted: Option<Instant>,
    succeeded: Option<Instant>,
    /// Closed when the fetch in progress has ended.
    running: Option<watch::Receiver<()>>,
    trouble: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum FetchTrouble {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Keys(#[from] KeyError),
}

impl IssuerKeys {
    /// Keys that do not change.
    pub fn fixed(keys: KeySet, meters: KeyMeters) -> IssuerKeys {
        meters.keys.set(keys.count() as f64);
        let current = ArcSwapOption::from_pointee(keys);
        IssuerKeys { algorithms: Box::new([]), current, remote: None, meters }
    }

    /// Keys behind a URL; [`keep_fresh`](IssuerKeys::keep_fresh) fetches them.
    pub fn remote(
        url: Url,
        tls: Arc<ClientConfig>,
        algorithms: &[SigningAlgorithm],
        times: FetchTimes,
        meters: KeyMeters,
    ) -> IssuerKeys {
        let remote = Some(RemoteKeys { url, tls, times, state: Mutex::default() });
        IssuerKeys { algorithms: algorithms.into(), current: ArcSwapOption::empty(), remote, meters }
    }

    /// The set in force; none before the first one has been fetched, and after the last one has become too old.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// The URL they are fetched from.
    pub fn url(&self) -> Option<&Url> {
        self.remote.as_ref().map(|remote| &remote.url)
    }

    /// What is wrong with the keys, for the operator.
    pub fn trouble(&self) -> Option<String> {
        let remote = self.remote.as_ref()?;
        let trouble = remote.state.lock().expect("no holder panics").trouble.clone();
        match (self.current().is_some(), trouble) {
            (true, trouble) => trouble,
            (false, trouble) => {
                Some(format!("keys not there yet: {}", trouble.as_deref().unwrap_or("the first fetch has not ended")))
            }
        }
    }

    /// Fetches new keys, unless that happened a moment ago, and waits for the end of a fetch. Returns whether there may
    /// be other keys than before.
    pub async fn renew(self: &Arc<IssuerKeys>) -> bool {
        let Some(remote) = &self.remote else { return false };
        let Some(mut running) = self.join_or_begin(remote, remote.times.pause) else { return false };
        // The sender is dropped at the end of the fetch, whatever its end.
        while running.changed().await.is_ok() {}
        true
    }

    /// Fetches the keys at once and then again and again, for as long as the issuer is in use.
    pub async fn keep_fresh(keys: std::sync::Weak<IssuerKeys>) {
        loop {
            let pause = {
                let Some(keys) = keys.upgrade() else { return };
                let Some(remote) = &keys.remote else { return };
                if let Some(mut running) = keys.join_or_begin(remote, remote.times.first_pause.min(remote.times.pause))
                {
                    while running.changed().await.is_ok() {}
                }
                keys.drop_stale(remote);
                let is_well = remote.state.lock().expect("no holder panics").trouble.is_none();
                match (keys.current.load().is_some(), is_well) {
                    (false, _) => remote.times.first_pause,
                    (true, false) => remote.times.pause,
                    (true, true) => remote.times.interval,
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// A fetch to wait for; none if one has begun less than `pause` ago and has ended.
    fn join_or_begin(self: &Arc<IssuerKeys>, remote: &RemoteKeys, pause: Duration) -> Option<watch::Receiver<()>> {
        let mut state = remote.state.lock().expect("no holder panics");
        if let Some(running) = &state.running {
            return Some(running.clone());
        }
        if state.attempted.is_some_and(|attempted| attempted.elapsed() < pause) {
            return None;
        }
        let (ended, running) = watch::channel(());
        state.attempted = Some(Instant::now());
        state.running = Some(running.clone());
        drop(state);
        let keys = self.clone();
        tokio::spawn(async move {
            keys.fetch_once().await;
            drop(ended);
        });
        Some(running)
    }

    async fn fetch_once(&self) {
        let Some(remote) = &self.remote else { return };
        let fetched = self.fetch_set(remote).await;
        let mut state = remote.state.lock().expect("no holder panics");
        state.running = None;
        match fetched {
            Ok(set) => {
                self.meters.fetched.increment(1);
                self.meters.keys.set(set.count() as f64);
                self.current.store(Some(Arc::new(set)));
                (state.succeeded, state.trouble) = (Some(Instant::now()), None);
            }
            Err(trouble) => {
                self.meters.failed.increment(1);
                if state.trouble.is_none() {
                    tracing::warn!(url = %remote.url, %trouble, "the keys of an issuer could not be fetched");
                }
                state.trouble = Some(trouble.to_string());
            }
        }
    }

    async fn fetch_set(&self, remote: &RemoteKeys) -> Result<KeySet, FetchTrouble> {
        let text = fetch(&remote.url, &remote.tls, remote.times.timeout).await?;
        Ok(KeySet::read(&text, &self.algorithms)?)
    }

    fn drop_stale(&self, remote: &RemoteKeys) {
        let succeeded = remote.state.lock().expect("no holder panics").succeeded;
        if succeeded.is_some_and(|succeeded| succeeded.elapsed() > remote.times.stale_max)
            && self.current.swap(None).is_some()
        {
            self.meters.keys.set(0.0);
            tracing::error!(url = %remote.url, "the keys of an issuer are too old; its tokens are refused until they can be fetched");
        }
    }
}
