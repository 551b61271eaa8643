//! Answers that are made once for all requests of the same at the same moment.
//!
//! | bound | at the bound |
//! |---|---|
//! | answers being made: 1 for an address, 2 in total | the request waits; addresses without one go first |
//! | waiting requests, per address and in total; 5 s of waiting | refused with 503 |
//! | renewals of an answer: a tenth of the time | the newest is shared, for a second at most |

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::access::rights::{GrantedPattern, GrantedTopics, Rights};
use crate::edge::http::body::{AnswerBody, AnswerStream, BodyBound, Store};
use crate::edge::http::pace::WorkPace;
use crate::edge::http::poll::news::NewsSpan;
use crate::words::topic::Pattern;

/// Two, so that one address cannot make all others wait; each holds about 10 MB for 100,000 topics meanwhile.
const MAKINGS_MAX: usize = 2;

/// Waiting requests with different patterns. At 50 ms each, the last of an address waits less than 2 s.
const WAITING_MAX: usize = 128;
const WAITING_PER_ADDRESS_MAX: usize = 32;

/// A request that waits longer is refused: a later answer would be of little use.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Greatest age of an answer, besides the time it takes to make.
pub(in crate::edge) const AGE_MAX: Duration = Duration::from_secs(1);

/// A request. Order and repetition of patterns make no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::edge) struct AnswerRequest {
    pub matter: AnswerTopic,
    pub patterns: Vec<Pattern>,
    /// None: everything may be seen. Answers are shared by those with the same rights only.
    pub rights: Option<Arc<Rights>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::edge) enum AnswerTopic {
    Topics,
    Snapshot,
    News(NewsSpan),
}

impl AnswerTopic {
    /// Whether an answer stays true: then all that ask for it within a second share it.
    fn is_settled(self) -> bool {
        match self {
            AnswerTopic::News(span) => span.since.is_some(),
            AnswerTopic::Topics | AnswerTopic::Snapshot => false,
        }
    }
}

/// A request in few bytes.
type AnswerKey = (AnswerTopic, [u8; 32]);

/// Why there is no answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum Denied {
    Full(BodyBound),
    /// Too many requests wait.
    Queue,
    /// A fault of the server.
    Failed,
}

/// Makes an answer, on a thread that may block.
pub(in crate::edge) type Maker =
    Box<dyn Fn(&AnswerRequest, &mut WorkPace, &Arc<Store>) -> Result<Arc<AnswerBody>, BodyBound> + Send + Sync>;

/// Current answers, answers being made, and waiting requests.
pub(in crate::edge) struct Answers {
    store: Arc<Store>,
    maker: Maker,
    turns: Arc<Semaphore>,
    queue: Mutex<AnswerQueue>,
}

#[derive(Default)]
struct AnswerQueue {
    entries: HashMap<AnswerKey, AnswerEntry>,
    waiting: VecDeque<AnswerJob>,
    /// Addresses for which an answer is being made.
    making: Vec<IpAddr>,
}

enum AnswerEntry {
    /// Waiting, or being made.
    Coming(watch::Receiver<AnswerOutcome>),
    Made {
        /// None if the next one can be made at once.
        answer: Option<Arc<AnswerBody>>,
        at: Instant,
        ration: Ration,
    },
}

type AnswerOutcome = Option<Result<Arc<AnswerBody>, Denied>>;

struct AnswerJob {
    request: AnswerRequest,
    key: AnswerKey,
    network: IpAddr,
    ration: Ration,
    answered: watch::Sender<AnswerOutcome>,
    since: Instant,
}

impl Answers {
    pub(crate) fn new(store: Arc<Store>, maker: Maker) -> Arc<Answers> {
        Arc::new(Answers { store, maker, turns: Arc::new(Semaphore::new(1)), queue: Mutex::default() })
    }

    /// The answer to a request of a client at `network`.
    pub(crate) async fn get(
        self: &Arc<Answers>,
        request: AnswerRequest,
        network: IpAddr,
    ) -> Result<AnswerStream, Denied> {
        let made = match self.find_or_queue(request, network)? {
            Ok(answer) => answer,
            Err(mut awaited) => {
                let outcome = awaited.wait_for(Option::is_some).await.map_err(|_| Denied::Failed)?;
                outcome.clone().unwrap_or(Err(Denied::Failed))?
            }
        };
        self.store.open(&made, network).map_err(Denied::Full)
    }

