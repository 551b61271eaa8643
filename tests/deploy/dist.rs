//! What a release consists of: the archive with the list of what is in the program, the image, the static program's names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::{eventually, project, scratch, server_binary, skip_loudly, skip_without_tool, tool};
use serde_json::Value;

use crate::debian::told;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn folder(name: &str) -> PathBuf {
    let folder = scratch().join("dist").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a writable target directory");
    folder
}

/// The archive of the server that was built with this test.
fn archive(folder: &Path, environment: &[(&str, &str)]) -> Vec<u8> {
    let mut command = Command::new(project("deploy/dist/archive"));
    command.arg(server_binary()).arg(TARGET).arg(folder).envs(environment.iter().copied());
    let file = told(command.env("SOURCE_DATE_EPOCH", "1700000000"));
    std::fs::read(file.trim_end()).expect("the archive is there")
}

#[test]
fn the_archive_is_whole_and_the_same_wherever_it_is_made() {
    let [here, elsewhere] = ["here", "elsewhere"].map(folder);
    let bytes = archive(&here, &[("LC_ALL", "C"), ("TZ", "UTC")]);
    assert!(bytes == archive(&elsewhere, &[("LC_ALL", "C.UTF-8"), ("TZ", "Asia/Tokyo")]), "two archives differ");
    // Once more: a sum stands once.
    archive(&here, &[]);
    let sums = std::fs::read_to_string(here.join("SHA256SUMS")).expect("sums");
    assert_eq!(sums.lines().count(), 1, "{sums}");
    told(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&here));

    let name = format!("fanline-{}-x86_64-linux", env!("CARGO_PKG_VERSION"));
    told(Command::new("tar").arg("-xzf").arg(here.join(format!("{name}.tar.gz"))).current_dir(&here));
    let root = here.join(name);
    let version = told(Command::new(root.join("fanline")).arg("--version"));
    assert_eq!(version, format!("fanline {}\n", env!("CARGO_PKG_VERSION")));
    for file in [
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "completions/fanline.bash",
        "completions/fanline.fish",
        "completions/fanline.zsh",
        "examples/fanline.toml",
        "examples/prometheus/alerts.yml",
        "examples/proxy/nginx.conf",
        "fanline.1",
        "fanline.service",
        "fanline.socket",
    ] {
        assert!(std::fs::metadata(root.join(file)).is_ok_and(|it| it.len() > 0), "{file}");
    }
    check_inventory(&root);
}

