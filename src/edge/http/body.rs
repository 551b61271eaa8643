//! Bodies that are made once for many readers, and the bound on their bytes.
//!
//! A [`Draft`] grows in parts and accounts for each with the [`Store`]; finished it is an [`AnswerBody`]; each reader has
//! an [`AnswerStream`]. A slow reader holds the answer, not a copy. The bytes are freed when the last reader's last part
//! has been written, or when the answer must make room.
//!
//! | bound | at the bound |
//! |---|---|
//! | bytes held in total | answers without readers go, then those read for longer than `GRACE`; else the draft is refused. For a draft about all topics, answers about some topics go too, and its predecessors after `GRACE_OF_COMMON` |
//! | bytes of the answers that one address reads | further answers to it are refused |
//!
//! A single answer is never refused, however large.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use metrics::Gauge;

use crate::edge::settings::AnswerLimits;
use crate::words::ids::{Cursor, Epoch, Offset};

/// 64 KiB: few writes for 8 MB, and little memory for each stuck connection.
const PART_BYTES: usize = 64 * 1024;

/// Readers that take longer than this make room for others when it is needed.
const GRACE: Duration = Duration::from_secs(10);

/// The same for answers about all topics: a few addresses could hold all the room, and must not block the answers that
/// most clients request.
const GRACE_OF_COMMON: Duration = Duration::from_secs(3);

/// The bound that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum BodyBound {
    All,
    Address,
}

/// Counts the bytes of answers.
pub(in crate::edge) struct Store {
    limits: AnswerLimits,
    books: Mutex<StoreAccounts>,
    held: Gauge,
}

#[derive(Default)]
struct StoreAccounts {
    /// Of answers and drafts.
    bytes: usize,
    answers: Vec<Weak<AnswerBody>>,
    /// Readers of an answer, by address.
    readers: HashMap<(IpAddr, u64), usize>,
    /// Bytes of the answers that an address reads.
    by_address: HashMap<IpAddr, usize>,
    answers_made: u64,
}

impl Store {
    pub(crate) fn new(limits: AnswerLimits, held: Gauge) -> Arc<Store> {
        Arc::new(Store { limits, books: Mutex::default(), held })
    }

    /// A client at `network` begins to read.
    pub(crate) fn open(
        self: &Arc<Store>,
        answer: &Arc<AnswerBody>,
        network: IpAddr,
    ) -> Result<AnswerStream, BodyBound> {
        let mut books = self.books();
        if !books.readers.contains_key(&(network, answer.id)) {
            let held = books.by_address.entry(network).or_default();
            if self.limits.bytes_per_address_max.is_some_and(|max| *held > 0 && *held + answer.bytes > max) {
                return Err(BodyBound::Address);
            }
            *held += answer.bytes;
        }
        *books.readers.entry((network, answer.id)).or_default() += 1;
        let reader = Arc::new(BodyReader { answer: answer.clone(), network });
        Ok(AnswerStream { reader, next: 0, left: answer.bytes as u64 })
    }

    /// Takes `more` bytes for a draft.
    fn take(&self, draft: &Draft, more: usize) -> Result<(), BodyBound> {
        loop {
            // Answers are dropped outside of the lock: the last holder frees the bytes.
            let (there, read) = {
                let mut books = self.books();
                if books.bytes == draft.bytes || books.bytes + more <= self.limits.bytes_max {
                    books.bytes += more;
                    self.held.set(books.bytes as f64);
                    return Ok(());
                }
                books.there()
            };
            let held = || there.iter().filter(|answer| answer.holds_bytes());
            let unread = held().find(|answer| !read.contains(&answer.id));
            let slow = || held().find(|answer| answer.gives_way(draft.common));
            unread.or_else(slow).ok_or(BodyBound::All)?.let_go();
        }
    }

    fn give_back(&self, bytes: usize) {
        let mut books = self.books();
        books.bytes -= bytes;
        self.held.set(books.bytes as f64);
    }

    fn close(&self, answer: &AnswerBody, network: IpAddr) {
        let mut books = self.books();
        let Some(readers) = books.readers.get_mut(&(network, answer.id)) else { return };
        *readers -= 1;
        if *readers > 0 {
            return;
        }
        books.readers.remove(&(network, answer.id));
        if let Some(held) = books.by_address.get_mut(&network) {
            *held -= answer.bytes;
            if *held == 0 {
                books.by_address.remove(&network);
            }
        }
    }

    fn books(&self) -> MutexGuard<'_, StoreAccounts> {
        // Each update is complete before anything can panic.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreAccounts {
    /// All answers, oldest first, and the ids of those that are read.
    fn there(&mut self) -> (Vec<Arc<AnswerBody>>, HashSet<u64>) {
        self.answers.retain(|answer| answer.strong_count() > 0);
        let there = self.answers.iter().filter_map(Weak::upgrade).collect();
        (there, self.readers.keys().map(|(_, id)| *id).collect())
    }
}

