//! Every snippet of the documents works: profiles and configurations are valid, messages are those of the program, and
//! what a reader copies into a shell, Python, Node or a page runs against a server.

#[path = "../../examples/acme/venue.rs"]
mod venue;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use bytes::Bytes;
use fanline::protocol::command;
use fanline::protocol::encoding::{Envelope, EnvelopeKind, Payload, PayloadKind, put_envelope};
use fanline::protocol::server_message::{DelayMs, InForce, RightsBounds, ServerMessage, Subscriptions, Within};
use fanline::words::ids::Offset;
use fanline::words::topic::Pattern;
use futures_util::StreamExt;
use kit::document::{all, blocks, blocks_with_headings, first_cells, quoted, read};
use kit::program::{Program, run};
use kit::{DEADLINE, project, skip_without_tool, tool};
use serde_json::Value;
use serde_json::value::RawValue;

/// A folder of its own for each test.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("snippets").join(test);
    std::fs::create_dir_all(&folder).expect("a folder for files");
    folder
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).expect("a writable folder");
}

/// Writes the text to a file and gives what `fanline check` says about it.
fn check(file: &Path, text: &str) -> Result<String, String> {
    write(file, text);
    let (status, said, errors) = run(&["check", file.to_str().expect("UTF-8")], &[]);
    if status.success() { Ok(said) } else { Err(errors) }
}

#[test]
fn every_profile_is_valid() {
    let mut count = 0;
    for document in ["docs/PROFILES.md", "docs/PROFILE_REFERENCE.md"] {
        for profile in blocks(&read(document), "toml") {
            let said = check(&folder("profiles").join("acme.toml"), &profile);
            let said = said.unwrap_or_else(|error| panic!("{document}: {error}\n{profile}"));
            assert!(said.contains("a valid profile, `acme`"), "{said}");
            count += 1;
        }
    }
    assert!(count >= 3, "found {count}");
}

/// An issuer for a configuration that has none.
fn issuer(secret: &Path) -> String {
    let secret = secret.display();
    format!("[[auth.issuer]]\nissuer = 'i'\naudience = ['a']\nalgorithms = ['HS256']\nsecret_file = '{secret}'\n")
}

#[test]
fn every_configuration_is_valid() {
    let mut count = 0;
    // The files that the pages name.
    let secret = folder("configurations").join("secret.txt");
    write(&secret, &"0123456789abcdef".repeat(4));
    let certificate = folder("configurations").join("certificate");
    let certificate = certificate.to_str().expect("UTF-8");
    let (made, _, errors) = run(&["certificate", "--out", certificate, "--force"], &[]);
    assert!(made.success(), "{errors}");
    let secret_text = secret.to_str().expect("UTF-8");
    let files = [
        ("secret.txt", secret_text.to_owned()),
        ("/run/secrets/fanline-admin-key", secret_text.to_owned()),
        (
            "/etc/fanline/fullchain.pem:/etc/fanline/privkey.pem",
            format!("{certificate}/certificate.pem:{certificate}/key.pem"),
        ),
    ];
    for document in all().into_iter().filter(|document| !document.contains("PROFILE")) {
        for text in blocks(&read(&document), "toml") {
            let text = files
                .iter()
                .fold(text, |text, (named, made)| text.replace(&format!("{named:?}"), &format!("{made:?}")));
            // A page on one subject leaves out the feed, and one on tiers the issuer.
            let is_whole = !text.contains("[auth.tier") || text.contains("[[auth.issuer]]");
            let text = if is_whole { text } else { format!("{text}\n{}", issuer(&secret)) };
            let has_feed = text.contains("[simulate]") || text.contains("[upstream]");
            let text = if has_feed { text } else { format!("{text}\n[simulate]\n") };
            let said = check(&folder("configurations").join("fanline.toml"), &text);
            let said = said.unwrap_or_else(|error| panic!("{document}: {error}\n{text}"));
            assert!(said.contains("a valid configuration"), "{document}: {said}");
            count += 1;
        }
    }
    assert!(count >= 2, "found {count}");
}

/// The last profile of the tutorial, which its errors are about.
fn tutorial() -> String {
    let profiles = blocks(&read("docs/PROFILES.md"), "toml");
    let whole = profiles.into_iter().find(|profile| profile.contains("bind_via")).expect("the tutorial has it");
    assert!(whole.lines().count() < 30, "the tutorial promises less than 30 lines");
    whole
}

