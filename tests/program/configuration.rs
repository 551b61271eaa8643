//! What is set is in force, what is wrong is refused with its place and the way out, and what is written is true.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use fanline::config::change::AppliedParts;
use fanline::config::error::ConfigError;
use fanline::config::{self, ConfigSources, Effective, Flag, document};
use fanline::settings::kind::SettingValue;
use fanline::settings::setting::Preset;
use fanline::settings::table::{self, Config, TABLE};

/// A configuration file of this test alone.
fn file(test: &str, text: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("configuration").join(test);
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let path = folder.join("fanline.toml");
    std::fs::write(&path, text).expect("a file for the test");
    path
}

fn flag(name: &str, setting: &'static str, word: &str) -> Flag {
    Flag { name: name.into(), setting, words: vec![word.into()] }
}

fn variables(rows: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    rows.iter().map(|(name, word)| (name.into(), word.into())).collect()
}

fn load_file(test: &str, text: &str) -> Result<Effective, ConfigError> {
    config::load(&ConfigSources { file: Some(file(test, text)), ..ConfigSources::default() })
}

fn load_variables(rows: &[(&str, &str)]) -> Result<Effective, ConfigError> {
    config::load(&ConfigSources { variables: variables(rows), ..ConfigSources::default() })
}

/// Runs the real command with nothing of `FANLINE_…` but `rows`.
fn fanline(arguments: &[&str], rows: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanline"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FANLINE_")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(rows.iter().copied()).output().expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// All that a reload can change is there.
const BOTH: AppliedParts = AppliedParts { identities: true, feed: true };

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let path = file(
        "precedence",
        "listen = '127.0.0.1:1'\n[slow]\nreplay_max = '1s'\nwrite_deadline = '1s'\n[log]\nformat = 'json'\n",
    );
    let sources = ConfigSources {
        file: Some(path.clone()),
        variables: variables(&[("FANLINE_LISTEN", "127.0.0.1:2"), ("FANLINE_SLOW_REPLAY_MAX", "2s"), ("HOME", "/")]),
        flags: vec![flag("--listen", "listen", "127.0.0.1:3")],
    };
    let Effective { config, values, .. } = config::load(&sources).expect("a right configuration");
    assert_eq!(config.listen, [SocketAddr::from(([127, 0, 0, 1], 3)).into()]);
    assert_eq!(config.slow.replay_max, Duration::from_secs(2));
    assert_eq!(config.slow.write_deadline, Duration::from_secs(1));
    assert_eq!(config.slow.unsent_bytes_max, 128 * 1024);
    let origin = |name: &str| values.get(name).1.to_string();
    assert_eq!(origin("listen"), "--listen");
    assert_eq!(origin("slow.replay_max"), "FANLINE_SLOW_REPLAY_MAX");
    assert_eq!(origin("slow.write_deadline"), format!("{}:4", path.display()));
    assert_eq!(origin("slow.unsent_bytes_max"), "default");
}

#[test]
fn the_variable_names_the_file_and_the_flag_overrides_it() {
    let by_variable = file("by_variable", "simulate.seed = 7\n");
    let by_flag = file("by_flag", "simulate.seed = 8\n");
    let by_variable = by_variable.to_str().expect("UTF-8");
    let variables = variables(&[("FANLINE_CONFIG", by_variable), ("FANLINE_SHARED", "/anywhere")]);
    let seed = |file: Option<PathBuf>| {
        let sources = ConfigSources { file, variables: variables.clone(), ..ConfigSources::default() };
        config::load(&sources).expect("a right configuration").config.simulate.seed
    };
    assert_eq!(seed(None), 7);
    assert_eq!(seed(Some(by_flag)), 8);
}

