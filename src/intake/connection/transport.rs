//! One place for a connection: dialing, open, or empty. Moves bytes and knows nothing of what they mean.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::words::stamp::Stamp;

use crate::intake::connection::dial::{Dialer, Endpoint, UpstreamSocket, bytes_read, closed, loss};
use crate::intake::connection::loss::Loss;

/// How long a farewell may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Dialing = Pin<Box<dyn Future<Output = Result<UpstreamSocket, Loss>> + Send>>;
type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
pub enum Transport {
    #[default]
    Empty,
    Dialing(Dialing),
    Open(Box<OpenConnection>),
    /// We take leave; nothing is heard any more.
    Leaving(Closing),
}

/// An open connection.
pub struct OpenConnection {
    socket: UpstreamSocket,
    unsent: VecDeque<Message>,
    /// Since when the socket takes nothing of what is to be sent.
    stuck_since: Option<Stamp>,
    /// Bytes read when it was last looked.
    bytes: u64,
}

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    Opened,
    Heard(Message),
    /// It has ended, or could not be opened.
    Lost(Loss),
    /// Leave is taken; the place is empty.
    Left,
}

impl Transport {
    pub fn dial(&mut self, dialer: &Dialer, door: Endpoint) {
        *self = Transport::Dialing(Box::pin(dialer.clone().connect(door)));
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Transport::Empty)
    }

    /// Whether there is a connection that has taken what was queued before.
    pub fn takes_more(&self) -> bool {
        matches!(self, Transport::Open(line) if line.unsent.is_empty() && line.stuck_since.is_none())
    }

    /// Queues a message; without a connection it is dropped.
    pub fn send(&mut self, message: Message) {
        if let Transport::Open(line) = self {
            line.unsent.push_back(message);
        }
    }

    /// Bytes came since this was last asked, a whole message or not.
    pub fn has_heard(&mut self) -> bool {
        let Transport::Open(line) = self else { return false };
        let bytes = bytes_read(&line.socket);
        bytes != std::mem::replace(&mut line.bytes, bytes)
    }

    /// Since when the socket takes nothing of what is to be sent.
    pub fn stuck_since(&self) -> Option<Stamp> {
        match self {
            Transport::Open(line) => line.stuck_since,
            Transport::Empty | Transport::Dialing(_) | Transport::Leaving(_) => None,
        }
    }

    /// Takes leave; what was heard until then and not looked at is lost.
    pub fn close(&mut self) {
        *self = match std::mem::take(self) {
            Transport::Open(line) => Transport::Leaving(Box::pin(line.farewell())),
            Transport::Leaving(leaving) => Transport::Leaving(leaving),
            Transport::Empty | Transport::Dialing(_) => Transport::Empty,
        };
    }

    /// As `close`, and waits until leave is taken.
    pub async fn closed(&mut self) {
        self.close();
        if let Transport::Leaving(leaving) = std::mem::take(self) {
            leaving.await;
        }
    }

    /// The next thing that happens; an end leaves the place empty.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Stamp) -> Poll<Event> {
        let event = match self {
            Transport::Empty => return Poll::Pending,
            Transport::Dialing(dialing) => match ready!(dialing.as_mut().poll(cx)) {
                Ok(socket) => {
                    let bytes = bytes_read(&socket);
                    *self = Transport::Open(Box::new(OpenConnection {
                        socket,
                        unsent: VecDeque::new(),
                        stuck_since: None,
                        bytes,
                    }));
                    return Poll::Ready(Event::Opened);
                }
                Err(loss) => Event::Lost(loss),
            },
            Transport::Leaving(leaving) => {
                ready!(leaving.as_mut().poll(cx));
                Event::Left
            }
            Transport::Open(line) => match line.write(cx, now) {
                Err(loss) => Event::Lost(loss),
                Ok(()) => match ready!(line.socket.poll_next_unpin(cx)) {
                    Some(Ok(Message::Close(frame))) => {
                        Event::Lost(closed(frame.map(|frame| (u16::from(frame.code), frame.reason))))
                    }
                    Some(Ok(message)) => return Poll::Ready(Event::Heard(message)),
                    Some(Err(error)) => Event::Lost(loss(error)),
                    None => Event::Lost(closed(None)),
                },
            },
        };
        *self = Transport::Empty;
        Poll::Ready(event)
    }
}

impl OpenConnection {
    async fn farewell(mut self: Box<OpenConnection>) {
        // The upstream may be gone as well; then there is nobody to take leave of.
        tokio::time::timeout(CLOSE_TIMEOUT, self.socket.close(None)).await.ok();
    }

    /// Hands what is queued to the socket, as far as it takes it.
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