#[test]
fn the_tutorial_leads_to_the_topics_it_shows() {
    let document = read("docs/PROFILES.md");
    let profile = folder("tutorial").join("acme.toml");
    check(&profile, &tutorial()).expect("valid");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}/", listener.local_addr().expect("bound"));
    std::thread::spawn(move || venue::serve(&listener));
    let command = document.lines().rfind(|line| line.starts_with("fanline probe ws://")).expect("the tutorial has it");
    let asked = command.split(' ').skip_while(|word| *word != "--subscribe");
    let arguments = ["probe", &url, "--profile", profile.to_str().expect("UTF-8")].into_iter().chain(asked);
    let (status, report, errors) = run(&arguments.collect::<Vec<_>>(), &[]);
    assert!(status.success(), "{errors}");
    let topics = |text: &str| -> Vec<String> {
        let rows = text.lines().skip_while(|line| !line.starts_with("topic ")).skip(1);
        rows.filter_map(|row| row.split(' ').next()).filter(|topic| !topic.is_empty()).map(String::from).collect()
    };
    let shown = blocks(&document, "text").into_iter().rfind(|text| text.contains("messages:")).expect("a report");
    let (mut expected, mut found) = (topics(&shown), topics(&report));
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{report}");
    assert_eq!(found.len(), 2);
    assert!(report.contains("no such market"), "the refusal is reported: {report}");
}