#[test]
fn every_setting_can_be_set_by_file_variable_and_flag_alike() {
    for setting in table::all() {
        let text = match setting.preset {
            Preset::Is("") if setting.name == "history.keep" => "a=1,b=2",
            Preset::Is("") if setting.name == "upstream.headers" => "X-Key: ${env.KEY},Origin: https://a.example",
            Preset::Is("") if setting.name == "http.allowed_origins" => "https://a.example,null",
            Preset::Is("") if setting.name == "proxy.trusted" => "10.0.0.0/8,unix",
            Preset::Is("") => "a,b",
            Preset::Is(text) | Preset::Unset(text) => text,
        };
        let value = setting.kind.read_text(text).unwrap_or_else(|error| panic!("{}: {error}", setting.name));
        let words = match &value {
            SettingValue::List(items) => items.clone(),
            _ => vec![text.to_owned()],
        };
        // A subscription and a topic need a feed.
        let feed = match setting.name {
            "upstream.url" | "relay.parents" => [("FANLINE_UPSTREAM_PROFILE", "generic")],
            _ => [("FANLINE_UPSTREAM_URL", "ws://a.example/")],
        };
        let toml = format!("{} = {}\n", setting.name, value.to_toml());
        let by_file = ConfigSources {
            file: Some(file(&format!("every/{}", setting.name), &toml)),
            variables: variables(&feed),
            ..ConfigSources::default()
        };
        let variable = setting.variable();
        let by_variable =
            ConfigSources { variables: variables(&[feed[0], (&variable, text)]), ..ConfigSources::default() };
        let name = format!("--{}", setting.flag());
        let by_flag = ConfigSources {
            variables: variables(&feed),
            flags: vec![Flag { name, setting: setting.name, words }],
            ..ConfigSources::default()
        };
        for sources in [by_file, by_variable, by_flag] {
            let values = config::load(&sources).unwrap_or_else(|error| panic!("{}: {error}", setting.name)).values;
            assert_eq!(values.get(setting.name).0, Some(&value), "{}", setting.name);
        }
    }
}

