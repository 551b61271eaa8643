//! Messages of megabytes go through the log in parts and come out whole on every server, and what is published between
//! them stays in its order. `cargo bench --bench cluster -- large` measures what others wait for meanwhile.

use kit::client::Client;
use kit::cluster_nodes::{Feed, Nodes};
use kit::eventually;
use kit::fake_feed::FakeFeed;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Up to 16 MiB with what is around it, as large as a message of the feed may be by default.
const SIZES: [usize; 4] = [5 << 20, 600 << 10, (16 << 20) - 1024, 5 << 20];
/// Small messages after each large one.
const BETWEEN: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_megabytes_come_out_whole_on_every_server_and_in_their_order() {
    let feed = FakeFeed::open();
    let own = [("UPSTREAM_SUBSCRIBE", "large,small"), ("UPSTREAM_MESSAGE_BYTES_MAX", "32MiB")];
    let Some(nodes) = Nodes::with("large", Feed::Fake(feed.clone()), 2, &own) else { return };
    eventually("the feed is asked", || (feed.ready(&["large", "small"]).len() == 1).then_some(()));
    let mut clients = Vec::new();
    for node in &nodes.nodes {
        let mut client = Client::connect(&node.ws("/v1/ws?policy=lossless&topics=large,small")).await;
        client.expect_op("welcome").await;
        client.expect_op("subscribed").await;
        clients.push(client);
    }
    let (mut rng, mut expected, mut number) = (StdRng::seed_from_u64(5), Vec::new(), 0);
    for bytes in SIZES {
        let text: String = (0..bytes).map(|_| rng.random_range('#'..'[')).collect();
        expected.push(("large", hex::encode(Sha256::digest(&text))));
        feed.publish("large", &json!({"topic": "large", "value": text}).to_string(), |_| false);
        for _ in 0..BETWEEN {
            number += 1;
            expected.push(("small", number.to_string()));
            feed.publish("small", &json!({"topic": "small", "value": number}).to_string(), |_| false);
        }
    }
    let mut offsets: Vec<Vec<u64>> = Vec::new();
    for client in &mut clients {
        let mut seen = Vec::new();
        for (topic, value) in &expected {
            let message: Value = loop {
                let message: Value = serde_json::from_str(&client.text().await).expect("JSON");
                assert!(message["op"].is_null() || message["op"] == "live", "{}", message["op"]);
                if message["op"].is_null() {
                    break message;
                }
            };
            let found = &message["data"]["value"];
            let found = found.as_str().map_or(found.to_string(), |text| hex::encode(Sha256::digest(text)));
            assert_eq!((message["topic"].as_str(), &found), (Some(*topic), value));
            seen.push(message["offset"].as_u64().expect("an offset"));
        }
        offsets.push(seen);
    }
    assert_eq!(offsets[0], offsets[1]);
    assert!(offsets[0].windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", offsets[0]);
}
