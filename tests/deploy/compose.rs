//! The image's recipe and the compose file.

use std::process::Command;

use kit::{project, scratch, skip_without_tool, tool};

use crate::deployed;

/// Whether a tool finds no fault in these arguments; nothing is checked where it is missing.
fn check(name: &str, arguments: &[&str]) {
    let Some(program) = tool(name) else { return skip_without_tool("compose", name) };
    let output = Command::new(program).args(arguments).output().expect("the tool starts");
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{name} {arguments:?}:\n{told}");
}

#[test]
fn hadolint_finds_no_fault_in_the_recipe_of_the_image() {
    check("hadolint", &[project("deploy/Dockerfile").to_str().expect("UTF-8")]);
}

#[test]
fn the_compose_file_is_valid_and_mounts_files_that_are_there() {
    let folder = project("deploy/compose");
    let file = folder.join("compose.yaml");
    check("check-jsonschema", &["--builtin-schema", "vendor.compose-spec", file.to_str().expect("UTF-8")]);
    let text = deployed("compose/compose.yaml");
    let mounted = text.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split_once(':'));
    let mounted: Vec<&str> = mounted.map(|(source, _)| source).filter(|source| source.starts_with('.')).collect();
    assert_eq!(mounted.len(), 5, "{mounted:?}");
    for source in mounted {
        assert!(folder.join(source).exists(), "{source}");
    }
    // As the container has them: side by side.
    let beside = scratch().join("compose");
    std::fs::create_dir_all(&beside).expect("a writable target directory");
    for (name, text) in
        [("prometheus.yml", deployed("compose/prometheus.yml")), ("alerts.yml", deployed("prometheus/alerts.yml"))]
    {
        std::fs::write(beside.join(name), text).expect("a writable target directory");
    }
    check("promtool", &["check", "config", beside.join("prometheus.yml").to_str().expect("UTF-8")]);
}
