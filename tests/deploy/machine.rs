//! A machine for a test: a clean Debian root, booted with systemd, as root of itself and without a network.
//!
//! What changes lives in memory and ends with the machine. One at a time: systemd-nspawn locks the root.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kit::{eventually, project, scratch, skip_loudly, skip_without, tool};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub struct Machine {
    nspawn: Child,
    /// Process 1 of the machine, by its number outside.
    leader: String,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    /// None where it cannot be had. The folder `packages` is /packages there, read-only.
    pub fn boot(test: &str, packages: &Path) -> Option<Machine> {
        if !rustix::process::geteuid().is_root() {
            skip_loudly(test, "only root may start a machine");
            return None;
        }
        let root = root();
        if root.with_extension("impossible").exists() {
            skip_loudly(test, "this machine does not allow another one inside (target/setup.log)");
            return None;
        }
        let Some(nspawn) = tool("systemd-nspawn").filter(|_| root.join("etc/os-release").exists()) else {
            skip_without(test, "a clean Debian root and systemd-nspawn", "tests/setup installs them");
            return None;
        };
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // It ends with the test that started it, whatever becomes of that.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(nspawn).arg("--directory").arg(&root);
        command.args(["--volatile=overlay", "--boot", "--register=no", "--keep-unit", "--private-network"]);
        command.arg(format!("--machine=fanline-{}", std::process::id()));
        command.arg(format!("--bind-ro={}:/packages", packages.display()));
        // The page, which a server that was built for tests reads from the project.
        for folder in ["static", "clients/js"] {
            command.arg(format!("--bind-ro={}", project(folder).display()));
        }
        let console = std::fs::File::create(scratch().join(format!("machine-{test}.log"))).expect("a writable folder");
        let errors = console.try_clone().expect("a file can be had twice");
        let nspawn = command.stdin(Stdio::null()).stdout(console).stderr(errors).spawn().expect("setpriv is there");
        let mut machine = Machine { nspawn, leader: String::new(), _turn: turn };
        machine.leader = eventually("process 1 of the machine", || machine.first_process());
        eventually("the machine has booted", || {
            let state = machine.try_sh("systemctl is-system-running");
            // A machine without a network may miss one thing or the other.
            ["running", "degraded"].contains(&said(&state).trim()).then_some(())
        });
        Some(machine)
    }

    fn first_process(&self) -> Option<String> {
        let nspawn = self.nspawn.id();
        let children = std::fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
        let child = children.split_whitespace().next()?;
        let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        (name.trim() == "systemd").then(|| child.to_owned())
    }

    /// What a script does there; it ends with its first command that fails.
    pub fn try_sh(&self, script: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader, "--all", "--root", "--wd", "env", "-i"]);
        command.args([
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LANG=C.UTF-8",
        ]);
        command.args(["DEBIAN_FRONTEND=noninteractive", "bash", "-euo", "pipefail", "-c", &format!("cd\n{script}")]);
        command.stdin(Stdio::null()).output().expect("nsenter is there")
    }

    /// What a script says on stdout, if it succeeds.
    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{}: {}\n{errors}", output.status, said(&output));
        said(&output)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", said(&self.try_sh("journalctl --no-pager --lines 80")));
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn root() -> PathBuf {
    scratch().parent().expect("it lies in the target directory").join("debian-root")
}
