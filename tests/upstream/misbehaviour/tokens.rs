//! Tokens and logins that end under load: they are renewed before, and nothing is lost or twice.

use fanline::bus::Limits;
use fanline::profile::check;
use kit::intake::{self, Intake};
use kit::token_venue::{KEY_VARIABLE, LIFE, TokenVenue};

use super::*;

/// Renewals that each way must show.
const RENEWALS: usize = 3;

const PRICES_OF_TOKENS: &str = r#"
[[on]]
name = "in"
as = "auth_ok"
when = ['/op == "in"']
[[on]]
name = "price"
as = "data"
topic = "${/s}"
"#;

fn request(address: &str, rest: &str) -> String {
    format!(
        "[[request]]\nname = \"token\"\nmethod = \"POST\"\nurl = \"http://{address}/token\"\n\
         take = {{ token = \"/data/token\", endpoint = \"/data/endpoint\", ping = \"/data/ping\" }}\n{rest}\n"
    )
}

/// What is not renewed ends: the venue hangs up.
async fn ends() {
    let venue = TokenVenue::open().await;
    let profile = format!("profile = 1\nname = \"t\"\n{}{PRICES_OF_TOKENS}", request(&venue.address.to_string(), ""));
    let profile = check(&profile, "tokens.toml").unwrap_or_else(|error| panic!("{error}"));
    let intake = Intake::start(intake::settings("${taken.endpoint}?token=${taken.token}", profile, &[]));
    intake.until("a token that has ended", |_| venue.count("cut") > 0 && venue.count("given") > 1).await;
    intake.end().await.expect("a clean end");
}

/// Follows the venue in one way until what it gave was renewed a few times.
async fn renews(sections: impl Fn(&str) -> String, path: &str, url: Option<&str>, renewed: [&str; 2]) {
    let venue = TokenVenue::open().await;
    let sections = sections(&venue.address.to_string());
    let profile = format!("profile = 1\nname = \"tokens\"\n{sections}{PRICES_OF_TOKENS}");
    let profile = check(&profile, "tokens.toml").unwrap_or_else(|error| panic!("{error}"));
    let url = url.map_or_else(|| format!("ws://{}{path}", venue.address), str::to_string);
    let limits = Limits { ring_frames_max: 1 << 16, ring_bytes_max: 64 << 20, topics_max: 10 };
    let intake = Intake::start_within(limits, intake::settings(&url, profile, &[]));
    let enough = || renewed.iter().all(|what| venue.count(what) > RENEWALS);
    intake.until(&format!("{RENEWALS} renewals of {renewed:?}"), |_| enough()).await;
    let published = intake.published();
    let number = |(topic, text): &(String, String)| {
        assert_eq!(topic, "EURUSD", "{text}");
        let message: Value = serde_json::from_str(text).expect("JSON");
        message["n"].as_u64().expect("a number")
    };
    let numbers: Vec<u64> = published.iter().map(number).collect();
    let expected: Vec<u64> = (numbers[0]..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "{renewed:?}: each message once, in order");
    assert!(!intake.log().contains("token-number-"), "{}", intake.log());
    intake.end().await.expect("a clean end");
}

#[tokio::test]
async fn what_ends_under_load_is_renewed_before() {
    let login = |rest: &str| format!("[login]\nsend = '{{\"op\":\"login\",\"token\":\"{rest}\n");
    let by_connection = renews(
        |address| request(address, "life = \"/data/expires_in\""),
        "",
        Some("${taken.endpoint}?token=${taken.token|query}"),
        ["given", "connected"],
    );
    let by_request = renews(
        |address| {
            let renewal =
                format!("[request.renew]\nmethod = \"PUT\"\nurl = \"http://{address}/token?key=${{taken.token}}\"");
            let ping = "[keepalive]\nping = { every = \"${taken.ping}ms\", send = '{\"op\":\"ping\"}' }\n";
            request(address, &format!("life = \"{}s\"\n{renewal}", LIFE.as_secs())) + ping
        },
        "/stream?token=${taken.token}",
        None,
        ["prolonged", "pinged"],
    );
    let by_login = renews(
        |address| {
            request(address, "life = \"/data/expires_in\"\nrenew = \"login\"")
                + &login("${taken.token}\"}'\nok = \"in\"")
        },
        "/open",
        None,
        ["given", "logged in"],
    );
    let by_own_token = renews(
        |_| {
            let sign = format!("[sign.own]\nalg = \"jwt-hs256\"\nkey = {{ env = \"{KEY_VARIABLE}\" }}\n");
            let token = "header = '{\"alg\":\"HS256\"}'\nclaims = '{\"exp\":${now.s|add:3}}'\n";
            format!("{sign}{token}{}", login("${sign.own}\"}'\nok = \"in\"\nlife = \"/expires_in\""))
        },
        "/open",
        None,
        ["logged in", "logged in"],
    );
    tokio::join!(by_connection, by_request, by_login, by_own_token, ends());
}
