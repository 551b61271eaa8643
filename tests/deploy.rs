//! What lies in deploy/ fits the server that it deploys.

use std::path::Path;

use fanline::words::metrics;

fn deployed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn alerts_only_name_metrics_that_exist() {
    let alerts = deployed("prometheus/alerts.yml");
    let words = alerts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let named: Vec<&str> = words.filter(|word| word.starts_with("fanline_")).collect();
    assert!(!named.is_empty());
    for name in named {
        let family = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(metrics::ALL.iter().any(|metric| metric.name == family), "{name}");
    }
}

#[test]
fn the_image_is_built_with_the_toolchain_of_the_package() {
    let image = format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(deployed("Dockerfile").contains(&image), "expected {image}");
}
