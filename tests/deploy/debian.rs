//! The Debian package: clean by lintian's rules; an upgrade keeps the settings, a purge leaves nothing.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kit::{project, scratch, server_binary, skip_loudly, skip_without_tool, tool};

/// What the command says on stdout, if it succeeds.
pub fn told(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [said, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {}\n{said}{errors}", output.status);
    said
}

/// The package of the server that was built with this test; none where its tools are missing.
pub fn package(test: &str, revision: &str, compression: &str) -> Option<PathBuf> {
    if tool("dpkg-shlibdeps").is_none() {
        skip_without_tool(test, "dpkg-dev");
        return None;
    }
    let mut command = Command::new(project("deploy/debian/build"));
    command.arg(server_binary()).arg(scratch().join("debian").join(test));
    command.env("REVISION", revision).env("COMPRESSION", compression);
    Some(told(&mut command).trim_end().into())
}

#[test]
fn lintian_finds_no_fault_in_the_package() {
    let Some(lintian) = tool("lintian") else { return skip_without_tool("lintian", "lintian") };
    let Some(package) = package("lintian", "1", "-Zgzip -z1") else { return };
    told(Command::new(lintian).args(["--allow-root", "--fail-on", "error,warning,info"]).arg(package));
}

/// A folder with a dpkg database of its own, in which the package's scripts run without a chroot.
struct ScratchRoot(PathBuf);

impl ScratchRoot {
    fn new() -> ScratchRoot {
        let root = ScratchRoot(scratch().join("debian").join("root"));
        let _ = std::fs::remove_dir_all(&root.0);
        for folder in
            ["var/cache", "var/lib/dpkg/info", "var/lib/dpkg/updates", "etc/systemd/system/multi-user.target.wants"]
        {
            std::fs::create_dir_all(root.path(folder)).expect("a writable target directory");
        }
        root.write("var/lib/dpkg/status", "");
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    fn dpkg(&self, arguments: &[&str], package: impl AsRef<Path>) {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", self.0.display()));
        command.args(["--force-script-chrootless", "--force-depends"]).args(arguments);
        told(command.arg(package.as_ref()));
    }

    /// Without what dpkg and the tools for users keep for themselves.
    fn files(&self) -> BTreeSet<PathBuf> {
        let found = told(Command::new("find").arg(&self.0).args(["-path", "*/lib/dpkg", "-prune", "-o", "-print"]));
        let ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
            !["passwd", "group", "shadow", ".pwd.lock"].iter().any(|of_users| name.contains(of_users))
        };
        found.lines().map(PathBuf::from).filter(ours).collect()
    }
}

#[test]
fn an_upgrade_keeps_the_settings_and_a_purge_leaves_nothing() {
    if told(Command::new("id").arg("-u")) != "0\n" {
        return skip_loudly("upgrade", "only root may install packages");
    }
    let packages = ["1", "2"].map(|revision| package("upgrade", revision, "-Znone"));
    let [Some(former), Some(newer)] = packages else { return };
    let root = ScratchRoot::new();
    let before = root.files();
    let settings = "etc/fanline/fanline.toml";

    root.dpkg(&["--install"], former);
    let program = root.path("usr/bin/fanline");
    assert!(root.read("etc/passwd").starts_with("fanline:"));
    let installed = root.read("usr/lib/systemd/system/fanline.service");
    let set = |line: &str| assert!(installed.lines().any(|found| found == line), "{line}\n{installed}");
    set("ExecStart=/usr/bin/fanline --config /etc/fanline/fanline.toml");
    ["User=fanline", "StateDirectory=fanline", "CacheDirectory=fanline"].into_iter().for_each(set);
    let page = told(Command::new("gzip").arg("-dc").arg(root.path("usr/share/man/man1/fanline.1.gz")));
    assert!(page.contains(".TH fanline 1"), "{page}");
    told(Command::new("bash").arg("-n").arg(root.path("usr/share/bash-completion/completions/fanline")));

    // As its comments say.
    let changed = root.read(settings).replace("\n#[", "\n[").replace("\n#url", "\nurl").replace("\n#sub", "\nsub");
    root.write(settings, &changed);
    let verdict = told(Command::new(&program).arg("check").arg(root.path(settings)));
    assert!(verdict.contains("a valid configuration"), "{verdict}");
    // What the first start makes, and `systemctl enable`.
    for folder in ["var/lib/fanline", "var/cache/fanline"] {
        std::fs::create_dir_all(root.path(folder)).expect("a writable target directory");
    }
    root.write("var/lib/fanline/00000001.log", "a segment");
    let enabled = root.path("etc/systemd/system/multi-user.target.wants/fanline.service");
    symlink("/usr/lib/systemd/system/fanline.service", enabled).expect("a writable target directory");

    root.dpkg(&["--install"], newer);
    assert_eq!(root.read(settings), changed);
    assert!(root.path("var/lib/fanline/00000001.log").exists());

    root.dpkg(&["--remove"], "fanline");
    assert!(!program.exists());
    assert_eq!(root.read(settings), changed);

    root.dpkg(&["--purge"], "fanline");
    // Empty folders of the system's own went with the first removal.
    let left: Vec<PathBuf> = root.files().difference(&before).cloned().collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(["passwd", "group"].map(|file| root.read(&format!("etc/{file}"))), ["", ""]);
}
