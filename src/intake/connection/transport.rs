//! The socket of a connection: dialing, open, or empty. It moves bytes and does not know their meaning.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::words::stamp::Stamp;

use crate::intake::connection::attempt::Attempt;
use crate::intake::connection::dial::{UpstreamSocket, bytes_read, closed, loss};
use crate::intake::connection::lease::{Lease, Leaser};
use crate::intake::connection::loss::Loss;

/// Limit for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Dialing = Pin<Box<dyn Future<Output = Result<(UpstreamSocket, Lease), Loss>> + Send>>;
type Renewing = Pin<Box<dyn Future<Output = Result<Lease, Loss>> + Send>>;
type ClosingFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
pub(crate) enum Transport {
    #[default]
    Empty,
    Dialing(Dialing),
    Open(Box<OpenConnection>),
    /// Being closed from our side; nothing more is received.
    Closing(ClosingFuture),
}

/// An open connection.
pub(crate) struct OpenConnection {
    socket: UpstreamSocket,
    unsent: VecDeque<Message>,
    /// Since when the socket accepts no queued bytes.
    stuck_since: Option<Stamp>,
    /// Bytes read at the last look.
    bytes: u64,
    /// A request of the profile that is made again, and its place there.
    renewal: Option<(usize, Renewing)>,
}

/// An event of a connection.
#[derive(Debug)]
pub(crate) enum Event {
    Opened(Lease),
    /// This request of the profile was made again.
    Renewed(usize, Result<Lease, Loss>),
    Received(Message),
    /// Ended, or could not be opened.
    Lost(Loss),
    /// Closed from our side.
    Closed,
}

impl Transport {
    pub(crate) fn dial(&mut self, attempt: Attempt) {
        *self = Transport::Dialing(Box::pin(attempt.run()));
    }

    /// Makes a request of the profile again, beside the messages.
    pub(crate) fn renew(&mut self, leaser: &Leaser, lease: &Lease, request: usize) {
        if let Transport::Open(open) = self {
            open.renewal = Some((request, Box::pin(leaser.clone().renew(lease.clone(), request))));
        }
    }

    pub(crate) fn is_renewing(&self) -> bool {
        matches!(self, Transport::Open(open) if open.renewal.is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Transport::Empty)
    }

    /// Whether there is a connection with an empty queue.
    pub(crate) fn takes_more(&self) -> bool {
        matches!(self, Transport::Open(open) if open.unsent.is_empty() && open.stuck_since.is_none())
    }

    /// Queues a message; without a connection it is dropped.
    pub(crate) fn send(&mut self, message: Message) {
        if let Transport::Open(open) = self {
            open.unsent.push_back(message);
        }
    }

    /// Whether bytes arrived since the last call, a whole message or not.
    pub(crate) fn has_read(&mut self) -> bool {
        let Transport::Open(open) = self else { return false };
        let bytes = bytes_read(&open.socket);
        bytes != std::mem::replace(&mut open.bytes, bytes)
    }

    /// Since when the socket accepts no queued bytes.
    pub(crate) fn stuck_since(&self) -> Option<Stamp> {
        match self {
            Transport::Open(open) => open.stuck_since,
            Transport::Empty | Transport::Dialing(_) | Transport::Closing(_) => None,
        }
    }

    /// Closes it; unread messages are lost.
    pub(crate) fn close(&mut self) {
        *self = match std::mem::take(self) {
            Transport::Open(open) => Transport::Closing(Box::pin(open.close())),
            Transport::Closing(closing) => Transport::Closing(closing),
            Transport::Empty | Transport::Dialing(_) => Transport::Empty,
        };
    }

    /// As `close`, and waits until it is closed.
    pub(crate) async fn closed(&mut self) {
        self.close();
        if let Transport::Closing(closing) = std::mem::take(self) {
            closing.await;
        }
    }

    /// The next event; an end leaves the transport empty.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, now: Stamp) -> Poll<Event> {
        let event = match self {
            Transport::Empty => return Poll::Pending,
            Transport::Dialing(dialing) => match ready!(dialing.as_mut().poll(cx)) {
                Ok((socket, lease)) => {
                    let bytes = bytes_read(&socket);
                    *self = Transport::Open(Box::new(OpenConnection {
                        socket,
                        unsent: VecDeque::new(),
                        stuck_since: None,
                        bytes,
                        renewal: None,
                    }));
                    return Poll::Ready(Event::Opened(lease));
                }
                Err(loss) => Event::Lost(loss),
            },
            Transport::Closing(closing) => {
                ready!(closing.as_mut().poll(cx));
                Event::Closed
            }
            Transport::Open(open) => match open.write(cx, now) {
                Err(loss) => Event::Lost(loss),
                Ok(()) => match ready!(open.read(cx)) {
                    Ok(event) => return Poll::Ready(event),
                    Err(loss) => Event::Lost(loss),
                },
            },
        };
        *self = Transport::Empty;
        Poll::Ready(event)
    }
}

impl OpenConnection {
    async fn close(mut self: Box<OpenConnection>) {
        // The feed may be gone as well; then there is no handshake to wait for.
        tokio::time::timeout(CLOSE_TIMEOUT, self.socket.close(None)).await.ok();
    }

    /// The next message, or the end of a renewal. An error is the end of the connection.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Loss>> {
        if let Some((request, renewing)) = &mut self.renewal
            && let Poll::Ready(renewed) = renewing.as_mut().poll(cx)
        {
            let event = Event::Renewed(*request, renewed);
            self.renewal = None;
            return Poll::Ready(Ok(event));
        }
        Poll::Ready(match ready!(self.socket.poll_next_unpin(cx)) {
            Some(Ok(Message::Close(frame))) => Err(closed(frame.map(|frame| (u16::from(frame.code), frame.reason)))),
            Some(Ok(message)) => Ok(Event::Received(message)),
            Some(Err(error)) => Err(loss(error)),
            None => Err(closed(None)),
        })
    }

    /// Hands queued messages to the socket, as far as it accepts them.
    fn write(&mut self, cx: &mut Context<'_>, now: Stamp) -> Result<(), Loss> {
        while !self.unsent.is_empty() || self.stuck_since.is_some() {
            match self.socket.poll_ready_unpin(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(loss(error)),
                Poll::Pending => return self.stuck(now),
            }
            if let Some(message) = self.unsent.pop_front() {
                self.socket.start_send_unpin(message).map_err(loss)?;
            }
            match self.socket.poll_flush_unpin(cx) {
                Poll::Ready(Ok(())) => self.stuck_since = None,
                Poll::Ready(Err(error)) => return Err(loss(error)),
                Poll::Pending => return self.stuck(now),
            }
        }
        Ok(())
    }

    fn stuck(&mut self, now: Stamp) -> Result<(), Loss> {
        self.stuck_since.get_or_insert(now);
        Ok(())
    }
}