    fn find_or_queue(
        self: &Arc<Answers>,
        request: AnswerRequest,
        network: IpAddr,
    ) -> Result<Result<Arc<AnswerBody>, watch::Receiver<AnswerOutcome>>, Denied> {
        let (request, key) = request.keyed();
        let mut queue = self.queue();
        let ration = match queue.entries.get(&key) {
            Some(AnswerEntry::Coming(awaited)) => return Ok(Err(awaited.clone())),
            Some(AnswerEntry::Made { answer: Some(answer), at, ration })
                if at.elapsed() < AGE_MAX
                    && (key.0.is_settled() || !ration.allows(Instant::now()))
                    && answer.holds_bytes() =>
            {
                return Ok(Ok(answer.clone()));
            }
            Some(AnswerEntry::Made { ration, .. }) => *ration,
            None => Ration::default(),
        };
        let of_address = queue.waiting.iter().filter(|job| job.network == network).count();
        let full = queue.waiting.len() >= WAITING_MAX || of_address >= WAITING_PER_ADDRESS_MAX;
        // Only two requests are common, and their answers are for everyone.
        if full && !request.is_common() {
            return Err(Denied::Queue);
        }
        let (answered, awaited) = watch::channel(None);
        queue.entries.insert(key, AnswerEntry::Coming(awaited.clone()));
        queue.waiting.push_back(AnswerJob { request, key, network, ration, answered, since: Instant::now() });
        self.start_some(&mut queue);
        Ok(Err(awaited))
    }

    /// Starts as many as allowed: those without patterns first, then in order of arrival.
    fn start_some(self: &Arc<Answers>, queue: &mut AnswerQueue) {
        queue.turn_away();
        while queue.making.len() < MAKINGS_MAX {
            let free = |job: &AnswerJob| !queue.making.contains(&job.network);
            let common = queue.waiting.iter().position(|job| free(job) && job.request.is_common());
            let next = common.or_else(|| queue.waiting.iter().position(free));
            let Some(job) = next.and_then(|next| queue.waiting.remove(next)) else { return };
            queue.making.push(job.network);
            tokio::spawn(self.clone().make(job));
        }
    }

    async fn make(self: Arc<Answers>, job: AnswerJob) {
        let AnswerJob { request, key, network, mut ration, answered, .. } = job;
        let answers = self.clone();
        let runtime = Handle::current();
        let made = tokio::task::spawn_blocking(move || {
            let mut pace = WorkPace::begin(answers.turns.clone(), runtime);
            let answer = (answers.maker)(&request, &mut pace, &answers.store);
            (answer, pace.cost())
        });
        let outcome = match made.await {
            Ok((answer, cost)) => {
                ration.charge(Instant::now(), cost);
                answer.map_err(Denied::Full)
            }
            Err(error) => {
                tracing::error!(%error, "a snapshot could not be completed");
                Err(Denied::Failed)
            }
        };
        // Held while it may be shared; readers hold it for longer.
        let shared = outcome.clone().ok().filter(|_| key.0.is_settled() || !ration.allows(Instant::now()));
        {
            let mut queue = self.queue();
            queue.making.retain(|other| *other != network);
            queue.entries.insert(key, AnswerEntry::Made { answer: shared, at: Instant::now(), ration });
            self.start_some(&mut queue);
        }
        answered.send_replace(Some(outcome));
        drop(answered);
        tokio::time::sleep(AGE_MAX).await;
        let mut queue = self.queue();
        let is_old = |entry: &AnswerEntry| matches!(entry, AnswerEntry::Made { at, .. } if at.elapsed() >= AGE_MAX);
        let old = if queue.entries.get(&key).is_some_and(is_old) { queue.entries.remove(&key) } else { None };
        drop(queue);
        // Dropped outside of the lock: it may be the last holder of many bytes.
        drop(old);
    }

    fn queue(&self) -> MutexGuard<'_, AnswerQueue> {
        // Each update is complete before anything can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AnswerQueue {
    /// Refuses requests that have waited too long, and forgets those whose clients have left.
    fn turn_away(&mut self) {
        let AnswerQueue { entries, waiting, .. } = self;
        waiting.retain(|job| {
            // One receiver belongs to the entry.
            let awaited = job.answered.receiver_count() > 1;
            let stays = awaited && job.since.elapsed() < WAIT_MAX;
            if !stays {
                entries.remove(&job.key);
                job.answered.send_replace(Some(Err(Denied::Queue)));
            }
            stays
        });
    }
}

impl AnswerRequest {
    /// About all topics, and for everyone.
    pub(in crate::edge) fn is_common(&self) -> bool {
        self.patterns.is_empty() && self.rights.is_none()
    }

