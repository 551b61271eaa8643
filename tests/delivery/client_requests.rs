//! What a client says to the feed is answered on its own connection, and the feed's side learns what clients want.

use std::path::Path;

use kit::client::Client;
use kit::eventually;
use kit::fake_feed::{FakeFeed, PROFILE};
use kit::http::sum;
use kit::program::Program;
use serde_json::{Value, json};

async fn serve(settings: &'static [(&'static str, &'static str)]) -> Program {
    tokio::task::spawn_blocking(|| Program::serve(&[], settings)).await.expect("a server")
}

async fn greeted(server: &Program) -> Client {
    let mut client = Client::connect(&server.ws("/v1/ws")).await;
    client.expect_op("welcome").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn client_requests_are_refused_unless_the_operator_allows_them() {
    let server = serve(&[]).await;
    let mut client = greeted(&server).await;
    for command in [
        json!({"op": "send", "id": 1, "topic": "chat.#rust", "data": "hi"}),
        json!({"op": "request", "id": 2, "data": {}}),
    ] {
        client.command(command.clone()).await;
        let refused = client.expect_op("error").await;
        assert_eq!((&refused["id"], &refused["code"]), (&command["id"], &json!("forbidden")));
    }
    client.command(json!({"op": "subscribe", "topics": ["nobody.knows"]})).await;
    assert_eq!(client.expect_op("subscribed").await.get("pending"), None);
    let metrics = server.get("/metrics").body;
    assert_eq!(sum(&metrics, "fanline_client_requests_total", "result=\"forbidden\""), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_the_feed_is_confirmed_only_to_its_client() {
    let server = serve(&[("UPSTREAM_SEND", "chat.*")]).await;
    let (mut asker, mut other) = (greeted(&server).await, greeted(&server).await);
    asker.command(json!({"op": "send", "id": "s", "topic": "chat.#rust", "data": {"text": "hi"}})).await;
    assert_eq!(asker.expect_op("sent").await, json!({"op": "sent", "id": "s"}));
    other.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_number_for_its_answer_is_not_sent() {
    // The profile of the simulated market does not say how requests are numbered.
    let server = serve(&[("UPSTREAM_REQUEST", "true")]).await;
    let mut client = greeted(&server).await;
    client.command(json!({"op": "request", "id": "r", "data": {"method": "depth"}, "timeout_ms": 100})).await;
    let refused = client.expect_op("error").await;
    assert_eq!((&refused["id"], &refused["code"]), (&json!("r"), &json!("not_sent")), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_request_reaches_only_its_client_with_its_own_number() {
    let feed = FakeFeed::open();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("requests.toml");
    std::fs::write(&file, PROFILE).expect("a folder to write to");
    let url = feed.url();
    let server = tokio::task::spawn_blocking(move || {
        let args = [&*url, "--profile", file.to_str().expect("UTF-8"), "--subscribe", "v"];
        Program::serve(&args, &[("UPSTREAM_REQUEST", "true")])
    });
    let server = server.await.expect("a server");
    let (mut asker, mut other) = (greeted(&server).await, greeted(&server).await);
    tokio::task::block_in_place(|| eventually("the feed", || (feed.ready(&["v"]).len() == 1).then_some(())));
    asker.command(json!({"op": "request", "id": "r", "data": {"id": 7, "method": "depth"}})).await;
    let heard = || feed.heard().into_iter().find(|text| text.contains("depth"));
    let asked = tokio::task::block_in_place(|| eventually("the request", heard));
    let asked: Value = serde_json::from_str(&asked).expect("JSON");
    assert_eq!(asked, json!({"id": asked["id"], "method": "depth"}));
    feed.say(0, &json!({"id": asked["id"], "result": [1]}).to_string());
    let response = asker.expect_op("response").await;
    assert_eq!(response, json!({"op": "response", "id": "r", "data": {"id": 7, "result": [1]}}));
    other.expect_silence().await;
    let metrics = server.get("/metrics").body;
    assert_eq!(sum(&metrics, "fanline_client_requests_total", "result=\"response\""), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn wanted_topics_are_counted_and_reported_as_pending() {
    let server = serve(&[("UPSTREAM_DEMAND", "on"), ("LIMITS_TOPICS_MAX", "1000")]).await;
    let wanted = |server: &Program, count: f64| {
        eventually("the topics that are wanted are counted", || {
            let metrics = server.get("/metrics").body;
            (sum(&metrics, "fanline_wanted_topics", "") == count).then_some(())
        });
    };
    let mut client = greeted(&server).await;
    client.command(json!({"op": "subscribe", "topics": ["nobody.knows", "this.*"]})).await;
    assert_eq!(client.expect_op("subscribed").await["pending"], json!(["nobody.knows"]));
    let mut other = greeted(&server).await;
    other.command(json!({"op": "subscribe", "topics": ["nobody.knows", "nor.this"]})).await;
    other.expect_op("subscribed").await;
    tokio::task::block_in_place(|| wanted(&server, 2.0));
    drop(other);
    tokio::task::block_in_place(|| wanted(&server, 1.0));
    client.command(json!({"op": "unsubscribe", "topics": ["nobody.knows"]})).await;
    client.expect_op("unsubscribed").await;
    tokio::task::block_in_place(|| wanted(&server, 0.0));
}
