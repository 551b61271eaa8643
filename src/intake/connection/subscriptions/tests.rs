//! What becomes of items: requests, answers, refusals, renewals.

use super::*;
use crate::profile::check;
use crate::profile::secrets::Secrets;

struct Venue {
    subscriptions: ItemSubscriptions,
    req: u64,
    now: Stamp,
}

fn venue(subscribe: &str, items: &[&str]) -> Venue {
    let text = format!("profile = 1\nname = \"t\"\n[subscribe]\n{subscribe}\n[[on]]\nname = \"a\"\nas = \"ack\"\n");
    let profile = check(&text, "t").unwrap_or_else(|error| panic!("{error}"));
    let subscribe = Arc::new(profile.subscribe.expect("a section"));
    let items: Vec<Arc<FeedItem>> = items.iter().map(|name| Arc::new(subscribe.item(name))).collect();
    Venue { subscriptions: ItemSubscriptions::new(Some(subscribe), &items), req: 0, now: Stamp::default() }
}

impl Venue {
    fn receives(&mut self) -> Vec<String> {
        let secrets = Secrets::default();
        let mut received = Vec::new();
        while self.subscriptions.has_something_to_say() {
            self.req += 1;
            let context = Context::plain(&secrets, self.now, self.req);
            received.extend(self.subscriptions.next(context, self.now, &|item| Some(format!("#{}", item.name))));
        }
        received
    }

    fn item(&self, name: &str) -> Arc<FeedItem> {
        Arc::new(self.subscriptions.subscribe.as_ref().expect("a section").item(name))
    }

    fn outcomes(&mut self) -> Vec<String> {
        let say = |outcome| match outcome {
            ItemOutcome::Confirmed(item) => format!("+{}", item.name),
            ItemOutcome::Refused { item, why } => format!("-{}: {why}", item.name),
            ItemOutcome::Unanswered(item) => format!("-{}: no answer", item.name),
            ItemOutcome::Unclaimed(answer) => format!("?{answer}"),
        };
        let mut outcomes: Vec<String> = self.subscriptions.outcomes().into_iter().map(say).collect();
        outcomes.sort();
        outcomes
    }
}

#[test]
fn items_go_out_in_batches_of_one_channel() {
    let how = "group_by = \"channel\"\nbatch = 2\nsend = '${channel} ${symbols|join:+} ${params?{${params}}}'\n\
               channels.book = { name = \"b\", params = { depth = 25 } }";
    let mut venue = venue(how, &["book.X", "trade.X", "book.Y", "book.Z"]);
    assert_eq!(venue.receives(), ["b X+Y {\"depth\":25}", "trade X ", "b Z {\"depth\":25}"]);
}

#[test]
fn one_template_subscribes_and_unsubscribes() {
    for (send, expected) in [
        (
            "{\"op\":\"${un}sub\",\"args\":[${items|join:,}]}",
            ["{\"op\":\"sub\",\"args\":[a,b]}", "{\"op\":\"unsub\",\"args\":[a]}"],
        ),
        ("${un|upper}SUB${un?!} ${items|join:,}", ["SUB a,b", "UNSUB! a"]),
    ] {
        let mut venue = venue(&format!("send = '{send}'"), &["a", "b"]);
        assert_eq!(venue.receives(), [expected[0]]);
        venue.subscriptions.unwant(&[venue.item("a")]);
        assert_eq!(venue.receives(), [expected[1]]);
    }
}

