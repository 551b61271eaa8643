//! A recording served as a feed: every client receives all of it from the start, with the original pauses.
//!
//! Every path is served. What the recorder got after it had asked for something is held until the client has said
//! something too, for a few seconds. Otherwise a client's texts are ignored, but for those that an answer is given for;
//! pings and close frames are answered. After the last frame a looped replay starts again. Any other keeps the
//! connection open and answers pings, like a quiet venue: a client that reconnected would receive everything a second
//! time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use regex::Regex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::simulator::SimulatorError;
use crate::simulator::listener::{ClientConnection, Listener, MessageSource, StreamEnd};
use crate::simulator::recording::Recording;

/// A recording of several sessions has hours between them. A longer pause is replaced by this one, divided by the speed
/// like any other. The longest pause inside a session of 26 recorded feeds is 6.3 s.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a client that says nothing holds up what the recorder had asked for. A client subscribes within a second.
const HOLD_MAX: Duration = Duration::from_secs(3);
/// Frames due within a millisecond are sent together: the timer is not finer.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The speed of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// Pauses are divided by this; 1 is as recorded. Above 0.
    Times(f64),
    /// No pauses: as fast as the client reads.
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

/// The replay, listening but not yet serving.
pub struct ReplayServer {
    listener: Listener,
    script: ReplayFrames,
}

/// An answer to what a client says.
#[derive(Clone, Debug)]
pub struct ReplayAnswer {
    pattern: Regex,
    /// `$1` stands for the first group of the pattern.
    text: String,
}

impl ReplayAnswer {
    pub fn new(pattern: &str, text: &str) -> Result<ReplayAnswer, SimulatorError> {
        let refused =
            |error: regex::Error| SimulatorError::Answer { found: pattern.to_string(), reason: error.to_string() };
        Ok(ReplayAnswer { pattern: Regex::new(pattern).map_err(refused)?, text: text.to_string() })
    }

    fn to(&self, said: &str) -> Option<String> {
        let found = self.pattern.captures(said)?;
        let mut answer = String::new();
        found.expand(&self.text, &mut answer);
        Some(answer)
    }
}

struct ReplayFrames {
    recording: Recording,
    answers: Vec<ReplayAnswer>,
    speed: Speed,
    looped: bool,
}

