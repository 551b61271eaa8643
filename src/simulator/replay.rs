//! A recording served as if it were the venue: every guest gets all of it from the start, with the original pauses.
//!
//! Every path is served, and nothing needs to be subscribed to; whatever a guest sends is ignored, pings and close
//! frames are answered. After the last frame a looped replay starts over; any other keeps the connection open and goes
//! on answering pings, as a venue does that has gone quiet. Closing instead would make a client that reconnects get
//! everything a second time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::simulator::SimulatorError;
use crate::simulator::listener::{Farewell, GuestConnection, Host, Listener};
use crate::simulator::recording::Recording;

/// A recording of several sessions holds hours between them; a longer pause is served as this one, divided by the
/// speed like any other. The longest pause inside a session of 26 recorded feeds is 6.3 s.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Frames due within a millisecond are sent together: the timer is not finer.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// How fast a recording is served.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// Pauses are divided by this; 1 is as recorded. Above 0.
    Times(f64),
    /// No pauses: as fast as the guest reads.
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        let positive = |number: &f64| number.is_finite() && *number > 0.0;
        match text {
            "max" => Ok(Speed::Max),
            _ => text.parse().ok().filter(positive).map(Speed::Times).ok_or_else(|| {
                format!("expected a positive number (2 is twice the recorded pace) or `max`, found `{text}`")
            }),
        }
    }
}

/// The replaying venue, listening but not yet serving.
pub struct ReplayServer {
    listener: Listener,
    script: ReplayFrames,
}

struct ReplayFrames {
    recording: Recording,
    speed: Speed,
    looped: bool,
}