/// What the headers of an answer say of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) struct AnswerFacts {
    /// Up to where a client has everything that has the answer.
    pub cursor: Cursor,
    /// Frames and topic statuses in it, and the newest of their offsets.
    pub items: usize,
    pub newest: Offset,
    /// Version of the feed's state in it.
    pub feed_version: u32,
    /// It has not every frame since the client's cursor.
    pub skips: bool,
}

impl Default for AnswerFacts {
    /// Of an answer without values.
    fn default() -> AnswerFacts {
        let cursor = Cursor { epoch: Epoch(0), offset: Offset::START };
        AnswerFacts { cursor, items: 0, newest: Offset::START, feed_version: 0, skips: false }
    }
}

/// A finished body.
pub(in crate::edge) struct AnswerBody {
    id: u64,
    facts: AnswerFacts,
    bytes: usize,
    /// About all topics, the request that most clients make.
    common: bool,
    made: Instant,
    /// None once it had to make room.
    parts: Mutex<Option<Vec<Bytes>>>,
    store: Arc<Store>,
}

impl AnswerBody {
    fn part(&self, index: usize) -> Option<Bytes> {
        self.parts().as_ref().and_then(|parts| parts.get(index)).cloned()
    }

    pub(crate) fn holds_bytes(&self) -> bool {
        self.parts().is_some()
    }

    /// Whether its readers have had enough time, for a draft that needs the room.
    fn gives_way(&self, to_common: bool) -> bool {
        let grace = match (to_common, self.common) {
            (false, _) => GRACE,
            (true, false) => Duration::ZERO,
            (true, true) => GRACE_OF_COMMON,
        };
        self.made.elapsed() >= grace
    }

    /// Frees the bytes; unfinished readers are disconnected.
    fn let_go(&self) {
        if self.parts().take().is_some() {
            self.store.give_back(self.bytes);
        }
    }

    fn parts(&self) -> MutexGuard<'_, Option<Vec<Bytes>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// A body while it is written.
pub(in crate::edge) struct Draft {
    store: Arc<Store>,
    parts: Vec<Bytes>,
    /// Bytes that are not yet a part.
    pub open: Vec<u8>,
    pub facts: AnswerFacts,
    /// Bytes in `parts`, accounted for with the store.
    bytes: usize,
    common: bool,
}

impl Draft {
    /// `common` if it is about all topics.
    pub(crate) fn begin(store: &Arc<Store>, common: bool) -> Draft {
        let open = Vec::with_capacity(PART_BYTES);
        let facts = AnswerFacts::default();
        Draft { store: store.clone(), parts: Vec::new(), open, facts, bytes: 0, common }
    }

    /// Completes a part if there are enough bytes. Called between items.
    pub(crate) fn settle(&mut self) -> Result<(), BodyBound> {
        if self.open.len() < PART_BYTES { Ok(()) } else { self.cut() }
    }

    pub(crate) fn finish(mut self) -> Result<Arc<AnswerBody>, BodyBound> {
        self.cut()?;
        let (bytes, parts) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.parts));
        let mut books = self.store.books();
        books.answers_made += 1;
        let id = books.answers_made;
        let parts = Mutex::new(Some(parts));
        let answer = Arc::new(AnswerBody {
            id,
            facts: self.facts,
            bytes,
            common: self.common,
            made: Instant::now(),
            parts,
            store: self.store.clone(),
        });
        books.answers.retain(|answer| answer.strong_count() > 0);
        books.answers.push(Arc::downgrade(&answer));
        drop(books);
        Ok(answer)
    }

    fn cut(&mut self) -> Result<(), BodyBound> {
        self.store.take(self, self.open.len())?;
        self.bytes += self.open.len();
        // A copy, so that a part has no spare capacity.
        self.parts.push(Bytes::copy_from_slice(&self.open));
        self.open.clear();
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.store.give_back(self.bytes);
        }
    }
}

/// One reader of an answer, while the body or one of its parts waits to be written.
struct BodyReader {
    answer: Arc<AnswerBody>,
    network: IpAddr,
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        self.answer.store.close(&self.answer, self.network);
    }
}

/// An answer on its way to one client.
pub(in crate::edge) struct AnswerStream {
    reader: Arc<BodyReader>,
    next: usize,
    left: u64,
}

/// The answer had to make room for others before the client had read it.
#[derive(Debug, thiserror::Error)]
#[error("an answer was read too slowly and made room for others")]
pub(in crate::edge) struct TooSlow;

/// A part that keeps its reader counted until it is written.
struct BodyPart {
    bytes: Bytes,
    _reader: Arc<BodyReader>,
}

