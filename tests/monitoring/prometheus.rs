//! A real Prometheus that looks at servers every second, with alerts whose times are as short.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use kit::http::get;
use kit::{eventually, tool};

/// Room for a few looks: shorter, a look that comes late leaves nothing to compare with.
const WINDOW: &str = "[6s]";
const LONG_WINDOW: &str = "[12s]";

pub struct Prometheus {
    child: Child,
    addr: SocketAddr,
    folder: PathBuf,
}

impl Prometheus {
    /// Looks at these servers. None if there is no Prometheus here.
    pub fn start(name: &str, rules: &str, servers: &[SocketAddr]) -> Option<Prometheus> {
        let program = tool("prometheus")?;
        let folder = std::env::temp_dir().join(format!("fanline-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("rules.yml"), rules).expect("a file");
        write_config(&folder, servers);
        let log = std::fs::File::create(folder.join("log")).expect("a file");
        let child = Command::new(program)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Prometheus starts");
        let addr = eventually("Prometheus listens", || {
            let log = std::fs::read_to_string(folder.join("log")).ok()?;
            let line = log.lines().find(|line| line.contains("msg=\"Listening on\""))?;
            line.rsplit("address=").next()?.trim().parse().ok()
        });
        let prometheus = Prometheus { child, addr, folder };
        eventually("Prometheus is ready", || (get(addr, "/-/ready").status == 200).then_some(()));
        Some(prometheus)
    }

    /// From now on, at these servers.
    pub fn look_at(&self, servers: &[SocketAddr]) {
        write_config(&self.folder, servers);
        let told = Command::new("sh").args(["-c", &format!("kill -HUP {}", self.child.id())]).status();
        assert!(told.expect("sh runs").success());
    }

    /// The series of an expression as it is now. Panics if Prometheus does not understand it.
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let answer =
            get(self.addr, &format!("/api/v1/query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC)));
        let answer = answer.json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned().expect("series")
    }

    /// Alerts that fire.
    pub fn firing(&self) -> Vec<Value> {
        let answer = get(self.addr, "/api/v1/alerts").json();
        let alerts = answer["data"]["alerts"].as_array().cloned().expect("alerts");
        alerts.into_iter().filter(|alert| alert["state"] == "firing").collect()
    }

    /// Waits until it fires, whatever it is about.
    pub fn fires_anywhere(&self, alert: &str) {
        eventually(&format!("{alert} fires"), || self.fires_somewhere(alert).then_some(()));
    }

    pub fn clears_anywhere(&self, alert: &str) {
        eventually(&format!("{alert} clears"), || (!self.fires_somewhere(alert)).then_some(()));
    }

    fn fires_somewhere(&self, alert: &str) -> bool {
        self.firing().iter().any(|firing| firing["labels"]["alertname"] == alert)
    }

    fn is_firing(&self, alert: &str, server: SocketAddr) -> Option<Value> {
        let instance = server.to_string();
        self.firing()
            .into_iter()
            .find(|firing| firing["labels"]["alertname"] == alert && firing["labels"]["instance"] == *instance)
    }

    /// Waits until the alert fires, and checks what it says.
    pub fn fires(&self, alert: &str, server: SocketAddr) {
        self.fires_by(alert, server, || {});
    }

    /// The same, while something happens again and again.
    pub fn fires_by(&self, alert: &str, server: SocketAddr, mut happen: impl FnMut()) {
        let firing = eventually(&format!("{alert} fires"), || {
            happen();
            self.is_firing(alert, server)
        });
        let summary = firing["annotations"]["summary"].as_str().expect("a summary");
        assert!(summary.contains(&server.to_string()) && !summary.contains("error"), "{firing}");
    }

    pub fn clears(&self, alert: &str, server: SocketAddr) {
        eventually(&format!("{alert} clears"), || self.is_firing(alert, server).is_none().then_some(()));
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("log of Prometheus:\n{}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn write_config(folder: &Path, servers: &[SocketAddr]) {
    let targets: Vec<String> = servers.iter().map(|server| format!("'{server}'")).collect();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}}\nrule_files: [rules.yml]\n\
         scrape_configs: [{{job_name: fanline, static_configs: [{{targets: [{}]}}]}}]\n",
        targets.join(", ")
    );
    std::fs::write(folder.join("prometheus.yml"), config).expect("a file");
}

/// The rules with their times shortened: everything lasts seconds.
pub fn hasty(rules: &str) -> String {
    let mut text = String::new();
    for line in rules.lines() {
        match line.split_once("for: ") {
            Some((before, _)) if before.trim().is_empty() => text.push_str(&format!("{before}for: 1s")),
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    for window in ["[5m]", "[15m]"] {
        text = text.replace(window, WINDOW);
    }
    // Something that happens several times is counted.
    for window in ["[10m]", "[1h]"] {
        text = text.replace(window, LONG_WINDOW);
    }
    text
}
