//! The dashboards of Grafana, made from deploy/grafana/panels.toml and the table of metrics.

use std::collections::BTreeSet;

use fanline::words::metrics;
use serde::Deserialize;
use serde_json::{Value, json};

use kit::document::read;
use kit::project;

/// Panels of a row; a line of Grafana's grid has 24 columns.
const PANELS_A_LINE: u32 = 4;
const PANEL_WIDTH: u32 = 24 / PANELS_A_LINE;
const PANEL_HEIGHT: u32 = 8;
const LOOK_HEIGHT: u32 = 2;
/// Identifiers of rows, and of what to look for; those of panels are below.
const ROW_IDS: u32 = 1_000;
const LOOK_IDS: u32 = 2_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sheet {
    dashboard: Vec<Dashboard>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    pub uid: String,
    title: String,
    description: String,
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    title: String,
    look: String,
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    pub id: u32,
    pub title: String,
    query: Vec<String>,
    legend: Option<String>,
    #[serde(default)]
    legends: Vec<String>,
    unit: Option<String>,
}

impl Dashboard {
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.row.iter().flat_map(|row| &row.panels)
    }

    fn file(&self) -> String {
        format!("deploy/grafana/{}.json", self.uid)
    }

    fn json(&self) -> Value {
        let mut panels = Vec::new();
        let mut y = 0;
        for (number, row) in (0..).zip(&self.row) {
            panels.push(json!({"id": ROW_IDS + number, "type": "row", "title": row.title, "collapsed": false,
                "panels": [], "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}));
            panels.push(json!({"id": LOOK_IDS + number, "type": "text", "title": "", "transparent": true,
                "options": {"mode": "markdown", "content": row.look},
                "gridPos": {"x": 0, "y": y + 1, "w": 24, "h": LOOK_HEIGHT}}));
            y += 1 + LOOK_HEIGHT;
            for (place, panel) in (0..).zip(&row.panels) {
                let (x, line) = (place % PANELS_A_LINE * PANEL_WIDTH, place / PANELS_A_LINE);
                let grid = json!({"x": x, "y": y + line * PANEL_HEIGHT, "w": PANEL_WIDTH, "h": PANEL_HEIGHT});
                panels.push(panel.json(&grid));
            }
            y += u32::try_from(row.panels.len()).expect("few").div_ceil(PANELS_A_LINE) * PANEL_HEIGHT;
        }
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["fanline"],
            "schemaVersion": 39,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "links": [{"type": "dashboards", "tags": ["fanline"], "title": "fanline", "asDropdown": true,
                "includeVars": true, "keepTime": true}],
            "templating": {"list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                {"name": "instance", "label": "Server", "type": "query", "datasource": datasource(),
                    "query": {"query": "label_values(fanline_build_info, instance)", "refId": "instance"},
                    "refresh": 2, "multi": true, "includeAll": true, "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"}},
            ]},
            "panels": panels,
        })
    }
}

impl Panel {
    /// The queries as Grafana has them, of the servers that are chosen.
    pub fn queries(&self) -> Vec<String> {
        self.query.iter().map(|query| of_instances(query)).collect()
    }

    /// The metrics that are shown, by the names of the table.
    pub fn metrics(&self) -> BTreeSet<String> {
        self.query.iter().flat_map(|query| metric_names(query)).collect()
    }

