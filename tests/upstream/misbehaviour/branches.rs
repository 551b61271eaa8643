//! Several URLs of one feed.

use fanline::profile::check;

use super::*;

#[tokio::test]
async fn items_of_a_branch_are_subscribed_to_at_its_url() {
    let other = ScriptedFeed::open().await;
    let profile = format!("{}[connect.branches]\nlinear = \"{}\"\n", numbered(), other.ws("/linear"));
    let harness = IntakeHarness::open(&profile, &["a", "linear.a", "linear.b"]).await;
    let (mut spot, mut linear) = (harness.accept().await, other.accept().await);
    assert_eq!(linear.uri, "/linear");
    assert_eq!(spot.hear_json().await, json!({"sub": ["a"], "id": 1}));
    assert_eq!(linear.hear_json().await, json!({"sub": ["a", "b"], "id": 1}));
    for caller in [&mut spot, &mut linear] {
        caller.say(r#"{"ok":true,"id":1}"#).await;
    }
    spot.say(price("a", 1)).await;
    harness.until_frames(1).await;
    linear.say(price("a", 2)).await;
    linear.say(price("b", 3)).await;
    let topics: Vec<String> = harness.until_frames(3).await.into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(topics, ["a", "linear.a", "linear.b"]);
    // One that is lost is dialed at its own URL, and subscribes to its own items.
    drop(linear);
    let mut linear = other.accept().await;
    assert_eq!(linear.hear_json().await["sub"], json!(["a", "b"]));
    spot.expect_silence().await;
    linear.say(price("b", 4)).await;
    let frames = harness.until_frames(4).await;
    assert_eq!(frames[3].0, "linear.b");
    harness.end(&[]).await;
}

#[tokio::test]
async fn without_items_of_its_own_no_url_is_dialed() {
    let other = ScriptedFeed::open().await;
    let profile = format!("{}[connect.branches]\nlinear = \"{}\"\n", numbered(), other.ws("/linear"));
    let harness = IntakeHarness::open(&profile, &["linear.a"]).await;
    let mut linear = other.accept().await;
    assert_eq!(linear.hear_json().await["sub"], json!(["a"]));
    linear.say(price("a", 1)).await;
    harness.until_frames(1).await;
    harness.assert_metric(CONNECTED_ONCE);
    harness.end(&[]).await;
}

#[test]
fn branches_have_names_and_subscriptions() {
    let error = |rest: &str| {
        let text = format!("profile = 1\nname = \"x\"\n{rest}\n[on.all]\ntopic = \"x\"\n");
        check(&text, "x.toml").expect_err(rest).to_string()
    };
    let url = "\"ws://127.0.0.1/\"";
    for (rest, expected) in [
        (format!("[connect.branches]\na = {url}"), "x.toml:3: connect.branches: expected `[subscribe]` beside"),
        (
            format!("[connect.branches]\n\"a.b\" = {url}"),
            "x.toml:4: connect.branches.a.b: expected a name without a point",
        ),
        ("[connect.branches]\na = \"x\"".to_string(), "x.toml:4: connect.branches.a: expected"),
        (
            format!("[subscribe]\nsend = \"x\"\n[connect]\nbranches = {{ a = {url} }}\n[snapshot]\nrule = \"x\""),
            "connect.branches: expected no `[snapshot]` beside",
        ),
    ] {
        let error = error(&rest);
        assert!(error.contains(expected), "{error}");
    }
}
