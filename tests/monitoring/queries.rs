//! Prometheus answers each query of the dashboards and the alerts about a server that has clients.

use crate::MACHINE;
use crate::alert_rules;
use crate::dashboards::{self, Dashboard};
use crate::prometheus::Prometheus;
use kit::certificate;
use kit::document::read;
use kit::program::Program;
use kit::raw_client::RawClient;
use kit::tiers::TierFolder;
use kit::{eventually, skip_without_tool};

/// With a delayed view, identities, an archive and a canary, so that no metric is without a series.
const TABLES: &str = r#"
[simulate]
[delay]
bytes_max = "1MiB"
[auth.tier.all]
topics = [">"]
[auth.tier.late]
topics = [">"]
delay = "1s"
[auth.anonymous]
tier = "all"
"#;

#[test]
fn prometheus_has_data_for_every_panel_and_every_alert() {
    let _beside = MACHINE.read();
    let folder = TierFolder::new("monitoring-queries", TABLES);
    let certificate = certificate::write("monitoring-queries", &["localhost"]).pair();
    let archive = folder.path("archive");
    let settings = [
        ("UPSTREAM_DEMAND", "on"),
        ("TLS_CERTIFICATES", &*certificate),
        ("ARCHIVE_DIR", &*archive),
        ("CANARY_ENABLED", "true"),
        ("CANARY_TOPIC", ">"),
    ];
    let config = folder.path("fanline.toml");
    let server = Program::serve_on("127.0.0.1:0,tls://127.0.0.1:0", &["--config", &config], &settings);
    let rules = read("deploy/prometheus/alerts.yml");
    let Some(prometheus) = Prometheus::start("monitoring-queries", &rules, &[server.addr()]) else {
        return skip_without_tool("queries", "prometheus");
    };
    let _client = RawClient::connect(server.addr(), "/v1/ws?topics=%3E", "").look_away();
    let mut queries = 0;
    for panel in dashboards::all().iter().flat_map(Dashboard::panels) {
        for query in panel.queries() {
            let query = query.replace("$instance", ".*").replace("$__rate_interval", "10s");
            // A rate needs two looks.
            eventually(&format!("`{}` has data: {query}", panel.title), || {
                let series = prometheus.query(&query);
                let is_number = |value: &str| value.parse().is_ok_and(f64::is_finite);
                let are_numbers = series.iter().all(|series| series["value"][1].as_str().is_some_and(is_number));
                (!series.is_empty() && are_numbers).then_some(())
            });
            queries += 1;
        }
    }
    assert!(queries > 60, "found {queries}");
    // An alert is silent where all is well; what it looks at is there.
    for rule in alert_rules::all() {
        for metric in rule.metrics() {
            let series = prometheus.query(&format!("{{__name__=~\"{metric}(_bucket)?\"}}"));
            assert!(!series.is_empty(), "{}: no series of {metric}", rule.name);
        }
    }
}
