//! What lies in deploy/ fits the server that it deploys.

mod cluster;
mod compose;
mod debian;
mod dist;
mod kubernetes;
mod life;
mod machine;
mod tutorial;

use std::path::{Path, PathBuf};
use std::process::Command;

use fanline::words::metrics;
use kit::program::{Program, run};
use kit::skip_loudly;

fn deployed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn alerts_name_only_existing_metrics() {
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

/// The unit, with the binary of this test, in a folder of its own; none if systemd's tool is not there.
fn unit(test: &str) -> Option<PathBuf> {
    if !Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success()) {
        skip_loudly(test, "systemd-analyze is missing; install Debian's `systemd`");
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy").join(test);
    std::fs::create_dir_all(&folder).expect("a writable target directory");
    let path = folder.join("fanline.service");
    // What is commented out is to be right as well.
    let text = deployed("fanline.service").replace("/usr/local/bin/fanline", env!("CARGO_BIN_EXE_fanline"));
    let text = text.replace("\n#LoadCredential=", "\nLoadCredential=").replace("\n#Environment=", "\nEnvironment=");
    std::fs::write(&path, text).expect("a writable target directory");
    Some(path)
}

fn systemd_analyze(arguments: &[&str], unit: &Path) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output().expect("it ran a moment ago");
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), told)
}

#[test]
fn systemd_understands_every_line_of_the_unit() {
    let Some(unit) = unit("verify") else { return };
    let (_, told) = systemd_analyze(&["verify", "--man=no"], &unit);
    // Other units of this machine may have faults of their own; an older systemd does not know the steps.
    let ours = |line: &&str| line.contains("fanline.service") && !line.contains("Restart");
    let faults: Vec<&str> = told.lines().filter(ours).collect();
    assert_eq!(faults, [""; 0], "{told}");
}

#[test]
fn systemd_understands_the_socket_for_the_unit() {
    let Some(unit) = unit("socket") else { return };
    let socket = unit.with_extension("socket");
    std::fs::write(&socket, deployed("fanline.socket")).expect("a writable target directory");
    let (_, told) = systemd_analyze(&["verify", "--man=no"], &socket);
    let faults: Vec<&str> = told.lines().filter(|line| line.contains("fanline.socket")).collect();
    assert_eq!(faults, [""; 0], "{told}");
}

#[test]
fn the_unit_is_never_given_up_and_gives_the_process_no_rights() {
    let unit = deployed("fanline.service");
    let is_set = |line: &str| unit.lines().any(|found| found == line);
    for line in [
        "StartLimitIntervalSec=0",
        "RestartPreventExitStatus=2",
        // After a hand-over another process is the main one.
        "Type=notify",
        "DynamicUser=yes",
        "MemoryMax=75%",
        "PrivateUsers=yes",
        "ProcSubset=pid",
        "SystemCallFilter=~@privileged @resources",
        "SystemCallErrorNumber=EPERM",
        "UMask=0077",
    ] {
        assert!(is_set(line), "{line}");
    }
    let Some(path) = self::unit("security") else { return };
    let (_, told) = systemd_analyze(&["security", "--offline=true", "--no-pager"], &path);
    let Some(exposure) = told.lines().rev().find_map(|line| line.split_once("level for fanline.service:")) else {
        return skip_loudly("security", "this systemd-analyze cannot judge a file");
    };
    let exposure: f32 = exposure.1.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number");
    assert!(exposure <= 1.5, "exposure {exposure} of 10:\n{told}");
}

#[test]
fn the_health_command_of_the_image_detects_a_server_that_does_not_work() {
    let image = deployed("Dockerfile");
    assert!(image.contains(r#"CMD ["/usr/local/bin/fanline", "health"]"#));
    let mut server = Program::serve(&[], &[]);
    let listen = server.addr().to_string();
    // As in the image: the address is that of the variable.
    let settings = [("LISTEN", &*listen)];
    let (status, told, _) = run(&["health"], &settings);
    assert_eq!((status.code(), &*told), (Some(0), "{\"healthy\":true}\n"));
    let (status, _, _) = run(&["health", &format!("http://{listen}/healthz")], &[]);
    assert_eq!(status.code(), Some(0));
    let (status, _, told) = run(&["health", &format!("http://{listen}/nothing")], &[]);
    assert_eq!(status.code(), Some(1));
    assert!(told.contains("expected status 200") && told.contains("found 404"), "{told}");
    server.kill();
    let (status, _, told) = run(&["health"], &settings);
    assert_eq!(status.code(), Some(1));
    assert!(told.starts_with(&format!("error: expected an answer from `http://{listen}/healthz`")), "{told}");
    let (status, _, _) = run(&["health", "https://127.0.0.1"], &[]);
    assert_eq!(status.code(), Some(2));
}
