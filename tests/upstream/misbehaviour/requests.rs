//! Requests over HTTP before the connection: each failure names the request and the remedy, and no secret is shown.

use fanline::profile::check;

use super::*;

/// A profile that asks for a token at this URL.
fn asking(url: &str, rest: &str) -> String {
    let request = format!(
        "profile = 1\nname = \"asking\"\n[connect]\nopen_timeout = \"1s\"\n[[request]]\nname = \"token\"\n\
         url = \"{url}\"\ntake = {{ token = \"/data/token\" }}\nmessage = \"/msg\"\n"
    );
    format!("{request}{rest}\n[keepalive]\nidle_timeout = \"none\"\n{PRICES}")
}

fn answer(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_request_without_a_good_answer_is_named_and_made_again() {
    const TOKEN: &str = "sk-live-7f3a9c0d";
    let host = ScriptedFeed::open().await;
    let url = host.ws("/token?pair=a%20b").replacen("ws", "http", 1);
    let shown = host.ws("/token").replacen("ws", "http", 1);
    let harness = IntakeHarness::open_with(&asking(&url, ""), &[], "/feed?t=${taken.token|query}", |_| {}).await;
    let good = || answer("200 OK", "", &format!(r#"{{"data":{{"token":"{TOKEN}"}}}}"#));
    for (fault, sent, part) in [
        ("500", answer("500 Oh", "", ""), "HTTP status 500; the feed has a problem; wait"),
        (
            "401",
            answer("401 No", "", r#"{"msg":"bad key"}"#),
            "status 401; check its keys and their rights; it says `bad key`",
        ),
        ("429", answer("429 Slow", "Retry-After: 0\r\n", "slow"), "too many requests for the feed; wait"),
        ("302", answer("302 Away", "Location: /x\r\n", ""), "or set `upstream.redirects_max`"),
        (
            "no token",
            answer("200 OK", "", r#"{"msg":"later"}"#),
            "expected a text or a number at `/data/token` of the answer, found none; it says `later`",
        ),
        ("no JSON", answer("200 OK", "", "<html>"), "expected a text or a number at `/data/token`"),
        ("no HTTP", "SSH-2.0-OpenSSH\r\n\r\n".to_string(), "the answer is no HTTP"),
        (
            "too large",
            answer("200 OK", "", &" ".repeat((1 << 20) + 1)),
            "expected an answer of at most 1048576 bytes, found a larger one",
        ),
        ("half an answer", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_string(), "the answer is not whole"),
    ] {
        host.turn_away(fault, &sent).await;
        let expected = format!("request `token` to `{shown}`: ");
        harness.until_logged(part).await;
        assert!(harness.log().contains(&expected), "expected `{expected}` in {}", harness.log());
    }
    host.turn_away("good answer, then a refusal", &good()).await;
    harness.venue.turn_away("a refusal", &answer("403 Forbidden", "", &format!("token {TOKEN} is bad"))).await;
    harness.until_logged("it says `token *** is bad`").await;
    host.turn_away("good answer", &good()).await;
    let mut caller = harness.accept().await;
    assert_eq!(caller.uri, format!("/feed?t={TOKEN}"));
    caller.say(price("a", 1)).await;
    harness.until_frames(1).await;
    assert!(!harness.log().contains(TOKEN), "{}", harness.log());
    harness.assert_metric(r#"fanline_upstream_reconnects_total{reason="request"} 9"#);
    harness.end(&[("a refusal", 1)]).await;
}

#[tokio::test]
async fn a_request_has_its_method_headers_and_body_and_what_was_taken_before() {
    let host = ScriptedFeed::open().await;
    let url = host.ws("").replacen("ws", "http", 1);
    let profile = format!(
        "profile = 1\nname = \"two\"\n[connect]\nheaders = {{ \"X-Token\" = \"${{taken.second}}\" }}\n\
         [[request]]\nname = \"first\"\nurl = \"{url}/first\"\ntake = {{ first = \"/n\" }}\n\
         [[request]]\nname = \"second\"\nmethod = \"POST\"\nurl = \"{url}/second?n=${{taken.first}}\"\n\
         headers = {{ \"Content-Type\" = \"application/json\", \"X-First\" = \"${{taken.first}}\" }}\n\
         body = '{{\"n\":\"${{taken.first}}\"}}'\ntake = {{ second = \"/t/0\" }}\n\
         [[open]]\nsend = '{{\"token\":${{taken.second|json}}}}'\n[keepalive]\nidle_timeout = \"none\"\n{PRICES}"
    );
    let harness = IntakeHarness::open(&profile, &[]).await;
    let first = host.turn_away("first", &answer("200 OK", "", r#"{"n":1234567890123456789}"#)).await;
    assert!(first.starts_with("GET /first HTTP/1.1\r\n") && first.contains("user-agent: fanline/"), "{first}");
    let second = host.turn_away("second", &answer("200 OK", "", r#"{"t":["a\"b"]}"#)).await;
    for part in [
        "POST /second?n=1234567890123456789 HTTP/1.1\r\n",
        "content-type: application/json\r\n",
        "content-length: 27\r\n",
        "x-first: 1234567890123456789\r\n",
        "\r\n\r\n{\"n\":\"1234567890123456789\"}",
    ] {
        assert!(second.contains(part), "expected `{part}` in {second}");
    }
    let mut caller = harness.accept().await;
    assert_eq!(caller.header("x-token"), Some("a\"b"));
    assert_eq!(caller.hear().await, r#"{"token":"a\"b"}"#);
    harness.end(&[]).await;
}

#[test]
fn a_wrong_request_is_refused_with_its_place() {
    let (rule, url) = ("[[on]]\nname = \"n\"\nas = \"ignore\"\n", "url = \"https://h/t\"\n");
    for (request, part) in [
        ("[[request]]\nname = \"a\"\n", "request.1.url: expected `url = \"https://api.example.com/token\"`"),
        ("[[request]]\nname = \"a\"\nurl = \"wss://h\"\n", "request.1.url: expected a URL that begins with `https://`"),
        (&format!("[[request]]\nname = \"a\"\n{url}method = \"PATCH\"\n"), "request.1.method: expected one of `GET`"),
        (&format!("[[request]]\nname = \"a\"\n{url}take = {{ a = \"b\" }}\n"), "request.1.take.a: "),
        (
            &format!("[[request]]\nname = \"a\"\n{url}renew = \"login\"\n"),
            "expected `life` or `expires` beside `renew`",
        ),
        (&format!("[[request]]\nname = \"a\"\n{url}life = \"1m\"\nexpires = \"/e\"\n"), "found both"),
        (&format!("[[request]]\nname = \"a\"\n{url}life = \"1m\"\nrenew = \"login\"\n"), "expected `[login]` for"),
        (
            &format!("[[request]]\nname = \"a\"\n{url}body = '${{taken.b}}'\n"),
            "expected a section `[request.NAME]` before it that takes `b`",
        ),
        (
            &format!(
                "[[request]]\nname = \"a\"\n{url}take = {{ token = \"/t\" }}\n[connect]\nheaders = {{ X = \"${{taken.tokn}}\" }}\n"
            ),
            "did you mean `token`?",
        ),
        ("[connect]\nurl = \"wss://h/${taken.t}\"\n", "expected a section `[request.NAME]` before it that takes `t`"),
        ("[login]\nsend = \"x\"\nlife = \"/in\"\n", "expected `ok` beside a life that the answer says"),
        ("[login]\nsend = \"x\"\nrenew = \"login\"\n", "expected `life` or `expires` beside `renew`"),
    ] {
        let text = format!("profile = 1\nname = \"t\"\n{request}{rule}");
        let error = check(&text, "t.toml").expect_err(&text).to_string();
        assert!(error.starts_with("t.toml:") && error.contains(part), "{text}\n{error}");
    }
}