    fn json(&self, grid: &Value) -> Value {
        let targets: Vec<Value> = ('A'..)
            .zip(self.queries())
            .zip(0..)
            .map(|((letter, expr), number)| {
                let legend = self.legends.get(number).or(self.legend.as_ref());
                let legend = legend.unwrap_or_else(|| panic!("`{}` has no legend", self.title));
                json!({"refId": letter, "expr": expr, "legendFormat": legend, "datasource": datasource()})
            })
            .collect();
        let description: Vec<String> = self.metrics().iter().map(|name| format!("`{name}`: {}", help(name))).collect();
        json!({
            "id": self.id,
            "type": "timeseries",
            "title": self.title,
            "description": description.join("\n\n"),
            "datasource": datasource(),
            "fieldConfig": {"defaults": {"unit": self.unit.clone().unwrap_or_else(|| unit(&self.query[0]).into()),
                "min": 0, "custom": {"showPoints": "never"}}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
            "targets": targets,
            "gridPos": grid,
        })
    }
}

pub fn all() -> Vec<Dashboard> {
    let sheet: Sheet = toml::from_str(&read("deploy/grafana/panels.toml")).expect("a sheet of panels");
    sheet.dashboard
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// Grafana's name of the unit that the names of metrics end with; of a rate by the second.
fn unit(query: &str) -> &'static str {
    let name = metric_names(query).pop_last().expect("a query names a metric");
    let stem = name.strip_suffix("_total").unwrap_or(&name);
    match (stem.rsplit('_').next().expect("a word"), query.contains("rate(fanline")) {
        _ if query.contains("histogram_quantile(") => "s",
        ("bytes", true) => "binBps",
        ("bytes", false) => "bytes",
        ("seconds", false) => "s",
        ("ratio", false) => "percentunit",
        (_, true) => "cps",
        (_, false) => "short",
    }
}

/// Places of words in an expression that may name a metric: those of fanline, of the process, and `up`.
fn metric_words(query: &str) -> Vec<(usize, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = query.char_indices().filter(|(at, c)| is_part(*c) && !query[..*at].ends_with(is_part));
    let words = starts.map(|(at, _)| (at, query[at..].split(|c| !is_part(c)).next().expect("a word")));
    words.filter(|(_, word)| *word == "up" || word.starts_with("fanline_") || word.starts_with("process_")).collect()
}

/// The same by the names of the table, without the suffixes of a histogram.
pub fn metric_names(query: &str) -> BTreeSet<String> {
    let words = metric_words(query).into_iter().map(|(_, word)| word.strip_suffix("_bucket").unwrap_or(word));
    words.map(str::to_owned).collect()
}

/// The meaning of a metric; panics if there is none of this name.
fn help(name: &str) -> String {
    if name == "up" {
        return "1 if Prometheus could read /metrics of the server, else 0.".into();
    }
    if let Some(metric) = metrics::ALL.iter().find(|metric| metric.name == name) {
        return metric.help.into();
    }
    let document = read("docs/METRICS.md");
    let row = document.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
    let row = row.unwrap_or_else(|| panic!("expected a metric, found `{name}`"));
    format!("{}.", row.trim_matches(['|', ' ']).rsplit('|').next().expect("a cell").trim())
}

/// The query with the servers that are chosen on the dashboard.
fn of_instances(query: &str) -> String {
    let mut chosen = query.to_owned();
    for (at, word) in metric_words(query).into_iter().rev() {
        let end = at + word.len();
        match query[end..].starts_with('{') {
            true => chosen.insert_str(end + 1, "instance=~\"$instance\","),
            false => chosen.insert_str(end, "{instance=~\"$instance\"}"),
        }
    }
    chosen
}

/// `UPDATE=1 cargo test --test monitoring dashboards` writes the files anew.
#[test]
fn dashboards_are_made_from_their_sheet_and_the_metrics() {
    let dashboards = all();
    for dashboard in &dashboards {
        let text = serde_json::to_string_pretty(&dashboard.json()).expect("JSON") + "\n";
        let path = project(&dashboard.file());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).expect("a writable checkout");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        let remedy = "run UPDATE=1 cargo test --test monitoring dashboards";
        assert!(found == text, "{} is not what panels.toml says; {remedy}", path.display());
        let ids: BTreeSet<u32> = dashboard.panels().map(|panel| panel.id).collect();
        assert_eq!(ids.len(), dashboard.panels().count(), "{}: an identifier is there twice", dashboard.uid);
        assert!(ids.iter().all(|id| *id < ROW_IDS), "{}", dashboard.uid);
    }
    assert!(dashboards.len() >= 3);
}

#[test]
fn every_metric_that_shows_a_fault_has_a_panel() {
    let shown: BTreeSet<String> = all().iter().flat_map(Dashboard::panels).flat_map(Panel::metrics).collect();
    // What is told elsewhere: by a panel of the same cause, or by no fault at all.
    let left_out = [
        "fanline_upstream_up",
        "fanline_upstream_connects_total",
        "fanline_frame_payload_bytes_total",
        "fanline_topics_expired_total",
        "fanline_head_offset",
        "fanline_ring_frames",
        "fanline_view_waiting_frames",
        "fanline_view_head_offset",
        "fanline_sessions_adopted_total",
        "fanline_commands_total",
        "fanline_client_requests_total",
        "fanline_auth_fetches_total",
        "fanline_auth_revocations",
        "fanline_windows",
        "fanline_window_sessions",
        "fanline_http_dropped_total",
        "fanline_audit_events_total",
        "fanline_audit_omitted_events_total",
        "fanline_audit_waiting_bytes",
    ];
    for metric in metrics::ALL {
        let is_left_out = left_out.contains(&metric.name);
        assert!(shown.contains(metric.name) != is_left_out, "{}: shown on a panel, or left out?", metric.name);
    }
}