#[test]
fn errors_in_a_file_are_refused_with_line_and_remedy() {
    for (index, (text, line, expected)) in [
        (
            "\n[slow]\nreply_max = '2s'",
            3,
            "expected a setting, found `slow.reply_max`; did you mean `slow.replay_max`?",
        ),
        ("replay_max = '2s'", 1, "expected a setting, found `replay_max`; did you mean `slow.replay_max`?"),
        ("# first\n[slwo]\nreplay_max = '2s'", 2, "expected a section, found `slwo`; did you mean `slow`?"),
        (
            "slow = 3",
            1,
            "expected a section, found `slow`; write `[slow]` on a line of its own, and its settings below",
        ),
        (
            "[slow]\nreplay_max = 2",
            2,
            "slow.replay_max: expected a duration from 0s to 1h, found the integer `2`; \
             write a unit and quotes, such as `\"2s\"`",
        ),
        (
            "[limits]\ntopics_max = '5'",
            2,
            "limits.topics_max: expected an integer from 1 to 10000000, found the string `5`; remove the quotes",
        ),
        ("[limits]\n\ntopics_max = 0", 3, "limits.topics_max: expected an integer from 1 to 10000000, found `0`"),
        (
            "[upstream]\nsubscribe = 'btcusdt'",
            2,
            "upstream.subscribe: expected a list of texts, found the string `btcusdt`; write `[\"first\", \"second\"]`",
        ),
        (
            "[upstream]\nurl = 'https://feed.example.com/ws'",
            2,
            "upstream.url: expected a URL ws:// or wss://, found `https://feed.example.com/ws`; \
             a feed is a WebSocket: try `wss://feed.example.com/ws`",
        ),
        (
            "[upstream]\nsend = ['chat.>.a']",
            2,
            "upstream.send: expected `>` only as the whole last token, found `chat.>.a`; \
             write `prefix.>` for everything below prefix",
        ),
        (
            "[http]\nallowed_origins = ['app.example.com']",
            2,
            "http.allowed_origins: expected `*`, `null` or an origin such as `https://example.com` or `http://localhost:3000`, \
             found `app.example.com`; leave out paths and final slashes",
        ),
        (
            "[http]\nallowed_hosts = ['https://feed.example.com']",
            2,
            "http.allowed_hosts: expected a host such as `feed.example.com` or `feed.example.com:8443`, \
             found `https://feed.example.com`; leave out `https://` and paths",
        ),
        ("listen = 8080", 1, "listen: expected addresses IP:PORT, found the integer `8080`; write it in quotes"),
        ("[compression]\nenabled = 'no'", 2, "compression.enabled: expected true or false, found the string `no`"),
        (
            "[upstream]\nbackoff_min = '2m'",
            2,
            "upstream.backoff_min: expected upstream.backoff_min up to upstream.backoff_max, \
             found `2m` and `30s`; raise the maximum or lower the minimum",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let test = format!("wrong/{index}");
        let error = load_file(&test, text).expect_err(text).to_string();
        assert_eq!(error, format!("{}:{line}: {expected}", file(&test, text).display()));
    }
}

#[test]
fn broken_toml_is_refused_with_its_line() {
    let error = load_file("broken", "[slow]\nreplay_max = \n").expect_err("broken").to_string();
    assert!(error.contains("fanline.toml:2: expected TOML: "), "{error}");
    let error = load_file("twice", "[slow]\nreplay_max = '1s'\nreplay_max = '2s'\n").expect_err("twice").to_string();
    assert!(error.contains("fanline.toml:3: expected TOML: "), "{error}");
}

#[test]
fn a_wrong_variable_is_refused_by_name() {
    for (name, word, expected) in [
        (
            "FANLINE_SLOW_REPLY_MAX",
            "2s",
            "FANLINE_SLOW_REPLY_MAX: expected a setting (`FANLINE_SECTION_KEY`), found `FANLINE_SLOW_REPLY_MAX`; \
             did you mean `FANLINE_SLOW_REPLAY_MAX`?",
        ),
        (
            "FANLINE_SLOW_REPLAY_MAX",
            "2",
            "FANLINE_SLOW_REPLAY_MAX: expected a duration from 0s to 1h, found `2`; write a unit, such as `2s` or `2ms`",
        ),
        (
            "FANLINE_RING_BYTES_MAX",
            "64M",
            "FANLINE_RING_BYTES_MAX: expected a size from 64KiB to 1024GiB, found `64M`; \
             write bytes as a plain number, or `64KiB`, `16MiB`, `1GiB`",
        ),
        (
            "FANLINE_UPSTREAM_TOPIC",
            "/s",
            "FANLINE_UPSTREAM_TOPIC: expected a feed to find topics in, found `/s` without upstream.url; \
             the simulated market needs neither; give the URL, or leave this out",
        ),
    ] {
        let error = load_variables(&[(name, word)]).expect_err(name).to_string();
        assert_eq!(error, expected);
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let sources = ConfigSources {
        file: Some(file("several", "colour = 1\n[slow]\nreplay_max = 2\n")),
        variables: variables(&[("FANLINE_SLOW_COLOUR", "1")]),
        flags: vec![flag("--compression-level", "compression.level", "10")],
    };
    let error = config::load(&sources).expect_err("four problems");
    let lines: Vec<usize> = error.problems.iter().map(|problem| problem.line()).collect();
    assert_eq!(lines, [1, 3, 0, 0], "{error}");
    assert_eq!(error.to_string().lines().count(), 4, "{error}");
}

#[test]
fn an_empty_text_unsets_what_may_be_unset() {
    let path = file("unset", "[upstream]\nurl = 'ws://a.example/'\nprofile = 'generic'\nidle_timeout = '5s'\n");
    let variables = variables(&[("FANLINE_UPSTREAM_PROFILE", ""), ("FANLINE_UPSTREAM_IDLE_TIMEOUT", "")]);
    let sources = ConfigSources { file: Some(path), variables, ..ConfigSources::default() };
    let config = config::load(&sources).expect("a right configuration").config;
    assert_eq!((config.upstream.profile, config.upstream.idle_timeout), (None, None));
}

#[test]
fn a_feed_can_be_quiet_for_ever_if_configured_so() {
    let path = file("quiet", "[upstream]\nurl = 'ws://a.example/'\nidle_timeout = 'none'\n");
    let Effective { config, values, .. } =
        config::load(&ConfigSources { file: Some(path), ..ConfigSources::default() }).expect("right");
    assert_eq!(config.upstream.idle_timeout, Some(table::Timeout(None)));
    assert!(document::effective(&values, &[]).contains("idle_timeout = \"none\""));
}

#[test]
fn an_empty_url_or_path_is_refused_instead_of_serving_invented_prices() {
    let remedy = "expected a URL ws:// or wss://, found ``; \
                  write the feed's URL, or remove this; without a feed the simulated market is served";
    for name in ["FANLINE_UPSTREAM_URL", "FANLINE_CONFIG"] {
        let error = load_variables(&[(name, "")]).expect_err(name).to_string();
        let expected = match name {
            "FANLINE_CONFIG" => {
                "expected the path of a configuration file, found an empty text; \
                                 write a path, or remove the variable"
            }
            _ => remedy,
        };
        assert_eq!(error, format!("{name}: {expected}"));
    }
    for arguments in [&["--upstream-url", ""][..], &[""]] {
        let output = fanline(&[arguments, &["--listen", "127.0.0.1:0"]].concat(), &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(remedy), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_file_that_names_no_feed_is_refused_unless_it_asks_for_the_simulated_market() {
    let verdict = |test: &str, text: &str, rows: &[(&str, &str)]| {
        let sources =
            ConfigSources { file: Some(file(test, text)), variables: variables(rows), ..ConfigSources::default() };
        config::load(&sources).expect("a right configuration").require_feed().map_err(|error| error.to_string())
    };
    let limits = "[limits]\nsessions_max = 5\n";
    let refusal = verdict("no_feed", limits, &[]).expect_err("no feed");
    assert!(refusal.contains("no_feed/fanline.toml: expected a feed, found none; write `url = "), "{refusal}");
    assert!(refusal.contains("`[simulate]`"), "{refusal}");
    for (test, text, rows) in [
        ("with_url", "[upstream]\nurl = 'ws://a.example'\n", &[][..]),
        ("with_profile", "[upstream]\nprofile = 'binance'\n", &[]),
        ("url_from_variable", limits, &[("FANLINE_UPSTREAM_URL", "ws://a.example")]),
        ("empty_section", "[simulate]\n", &[]),
        ("dotted", "simulate.rate = 5.0\n", &[]),
        ("simulate_from_variable", limits, &[("FANLINE_SIMULATE_RATE", "5")]),
    ] {
        assert_eq!(verdict(test, text, rows), Ok(()), "{test}");
    }
    let empty = file("no_feed_empty", "");
    let output = fanline(&["--config", empty.to_str().expect("UTF-8"), "--listen", "127.0.0.1:0"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("expected a feed, found none"), "{}", stderr(&output));
}

#[test]
fn foreign_variables_are_ignored_and_named_in_one_line() {
    let rows = [
        ("FANLINE_SERVICE_HOST", "10.0.0.7"),
        ("FANLINE_PORT", "tcp://10.0.0.7:8080"),
        ("FANLINE_PORT_8080_TCP_ADDR", "10.0.0.7"),
        ("FANLINE_VERSION", "1.2.3"),
    ];
    let names = "FANLINE_PORT, FANLINE_PORT_8080_TCP_ADDR, FANLINE_SERVICE_HOST, FANLINE_VERSION";
    assert_eq!(load_variables(&rows).expect("not ours").ignored.join(", "), names);
    let path = file("injected", "[upstream]\nurl = 'ws://127.0.0.1:9'\n");
    let path = path.to_str().expect("UTF-8");
    let output = fanline(&["check", path], &rows);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<String> = stderr(&output).lines().map(Into::into).collect();
    assert_eq!(lines, [format!("warning: ignoring environment variables that are not settings of fanline: {names}")]);
    let output = fanline(&["probe", "ws://127.0.0.1:9", "--seconds", "1"], &rows);
    assert_eq!(output.status.code(), Some(1), "nobody listens there: {}", stderr(&output));
    assert!(fanline(&["--version"], &[("FANLINE_LISTN", "")]).status.success());
}

#[test]
fn the_value_of_a_variable_can_be_in_a_file_and_is_never_shown() {
    let secret = file("secret", "wss://a.example/ws?token=geheim\n");
    let wrong = file("secret_wrong", "https://a.example/ws?token=geheim\n");
    let by_file = |path: &Path| load_variables(&[("FANLINE_UPSTREAM_URL_FILE", path.to_str().expect("UTF-8"))]);
    let effective = by_file(&secret).expect("a right URL");
    assert_eq!(effective.config.upstream.url.as_deref(), Some("wss://a.example/ws?token=geheim"));
    assert_eq!(effective.values.get("upstream.url").1.to_string(), "FANLINE_UPSTREAM_URL_FILE");
    let error = by_file(&wrong).expect_err("no feed").to_string();
    assert!(error.contains("FANLINE_UPSTREAM_URL_FILE: expected a URL ws:// or wss://"), "{error}");
    assert!(!error.contains("geheim"), "{error}");
    let error = by_file(Path::new("/nowhere/secret")).expect_err("no file").to_string();
    assert!(error.contains("found `/nowhere/secret`: No such file"), "{error}");
    let both = [("FANLINE_UPSTREAM_URL", "ws://b.example"), ("FANLINE_UPSTREAM_URL_FILE", "/nowhere/secret")];
    let error = load_variables(&both).expect_err("both").to_string();
    assert!(error.contains("found both; remove this or FANLINE_UPSTREAM_URL"), "{error}");
}

#[test]
fn a_list_keeps_commas_of_flags_and_of_json_and_is_cut_at_the_others_of_variables() {
    let feed = ("FANLINE_UPSTREAM_URL", "ws://a.example/");
    let words = vec!["{\"a\":1,\"b\":2}".to_owned(), "c".to_owned()];
    let flags = vec![Flag { name: "--subscribe".into(), setting: "upstream.subscribe", words: words.clone() }];
    let by_flag = ConfigSources { variables: variables(&[feed]), flags, ..ConfigSources::default() };
    assert_eq!(config::load(&by_flag).expect("right").config.upstream.subscribe, words);
    for (text, items) in [
        ("a, b,", &["a", "b"][..]),
        ("{\"a\":1,\"b\":2}", &["{\"a\":1,\"b\":2}"]),
        ("{\"a\":1,\"b\":2},c", &["{\"a\":1,\"b\":2}", "c"]),
        ("[\"a,b\", {\"c\":1}]", &["a,b", "{\"c\":1}"]),
    ] {
        let by_variable = load_variables(&[feed, ("FANLINE_UPSTREAM_SUBSCRIBE", text)]).expect("right");
        assert_eq!(by_variable.config.upstream.subscribe, items, "{text}");
    }
}

#[test]
fn the_effective_configuration_read_back_is_the_same() {
    let rows = [("FANLINE_UPSTREAM_URL", "ws://a.example/"), ("FANLINE_UPSTREAM_SUBSCRIBE", "a\"b,c")];
    let first = load_variables(&rows).expect("right");
    let again = load_file("read_back", &document::effective(&first.values, &[])).expect("what is printed is valid");
    assert_eq!(again.config, first.config);
}

/// `UPDATE=1 cargo test --test program configuration` writes the files anew.
#[test]
fn the_documents_are_current() {
    for (path, text) in
        [("docs/CONFIGURATION.md", document::markdown()), ("deploy/fanline.example.toml", document::example())]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).expect("a writable checkout");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{} is not what the table of settings says; run UPDATE=1 cargo test --test program configuration",
            path.display()
        );
    }
}

#[test]
fn the_example_file_is_valid_as_it_is_and_with_every_line_in_force() {
    let example = document::example();
    let as_it_is = load_file("example", &example).expect("the example is valid");
    assert_eq!(as_it_is.config, Config::default());
    let line_in_force = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).map(str::to_owned);
    let lines: Vec<String> = example.lines().map(|line| line_in_force(line).unwrap_or(line.to_owned())).collect();
    let path = file("example_in_force", &lines.join("\n"));
    let settings: usize = TABLE.iter().map(|section| section.settings.len()).sum();
    let in_force =
        config::load(&ConfigSources { file: Some(path), ..ConfigSources::default() }).expect("every line is valid");
    assert_eq!(in_force.in_file(), settings);
    as_it_is.require_feed().expect_err("the example as it is names no feed yet");
}

#[test]
fn check_names_the_typo_and_ends_with_2() {
    let wrong = file("check_wrong", "[limits]\nsession_max = 5\n\n[upstream]\npong_timeout = '10'\n");
    let output = fanline(&["check", wrong.to_str().expect("UTF-8")], &[]);
    let place = wrong.display();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        format!(
            "error: {place}:2: expected a setting, found `limits.session_max`; did you mean `limits.sessions_max`?\n\
             error: {place}:5: upstream.pong_timeout: expected a duration from 1ms to 1h, found `10`; \
             write a unit, such as `10s` or `10ms`\n"
        )
    );
    let right = file("check_right", "[limits]\nsessions_max = 5\n[simulate]\n");
    let output = fanline(&["check", right.to_str().expect("UTF-8")], &[]);
    assert_eq!(stdout(&output), format!("{}: a valid configuration, settings: 1\n", right.display()));
    assert!(output.status.success());
}

#[test]
fn config_prints_the_values_in_force_and_their_origins() {
    let output = fanline(&["config", "--compression-level", "9"], &[("FANLINE_SLOW_REPLAY_MAX", "90s")]);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<String> =
        stdout(&output).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "listen = \"127.0.0.1:8080\" # default",
        "replay_max = \"1m 30s\" # FANLINE_SLOW_REPLAY_MAX",
        "level = 9 # --compression-level",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} is missing in {lines:#?}");
    }
}

