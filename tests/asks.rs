//! What a client says to the feed is answered on its own connection, and the feed's side learns what clients want.

mod kit;

use kit::client::Client;
use kit::eventually;
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

async fn answer(client: &mut Client) -> Value {
    serde_json::from_str(&client.text().await).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_passed_on_unless_it_is_configured() {
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
async fn what_is_passed_on_is_answered_to_the_asker() {
    let server = serve(&[("UPSTREAM_SEND", "chat.*"), ("UPSTREAM_REQUEST", "true")]).await;
    let (mut asker, mut other) = (greeted(&server).await, greeted(&server).await);
    let send = json!({"op": "send", "id": "s", "topic": "chat.#rust", "data": {"text": "hi"}});
    asker.command(send).await;
    assert_eq!(answer(&mut asker).await, json!({"op": "sent", "id": "s"}));
    // The profile of the simulated market does not say how requests are numbered.
    asker.command(json!({"op": "request", "id": "r", "data": {"method": "depth"}, "timeout_ms": 100})).await;
    let refused = answer(&mut asker).await;
    assert_eq!((&refused["id"], &refused["code"]), (&json!("r"), &json!("not_sent")), "{refused}");
    other.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_clients_want_are_counted_and_said_to_be_on_their_way() {
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