#[test]
fn a_channel_has_names_and_messages_of_its_own() {
    let how = "group_by = \"channel\"\nchannel = \"/m/${channel}\"\nitem = '${symbol|json}'\n\
               send = '${channel}${un} [${items|join:,}]'\n\
               channels.bar = { batch = 1, item = '${symbol|before:.|json},${symbol|after:.|json}' }\n\
               channels.l2 = { name = \"/s/level2\" }\nchannels.l3 = { send = '3${un} ${symbol}' }";
    let mut venue = venue(how, &["t.X", "bar.1m.X", "t.Y", "bar.5m.Y", "l2.X", "l3.X"]);
    assert_eq!(
        venue.receives(),
        [r#"/m/t ["X","Y"]"#, r#"/m/bar ["1m","X"]"#, r#"/m/bar ["5m","Y"]"#, r#"/s/level2 ["X"]"#, "3 X"]
    );
    venue.subscriptions.unwant(&["t.X", "bar.1m.X", "bar.5m.Y", "l3.X"].map(|name| venue.item(name)));
    assert_eq!(venue.receives(), [r#"/m/tun ["X"]"#, r#"/m/barun ["1m","X"]"#, r#"/m/barun ["5m","Y"]"#, "3un X"]);
}

#[test]
fn a_message_keeps_its_length_and_an_item_that_cannot_is_refused() {
    let mut venue = venue("send = '${items|join:,}'\nmax_bytes = 7", &["aaa", "bbb", "ccc", "much too long"]);
    assert_eq!(venue.receives(), ["aaa,bbb", "ccc"]);
    assert_eq!(
        venue.outcomes(),
        ["-much too long: expected a subscribe message of at most 7 bytes, found 13; shorten the item"]
    );
}

#[test]
fn a_refused_batch_is_halved_until_the_bad_item_stands_alone() {
    let mut venue = venue(
        "send = '${items|join:,}'\nack = { per = \"request\", id = \"/id\", message = \"/msg\" }",
        &["a", "b", "c", "d"],
    );
    let bad = |batch: &str| batch.contains('c');
    for _ in 0..4 {
        let first = venue.req + 1;
        for (number, batch) in (first..).zip(venue.receives()) {
            match bad(&batch) {
                true => venue.subscriptions.refused(&format!("{{\"id\":{number},\"msg\":\"no {batch}\"}}"), ""),
                false => venue.subscriptions.acknowledged(&format!("{{\"id\":\"{number}\"}}")),
            }
        }
    }
    assert_eq!(venue.outcomes(), ["+a", "+b", "+d", "-c: no c"]);
    assert!(venue.subscriptions.is_settled());
}

#[test]
fn an_item_of_a_refused_batch_that_flows_is_not_requested_again() {
    let mut venue = venue("send = '${items|json}'\nack = { per = \"request\", id = \"/id\" }", &["a", "b"]);
    venue.receives();
    venue.subscriptions.refused(r#"{"id":1}"#, "no b");
    assert!(!venue.subscriptions.is_settled());
    venue.subscriptions.updated("a");
    assert_eq!(venue.receives(), [r#"["b"]"#]);
    venue.subscriptions.refused(r#"{"id":2}"#, "no b");
    assert_eq!(venue.outcomes(), ["+a", "-b: no b"]);
    assert!(venue.subscriptions.is_settled());
}

#[test]
fn an_item_of_a_refused_batch_that_is_not_wanted_any_more_is_forgotten() {
    let mut venue = venue(
        "send = '${items|json}'\nunsubscribe = '-${item}'\nack = { per = \"request\", id = \"/id\" }",
        &["a", "b"],
    );
    venue.receives();
    venue.subscriptions.refused(r#"{"id":1}"#, "");
    let b = venue.item("b");
    venue.subscriptions.unwant(&[b]);
    assert_eq!(venue.receives(), [r#"["a"]"#]);
    venue.subscriptions.acknowledged(r#"{"id":2}"#);
    assert_eq!((venue.outcomes(), venue.subscriptions.is_settled()), (vec!["+a".to_string()], true));
}

#[test]
fn the_answer_to_a_drop_is_not_about_later_requests() {
    for ack in ["per = \"request\", id = \"/id\"", "per = \"item\", id = \"/id\", key = \"/item\""] {
        let how = format!("send = '+${{item}}'\nunsubscribe = '-${{item}}'\nack = {{ {ack} }}");
        let mut venue = venue(&how, &["a"]);
        venue.receives();
        venue.subscriptions.acknowledged(r#"{"id":1,"item":"a"}"#);
        venue.subscriptions.renew("a");
        assert_eq!(venue.receives(), ["-a", "+a"]);
        assert_eq!(venue.outcomes(), ["+a"]);
        venue.subscriptions.acknowledged(r#"{"id":2,"item":"a"}"#);
        assert_eq!(venue.outcomes(), [""; 0], "{ack}");
        venue.subscriptions.refused(r#"{"id":3,"item":"a"}"#, "delisted");
        assert_eq!(venue.outcomes(), ["-a: delisted"], "{ack}");
    }
}

#[test]
fn answers_are_understood_in_every_form() {
    let mut each =
        venue("send = '${items|json}'\nack = { per = \"item\", key = [\"/r/c\", \"/r/s\"] }", &["t.X", "t.Y"]);
    each.receives();
    each.subscriptions.acknowledged(r#"{"r":{"c":"t","s":"Y"}}"#);
    each.subscriptions.refused(r#"{"r":{"c":"t","s":"X"}}"#, "shown");
    assert_eq!(each.outcomes(), ["+t.Y", "-t.X: shown"]);

    let mut list =
        venue("send = '${items|json}'\nack = { per = \"list\", id = \"/id\", ok = \"/result\" }", &["a", "b"]);
    list.receives();
    list.subscriptions.acknowledged(r#"{"id":1,"result":["a"]}"#);
    assert_eq!(list.outcomes(), ["+a", "-b: the feed did not list it among accepted items"]);

    let mut partial = venue(
        "send = '${items|json}'\nack = { per = \"list\", ok = \"/success/*/s\", bad = [\"/fails/*/s\"] }",
        &["a", "b"],
    );
    partial.receives();
    partial.subscriptions.acknowledged(r#"{"success":[{"s":"a"}],"fails":[{"s":"b"}]}"#);
    assert_eq!(partial.outcomes(), ["+a", "-b: the feed refuses it"]);

    let mut all = venue("send = '${items|json}'\nack = { per = \"cumulative\" }", &["a", "b"]);
    all.receives();
    all.subscriptions.acknowledged("{}");
    assert_eq!(all.outcomes(), ["+a", "+b"]);
}

#[test]
fn data_is_an_answer_and_silence_is_reported() {
    let mut venue =
        venue("send = '${items|json}'\nack = { per = \"request\", id = \"/id\", timeout = \"2s\" }", &["a", "b"]);
    venue.receives();
    venue.subscriptions.updated("a");
    assert_eq!(venue.subscriptions.deadline_ns(), Some(2_000_000_000));
    venue.subscriptions.tick(Stamp { wall_ms: 2000, mono_ns: 2_000_000_000 });
    assert_eq!(venue.outcomes(), ["+a", "-b: no answer"]);
    assert_eq!(venue.subscriptions.deadline_ns(), None);
}

#[test]
fn an_unwanted_item_is_not_requested_or_is_dropped() {
    let mut venue = venue("send = '+${item}'\nunsubscribe = '-${bind.key}'", &["a", "b"]);
    let (a, b, c) = (venue.item("a"), venue.item("b"), venue.item("c"));
    venue.subscriptions.unwant(&[b]);
    assert_eq!(venue.receives(), ["+a"]);
    venue.subscriptions.unwant(std::slice::from_ref(&a));
    venue.subscriptions.want(&[c]);
    assert_eq!(venue.receives(), ["-#a", "+c"]);
    venue.subscriptions.want(&[a]);
    assert_eq!(venue.receives(), ["+a"]);
}

#[test]
fn an_item_that_is_wanted_again_before_its_drop_needs_no_message() {
    let mut venue = venue("send = '+${item}'\nunsubscribe = '-${item}'", &["a"]);
    let a = [venue.item("a")];
    venue.receives();
    venue.subscriptions.updated("a");
    assert_eq!(venue.outcomes(), ["+a"]);
    venue.subscriptions.unwant(&a);
    venue.subscriptions.want(&a);
    assert_eq!((venue.receives(), venue.outcomes()), (vec![], vec!["+a".to_string()]));
    venue.subscriptions.renew("a");
    venue.subscriptions.want(&a);
    assert_eq!(venue.receives(), ["-a", "+a"], "a renewal goes on");
}

#[test]
fn items_are_dropped_together_unless_the_message_names_one() {
    for (unsubscribe, expected) in [
        ("-${items|join:+} ${now.s}", vec!["-a+b 0"]),
        ("-${item}", vec!["-a", "-b"]),
        ("-${bind.key}", vec!["-#a", "-#b"]),
    ] {
        let how = format!("send = '+${{items|json}}'\nunsubscribe = '{unsubscribe}'");
        let mut venue = venue(&how, &["a", "b"]);
        let items = [venue.item("a"), venue.item("b")];
        venue.receives();
        venue.subscriptions.unwant(&items);
        assert_eq!(venue.receives(), expected, "{unsubscribe}");
    }
}

#[test]
fn a_venue_without_unsubscribe_keeps_sending() {
    let mut venue = venue("send = '+${item}'", &["a"]);
    let a = [venue.item("a")];
    venue.receives();
    venue.subscriptions.unwant(&a);
    venue.subscriptions.want(&a);
    assert_eq!(venue.receives(), [""; 0]);
}

#[test]
fn a_renewed_item_is_dropped_and_requested() {
    let mut venue = venue("send = '+${item}'\nunsubscribe = '-${item}'", &["a"]);
    venue.receives();
    venue.subscriptions.updated("a");
    venue.subscriptions.renew("a");
    venue.subscriptions.renew("a");
    assert_eq!(venue.receives(), ["-a", "+a"]);
}

#[test]
fn a_venue_that_replaces_everything_receives_everything() {
    let mut venue = venue("send = '${items|json}'\nchange = \"replace_all\"", &["a"]);
    assert_eq!(venue.receives(), [r#"["a"]"#]);
    let b = venue.item("b");
    venue.subscriptions.want(&[b]);
    let messages = venue.receives();
    assert!(messages == [r#"["a","b"]"#] || messages == [r#"["b","a"]"#], "{messages:?}");
}

/// A venue that answers each request with everything subscribed, or refuses it as a whole, and never says which.
#[test]
fn a_refusal_among_cumulative_answers_is_not_lost() {
    for key in ["", ", key = [\"/c/*/name\", \"/c/*/ids/*\"]"] {
        let how = format!(
            "group_by = \"channel\"\nsend = '${{channel}} ${{symbols|join:+}}'\nack = {{ per = \"cumulative\"{key} }}"
        );
        let mut venue = venue(&how, &["a.X", "b.X", "c.X"]);
        assert_eq!(venue.receives(), ["a X", "b X", "c X"]);
        venue.subscriptions.acknowledged(r#"{"c":[{"name":"a","ids":["X"]}]}"#);
        assert_eq!(venue.outcomes(), ["+a.X"], "{key}: the others are not answered yet");
        venue.subscriptions.refused("{}", "no such channel");
        venue.subscriptions.acknowledged(r#"{"c":[{"name":"a","ids":["X"]},{"name":"c","ids":["X"]}]}"#);
        assert_eq!(venue.outcomes(), ["+c.X", "-b.X: no such channel"], "{key}");
        assert!(venue.subscriptions.is_settled());
    }
}

#[test]
fn halves_are_requested_one_after_another_where_answers_have_no_number() {
    let mut venue = venue("send = '${items|join:,}'\nack = { per = \"cumulative\" }", &["a", "bad", "c", "d", "e"]);
    let mut sent = Vec::new();
    for _ in 0..20 {
        let received = venue.receives();
        assert!(received.len() < 2, "one at a time: {received:?}");
        for batch in &received {
            match batch.contains("bad") {
                true => venue.subscriptions.refused("{}", "no"),
                false => venue.subscriptions.acknowledged("{}"),
            }
        }
        sent.extend(received);
    }
    assert_eq!(sent, ["a,bad,c,d,e", "a,bad", "c,d,e", "a", "bad"]);
    assert_eq!(venue.outcomes(), ["+a", "+c", "+d", "+e", "-bad: no"]);
    assert!(venue.subscriptions.is_settled());
}

#[test]
fn a_half_that_is_never_answered_does_not_hold_the_others_up() {
    let mut venue = venue("send = '${items|join:,}'\nack = { per = \"cumulative\", timeout = \"2s\" }", &["a", "b"]);
    venue.receives();
    venue.subscriptions.refused("{}", "no");
    assert_eq!(venue.receives(), ["a"]);
    venue.now = Stamp { wall_ms: 2000, mono_ns: 2_000_000_000 };
    venue.subscriptions.tick(venue.now);
    assert_eq!((venue.receives(), venue.outcomes()), (vec!["b".to_string()], vec!["-a: no answer".to_string()]));
}

#[test]
fn a_channel_has_messages_of_its_own_and_as_many_as_it_needs() {
    let how = "send = '+${items|join:,}'\nunsubscribe = '-${items|join:,}'\n\
               channels.book = { send = ['+book ${symbol} ${req}', 'snapshot ${symbol} ${req}'], unsubscribe = ['-book ${symbol}', '-more ${symbol}'] }\n\
               ack = { per = \"request\", id = \"/id\" }";
    let mut venue = venue(how, &["t.X", "book.X", "t.Y", "book.Y"]);
    let sent = venue.receives();
    assert_eq!(sent, ["+t.X,t.Y", "+book X 2", "snapshot X 3", "+book Y 4", "snapshot Y 5"]);
    for id in 1..=5 {
        venue.subscriptions.acknowledged(&format!("{{\"id\":{id}}}"));
    }
    assert_eq!(venue.outcomes(), ["+book.X", "+book.Y", "+t.X", "+t.Y"]);
    let items = [venue.item("book.X"), venue.item("t.Y")];
    venue.subscriptions.unwant(&items);
    assert_eq!(venue.receives(), ["-book X", "-more X", "-t.Y"]);
}

#[test]
fn an_answer_that_names_nothing_is_shown_when_an_item_has_none() {
    let how = "send = '${items|join:,}'\nack = { per = \"item\", key = \"/ok\", timeout = \"1s\" }";
    let mut venue = venue(how, &["a", "b"]);
    venue.receives();
    venue.subscriptions.acknowledged(r#"{"ok":{"name":"a"}}"#);
    venue.subscriptions.acknowledged(r#"{"ok":"b"}"#);
    assert_eq!(venue.outcomes(), ["+b"]);
    venue.subscriptions.tick(Stamp { mono_ns: 1_000_000_000, ..Stamp::default() });
    assert_eq!(venue.outcomes(), ["-a: no answer", r#"?{"ok":{"name":"a"}}"#]);
}

#[test]
fn an_answer_may_name_several_items_or_repeat_an_object() {
    let how = "send = '${items|json}'\nack = { per = \"item\", key = [\"/c\", \"/s/*\"] }";
    let mut list = venue(how, &["t.A", "t.B", "u.A"]);
    list.receives();
    list.subscriptions.acknowledged(r#"{"c":"t","s":["A","B"]}"#);
    assert_eq!(list.outcomes(), ["+t.A", "+t.B"]);

    let how = "item = '{\"c\":${channel|json},\"s\":${symbol|json}}'\nsend = '${items|join:,}'\n\
               ack = { per = \"item\", key = \"/arg\" }";
    let mut object = venue(how, &["t.A", "t.B"]);
    object.receives();
    object.subscriptions.acknowledged(r#"{"arg":{"s":"B","more":null,"c":"t"}}"#);
    assert_eq!(object.outcomes(), ["+t.B"]);

    let mut parts =
        venue("send = '${items|json}'\nack = { per = \"item\", key = [\"/c\", \"/a\", \"/b\"] }", &["t.X.Y"]);
    parts.receives();
    parts.subscriptions.acknowledged(r#"{"c":"t","a":"X","b":"Y"}"#);
    assert_eq!(parts.outcomes(), ["+t.X.Y"]);
}

#[test]
fn an_item_without_a_channel_has_another_message_or_a_reason() {
    let how = "send = '${channel?${channel}/}${!channel?all }${symbol}'";
    assert_eq!(venue(how, &["t.A", "mids"]).receives(), ["t/A", "all mids"]);
    let mut needs = venue("send = '${channel} ${symbol}'", &["mids"]);
    assert_eq!((needs.receives(), needs.outcomes()), (vec![], vec!["-mids: no value for `channel`".to_string()]));
}