#[test]
fn a_wrong_command_line_is_refused_with_the_nearest_name_and_ends_with_2() {
    for (arguments, row, expected) in [
        (&["--slow-reply-max", "2s"][..], None, "a similar argument exists: '--slow-replay-max'"),
        (&["simulat"], None, "error: expected a URL or a command, found `simulat`; did you mean `simulate`?\n"),
        (
            &["--listen", "127.0.0.1:0", "simulate"],
            None,
            "error: expected the command first, found `simulate` after flags; try `fanline simulate …`\n",
        ),
        (
            &["example.com/ws"],
            None,
            "error: URL: expected a URL ws:// or wss://, found `example.com/ws`; write it as `wss://example.com/ws`",
        ),
        (
            &["config", "--config", "/nowhere/fanline.toml"],
            None,
            "error: expected a readable configuration file, found `/nowhere/fanline.toml`: No such file or directory",
        ),
        (&["simulate", "--symbols", "0"], None, "error: --symbols: expected an integer from 1 to 500000, found `0`\n"),
        (&["simulate", "--listen", "9001"], None, "expected an address IP:PORT, found `9001`"),
        (&["replay", "x.jsonl", "--speed", "0"], None, "(2 is twice the recorded pace) or `max`, found `0`"),
        (&["probe"], None, "error: expected the URL of a feed, found none; try `fanline probe wss://HOST/PATH`\n"),
        (&["config"], Some(("FANLINE_LISTN", "")), "did you mean `FANLINE_LISTEN`?\n"),
    ] {
        let output = fanline(arguments, row.as_slice());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_not_errors() {
    for (arguments, expected) in [(["--help"], "--slow-replay-max"), (["-h"], "Examples:"), (["--version"], "fanline ")]
    {
        let output = fanline(&arguments, &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains(expected), "{arguments:?}");
    }
}

#[test]
fn shells_can_complete_and_there_is_a_manual_page() {
    for (arguments, expected) in [
        (&["completions", "bash"][..], &["_fanline()", "--slow-replay-max", "health"][..]),
        (&["completions", "zsh"], &["#compdef fanline", "--slow-replay-max"]),
        (&["completions", "fish"], &["complete -c fanline", "slow-replay-max"]),
        (&["man"], &[".TH fanline 1", "slow\\-replay\\-max", "FANLINE_LISTEN", "SIGHUP", "EXIT STATUS"]),
    ] {
        let output = fanline(arguments, &[]);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        let told = stdout(&output);
        for part in expected {
            assert!(told.contains(part), "{arguments:?}: expected {part} in:\n{told}");
        }
    }
}

#[test]
fn a_reload_changes_what_it_can_names_the_rest_and_refuses_what_does_not_fit_together() {
    let load = |text: &str| load_file("reload", text).expect("a good file");
    let before = "[upstream]\nurl = 'ws://a.example'\nsend = ['chat.*']\n[http]\nallowed_origins = ['https://a.example']\n\
                  [auth.tier.free]\ntopics = ['a.*']\n[auth.tier.pro]\ntopics = ['>']\n[auth.anonymous]\ntier = 'free'\n";
    let after = "[limits]\nsessions_max = 7\n[ring]\nframes_max = 4096\n[upstream]\nurl = 'ws://b.example'\nsend = ['chat.*']\n\
                 [auth]\nrequired = true\n[auth.tier.free]\ntopics = ['b.*']\n[auth.tier.pro]\ntopics = ['>']\n";
    let change = load(before).changed_to(load(after), BOTH).expect("they fit together");
    let shown: Vec<String> = change.changed.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "upstream.url from \"ws://a.example\" to \"ws://b.example\"",
            "limits.sessions_max from 100000 to 7",
            "http.allowed_origins from [\"https://a.example\"] to []",
            "auth.required from false to true",
            "auth.tier.free",
            "auth.anonymous",
        ]
    );
    assert_eq!(change.restart, ["ring.frames_max"]);
    let in_force = &change.effective.config;
    assert_eq!((in_force.limits.sessions_max, in_force.ring.frames_max), (7, Config::default().ring.frames_max));
    assert_eq!(in_force.upstream.url.as_deref(), Some("ws://b.example"));
    // The same file again: what was applied is in force, and what was not still waits.
    let again = change.effective.changed_to(load(after), BOTH).expect("they fit together");
    assert_eq!((again.changed.len(), again.restart.len()), (0, 1));

    // In a cluster, and with the simulated market.
    let fed_elsewhere = load(before).changed_to(load(after), AppliedParts { feed: false, ..BOTH }).expect("they fit");
    assert_eq!(fed_elsewhere.restart, ["upstream.url", "ring.frames_max"]);
    assert_eq!(fed_elsewhere.effective.config.upstream.url.as_deref(), Some("ws://a.example"));

    let without =
        load(before).changed_to(load(after), AppliedParts { identities: false, ..BOTH }).expect("they fit together");
    assert!(
        ["auth.required", "auth.tier.free", "auth.anonymous"]
            .map(String::from)
            .iter()
            .all(|name| without.restart.contains(name))
    );
    assert!(!without.effective.config.auth.required && without.effective.auth == load(before).auth);

    let apart = "[upstream]\nurl = 'ws://a.example'\n[http]\nallowed_origins = ['null']\n";
    let error = load(before).changed_to(load(apart), BOTH).expect_err("`send` stays until a restart").to_string();
    assert!(error.contains("fanline.toml:4: http.allowed_origins:") && error.contains("upstream.send"), "{error}");
}