    fn keyed(mut self) -> (AnswerRequest, AnswerKey) {
        self.patterns.sort_unstable();
        self.patterns.dedup();
        let mut hash = Sha256::new();
        for pattern in &self.patterns {
            // Patterns contain no commas.
            hash.update(pattern.as_str());
            hash.update(",");
        }
        if let Some(rights) = &self.rights {
            // Patterns contain no line breaks. The kind counts, too: to name no topic is not the same as to name none.
            let (kind, granted, named): (_, &[GrantedPattern], &[Pattern]) = match &rights.topics {
                GrantedTopics::All => ("all", &[], &[]),
                GrantedTopics::Matching(granted) => ("matching", granted, &[]),
                GrantedTopics::Narrowed { named, within } => ("narrowed", within, named),
            };
            hash.update(format!("\n{kind} {}", rights.view.0));
            granted.iter().for_each(|granted| hash.update(format!("\ngranted {}", granted.pattern)));
            named.iter().for_each(|pattern| hash.update(format!("\nnamed {pattern}")));
        }
        let key = (self.matter, hash.finalize().into());
        (self, key)
    }
}

/// Budget for renewals: a tenth of the time, with one second of credit. So an occasional request always receives a new
/// answer, and constant requests share the current one.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::edge) struct Ration {
    used_until: Option<Instant>,
}

impl Ration {
    const PART: u32 = 10;

    pub(crate) fn allows(&self, now: Instant) -> bool {
        self.used_until.is_none_or(|until| until <= now + AGE_MAX)
    }

    pub(crate) fn charge(&mut self, now: Instant, cost: Duration) {
        let from = self.used_until.map_or(now, |until| until.max(now));
        self.used_until = Some(from + cost * Ration::PART);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::access::rights::ViewId;
    use crate::edge::http::body::Draft;
    use crate::edge::settings::AnswerLimits;
    use crate::words::metrics as names;
    use crate::words::metrics::Meters;

    fn request(patterns: &[&str]) -> AnswerRequest {
        let patterns = patterns.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect();
        AnswerRequest { matter: AnswerTopic::Topics, patterns, rights: None }
    }

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    /// A maker that waits for a permit for each answer, and counts.
    fn answers() -> (Arc<Answers>, mpsc::Sender<()>, Arc<AtomicUsize>) {
        let limits = AnswerLimits { bytes_max: 1 << 20, bytes_per_address_max: None };
        let store = Store::new(limits, Meters::unread().gauge(&names::HTTP_ANSWER_BYTES, &[]));
        let (go, gone) = mpsc::channel();
        let (gone, made) = (Mutex::new(gone), Arc::new(AtomicUsize::new(0)));
        let count = made.clone();
        let maker: Maker = Box::new(move |_, _, store| {
            gone.lock().expect("no holder panics").recv().expect("a word");
            count.fetch_add(1, Ordering::SeqCst);
            let mut draft = Draft::begin(store, false);
            draft.open.push(b'x');
            draft.finish()
        });
        (Answers::new(store, maker), go, made)
    }

    #[test]
    fn equal_requests_have_one_key() {
        let key = |patterns: &[&str]| request(patterns).keyed().1;
        assert_eq!(key(&["a", "b.*", "a"]), key(&["b.*", "a"]));
        assert_ne!(key(&["a", "b"]), key(&["a.b"]));
        let snapshot = AnswerRequest { matter: AnswerTopic::Snapshot, patterns: Vec::new(), rights: None };
        assert_ne!(snapshot.keyed().1, key(&[]));
    }

    #[test]
    fn those_with_other_rights_have_another_answer() {
        let pattern = |text: &str| Pattern::parse(text).expect("a pattern");
        let granted = |texts: &[&str]| {
            let granted = texts.iter().map(|text| GrantedPattern { pattern: pattern(text), delay: Duration::ZERO });
            granted.collect::<Box<[GrantedPattern]>>()
        };
        let named = |texts: &[&str]| texts.iter().map(|text| pattern(text)).collect::<Box<[Pattern]>>();
        let narrowed =
            |names: &[&str], texts: &[&str]| GrantedTopics::Narrowed { named: named(names), within: granted(texts) };
        let mut keys = std::collections::HashSet::from([request(&[">"]).keyed().1]);
        for (view, topics) in [
            (0, GrantedTopics::All),
            (1, GrantedTopics::All),
            (0, GrantedTopics::Matching(granted(&[]))),
            (0, GrantedTopics::Matching(granted(&["a"]))),
            (1, GrantedTopics::Matching(granted(&["a"]))),
            (0, GrantedTopics::Matching(granted(&["a", "b"]))),
            (0, narrowed(&["a"], &["b"])),
            (0, narrowed(&["b"], &["a"])),
            (0, narrowed(&[], &["a", "b"])),
        ] {
            let rights = Some(Arc::new(Rights { topics, view: ViewId(view), ..Rights::unlimited() }));
            let key = AnswerRequest { rights: rights.clone(), ..request(&[">"]) }.keyed().1;
            assert!(keys.insert(key), "{rights:?}");
        }
    }

    #[test]
    fn a_client_that_asks_now_and_then_gets_a_new_answer_and_one_that_asks_all_the_time_shares_it() {
        let start = Instant::now();
        let mut ration = Ration::default();
        let cost = Duration::from_millis(20);
        let mut made = 0;
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            if ration.allows(now) {
                ration.charge(now, cost);
                made += 1;
            }
        }
        assert_eq!(made, 55, "a tenth of 11 s, 20 ms each");
        assert!(ration.allows(start + Duration::from_secs(60)));
    }

