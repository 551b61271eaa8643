//! Each alert has a severity, a page and a panel, and fires and clears as its unit tests say.

use std::collections::BTreeSet;
use std::process::Command;

use crate::dashboards::{self, metric_names};
use kit::document::read;
use kit::{project, skip_without_tool, tool};

const LINES_OF_A_PAGE_MAX: usize = 40;
const HEADINGS: [&str; 3] = ["## What it means", "## What to look at", "## What to do"];

/// An alert by its lines in the file; Prometheus reads the file as a whole in other tests.
pub struct AlertRule {
    pub name: String,
    lines: Vec<String>,
}

impl AlertRule {
    /// What follows a key on its line; empty if the key is not there.
    fn value(&self, key: &str) -> &str {
        let value = self.lines.iter().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        value.trim().trim_matches('"')
    }

    /// The metrics of its expression, by the names of the table.
    pub fn metrics(&self) -> BTreeSet<String> {
        let start = self.lines.iter().position(|line| line.starts_with("expr:")).expect("an expression");
        let end = self.lines.iter().position(|line| line.starts_with("labels:")).expect("labels");
        metric_names(&self.lines[start..end].join("\n"))
    }
}

pub fn all() -> Vec<AlertRule> {
    let mut rules: Vec<AlertRule> = Vec::new();
    for line in read("deploy/prometheus/alerts.yml").lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        match (line.strip_prefix("- alert: "), rules.last_mut()) {
            (Some(name), _) => rules.push(AlertRule { name: name.to_owned(), lines: Vec::new() }),
            (None, Some(rule)) => rule.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(rules.len() > 20, "found {}", rules.len());
    rules
}

#[test]
fn every_alert_has_a_page_and_every_page_an_alert() {
    let names: BTreeSet<String> = all().into_iter().map(|rule| rule.name).collect();
    let folder = std::fs::read_dir(project("docs/operations/alerts")).expect("pages");
    let files = folder.map(|entry| entry.expect("a readable entry").file_name().into_string().expect("UTF-8"));
    let pages: BTreeSet<String> = files.map(|file| file.trim_end_matches(".md").to_owned()).collect();
    assert_eq!(names, pages);
    let guide = read("docs/operations/watch.md");
    for name in &pages {
        let page = read(&format!("docs/operations/alerts/{name}.md"));
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        assert!(page.lines().count() <= LINES_OF_A_PAGE_MAX, "{name}: {} lines", page.lines().count());
        let headings: Vec<&str> = page.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(headings, HEADINGS, "{name}");
        assert!(guide.contains(&format!("| [{name}](alerts/{name}.md) |")), "expected {name} in watch.md");
    }
}

#[test]
fn every_alert_says_how_urgent_it_is_and_leads_to_its_page_and_to_a_panel_of_its_metrics() {
    let dashboards = dashboards::all();
    for rule in all() {
        let name = &rule.name;
        assert!(["{severity: page}", "{severity: ticket}"].contains(&rule.value("labels:")), "{name}");
        assert!(!rule.value("summary:").is_empty(), "{name}");
        assert_eq!(rule.value("runbook_url:"), format!("docs/operations/alerts/{name}.md"));
        let link = rule.value("dashboard_url:");
        let (uid, rest) = link.strip_prefix("/d/").and_then(|rest| rest.split_once("?viewPanel=")).expect(link);
        let id: u32 = rest.split('&').next().and_then(|id| id.parse().ok()).expect(link);
        let dashboard = dashboards.iter().find(|dashboard| dashboard.uid == uid).expect(link);
        let panel = dashboard.panels().find(|panel| panel.id == id).expect(link);
        let shares_one = rule.metrics().iter().any(|metric| panel.metrics().contains(metric));
        // Two are shown by what follows from them.
        let follows = ["FanlineFeedDown", "FanlineKeysNotFetched"].contains(&&**name);
        assert!(shares_one != follows, "{name} leads to `{}`", panel.title);
    }
}

/// Links have no host, since nobody else knows it: docs/operations/watch.md says how to put one before them.
#[test]
fn the_recipe_of_the_guide_gives_every_link_its_host_and_changes_nothing_else() {
    let guide = read("docs/operations/watch.md");
    let recipe = guide.split("```sh\n").find(|block| block.starts_with("sed ")).expect("a recipe");
    let recipe = recipe.split("```").next().expect("its end");
    let output = Command::new("sh").args(["-c", recipe]).current_dir(project("")).output().expect("sh runs");
    assert!(output.status.success(), "{recipe}: {}", String::from_utf8_lossy(&output.stderr));
    let (made, rules) = (String::from_utf8(output.stdout).expect("UTF-8"), read("deploy/prometheus/alerts.yml"));
    assert_eq!(made.lines().count(), rules.lines().count());
    let hosts =
        [("runbook_url: ", "https://git.example.com/fanline/"), ("dashboard_url: ", "https://grafana.example.com")];
    let mut linked = 0;
    for (made, given) in made.lines().zip(rules.lines()) {
        let host = hosts.iter().find(|(key, _)| given.trim().starts_with(key));
        linked += usize::from(host.is_some());
        let expected = host.map_or(given.to_owned(), |(key, host)| given.replacen(key, &format!("{key}{host}"), 1));
        assert_eq!(made, expected);
    }
    assert_eq!(linked, 2 * all().len(), "each alert has two links");
}

#[test]
fn every_alert_fires_with_its_fault_and_clears_after_it_in_its_unit_test() {
    let tests = read("deploy/prometheus/alerts.test.yml");
    for rule in all() {
        assert!(tests.contains(&format!("alertname=\"{}\",alertstate=\"firing\"", rule.name)), "{}", rule.name);
    }
    let Some(promtool) = tool("promtool") else { return skip_without_tool("alert_rules", "promtool") };
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let folder = project("deploy/prometheus");
        let output = Command::new(&promtool).args(arguments).current_dir(folder).output().expect("promtool starts");
        let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success() && told.contains("SUCCESS"), "{arguments:?}: {told}");
    }
}