#[test]
fn a_file_without_end_is_refused_and_what_is_no_file_is_not_waited_for_again() {
    let long = file("long", &format!("#{}", "x".repeat(4 << 20)));
    let sources = |file: &Path| ConfigSources { file: Some(file.into()), ..ConfigSources::default() };
    for path in [&*long, Path::new("/dev/zero")] {
        let error = config::load(&sources(path)).expect_err("too much").to_string();
        assert!(error.contains("at most 4 MiB") && error.contains(path.to_str().expect("UTF-8")), "{error}");
    }
    let again = config::load_again(&sources(Path::new("/dev/zero"))).expect_err("no file").to_string();
    assert!(again.contains("found a pipe, a device or a folder, `/dev/zero`; restart to read it"), "{again}");
    let plain = file("again", "[limits]\nsessions_max = 7\n");
    assert_eq!(config::load_again(&sources(&plain)).expect("a good file").config.limits.sessions_max, 7);
}

#[test]
fn a_check_reads_the_files_that_a_start_needs() {
    let gone = "/nowhere/fanline.pem";
    for (text, named) in [
        (format!("listen = ['tls://127.0.0.1:0']\n[tls]\ncertificates = ['{gone}']\n"), "check the files of [tls]"),
        (format!("[admin]\nlisten = '127.0.0.1:0'\nkey_file = '{gone}'\n"), "admin.key_file: expected a readable file"),
    ] {
        let path = file("needed", &format!("{text}[simulate]\n"));
        let output = fanline(&["check", path.to_str().expect("UTF-8")], &[]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(gone) && said.contains(named), "{said}");
    }
}