impl ReplayServer {
    /// Listens on `addr`; port 0 takes any free one.
    pub async fn bind(
        addr: SocketAddr,
        (recording, answers): (Recording, Vec<ReplayAnswer>),
        speed: Speed,
        looped: bool,
    ) -> Result<ReplayServer, SimulatorError> {
        match speed {
            Speed::Times(times) if !(times > 0.0 && times.is_finite()) => Err(SimulatorError::Speed { found: times }),
            _ => Ok(ReplayServer {
                listener: Listener::bind(addr).await?,
                script: ReplayFrames { recording, answers, speed, looped },
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

impl MessageSource for ReplayFrames {
    async fn send_all(&self, client: &mut ClientConnection) -> StreamEnd {
        match self.stream(client).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }
}

impl ReplayFrames {
    async fn stream(&self, client: &mut ClientConnection) -> Result<Infallible, StreamEnd> {
        let mut due = Instant::now();
        let mut has_asked = false;
        loop {
            for frame in self.recording.frames() {
                if frame.is_asked_for && !std::mem::replace(&mut has_asked, true) {
                    client.flush().await?;
                    if let Ok(text) = timeout(HOLD_MAX, client.next_text()).await {
                        self.answer(client, &text).await?;
                    }
                    due = Instant::now();
                }
                due += self.speed.pause(frame.pause);
                if due > Instant::now() + PAUSE_MIN {
                    client.flush().await?;
                    self.listen_until(client, due).await?;
                }
                while let Some(text) = client.text_at_hand() {
                    self.answer(client, &text).await?;
                }
                client.put(frame.message.clone()).await?;
            }
            client.flush().await?;
            if self.looped {
                continue;
            }
            loop {
                let text = client.next_text().await;
                self.answer(client, &text).await?;
            }
        }
    }

    /// Answers until it is time for the next frame.
    async fn listen_until(&self, client: &mut ClientConnection, due: Instant) -> Result<(), StreamEnd> {
        while let Ok(text) = timeout_at(due, client.next_text()).await {
            self.answer(client, &text).await?;
        }
        Ok(())
    }

    /// Sends the first answer that fits, if there is one.
    async fn answer(&self, client: &mut ClientConnection, said: &str) -> Result<(), StreamEnd> {
        let Some(answer) = self.answers.iter().find_map(|answer| answer.to(said)) else { return Ok(()) };
        client.put(Message::text(answer)).await?;
        client.flush().await
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
    use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

    use super::*;

    type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

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

    /// Serves `recording` on a free port while `visit` is connected to it.
    async fn with_replay<Visit>(
        recording: Recording,
        speed: Speed,
        looped: bool,
        visit: impl FnOnce(Client) -> Visit,
    ) -> Visit::Output
    where
        Visit: Future,
    {
        with_answers((recording, Vec::new()), speed, looped, visit).await
    }

    async fn with_answers<Visit>(
        recording: (Recording, Vec<ReplayAnswer>),
        speed: Speed,
        looped: bool,
        visit: impl FnOnce(Client) -> Visit,
    ) -> Visit::Output
    where
        Visit: Future,
    {
        let replay =
            ReplayServer::bind(([127, 0, 0, 1], 0).into(), recording, speed, looped).await.expect("a free port");
        let url = format!("ws://{}/stream?streams=a/b", replay.local_addr());
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(replay.serve(stopped));
        let (client, _) = connect_async(url).await.expect("a WebSocket");
        let seen = visit(client).await;
        stop.send_replace(true);
        serving.await.expect("the replay ends when it is stopped");
        seen
    }

    async fn read(client: &mut Client, count: usize) -> Vec<Message> {
        client.by_ref().take(count).map(|message| message.expect("sound")).collect().await
    }

    #[tokio::test]
    async fn every_frame_is_served_once_and_the_connection_stays() {
        let recording = recording(20_000, 1000);
        let expected: Vec<Message> = recording.frames().iter().map(|frame| frame.message.clone()).collect();
        with_replay(recording, Speed::Max, false, async |mut client| {
            client.send(Message::text("{\"method\":\"SUBSCRIBE\"}")).await.expect("sent");
            // More than the sockets hold: the server must wait for its client.
            assert!(read(&mut client, expected.len()).await == expected);
            client.send(Message::Ping("still there?".into())).await.expect("sent");
            assert_eq!(read(&mut client, 1).await, [Message::Pong("still there?".into())]);
            client.close(None).await.expect("closed");
            assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
        })
        .await;
    }

    #[tokio::test]
    async fn a_loop_starts_over() {
        let recording = recording(3, 1);
        let expected: Vec<Message> = recording.frames().iter().map(|frame| frame.message.clone()).collect();
        with_replay(recording, Speed::Max, true, async |mut client| {
            for _ in 0..5 {
                assert_eq!(read(&mut client, expected.len()).await, expected);
            }
        })
        .await;
    }

    #[tokio::test]
    async fn pauses_are_divided_by_the_speed() {
        with_replay(recording(51, 100), Speed::Times(10.0), false, async |mut client| {
            let start = Instant::now();
            read(&mut client, 52).await;
            let seconds = start.elapsed().as_secs_f64();
            assert!((0.45..4.5).contains(&seconds), "expected about 0.5 s for 5 s of recording, found {seconds}");
        })
        .await;
        assert_eq!(Speed::Times(2.0).pause(Duration::from_secs(86_400)), Duration::from_secs(5));
        assert_eq!(Speed::Times(f64::MIN_POSITIVE).pause(Duration::from_secs(1)), Duration::from_secs(3600));
    }

    #[tokio::test]
    async fn a_stopped_replay_sends_a_close_frame() {
        let recording = recording(1, 0);
        let mut client = with_replay(recording, Speed::Max, false, async |mut client| {
            read(&mut client, 2).await;
            client
        })
        .await;
        let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("expected a close frame") };
        assert_eq!((u16::from(close.code), &*close.reason), (1001, "the simulator is stopping"));
    }

    /// A greeting, and what the recorder got for its request.
    const ASKED: &str = r#"{"t_ns":1,"dir":"in","data":"welcome"}
{"t_ns":2,"dir":"out","data":"sub 9"}
{"t_ns":3,"dir":"in","data":"ack 9"}
{"t_ns":4,"dir":"in","data":"price"}"#;

    #[tokio::test]
    async fn what_was_asked_for_is_held_until_the_client_asks() {
        let recording = Recording::read("test".as_ref(), ASKED.as_bytes()).expect("a sound recording");
        with_replay(recording, Speed::Max, false, async |mut client| {
            assert_eq!(read(&mut client, 1).await, [Message::text("welcome")]);
            client.send(Message::Ping("so far?".into())).await.expect("sent");
            assert_eq!(read(&mut client, 1).await, [Message::Pong("so far?".into())], "nothing more was sent");
            client.send(Message::text("sub 1")).await.expect("sent");
            assert_eq!(read(&mut client, 2).await, [Message::text("ack 9"), Message::text("price")]);
        })
        .await;
    }

    #[tokio::test]
    async fn answers_have_what_the_client_said() {
        let recording = Recording::read("test".as_ref(), ASKED.as_bytes()).expect("a sound recording");
        let answer = |pattern, text| ReplayAnswer::new(pattern, text).expect("a pattern");
        let answers = vec![answer(r"^sub (\d+)$", "ack $1"), answer("^ping$", "pong")];
        with_answers((recording, answers), Speed::Max, false, async |mut client| {
            client.send(Message::text("sub 1")).await.expect("sent");
            let texts = ["welcome", "ack 1", "ack 9", "price"].map(Message::text);
            assert_eq!(read(&mut client, 4).await, texts);
            client.send(Message::text("what?")).await.expect("sent");
            client.send(Message::text("ping")).await.expect("sent");
            assert_eq!(read(&mut client, 1).await, [Message::text("pong")]);
        })
        .await;
        let error = ReplayAnswer::new("(", "x").expect_err("no pattern").to_string();
        assert!(error.contains("found `(`"), "{error}");
    }

    #[tokio::test]
    async fn a_speed_that_is_none_is_refused() {
        for found in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let bound = ReplayServer::bind(
                ([127, 0, 0, 1], 0).into(),
                (recording(1, 0), Vec::new()),
                Speed::Times(found),
                false,
            )
            .await;
            let error = bound.err().expect("refused").to_string();
            assert!(error.contains(&format!("found `{found}`")) && error.contains("max"), "{error}");
        }
    }
}