    #[tokio::test]
    async fn all_that_ask_meanwhile_get_the_one_that_is_being_made() {
        let (answers, go, made) = answers();
        let asked = (0..50).map(|n| {
            let answers = answers.clone();
            tokio::spawn(async move { answers.get(request(&["a"]), ip(n)).await.is_ok() })
        });
        let asked: Vec<_> = asked.collect();
        while answers.queue().entries.is_empty() {
            tokio::task::yield_now().await;
        }
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        go.send(()).expect("the maker waits");
        for asked in asked {
            assert!(asked.await.expect("no panic"));
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn one_address_that_asks_for_much_neither_takes_all_turns_nor_waits_without_bound() {
        let (answers, go, _) = answers();
        let ask = |text: String, address| {
            let answers = answers.clone();
            tokio::spawn(async move { answers.get(request(&[&text]), address).await.err() })
        };
        let mut greedy: Vec<_> = (0..100).map(|n| ask(format!("t{n}"), ip(1))).collect();
        let mut refused = 0;
        while refused < 100 - 1 - WAITING_PER_ADDRESS_MAX {
            tokio::task::yield_now().await;
            let ended = greedy.extract_if(.., |asked| asked.is_finished());
            for asked in ended.collect::<Vec<_>>() {
                assert_eq!(asked.await.expect("no panic"), Some(Denied::Queue));
                refused += 1;
            }
        }
        let honest = ask("honest".to_string(), ip(2));
        while answers.queue().making.len() < MAKINGS_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(answers.queue().making, [ip(1), ip(2)], "before the 32 that came first");
        for _ in 0..=greedy.len() {
            go.send(()).expect("the maker waits");
        }
        assert_eq!(honest.await.expect("no panic"), None);
        for asked in greedy {
            assert_eq!(asked.await.expect("no panic"), None);
        }
    }
    #[tokio::test]
    async fn common_answers_go_first_and_unawaited_ones_are_not_made() {
        let (answers, go, made) = answers();
        let ask = |patterns: &'static [&str], address| {
            let answers = answers.clone();
            tokio::spawn(async move { answers.get(request(patterns), address).await.err() })
        };
        let waiting = |count| {
            let answers = answers.clone();
            async move {
                while answers.queue().waiting.len() != count {
                    tokio::task::yield_now().await;
                }
            }
        };
        let busy = [ask(&["a"], ip(1)), ask(&["b"], ip(2))];
        while answers.queue().making.len() < MAKINGS_MAX {
            tokio::task::yield_now().await;
        }
        let gone = ask(&["c"], ip(3));
        waiting(1).await;
        gone.abort();
        assert!(gone.await.is_err_and(|error| error.is_cancelled()));
        let patient = ask(&["d"], ip(4));
        let common = ask(&[], ip(5));
        // `c` was forgotten with the last one.
        waiting(2).await;
        go.send(()).expect("the maker waits");
        while !answers.queue().making.contains(&ip(5)) {
            tokio::task::yield_now().await;
        }
        (0..3).for_each(|_| go.send(()).expect("the maker waits"));
        for asked in busy.into_iter().chain([patient, common]) {
            assert_eq!(asked.await.expect("no panic"), None);
        }
        assert_eq!(made.load(Ordering::SeqCst), 4);
    }
}
