//! The Helm chart, and the manifests that are made of it: Kubernetes accepts them, and they fit the server.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use fanline::words::metrics;
use kit::document::read;
use kit::program::{Program, run};
use kit::{eventually, project, scratch, skip_without_tool, tool};
use serde_json::Value;

/// Everything that the chart can do, but for what the manifests in deploy/ do.
const EVERYTHING: &str = r#"
replicas: 2
strategy: Recreate
settings: |
  [upstream]
  profile = "kraken-v2"
image: {repository: registry.example.com/fanline, pullSecrets: [{name: registry}]}
feedUrl: {secret: feed, key: url}
environmentSecrets: [venue]
cluster: {urls: ["nats://nats-0:4222", "nats://nats-1:4222"], credentialsSecret: nats}
admin: {keySecret: admin}
service: {type: LoadBalancer, port: 443, annotations: {example.com/scheme: internet-facing}}
networkPolicy: {clients: [{ipBlock: {cidr: 10.0.0.0/8}}]}
podMonitor: {enabled: true}
"#;

fn folder() -> PathBuf {
    let folder = scratch().join("chart");
    for secret in ["feed", "admin", "nats"] {
        std::fs::create_dir_all(folder.join("secrets").join(secret)).expect("a writable target directory");
    }
    folder
}

fn values(name: &str, text: &str) -> PathBuf {
    let file = folder().join(format!("{name}.yaml"));
    std::fs::write(&file, text).expect("a writable target directory");
    file
}

/// What becomes of the chart with each file of values; none without the tools.
fn rendered(files: &[PathBuf]) -> Option<Vec<Value>> {
    let Some(beside) = tool("kubernetes-validate") else {
        skip_without_tool("kubernetes", "kubernetes-validate");
        return None;
    };
    let mut command = Command::new(beside.with_file_name("python"));
    command.arg(project("tests/deploy/chart.py")).arg(project("deploy/helm/fanline")).args(files);
    let output = command.output().expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let outcomes: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(outcomes.len(), files.len());
    Some(outcomes)
}

/// `UPDATE=1 cargo test --test deploy` writes deploy/kubernetes/fanline.yaml anew.
#[test]
fn kubernetes_accepts_the_chart_and_the_server_what_it_is_given() {
    let chart = std::fs::read_to_string(project("deploy/helm/fanline/Chart.yaml")).expect("it is there");
    for key in ["version", "appVersion"] {
        let line = format!("\n{key}: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(chart.contains(&line), "expected{line}");
    }
    let deployed = project("deploy/kubernetes/values.yaml");
    let wrong =
        [("alone", "replicas: 3", "expected cluster.urls"), ("misspelt", "replica: 3", "'replica' not allowed")];
    let mut files = vec![deployed, values("usual", "{}"), values("everything", EVERYTHING)];
    files.extend(wrong.map(|(name, text, _)| values(name, text)));
    let Some(outcomes) = rendered(&files) else { return };
    let (accepted, refused) = outcomes.split_at(3);
    for (outcome, (name, _, reason)) in refused.iter().zip(wrong) {
        let found = outcome["refused"].as_str().unwrap_or_else(|| panic!("{name} is accepted"));
        assert!(found.contains(reason), "{name}: {found}");
    }
    let server = Program::serve(&[], &[]);
    for outcome in accepted {
        assert_eq!(outcome["faults"], Value::Array(Vec::new()), "{}", outcome["refused"]);
        let manifests = outcome["manifests"].as_array().expect("an array");
        check_references(manifests);
        check_settings(manifests);
        check_probes(&server, manifests);
    }
    check_manifests_of_kubectl(outcomes[0]["text"].as_str().expect("a text"));
}

fn kind<'a>(manifests: &'a [Value], kind: &str) -> Option<&'a Value> {
    manifests.iter().find(|manifest| manifest["kind"] == kind)
}

fn pod(manifests: &[Value]) -> &Value {
    &kind(manifests, "Deployment").expect("a Deployment")["spec"]["template"]
}

/// The single container.
fn container(manifests: &[Value]) -> &Value {
    &pod(manifests)["spec"]["containers"][0]
}

