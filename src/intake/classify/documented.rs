//! The built-in profiles on messages as the venues' documents describe them, mostly of venues without a recording.

use crate::intake::classify::drive::{self, Onlooker};
use crate::intake::classify::{Classified, Classifier, FeedFrame, FeedMessage};
use crate::intake::update::Update;
use crate::profile::Profile;
use crate::words::stamp::Stamp;

/// A classifier's findings: `class`, or `topic` for each update, with ` whole` for a snapshot.
#[derive(Default)]
struct DocumentedResult(Vec<String>);

impl Onlooker for DocumentedResult {
    fn update(&mut self, update: &Update<'_>) {
        let whole = if update.snapshot { " whole" } else { "" };
        self.0.push(format!("{}{whole}", update.topic));
    }

    fn classified(&mut self, classified: &Classified, _: &FeedMessage<'_>) {
        let problem = classified.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
        let reply = classified.reply.as_ref().map(|reply| format!(" -> {reply}")).unwrap_or_default();
        self.0.push(format!("{}{reply}{problem}", classified.class.label()));
    }
}

/// Classifies messages of one connection; returns all findings.
fn classified(profile: &str, messages: &[&str]) -> Vec<String> {
    let mut found = DocumentedResult::default();
    let mut classifier = Classifier::new(&Profile::built_in(profile).expect("built in"));
    for message in messages {
        drive::take(&mut classifier, FeedFrame::Text(message), Stamp::default(), &mut found);
    }
    found.0
}

#[test]
fn bybit_tells_snapshots_from_changes() {
    let found = classified(
        "bybit-v5",
        &[
            r#"{"success":true,"ret_msg":"subscribe","conn_id":"c","req_id":"1","op":"subscribe"}"#,
            r#"{"success":true,"data":{"failTopics":[],"successTopics":["tickers.BTC-1"]},"type":"COMMAND_RESP"}"#,
            r#"{"success":false,"ret_msg":"Invalid topic: x","op":"subscribe"}"#,
            r#"{"success":true,"ret_msg":"pong","conn_id":"c","op":"ping"}"#,
            r#"{"args":["1"],"op":"pong"}"#,
            r#"{"topic":"tickers.BTCUSDT","type":"snapshot","data":{"symbol":"BTCUSDT","ask1Price":"1"},"cs":1,"ts":1}"#,
            r#"{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT","ask1Price":"2"},"cs":2,"ts":2}"#,
            r#"{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1,"data":{"s":"BTCUSDT","b":[],"a":[],"u":7,"seq":9}}"#,
            r#"{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1,"data":[{"s":"BTCUSDT","p":"1","v":"2"}]}"#,
            r#"{"topic":"kline.5.BTCUSDT","type":"snapshot","ts":1,"data":[{"open":"1"}]}"#,
        ],
    );
    let topics = ["tickers.BTCUSDT whole", "data", "tickers.BTCUSDT", "data", "orderbook.50.BTCUSDT", "data"];
    let rest = ["publicTrade.BTCUSDT", "data", "kline.5.BTCUSDT", "data"];
    assert_eq!(found, [&["ack", "ack", "nack", "pong", "pong"][..], &topics, &rest].concat());
}

