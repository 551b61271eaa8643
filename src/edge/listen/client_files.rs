//! Open files of clients: each has one, before the upgrade and as a session.
//!
//! Sessions never take the share that is kept for connections. Connections have the files of sessions that are not there:
//! so many can return at once, and each keeps its file as it becomes a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The files that there are.
pub(in crate::edge) struct ClientFiles {
    /// Only grows: what is taken cannot be taken back.
    max: AtomicUsize,
    /// One more for each listener's new connection still without a slot. A connection that made room keeps its file until
    /// its task has ended; until then no other is accepted.
    free: Arc<Semaphore>,
    of_sessions: AtomicUsize,
}

/// The file of one client, given back by the drop.
pub(in crate::edge) struct ClientFile {
    files: Arc<ClientFiles>,
    is_session: bool,
    _permit: OwnedSemaphorePermit,
}

impl ClientFiles {
    pub(crate) fn new(max: usize, listeners: usize) -> Arc<ClientFiles> {
        let free = max.saturating_add(listeners).min(Semaphore::MAX_PERMITS);
        Arc::new(ClientFiles {
            max: AtomicUsize::new(max),
            free: Arc::new(Semaphore::new(free)),
            of_sessions: AtomicUsize::new(0),
        })
    }

    /// A file for a new connection; waits while there is none.
    pub(crate) async fn take(self: &Arc<ClientFiles>) -> ClientFile {
        let permit = self.free.clone().acquire_owned().await.expect("the files are never closed");
        ClientFile { files: self.clone(), is_session: false, _permit: permit }
    }

    /// From now on there are at least so many.
    pub(crate) fn grow(&self, max: usize) {
        let before = self.max.fetch_max(max, Ordering::Relaxed);
        let room = Semaphore::MAX_PERMITS - self.free.available_permits();
        self.free.add_permits(max.saturating_sub(before).min(room));
    }

    /// Those that connections may have at this moment.
    pub(crate) fn for_connections(&self) -> usize {
        self.max.load(Ordering::Relaxed).saturating_sub(self.of_sessions.load(Ordering::Relaxed))
    }
}

impl ClientFile {
    /// The connection becomes a session.
    pub(crate) fn into_session(mut self) -> ClientFile {
        self.files.of_sessions.fetch_add(1, Ordering::Relaxed);
        self.is_session = true;
        self
    }
}

impl Drop for ClientFile {
    fn drop(&mut self) {
        if self.is_session {
            self.files.of_sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_have_the_files_of_sessions_that_are_not_there() {
        let files = ClientFiles::new(3, 1);
        let (first, second) = (files.take().await, files.take().await);
        assert_eq!(files.for_connections(), 3);
        let session = first.into_session();
        assert_eq!(files.for_connections(), 2);
        drop(second);
        assert_eq!(files.free.available_permits(), 3, "the session keeps its file, and a listener has one more");
        drop(session);
        assert_eq!((files.for_connections(), files.free.available_permits()), (3, 4));
        files.grow(5);
        files.grow(2);
        assert_eq!((files.for_connections(), files.free.available_permits()), (5, 6));
    }
}