/// What names a part of something else names one that is there.
fn check_references(manifests: &[Value]) {
    let labels = pod(manifests)["metadata"]["labels"].as_object().expect("labels");
    let mut selecting = 0;
    for manifest in manifests {
        let spec = &manifest["spec"];
        let selector = [&spec["selector"]["matchLabels"], &spec["podSelector"]["matchLabels"], &spec["selector"]];
        let Some(selector) = selector.into_iter().find_map(Value::as_object) else { continue };
        assert!(selector.iter().all(|(name, value)| labels.get(name) == Some(value)), "{manifest}");
        selecting += 1;
    }
    assert!(selecting >= 3, "found {selecting}");
    let ports = container(manifests)["ports"].as_array().expect("ports");
    let ports: BTreeSet<&str> = ports.iter().filter_map(|port| port["name"].as_str()).collect();
    let service = kind(manifests, "Service").expect("a Service");
    let mut named = vec![&service["spec"]["ports"][0]["targetPort"]];
    if let Some(monitor) = kind(manifests, "PodMonitor") {
        let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
        named.push(&endpoint["port"]);
        // The labels of the job that the alerts expect.
        let job = monitor["spec"]["jobLabel"].as_str().expect("a label");
        assert_eq!(labels[job], "fanline");
    }
    for rule in kind(manifests, "NetworkPolicy").expect("a policy")["spec"]["ingress"].as_array().expect("rules") {
        named.push(&rule["ports"][0]["port"]);
    }
    for port in named {
        assert!(ports.contains(port.as_str().expect("a name")), "no port {port} among {ports:?}");
    }
    if let Some(autoscaler) = kind(manifests, "HorizontalPodAutoscaler") {
        let metric = &autoscaler["spec"]["metrics"][0]["pods"]["metric"]["name"];
        assert!(metrics::ALL.iter().any(|known| known.name == metric.as_str().expect("a name")), "{metric}");
    }
}

/// The file and the variables are a valid configuration, of settings that there are.
fn check_settings(manifests: &[Value]) {
    let settings = &kind(manifests, "ConfigMap").expect("a ConfigMap")["data"]["fanline.toml"];
    let file = folder().join("fanline.toml");
    std::fs::write(&file, settings.as_str().expect("a text")).expect("a writable target directory");
    let secrets = folder().join("secrets");
    for (name, text) in [
        ("feed/url", "wss://feed.example.com/ws?key=1"),
        ("admin/key", "0123456789abcdef"),
        ("nats/nats.creds", "credentials"),
    ] {
        std::fs::write(secrets.join(name), text).expect("a writable target directory");
    }
    let document = read("docs/CONFIGURATION.md");
    let mut variables = Vec::new();
    for variable in container(manifests)["env"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("a name");
        let is_documented = |name: &str| document.contains(&format!("`{name}`"));
        let setting = if is_documented(name) { name } else { name.strip_suffix("_FILE").unwrap_or(name) };
        assert!(is_documented(setting), "{name} is no setting");
        let value = variable["value"].as_str().unwrap_or("from-the-pod");
        let value = value.replace("/run/secrets", secrets.to_str().expect("UTF-8"));
        variables.push((name.strip_prefix("FANLINE_").expect("a setting"), value));
    }
    let given: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
    let (status, verdict, errors) = run(&["check", file.to_str().expect("UTF-8")], &given);
    assert!(status.success(), "{errors}");
    assert!(verdict.contains("a valid configuration"), "{verdict}");
    let seconds = |name: &str| -> i64 {
        let found = given.iter().find(|(found, _)| *found == name).expect("it is set");
        found.1.trim_end_matches('s').parse().expect("seconds")
    };
    let stop = seconds("DRAIN_READINESS_DELAY") + seconds("DRAIN_TIMEOUT");
    let grace = pod(manifests)["spec"]["terminationGracePeriodSeconds"].as_i64().expect("seconds");
    assert!(grace >= stop + 5, "{grace} s to stop in {stop} s");
}

/// Each probe asks for something that a server with a feed has.
fn check_probes(server: &Program, manifests: &[Value]) {
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let path = container(manifests)[probe]["httpGet"]["path"].as_str().expect("a path");
        eventually(path, || (server.get(path).status == 200).then_some(()));
    }
}

/// For those who have no Helm.
fn check_manifests_of_kubectl(text: &str) {
    let file = project("deploy/kubernetes/fanline.yaml");
    let expected = format!(
        "# Three servers that share one feed: kubectl apply -n feeds -f fanline.yaml. See docs/operations/kubernetes.md.\n\
         # Made of deploy/helm/fanline with values.yaml: UPDATE=1 cargo test --test deploy\n{text}"
    );
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &expected).expect("a writable checkout");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{} is not what the chart makes; run UPDATE=1 cargo test --test deploy", file.display());
}