#[test]
fn kucoin_names_channels_by_their_paths() {
    let found = classified(
        "kucoin",
        &[
            r#"{"id":"hQvf8jkno","type":"welcome"}"#,
            r#"{"id":"1","type":"ack"}"#,
            r#"{"id":"2","type":"error","code":404,"data":"topic /market/tickr:BTC-USDT is not found"}"#,
            r#"{"id":"3","type":"pong"}"#,
            r#"{"type":"message","topic":"/market/ticker:BTC-USDT","subject":"trade.ticker","data":{"price":"0.08"}}"#,
            r#"{"type":"message","topic":"/market/ticker:all","subject":"ETH-USDT","data":{"price":"0.08"}}"#,
            r#"{"type":"message","topic":"/market/match:BTC-USDT","subject":"trade.l3match","data":{"size":"1"}}"#,
            r#"{"type":"message","topic":"/market/level2:BTC-USDT","subject":"trade.l2update",
                "data":{"changes":{"asks":[["1","2","9"]],"bids":[]},"sequenceStart":9,"sequenceEnd":9}}"#,
            r#"{"type":"message","topic":"/spotMarket/level2Depth50:BTC-USDT","subject":"level2","data":{"asks":[]}}"#,
            r#"{"type":"message","topic":"/market/candles:BTC-USDT_1hour","subject":"trade.candles.update","data":{}}"#,
        ],
    );
    let topics = ["ticker.BTC-USDT", "data", "ticker.ETH-USDT", "data", "match.BTC-USDT", "data"];
    let rest = ["level2.BTC-USDT", "data", "depth50.BTC-USDT", "data", "candles.BTC-USDT_1hour", "data"];
    assert_eq!(found, [&["greeting", "ack", "nack", "pong"][..], &topics, &rest].concat());
}

