//! A client that wants everything and must not notice what others do.

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{Client, Envelope};
use super::program::Program;

/// Reads on in the background. Its task ends, and with it the test, at the first frame that is missing or repeated, and
/// at the first message that is neither a frame nor a notice about the feed.
pub struct Bystander {
    newest: watch::Receiver<u64>,
    reading: JoinHandle<()>,
}

impl Bystander {
    /// Connects and waits for the first live frame.
    pub async fn watch(server: &Program) -> Bystander {
        let mut client = Client::connect(&server.ws("/v1/ws?policy=lossless")).await;
        client.expect_op("welcome").await;
        client.command(json!({"op": "subscribe", "topics": [">"]})).await;
        let subscribed = client.expect_op("subscribed").await;
        let joined = subscribed["offset"].as_u64().expect("an offset");
        let (tell, newest) = watch::channel(joined);
        let reading = tokio::spawn(async move {
            let mut expected = joined + 1;
            loop {
                let text = client.frame().await;
                let frame: Envelope = serde_json::from_str(&text).unwrap_or_else(|_| panic!("not a frame: {text}"));
                if frame.offset <= joined {
                    continue;
                }
                assert_eq!(frame.offset, expected, "neither a gap nor a repeat: {text}");
                expected += 1;
                tell.send_replace(frame.offset);
            }
        });
        let mut bystander = Bystander { newest, reading };
        bystander.goes_on().await;
        bystander
    }

    /// Waits for frames that are newer than what has been received by now.
    pub async fn goes_on(&mut self) {
        const FRAMES: u64 = 20;
        let now = *self.newest.borrow();
        self.newest.wait_for(|newest| *newest >= now + FRAMES).await.expect("the bystander has noticed nothing");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
