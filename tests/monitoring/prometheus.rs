//! A real Prometheus that looks at servers every second.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::kit::http::get;
use crate::kit::{eventually, tool};

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
        let targets: Vec<String> = servers.iter().map(|server| format!("'{server}'")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 500ms}}\nrule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: fanline, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.join(", ")
        );
        std::fs::write(folder.join("rules.yml"), rules).expect("a file");
        std::fs::write(folder.join("prometheus.yml"), config).expect("a file");
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

    /// The series of an expression as it is now. Panics if Prometheus does not understand it.
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let answer =
            get(self.addr, &format!("/api/v1/query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC)));
        let answer = answer.json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned().expect("series")
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