impl ReplayServer {
    /// Listens on `addr`; port 0 takes any free one.
    pub async fn bind(
        addr: SocketAddr,
        recording: Recording,
        speed: Speed,
        looped: bool,
    ) -> Result<ReplayServer, SimulatorError> {
        match speed {
            Speed::Times(times) if !(times > 0.0 && times.is_finite()) => Err(SimulatorError::Speed { found: times }),
            _ => Ok(ReplayServer {
                listener: Listener::bind(addr).await?,
                script: ReplayFrames { recording, speed, looped },
            }),
        }
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `stop` becomes true or its sender is gone.
    pub async fn serve(self, stop: watch::Receiver<bool>) {
        self.listener.serve(stop, self.script).await;
    }
}

impl Host for ReplayFrames {
    async fn talk(&self, line: &mut GuestConnection) -> Farewell {
        match self.tell(line).await {
            Ok(never) => match never {},
            Err(farewell) => farewell,
        }
    }
}

impl ReplayFrames {
    async fn tell(&self, line: &mut GuestConnection) -> Result<Infallible, Farewell> {
        let mut due = Instant::now();
        loop {
            for frame in self.recording.frames() {
                due += self.speed.pause(frame.pause);
                if due > Instant::now() + PAUSE_MIN {
                    line.flush().await?;
                    sleep_until(due).await;
                }
                line.put(frame.message.clone()).await?;
            }
            line.flush().await?;
            if !self.looped {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Speed {
    fn pause(self, recorded: Duration) -> Duration {
        match self {
            // A tiny speed asks for a pause beyond any clock; an hour stands for it.
            Speed::Times(times) => Duration::try_from_secs_f64(recorded.min(PAUSE_MAX).as_secs_f64() / times)
                .map_or(Duration::from_secs(3600), |pause| pause.min(Duration::from_secs(3600))),
            Speed::Max => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use futures_util::{SinkExt, StreamExt};
    use tokio::net::TcpStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

    use super::*;

    type Guest = WebSocketStream<MaybeTlsStream<TcpStream>>;

    /// `frames` text frames of 1 KiB, `pause_ms` apart, and a binary one at the end.
    fn recording(frames: usize, pause_ms: u64) -> Recording {
        let mut text = String::new();
        for index in 0..frames as u64 {
            let t_ns = index * pause_ms * 1_000_000;
            let _ = writeln!(text, r#"{{"t_ns":{t_ns},"dir":"in","data":"{index:01024}"}}"#);
        }
        text.push_str(r#"{"t_ns":null,"dir":"in","b64":"AP8Q"}"#);
        Recording::read("test".as_ref(), text.as_bytes()).expect("a sound recording")
    }

    /// Serves `recording` on a free port while `visit` talks to it.
    async fn with_replay<Visit>(
        recording: Recording,
        speed: Speed,
        looped: bool,
        visit: impl FnOnce(Guest) -> Visit,
    ) -> Visit::Output
    where
        Visit: Future,
    {
        let replay =
            ReplayServer::bind(([127, 0, 0, 1], 0).into(), recording, speed, looped).await.expect("a free port");
        let url = format!("ws://{}/stream?streams=a/b", replay.local_addr());
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(replay.serve(stopped));
        let (guest, _) = connect_async(url).await.expect("a WebSocket");
        let seen = visit(guest).await;
        stop.send_replace(true);
        serving.await.expect("the replay ends when it is told to");
        seen
    }

    async fn read(guest: &mut Guest, count: usize) -> Vec<Message> {
        guest.by_ref().take(count).map(|message| message.expect("sound")).collect().await
    }

    #[tokio::test]
    async fn every_frame_is_served_once_and_the_connection_stays() {
        let recording = recording(20_000, 1000);
        let expected: Vec<Message> = recording.frames().iter().map(|frame| frame.message.clone()).collect();
        with_replay(recording, Speed::Max, false, async |mut guest| {
            guest.send(Message::text("{\"method\":\"SUBSCRIBE\"}")).await.expect("sent");
            // More than the sockets hold: the venue has to wait for its guest.
            assert!(read(&mut guest, expected.len()).await == expected);
            guest.send(Message::Ping("still there?".into())).await.expect("sent");
            assert_eq!(read(&mut guest, 1).await, [Message::Pong("still there?".into())]);
            guest.close(None).await.expect("closed");
            assert!(matches!(guest.next().await, Some(Ok(Message::Close(_)))));
        })
        .await;
    }

    #[tokio::test]
    async fn a_loop_starts_over() {
        let recording = recording(3, 1);
        let expected: Vec<Message> = recording.frames().iter().map(|frame| frame.message.clone()).collect();
        with_replay(recording, Speed::Max, true, async |mut guest| {
            for _ in 0..5 {
                assert_eq!(read(&mut guest, expected.len()).await, expected);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn pauses_are_divided_by_the_speed() {
        with_replay(recording(51, 100), Speed::Times(10.0), false, async |mut guest| {
            let start = Instant::now();
            read(&mut guest, 52).await;
            let seconds = start.elapsed().as_secs_f64();
            assert!((0.45..4.5).contains(&seconds), "expected about 0.5 s for 5 s of recording, found {seconds}");
        })
        .await;
        assert_eq!(Speed::Times(2.0).pause(Duration::from_secs(86_400)), Duration::from_secs(5));
        assert_eq!(Speed::Times(f64::MIN_POSITIVE).pause(Duration::from_secs(1)), Duration::from_secs(3600));
    }

    #[tokio::test]
    async fn a_stopped_venue_says_so() {
        let recording = recording(1, 0);
        let mut guest = with_replay(recording, Speed::Max, false, async |mut guest| {
            read(&mut guest, 2).await;
            guest
        })
        .await;
        let Some(Ok(Message::Close(Some(close)))) = guest.next().await else { panic!("expected a close frame") };
        assert_eq!((u16::from(close.code), &*close.reason), (1001, "the venue is stopping"));
    }

    #[tokio::test]
    async fn a_speed_that_is_none_is_refused() {
        for found in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let bound =
                ReplayServer::bind(([127, 0, 0, 1], 0).into(), recording(1, 0), Speed::Times(found), false).await;
            let error = bound.err().expect("refused").to_string();
            assert!(error.contains(&format!("found `{found}`")) && error.contains("max"), "{error}");
        }
    }
}