#[test]
fn mistakes_are_reported_as_the_guide_says() {
    let document = read("docs/PROFILES.md");
    let right = tutorial();
    let rows: Vec<Vec<&str>> = document
        .lines()
        .skip_while(|line| !line.starts_with("| instead of |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 6, "{rows:?}");
    for row in rows {
        let [instead_of, written, error] = row[..] else { panic!("expected three cells, found {row:?}") };
        let code = |cell: &str| cell.trim_matches('`').replace("\\n", "\n");
        assert!(right.contains(&code(instead_of)), "{instead_of}");
        let wrong = right.replacen(&code(instead_of), &code(written), 1);
        let file = folder("mistakes").join("acme.toml");
        let reported = check(&file, &wrong).expect_err(written);
        let reported = reported.replace(&format!("{}/", folder("mistakes").display()), "");
        assert_eq!(reported.trim_end(), format!("error: {error}"), "{written}");
    }
}

/// Lines of all shell blocks that begin so, without their comments, each with its document.
fn shell_lines(program: &str) -> Vec<(String, String)> {
    let of = |document: String| {
        let blocks = blocks(&read(&document), "sh");
        let lines = blocks.iter().flat_map(|block| block.lines());
        let lines = lines.map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
        let found: Vec<_> = lines.filter(|line| line.split(' ').next() == Some(program)).collect();
        found.into_iter().map(move |line| (document.clone(), line))
    };
    all().into_iter().flat_map(of).collect()
}

/// `--help` behind a command line is answered only if everything before it is right.
#[test]
fn every_command_line_is_understood() {
    let lines = shell_lines("fanline");
    for (document, line) in &lines {
        let script = format!("fanline() {{ \"$PROGRAM\" \"$@\" --help; }}\n{line}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env("PROGRAM", env!("CARGO_BIN_EXE_fanline")).current_dir(folder("commands"));
        let output = shell.output().expect("sh runs");
        assert!(output.status.success(), "{document}: {line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(lines.len() > 20, "found {}", lines.len());
}

#[test]
fn every_target_of_make_exists() {
    let lines = shell_lines("make");
    for (document, line) in &lines {
        let output = Command::new("sh").args(["-c", &format!("{line} --dry-run")]).current_dir(project("")).output();
        let output = output.expect("sh runs");
        assert!(output.status.success(), "{document}: {line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(lines.len() >= 5, "found {}", lines.len());
}

#[test]
fn requests_of_curl_are_answered() {
    let Some(_) = tool("curl") else { return skip_without_tool("snippets", "curl") };
    let server = Program::serve(&[], &[]);
    let mut lines = shell_lines("curl");
    // tests/deploy runs it, on a machine of its own.
    lines.retain(|(document, _)| document != "docs/tutorial.md");
    for (document, line) in &lines {
        let here = line.replace("127.0.0.1:8080", &server.addr().to_string());
        let output = Command::new("sh").args(["-c", &format!("{here} --silent --fail")]).output().expect("sh runs");
        let body = String::from_utf8_lossy(&output.stdout);
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{document}: {error}: {body}"));
        assert!(answer["frames"].is_array(), "{document}: {line}: {answer}");
    }
    assert!(!lines.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_tool_gets_the_feed_as_it_is() {
    let server = tokio::task::spawn_blocking(|| Program::serve(&[], &[])).await.expect("a server");
    let lines = shell_lines("npx");
    let (_, line) = lines.first().expect("the README has it");
    let url = line.split('\'').nth(1).expect("a URL in quotes");
    let url = url.replace("127.0.0.1:8080", &server.addr().to_string());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("an upgrade");
    let message = tokio::time::timeout(DEADLINE, socket.next()).await.expect("in time").expect("open").expect("sound");
    let message: Value = serde_json::from_str(&message.into_text().expect("a text")).expect("JSON");
    assert!(message.get("op").is_none() && message.get("offset").is_none(), "not fanline's envelope: {message}");
}

/// Runs a program until it has printed three lines that begin so.
fn prints(command: &mut Command, beginning: &str) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let (said, lines) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
    let start = Instant::now();
    let (mut found, mut printed) = (0, Vec::new());
    while found < 3 {
        let Ok(line) = lines.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) else { break };
        found += usize::from(line.starts_with(beginning));
        printed.push(line);
    }
    let _ = child.kill();
    let output = child.wait_with_output().expect("the program ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = &printed[printed.len().saturating_sub(10)..];
    assert_eq!(found, 3, "expected lines that begin with `{beginning}`, found {last:?}\n{errors}");
}

#[test]
fn python_prints_what_it_subscribes_to() {
    let python = tool("python").filter(|python| python.ends_with("venv/bin/python"));
    let Some(python) = python else { return skip_without_tool("snippets", "`websockets` for Python") };
    let server = Program::serve(&[], &[]);
    for snippet in blocks(&read("README.md"), "python") {
        let here = snippet.replace("127.0.0.1:8080", &server.addr().to_string());
        prints(Command::new(&python).args(["-u", "-c", &here]), "trade.");
    }
}

/// Node with a global WebSocket, which old ones lack.
fn node(script: &Path) -> Option<Command> {
    let package = project("tests/stock/node_modules/ws/wrapper.mjs");
    let node = tool("node").filter(|_| package.is_file())?;
    let shim = script.with_file_name("shim.mjs");
    write(&shim, &format!("import WebSocket from {package:?};\nglobalThis.WebSocket ??= WebSocket;\n"));
    let mut command = Command::new(node);
    command.arg("--import").arg(shim).arg(script);
    Some(command)
}

/// Puts the client module beside a script, from those files that docs/CLIENT.md says it consists of.
fn put_module(server: &Program, folder: &Path) {
    let document = read("docs/CLIENT.md");
    let files = quoted(&document).into_iter().filter(|name| name.ends_with(".js") && !name.contains(['/', ' ']));
    for name in files {
        let answer = server.get(&format!("/static/{name}"));
        assert_eq!(answer.status, 200, "docs/CLIENT.md names {name}");
        write(&folder.join(name), &answer.body);
    }
    write(&folder.join("package.json"), "{\"type\":\"module\"}");
}

/// A script as it runs outside a page: addresses are absolute, the module is a file.
fn outside_a_page(script: &str, server: &Program) -> String {
    let here = format!("http://{}", server.addr());
    let script = script.replace("http://127.0.0.1:8080", &here).replace("127.0.0.1:8080", &server.addr().to_string());
    let script = script.replace(&format!("{here}/static/"), "./").replace("\"/static/", "\"./");
    script.replace("connect(\"/v1/ws\")", &format!("connect(\"{here}/v1/ws\")"))
}

#[test]
fn scripts_print_what_they_subscribe_to() {
    let server = Program::serve(&[], &[]);
    let readme = read("README.md");
    let pages = blocks(&readme, "html").into_iter().map(|page| {
        let inside = page.split_once("<script type=\"module\">").and_then(|(_, rest)| rest.split_once("</script>"));
        inside.expect("a module script").0.to_owned()
    });
    let scripts = blocks(&readme, "js").into_iter().chain(pages).chain(blocks(&read("docs/CLIENT.md"), "js"));
    let mut count = 0;
    for script in scripts {
        let folder = folder(&format!("script{count}"));
        put_module(&server, &folder);
        write(&folder.join("script.mjs"), &outside_a_page(&script, &server));
        let Some(mut command) = node(&folder.join("script.mjs")) else {
            return skip_without_tool("snippets", "Node with its package `ws`");
        };
        prints(&mut command, "trade.");
        count += 1;
    }
    assert_eq!(count, 3);
}

/// The examples of the protocol's messages, each with the heading it stands under.
fn examples() -> Vec<(String, String)> {
    let mut examples = Vec::new();
    for (heading, block) in blocks_with_headings(&read("docs/PROTOCOL.md"), "json") {
        examples.extend(block.lines().map(|line| (heading.clone(), line.to_owned())));
    }
    examples
}

#[test]
fn every_command_of_the_protocol_is_understood() {
    let mut ops = Vec::new();
    for (_, line) in examples().iter().filter(|(heading, _)| heading == "Commands") {
        let (_, parsed) = command::parse(line, 10);
        parsed.unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"));
        let value: Value = serde_json::from_str(line).expect("JSON");
        ops.push(value["op"].as_str().expect("a command has it").to_owned());
    }
    for op in ["subscribe", "unsubscribe", "ping", "send", "request", "auth"] {
        assert!(ops.iter().any(|it| it == op), "expected an example of `{op}`");
    }
}

/// The message that the program writes with the members of an example.
fn written(line: &str) -> String {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let number = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("{line}: expected a number `{name}`"));
    let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("{line}: expected a text `{name}`"));
    let offset = |name: &str| Offset(number(name));
    let place = value.get("offset").map(|_| offset("offset"));
    let id = value.get("id").map(|id| command::CommandId(id.to_string().into()));
    let id = id.as_ref();
    let topics: Vec<&str> = value["topics"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let topic = || [topics[0]];
    let ts = || number("ts");
    let in_force = value.get("count").map_or(InForce::Topics(&topics), |_| InForce::Count(number("count") as usize));
    let list = |name: &str| {
        let texts = value.get(name)?.as_array()?.iter().filter_map(Value::as_str);
        Some(texts.map(|text| Pattern::parse(text).expect("a pattern")).collect::<Vec<Pattern>>())
    };
    let (forbidden, granted, named) = (list("forbidden"), list("within"), list("named"));
    let within = Within { within: granted.as_deref(), named: named.as_deref() };
    let every_ms = value.get("every_ms").map(|_| number("every_ms"));
    let why = value.get("reason").map(|_| text("reason"));
    let delay_ms = value.get("delay_ms").map(|_| DelayMs::Every(number("delay_ms")));
    let delay_ms = delay_ms.as_ref();
    let bounds = RightsBounds { forbidden: forbidden.as_deref(), within, every_ms, delay_ms, reason: why };
    let answer = |id| Subscriptions { id, in_force, offset: offset("offset"), pending: None, bounds };
    let epoch = || format!("{}:0", text("epoch")).parse::<fanline::words::ids::Cursor>().expect("an epoch").epoch;
    let (message, reason) = (|| text("message"), || text("reason"));
    let data: Box<RawValue>;
    let said = match text("op") {
        "welcome" => ServerMessage::Welcome {
            protocol: text("protocol"),
            epoch: epoch(),
            offset: offset("offset"),
            ts: ts(),
            heartbeat_ms: number("heartbeat_ms"),
            session: number("session"),
            simulated: false,
            delay_ms,
        },
        "view" => ServerMessage::View { epoch: epoch(), offset: offset("offset"), delay_ms, ts: ts() },
        "subscribed" => ServerMessage::Subscribed { answer: answer(id) },
        "unsubscribed" => ServerMessage::Unsubscribed { answer: answer(id) },
        "sent" => ServerMessage::Sent { id },
        "response" => {
            data = RawValue::from_string(value["data"].to_string()).expect("JSON");
            ServerMessage::Response { id, data: &data }
        }
        "authenticated" => {
            let (sub, tier, expires_ms) = (text("sub"), text("tier"), number("expires_ms"));
            ServerMessage::Authenticated { id, sub, tier, expires_ms, every_ms, delay_ms, within }
        }
        "token_expiring" => ServerMessage::TokenExpiring { expires_ms: number("expires_ms"), ts: ts() },
        "pong" => ServerMessage::Pong { id, ts: ts() },
        "error" => ServerMessage::Error { id, code: text("code"), message: message() },
        "skipped" => ServerMessage::Skipped { from: offset("from"), to: offset("to"), reason: reason() },
        "gap" => ServerMessage::Gap {
            topic: text("topic"),
            offset: offset("offset"),
            ts: ts(),
            reason: reason(),
            missed: value.get("missed").map(|_| number("missed")),
        },
        "stale" => {
            let (message, since_ms) = (message(), number("since_ms"));
            ServerMessage::Stale { topics: topic(), reason: reason(), message, since_ms, offset: place, ts: ts() }
        }
        "live" => ServerMessage::Live { topics: topic(), offset: place, ts: ts() },
        "refused" => ServerMessage::Refused { topic: text("topic"), message: message(), offset: place, ts: ts() },
        "heartbeat" => ServerMessage::Heartbeat { offset: offset("offset"), ts: ts() },
        "goodbye" => {
            ServerMessage::Goodbye { code: text("code"), message: message(), reconnect_ms: number("reconnect_ms") }
        }
        "close" => {
            let code = u16::try_from(number("code")).expect("a close code");
            ServerMessage::Close { code, reason: reason() }
        }
        other => {
            panic!("{line}: expected an arm for `{other}` in `written`, found none; or the program has no such message")
        }
    };
    String::from_utf8(said.text()).expect("UTF-8")
}

#[test]
fn every_message_of_the_protocol_is_written_so() {
    let documented = first_cells(&read("docs/PROTOCOL.md"), "`op`");
    let mut shown = Vec::new();
    for (_, line) in examples().iter().filter(|(heading, _)| heading == "Other messages") {
        assert_eq!(written(line), *line);
        shown.push(line.split('"').nth(3).expect("an op comes first").to_owned());
    }
    for op in documented.iter().map(|cell| cell.trim_matches('`')) {
        assert!(shown.iter().any(|it| it == op), "expected an example of `{op}`");
    }
}

#[test]
fn every_frame_of_the_protocol_is_written_so() {
    let mut count = 0;
    for (_, line) in examples().iter().filter(|(heading, _)| heading == "Frames") {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let bytes = line.split_once("\"data\":").and_then(|(_, data)| data.strip_suffix('}')).expect("data comes last");
        let payload = Payload { bytes: Bytes::copy_from_slice(bytes.as_bytes()), kind: PayloadKind::Json };
        let kind = match value["kind"].as_str() {
            Some("snapshot") => Some(EnvelopeKind::Snapshot),
            Some("delta") => Some(EnvelopeKind::Delta),
            _ => None,
        };
        let (topic, number) = (value["topic"].as_str().expect("a topic"), |name: &str| value[name].as_u64());
        let offset = Offset(number("offset").expect("an offset"));
        let envelope = Envelope { topic, offset, ts_ms: number("ts").expect("a time"), kind, payload: &payload };
        let mut out = Vec::new();
        put_envelope(&mut out, &envelope);
        assert_eq!(String::from_utf8(out).as_deref(), Ok(&**line));
        count += 1;
    }
    assert!(count >= 3, "found {count}");
}

/// The members and the types of their values, without the values; of a list its first element. Only the market is
/// `simulated`, and what data look like is the feed's affair.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| *name != "simulated")
            .map(|(name, value)| (name.clone(), if name == "data" { Value::Null } else { shape(value) }))
            .collect(),
        Value::Array(elements) => elements.first().map(shape).into_iter().collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) | Value::Null => value.clone(),
    }
}

#[test]
fn http_answers_as_the_protocol_shows() {
    let market = Program::simulate(&[]);
    let server = Program::serve(&[&market.ws("/"), "--profile", "simulated"], &[]);
    kit::eventually("the feed is live", || (server.get("/readyz").status == 200).then_some(()));
    let mut count = 0;
    for (heading, line) in examples() {
        let Some(path) = heading.strip_prefix("`GET ").map(|rest| rest.trim_end_matches('`')) else { continue };
        let shown: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(shape(&server.get(path).json()), shape(&shown), "{path}");
        count += 1;
    }
    assert_eq!(count, 5);
}