#[test]
fn coinbase_advanced_puts_lists_into_lists() {
    let message = |channel: &str, number: u64, events: &str| {
        format!(
            r#"{{"channel":"{channel}","client_id":"","timestamp":"t","sequence_num":{number},"events":[{events}]}}"#
        )
    };
    let level = r#"{"side":"offer","event_time":"t","price_level":"2.5","new_quantity":"1"}"#;
    let messages = [
        message("subscriptions", 0, r#"{"subscriptions":{"level2":["BTC-USD"]}}"#),
        message("heartbeats", 1, r#"{"current_time":"t","heartbeat_counter":1}"#),
        message("l2_data", 2, &format!(r#"{{"type":"snapshot","product_id":"BTC-USD","updates":[{level}]}}"#)),
        message("l2_data", 3, &format!(r#"{{"type":"update","product_id":"BTC-USD","updates":[{level}]}}"#)),
        message(
            "ticker",
            4,
            r#"{"type":"update","tickers":[{"product_id":"BTC-USD","price":"1"},{"product_id":"ETH-USD"}]}"#,
        ),
        message("market_trades", 5, r#"{"type":"update","trades":[{"product_id":"ETH-USD","price":"1"}]}"#),
        message("candles", 6, r#"{"type":"update","candles":[{"product_id":"ETH-USD","open":"1"}]}"#),
        r#"{"type":"error","message":"no such product"}"#.to_string(),
    ];
    let found = classified("coinbase-advanced", &messages.each_ref().map(String::as_str));
    let books = ["ack", "heartbeat", "level2.BTC-USD whole", "data", "level2.BTC-USD", "data"];
    let rest = [
        "ticker.BTC-USD",
        "ticker.ETH-USD",
        "data",
        "market_trades.ETH-USD",
        "data",
        "candles.ETH-USD",
        "data",
        "nack",
    ];
    assert_eq!(found, [&books[..], &rest].concat());
}

#[test]
fn jetstream_names_collections() {
    let commit = r#"{"did":"did:plc:x","time_us":1,"kind":"commit","commit":{"operation":"create","collection":"app.bsky.feed.post"}}"#;
    let account = r#"{"did":"did:plc:x","time_us":2,"kind":"account","account":{"active":true}}"#;
    assert_eq!(classified("jetstream", &[commit, account]), ["app.bsky.feed.post", "data", "account", "data"]);
}

#[test]
fn twitch_speaks_irc() {
    let found = classified(
        "twitch",
        &[
            ":tmi.twitch.tv CAP * ACK :twitch.tv/tags twitch.tv/commands\r\n",
            ":tmi.twitch.tv 001 justinfan1 :Welcome, GLHF!\r\n:tmi.twitch.tv 376 justinfan1 :>\r\n",
            ":justinfan1!justinfan1@justinfan1.tmi.twitch.tv JOIN #tea\r\n@room-id=1;slow=0 :tmi.twitch.tv ROOMSTATE #tea\r\n",
            "@badge-info=;display-name=Ann;id=1 :ann!ann@ann.tmi.twitch.tv PRIVMSG #tea :hello: all\r\n",
            "@target-msg-id=1 :tmi.twitch.tv CLEARMSG #tea :hello: all\r\n",
            "PING :tmi.twitch.tv\r\n",
            ":tmi.twitch.tv PONG tmi.twitch.tv :fanline\r\n",
            "@msg-id=msg_channel_suspended :tmi.twitch.tv NOTICE #tea :This channel does not exist.\r\n",
            ":tmi.twitch.tv RECONNECT\r\n",
            ":tmi.twitch.tv NOTICE * :Login authentication failed\r\n",
        ],
    );
    let start = ["info", "auth_ok", "info", "ack", "info", "chat.tea", "data", "chat.tea", "data"];
    assert_eq!(found, [&start[..], &["ping -> PONG :tmi.twitch.tv", "pong", "nack", "reconnect", "fatal"]].concat());
}

#[test]
fn each_kind_of_binance_futures_stream_has_its_topic() {
    let found = classified(
        "binance-usdm",
        &[
            r#"{"stream":"!markPrice@arr","data":[{"e":"markPriceUpdate","s":"BTCUSDT","p":"1"},{"e":"markPriceUpdate","s":"ETHUSDT"}]}"#,
            r#"{"stream":"!forceOrder@arr","data":{"e":"forceOrder","o":{"s":"BTCUSDT","q":"1"}}}"#,
            r#"{"stream":"!bookTicker","data":{"e":"bookTicker","u":1,"s":"BTCUSDT","b":"1"}}"#,
            r#"{"stream":"btcusdt@depth20@100ms","data":{"e":"depthUpdate","U":1,"u":2,"pu":0,"b":[],"a":[]}}"#,
            r#"{"id":1,"result":null}"#,
            r#"{"stream":"!serverShutdown","data":{}}"#,
        ],
    );
    let all =
        ["markPrice.BTCUSDT", "markPrice.ETHUSDT", "data", "forceOrder.BTCUSDT", "data", "bookTicker.BTCUSDT", "data"];
    assert_eq!(found, [&all[..], &["btcusdt@depth20@100ms", "data", "ack", "reconnect"]].concat());
}

#[test]
fn refusals_and_orders_to_go_are_known() {
    for (profile, message, class) in [
        (
            "bitfinex-v2",
            r#"{"event":"error","msg":"symbol: invalid","code":10300,"channel":"ticker","symbol":"tX"}"#,
            "nack",
        ),
        ("bitfinex-v2", r#"{"event":"info","code":20051,"msg":"Stopping"}"#, "reconnect"),
        ("bitstamp", r#"{"event":"bts:request_reconnect","channel":"","data":""}"#, "reconnect"),
        ("bitstamp", r#"{"event":"bts:heartbeat","channel":"","data":{"status":"success"}}"#, "pong"),
        (
            "bitstamp",
            r#"{"event":"bts:error","channel":"","data":{"code":null,"message":"Bad subscription string."}}"#,
            "nack",
        ),
        (
            "coinbase-exchange",
            r#"{"type":"error","message":"Failed to subscribe","reason":"x is not a valid product"}"#,
            "nack",
        ),
        ("deribit", r#"{"jsonrpc":"2.0","id":1,"error":{"code":10028,"message":"too_many_requests"}}"#, "nack"),
        ("deribit", r#"{"jsonrpc":"2.0","id":0,"result":"ok"}"#, "info"),
        ("gemini", r#"{"result":"error","reason":"InvalidJson"}"#, "nack"),
        ("htx", r#"{"ts":1,"status":"error","err-code":"bad-request","err-msg":"invalid symbol"}"#, "nack"),
        (
            "kraken-v1",
            r#"{"errorMessage":"Currency pair not supported","event":"subscriptionStatus","pair":"X/Y","status":"error"}"#,
            "nack",
        ),
        ("kraken-v2", r#"{"error":"Subscription depth not supported","method":"subscribe","success":false}"#, "nack"),
        ("kraken-v2", r#"{"Error":"Exceeded msg rate"}"#, "nack"),
        ("okx-v5", r#"{"event":"error","code":"60012","msg":"Illegal request","connId":"a"}"#, "nack"),
        ("okx-v5", r#"{"event":"notice","code":"64008","msg":"The connection will soon be closed"}"#, "reconnect"),
        ("okx-v5", "pong", "pong"),
        ("polygon", r#"[{"ev":"status","status":"auth_failed","message":"authentication failed"}]"#, "fatal"),
        ("alpaca", r#"[{"T":"error","code":402,"msg":"auth failed"}]"#, "fatal"),
        ("alpaca", r#"[{"T":"error","code":407,"msg":"slow client"}]"#, "reconnect"),
        ("tradermade-v2", r#"{"type":"login_reject","reason":"bad key"}"#, "fatal"),
        ("twelvedata", r#"{"code":400,"message":"unknown","status":"error"}"#, "nack"),
    ] {
        assert_eq!(classified(profile, &[message]), [class], "{profile}: {message}");
    }
    let asked = r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#;
    let answered = r#"ping -> {"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}"#;
    assert_eq!(classified("deribit", &[asked]), [answered]);
}

#[test]
fn a_fanline_behind_a_fanline_passes_on_its_state() {
    let found = classified(
        "fanline",
        &[
            r#"{"op":"welcome","protocol":"fanline.v1","epoch":"0000000000000001","offset":7,"ts":1,"heartbeat_ms":15000}"#,
            r#"{"op":"subscribed","topics":[">"],"offset":7}"#,
            r#"{"topic":"quote.A","offset":5,"ts":1,"data":{"op":"stale","kind":"x"}}"#,
            r#"{"topic":"book.A","offset":6,"ts":1,"kind":"snapshot","data":{}}"#,
            r#"{"topic":"book.A","offset":7,"ts":1,"kind":"delta","data":{}}"#,
            r#"{"topic":"raw.A","offset":8,"ts":1,"data_base64":"AA=="}"#,
            r#"{"op":"heartbeat","offset":8,"ts":1}"#,
            r#"{"op":"stale","topics":[">"],"reason":"upstream_down","message":"m","since_ms":1,"ts":1}"#,
            r#"{"op":"stale","topics":["quote.A"],"reason":"topic_silent","message":"m","since_ms":1,"offset":9,"ts":1}"#,
            r#"{"op":"live","topics":[">"],"ts":1}"#,
            r#"{"op":"gap","topic":"quote.A","offset":10,"ts":1,"reason":"sequence","missed":3}"#,
            r#"{"op":"skipped","from":11,"to":20,"reason":"slow"}"#,
            r#"{"op":"refused","topic":"quote.B","message":"m","offset":21,"ts":1}"#,
            r#"{"op":"error","id":1,"code":"bad_pattern","message":"m"}"#,
            r#"{"op":"goodbye","code":"draining","message":"m","reconnect_ms":100}"#,
            r#"{"op":"something_new"}"#,
        ],
    );
    let unmatched = "unmatched: expected a message that a rule matches, found another; add a rule, if necessary with `as = \"ignore\"`";
    let data = ["quote.A", "data", "book.A whole", "data", "book.A", "data", unmatched];
    let state = ["heartbeat", "stale", "stale", "live", "gap", "gap"];
    let rest = ["nack", "nack", "reconnect", "info"];
    assert_eq!(found, [&["greeting", "ack"][..], &data, &state, &rest].concat());
}