impl AsRef<[u8]> for BodyPart {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AnswerStream {
    pub(crate) fn facts(&self) -> AnswerFacts {
        self.reader.answer.facts
    }
}

impl Body for AnswerStream {
    type Data = Bytes;
    type Error = TooSlow;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TooSlow>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let Some(bytes) = self.reader.answer.part(self.next) else { return Poll::Ready(Some(Err(TooSlow))) };
        self.next += 1;
        self.left -= bytes.len() as u64;
        let part = BodyPart { bytes, _reader: self.reader.clone() };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::metrics as names;
    use crate::words::metrics::Meters;

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn store(bytes_max: usize, bytes_per_address_max: usize) -> Arc<Store> {
        let limits = AnswerLimits { bytes_max, bytes_per_address_max: Some(bytes_per_address_max) };
        Store::new(limits, Meters::unread().gauge(&names::HTTP_ANSWER_BYTES, &[]))
    }

    fn answer(store: &Arc<Store>, bytes: usize) -> Result<Arc<AnswerBody>, BodyBound> {
        drafted(store, bytes, false)
    }

    fn drafted(store: &Arc<Store>, bytes: usize, common: bool) -> Result<Arc<AnswerBody>, BodyBound> {
        let mut draft = Draft::begin(store, common);
        for byte in 0..bytes {
            draft.open.push((byte % 251) as u8);
            draft.settle()?;
        }
        draft.finish()
    }

    fn next(reading: &mut AnswerStream) -> Option<Result<Bytes, TooSlow>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(reading).poll_frame(&mut cx) {
            Poll::Ready(frame) => frame.map(|frame| frame.map(|frame| frame.into_data().expect("data"))),
            Poll::Pending => panic!("an answer is ready"),
        }
    }

    #[test]
    fn all_readers_get_the_same_bytes_and_the_last_one_gives_them_back() {
        let store = store(1 << 20, 1 << 20);
        let bytes = 3 * PART_BYTES + 17;
        let answer = answer(&store, bytes).expect("room");
        let mut readings: Vec<AnswerStream> = (0..3).map(|_| store.open(&answer, NEAR).expect("room")).collect();
        drop(answer);
        for reading in &mut readings {
            let mut read = Vec::new();
            while let Some(part) = next(reading) {
                read.extend_from_slice(&part.expect("held"));
            }
            assert!(read.len() == bytes && read.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
        }
        assert_eq!(store.books().bytes, bytes, "held once, however many read");
        drop(readings);
        assert_eq!(store.books().bytes, 0);
        assert!(store.books().by_address.is_empty() && store.books().readers.is_empty());
    }

    #[test]
    fn a_piece_that_waits_to_be_written_is_still_counted() {
        let store = store(1 << 20, 1 << 20);
        let answer = answer(&store, 100).expect("room");
        let mut reading = store.open(&answer, NEAR).expect("room");
        let part = next(&mut reading).expect("a part").expect("held");
        drop((reading, answer));
        assert_eq!(store.books().bytes, 100);
        drop(part);
        assert_eq!(store.books().bytes, 0);
    }

    #[test]
    fn beyond_the_bounds_answers_are_refused_and_the_first_is_not() {
        let store = store(1000, 700);
        let large = answer(&store, 5000).expect("alone");
        let reading = store.open(&large, NEAR).expect("alone");
        assert_eq!(answer(&store, 10).err(), Some(BodyBound::All));
        drop((large, reading));
        assert_eq!(store.books().bytes, 0);

        let first = answer(&store, 400).expect("room");
        let second = answer(&store, 400).expect("room");
        let _first = store.open(&first, NEAR).expect("room");
        assert!(store.open(&first, NEAR).is_ok(), "the same once more costs nothing");
        assert_eq!(store.open(&second, NEAR).err(), Some(BodyBound::Address));
        let _second = store.open(&second, FAR).expect("room of its own");
        assert_eq!(answer(&store, 400).err(), Some(BodyBound::All));
    }

    #[test]
    fn readers_of_a_few_topics_do_not_deny_the_answer_about_all() {
        let store = store(1000, 1000);
        let few = answer(&store, 600).expect("room");
        let _few = store.open(&few, NEAR).expect("room");
        assert_eq!(answer(&store, 600).err(), Some(BodyBound::All));
        let all = drafted(&store, 600, true).expect("the other one makes room");
        assert!(!few.holds_bytes());
        let _all = store.open(&all, FAR).expect("room");
        assert!(all.holds_bytes());
        assert_eq!(drafted(&store, 600, true).err(), Some(BodyBound::All), "its readers have some seconds");
    }

    #[test]
    fn unread_answers_make_room() {
        let store = store(1000, 1000);
        let unread = answer(&store, 600).expect("room");
        let _next = answer(&store, 600).expect("room");
        assert!(!unread.holds_bytes());
        let mut reading = store.open(&unread, NEAR).expect("counted");
        assert!(next(&mut reading).is_some_and(|part| part.is_err()), "cut, not ended short");
    }
}
