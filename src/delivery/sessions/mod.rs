//! The clients of a shard: what each is, has been sent, and waits for.
//!
//! `Sessions` is the only place where a session changes its state. Invariants:
//!  - a session in step, or ahead, has nothing unsent, and has the slot on its lane that it knows;
//!  - a session with something unsent is written to only by `flush`, and its commands wait;
//!  - what is counted (sessions that are behind, bytes received and not read, bytes not taken) is what the sessions hold.

pub(crate) mod awaited_cursor;
pub(crate) mod command_effect;
pub(crate) mod dialect_session;
pub(crate) mod entitlement;
pub(crate) mod inbound;
pub(crate) mod mail;
mod moves;
pub(crate) mod pending_requests;
pub(crate) mod session;
pub(crate) mod session_access;
pub(crate) mod sync_state;
pub(crate) mod unsent;
pub(crate) mod verification;
pub(crate) mod writes;

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::delivery::session_id::SessionId;
use crate::delivery::sessions::session::Session;
use crate::delivery::sessions::sync_state::SyncState;
use crate::delivery::sessions::unsent::{Unsent, end_of};
use crate::delivery::transport::socket::Socket;

pub struct Sessions<S> {
    sessions: Slab<Session<S>>,
    /// Sessions that have something to do besides the live stream.
    queue: VecDeque<SessionId>,
    /// Sessions with unread messages for which the turn had no work left, the longest waiting first.
    hearing_queue: VecDeque<SessionId>,
    /// Sessions that are behind.
    behind: usize,
    /// Those that are no clients: at most one, but for the moment in which it comes anew.
    canaries: usize,
    /// What clients have sent and the shard has not read.
    inbound_bytes: usize,
    /// What the shard holds for clients that do not take it.
    unsent: Unsent,
}

impl<S: Socket> Sessions<S> {
    pub fn new() -> Sessions<S> {
        Sessions {
            sessions: Slab::new(),
            queue: VecDeque::new(),
            hearing_queue: VecDeque::new(),
            behind: 0,
            canaries: 0,
            inbound_bytes: 0,
            unsent: Unsent::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Those of clients.
    pub fn clients(&self) -> usize {
        self.sessions.len() - self.canaries
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// All ids are below it.
    pub fn capacity(&self) -> usize {
        self.sessions.capacity()
    }

    /// The id that the next session will have.
    pub fn vacant(&self) -> SessionId {
        SessionId(self.sessions.vacant_key())
    }

    pub fn contains(&self, id: SessionId) -> bool {
        self.sessions.contains(id.0)
    }

    pub fn get(&self, id: SessionId) -> Option<&Session<S>> {
        self.sessions.get(id.0)
    }

    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session<S>> {
        self.sessions.get_mut(id.0)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session<S>> {
        self.sessions.iter_mut().map(|(_, session)| session)
    }

    /// Those that are on a lane.
    pub fn staying(&self) -> Vec<SessionId> {
        let staying = self.sessions.iter().filter(|(_, session)| !session.is_leaving());
        staying.map(|(id, _)| SessionId(id)).collect()
    }

    /// Sessions that are behind.
    pub fn behind(&self) -> usize {
        self.behind
    }

    /// Takes over a session that has just joined.
    pub fn insert(&mut self, session: Session<S>) -> SessionId {
        self.behind += usize::from(matches!(session.state, SyncState::Behind(_)));
        self.canaries += usize::from(session.is_canary);
        SessionId(self.sessions.insert(session))
    }

    /// Forgets a session that is on no lane any more, and closes its socket.
    pub fn remove(&mut self, id: SessionId) {
        let session = self.sessions.remove(id.0);
        assert!(session.is_leaving(), "a session leaves its lane before it ends");
        self.inbound_bytes -= session.inbound_bytes as usize;
        self.canaries -= usize::from(session.is_canary);
        if session.unsent_counted {
            self.unsent.release(end_of(&session.unsent));
        }
    }

    /// There are sessions that have something to do besides the live stream.
    pub fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.hearing_queue.is_empty()
    }

    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Puts the session behind all others that have something to do.
    pub fn enqueue(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id.0)
            && !std::mem::replace(&mut session.is_queued, true)
        {
            self.queue.push_back(id);
        }
    }

    /// The next session that has something to do.
    pub fn pop_queued(&mut self) -> Option<SessionId> {
        while let Some(id) = self.queue.pop_front() {
            if let Some(session) = self.sessions.get_mut(id.0) {
                session.is_queued = false;
                return Some(id);
            }
        }
        None
    }

    pub fn awaiting_hearing(&self) -> usize {
        self.hearing_queue.len()
    }

    /// Puts the session behind all others that wait to be heard.
    pub fn await_hearing(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id.0)
            && !std::mem::replace(&mut session.awaits_hearing, true)
        {
            self.hearing_queue.push_back(id);
        }
    }

    /// The session that has waited longest to be heard.
    pub fn pop_awaiting_hearing(&mut self) -> Option<SessionId> {
        while let Some(id) = self.hearing_queue.pop_front() {
            if let Some(session) = self.sessions.get_mut(id.0) {
                session.awaits_hearing = false;
                return Some(id);
            }
        }
        None
    }
}

impl<S> Index<SessionId> for Sessions<S> {
    type Output = Session<S>;

    fn index(&self, id: SessionId) -> &Session<S> {
        &self.sessions[id.0]
    }
}

impl<S> IndexMut<SessionId> for Sessions<S> {
    fn index_mut(&mut self, id: SessionId) -> &mut Session<S> {
        &mut self.sessions[id.0]
    }
}