/// It lists each crate that cargo says leads to the program, as the schema of CycloneDX demands, with its licence.
fn check_inventory(root: &Path) {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--package", "fanline", "--edges", "normal,build", "--target", TARGET]);
    let tree = told(tree.args(["--prefix", "none", "--format", "{p}"]).current_dir(project("")));
    let crates = tree.lines().map(|line| {
        let mut words = line.split(' ');
        (
            words.next().unwrap_or_default().to_owned(),
            words.next().unwrap_or_default().trim_start_matches('v').to_owned(),
        )
    });
    let crates: BTreeSet<(String, String)> = crates.filter(|(name, _)| name != "fanline").collect();
    let file = root.join("fanline.cdx.json");
    let bill: Value = serde_json::from_slice(&std::fs::read(&file).expect("a bill")).expect("JSON");
    let listed = bill["components"].as_array().expect("components").iter();
    let text = |component: &Value, key: &str| component[key].as_str().unwrap_or_default().to_owned();
    let listed: Vec<&Value> = listed.filter(|it| it["purl"].is_string()).collect();
    for component in &listed {
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
    let listed: BTreeSet<_> = listed.into_iter().map(|it| (text(it, "name"), text(it, "version"))).collect();
    assert_eq!(listed.symmetric_difference(&crates).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
    let licences = std::fs::read_to_string(root.join("LICENSES.txt")).expect("licences");
    for words in ["tokio 1.", "ring 0.17", "glibc (LGPL-2.1-or-later)", "Permission is hereby granted, free of charge"]
    {
        assert!(licences.contains(words), "{words}");
    }
    let Some(python) = tool("check-jsonschema") else { return skip_without_tool("dist", "check-jsonschema") };
    // By its interpreter: the library has the schema.
    let python = python.with_file_name("python");
    let script = "import sys; from cyclonedx.schema import SchemaVersion as V; from cyclonedx.validation.json import \
                  JsonStrictValidator as J; fault = J(V.V1_5).validate_str(open(sys.argv[1]).read()); sys.exit(str(fault) if fault else 0)";
    told(Command::new(python).args(["-c", script]).arg(file));
}

#[test]
fn the_image_runs_without_root_and_says_whether_it_works() {
    let [Some(_), Some(podman), Some(_)] = ["buildah", "podman", "runc"].map(tool) else {
        return skip_without_tool("image", "podman, runc and buildah");
    };
    if !rustix::process::geteuid().is_root() {
        return skip_loudly("image", "only root may start a container");
    }
    let folder = folder("image");
    let image = folder.join("image.tar");
    told(Command::new(project("deploy/dist/image")).arg(server_binary()).arg(&image));
    let podman = |arguments: &[&str]| {
        let mut command = Command::new(&podman);
        command.arg("--root").arg(folder.join("storage")).arg("--runroot").arg(folder.join("run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        command.args(arguments).output().expect("podman was found")
    };
    let does = |arguments: &[&str]| {
        let output = podman(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    };
    does(&["load", "--input", image.to_str().expect("UTF-8")]);
    let name = format!("fanline:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        does(&["image", "inspect", &name, "--format", "{{.User}} {{.Config.StopSignal}}"]).trim(),
        "65532:65532"
    );

    // The program of a test is not static: it has the libraries of this machine, which an image has not.
    let mut run = vec!["run", "--detach", "--name", "fanline", "--network", "none", "--read-only", "--cap-drop", "all"];
    run.extend(["--security-opt", "no-new-privileges", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]);
    run.extend(["--volume", "/lib:/lib:ro", "--volume", "/lib64:/lib64:ro", "--volume", "/usr/lib:/usr/lib:ro"]);
    run.extend(["--health-interval", "disable", &name]);
    let begun = podman(&run);
    let told = String::from_utf8_lossy(&begun.stderr).to_lowercase();
    if !begun.status.success() && ["not permitted", "permission denied", "cgroup"].iter().any(|it| told.contains(it)) {
        return skip_loudly("image", &format!("this machine does not allow containers: {told}"));
    }
    assert!(begun.status.success(), "{told}");
    eventually("the container is healthy", || {
        podman(&["healthcheck", "run", "fanline"]).status.success().then_some(())
    });
    let process = does(&["inspect", "--format", "{{.State.Pid}}", "fanline"]);
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    for line in ["Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line}\n{status}");
    }
    does(&["stop", "--time", "30", "fanline"]);
    assert_eq!(does(&["inspect", "--format", "{{.State.ExitCode}}", "fanline"]), "0", "it drained");
    does(&["rm", "fanline"]);
}

/// Stands for a program: asks for a name. And a module of /etc/nsswitch.conf that leaves a trace.
const ASKS: &str =
    "#include <netdb.h>\nint main(void) { struct addrinfo *found; return getaddrinfo(\"localhost\", 0, 0, &found); }\n";
const MODULE: &str = "#include <stdlib.h>\n__attribute__((constructor)) static void loaded(void) { _Exit(77); }\n";

#[test]
fn a_static_program_loads_no_module_of_the_machine_to_look_up_a_name() {
    if !rustix::process::geteuid().is_root() {
        return skip_loudly("names", "only root may change /etc/nsswitch.conf");
    }
    let folder = folder("names");
    for (name, text) in [("asks.c", ASKS), ("module.c", MODULE), ("nsswitch.conf", "hosts: trap files dns\n")] {
        std::fs::write(folder.join(name), text).expect("a writable target directory");
    }
    let compile = |arguments: &[&str]| told(Command::new("cc").args(arguments).current_dir(&folder));
    let names = project("deploy/dist/names.c");
    compile(&["-shared", "-fPIC", "-o", "libnss_trap.so.2", "module.c"]);
    compile(&["-static", "-o", "bare", "asks.c"]);
    compile(&["-static", "-o", "guarded", "asks.c", names.to_str().expect("UTF-8")]);
    let script = "mount --bind nsswitch.conf /etc/nsswitch.conf && LD_LIBRARY_PATH=. exec";
    let outcome = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("{script} ./{program}")]).current_dir(&folder);
        command.output().expect("unshare is there").status.code()
    };
    assert_eq!(outcome("bare"), Some(77), "the module is loaded where nothing forbids it");
    assert_eq!(outcome("guarded"), Some(0));
}
