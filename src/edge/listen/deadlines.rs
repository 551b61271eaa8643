//! Deadlines of a connection: what it does, and when it has taken too long.
//!
//! The socket reports received bytes and blocked writes; the service and the body of an answer report its begin and end.
//! hyper's own timeout does not distinguish an unfinished head from an idle connection, and ignores readers that take
//! nothing.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::edge::listen::client_stream::ClientStream;
use crate::edge::listen::connection_table::ConnectionActivity;
use crate::edge::listen::takeover::TakeoverSlot;
use crate::edge::settings::ConnectionLimits;

/// Limit for a whole answer, however steadily it is read: 300 KB/s for 32 MiB.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);

/// State of a connection. Its socket and answers write it, its task reads it; all run in one task.
pub(in crate::edge) struct ConnectionProgress {
    limits: ConnectionLimits,
    state: Mutex<ProgressState>,
}

struct ProgressState {
    /// Answers under way.
    open: usize,
    asked: bool,
    /// When the connection was accepted, the last request was complete, the last answer ended, or the next head began.
    since: Instant,
    /// Bytes have arrived since the last answer ended.
    receiving: bool,
    /// Since when the socket has taken no bytes to write.
    stuck: Option<Instant>,
    /// Begin of the second that `requests` counts.
    second: Instant,
    requests: u32,
}

/// Why a connection is closed: value of the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum Overdue {
    Header,
    KeepAlive,
    Write,
    Answer,
}

impl ConnectionProgress {
    /// `since` is the time of the accept.
    pub(crate) fn new(limits: ConnectionLimits, since: Instant) -> Arc<ConnectionProgress> {
        let state =
            ProgressState { open: 0, asked: false, since, receiving: false, stuck: None, second: since, requests: 0 };
        Arc::new(ConnectionProgress { limits, state: Mutex::new(state) })
    }

    pub(crate) fn doing(&self) -> ConnectionActivity {
        let state = self.state();
        if state.open > 0 || state.stuck.is_some() {
            ConnectionActivity::Busy
        } else if !state.asked || state.receiving {
            ConnectionActivity::Pending
        } else {
            ConnectionActivity::Idle
        }
    }

    /// When and why the connection will be closed if nothing changes.
    pub(crate) fn due(&self) -> (Instant, Overdue) {
        let doing = self.doing();
        let (limits, state) = (&self.limits, self.state());
        match doing {
            ConnectionActivity::Pending => (state.since + limits.header_timeout, Overdue::Header),
            ConnectionActivity::Idle => (state.since + limits.keep_alive, Overdue::KeepAlive),
            ConnectionActivity::Busy => {
                let answer = (state.since + ANSWER_TIME_MAX, Overdue::Answer);
                let write = state.stuck.map(|stuck| (stuck + limits.write_timeout, Overdue::Write));
                write.filter(|write| write.0 < answer.0).unwrap_or(answer)
            }
        }
    }

    /// A request is complete. Returns until when it must wait, if there were too many in this second.
    pub(crate) fn begin_answer(self: &Arc<ConnectionProgress>) -> (Answering, Option<Instant>) {
        let now = Instant::now();
        let mut state = self.state();
        (state.asked, state.receiving, state.since) = (true, false, now);
        state.open += 1;
        if now.duration_since(state.second) >= Duration::from_secs(1) {
            (state.second, state.requests) = (now, 0);
        }
        let mut wait = None;
        if state.requests >= self.limits.requests_per_second_max {
            state.second += Duration::from_secs(1);
            state.requests = 0;
            wait = Some(state.second);
        }
        state.requests += 1;
        drop(state);
        (Answering { progress: self.clone() }, wait)
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        // Each update is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn received(&self) {
        let mut state = self.state();
        // Bytes during an answer belong to the next request, if to any.
        if state.open == 0 && state.asked && !state.receiving {
            (state.receiving, state.since) = (true, Instant::now());
        }
    }

    fn wrote(&self, done: bool) {
        let mut state = self.state();
        state.stuck = if done { None } else { Some(state.stuck.unwrap_or_else(Instant::now)) };
    }
}

impl Overdue {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Overdue::Header => "header_timeout",
            Overdue::KeepAlive => "keep_alive",
            Overdue::Write => "write_timeout",
            Overdue::Answer => "answer_timeout",
        }
    }
}

/// An answer, from the complete request to the end of its body.
pub(in crate::edge) struct Answering {
    progress: Arc<ConnectionProgress>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.progress.state();
        state.open -= 1;
        state.since = Instant::now();
    }
}

/// The body of an answer; its drop marks the end.
pub(in crate::edge) struct TrackedBody {
    body: Body,
    _answering: Answering,
}

impl Answering {
    /// The answer ends with this body.
    pub(crate) fn with(self, body: Body) -> TrackedBody {
        TrackedBody { body, _answering: self }
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The socket, which records its bytes.
pub(in crate::edge) struct TrackedSocket {
    socket: ClientStream,
    progress: Arc<ConnectionProgress>,
    takeover: Arc<TakeoverSlot>,
}

impl TrackedSocket {
    pub(crate) fn new(
        socket: ClientStream,
        progress: Arc<ConnectionProgress>,
        takeover: Arc<TakeoverSlot>,
    ) -> TrackedSocket {
        TrackedSocket { socket, progress, takeover }
    }

    pub(crate) fn into_stream(self) -> ClientStream {
        self.socket
    }

    fn written(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.progress.wrote(result.is_ready());
        result
    }
}

impl AsyncRead for TrackedSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.progress.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TrackedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // A head that nobody is to see counts as written.
        let bytes = match self.takeover.sent_of(bytes) {
            Some(0) => return Poll::Ready(Ok(bytes.len())),
            Some(sent) => &bytes[..sent],
            None => bytes,
        };
        let result = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.takeover.is_silent() {
            let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
            return self.poll_write(cx, first);
        }
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
