//! The life of the package on a machine of its own: installed, configured, upgraded, removed, purged.

use std::path::{Path, PathBuf};
use std::process::Command;

use kit::scratch;

use crate::debian::{package, told};
use crate::machine::{Machine, said};

/// All files of the system, without what is made anew whenever it runs.
const FILES: &str = "find / -xdev \\( -path /var/log -o -path /var/cache/apt -o -path /tmp \\) -prune -o -print | sort";

/// The same package with other settings as shipped: what a newer version may bring.
fn with_other_settings(package: &Path) -> PathBuf {
    let folder = scratch().join("debian").join("other-settings");
    let _ = std::fs::remove_dir_all(&folder);
    told(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(&folder));
    let settings = folder.join("etc/fanline/fanline.toml");
    let text = std::fs::read_to_string(&settings).expect("the package has settings");
    std::fs::write(&settings, format!("# Shipped with the newer version.\n{text}")).expect("a writable folder");
    told(Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).arg(&folder).arg(package));
    package.to_path_buf()
}

/// A machine, and the names of a former package and of a newer one there.
fn machine(test: &str) -> Option<(Machine, [String; 2])> {
    let former = package(test, "1", "-Znone")?;
    let newer = with_other_settings(&package(test, "2", "-Znone")?);
    let machine = Machine::boot(test, former.parent().expect("it lies in a folder"))?;
    let there = |package: PathBuf| format!("/packages/{}", package.file_name().expect("a file").display());
    Some((machine, [former, newer].map(there)))
}

#[test]
fn the_package_lives_on_a_clean_machine_and_a_purge_leaves_it_as_it_was() {
    let Some((machine, [former, newer])) = machine("life") else { return };
    let files = machine.sh(FILES);

    machine.sh(&format!("apt-get install --yes {former}"));
    assert_eq!(machine.sh("systemctl is-enabled fanline.service fanline.socket || true"), "disabled\ndisabled\n");
    // A start without a feed fails once, and is not tried again.
    assert!(!machine.try_sh("systemctl start fanline").status.success());
    assert_eq!(
        machine.sh("systemctl show fanline --property=NRestarts,ExecMainStatus"),
        "NRestarts=0\nExecMainStatus=2\n"
    );
    let faults = machine.sh("systemd-analyze verify fanline.service fanline.socket 2>&1 || true");
    // Older versions of systemd do not know the steps of a restart.
    let faults: Vec<&str> = faults.lines().filter(|line| !line.contains("'Restart")).collect();
    assert!(faults.is_empty(), "{faults:?}");

    machine.sh("printf '\\n[simulate]\\n' >>/etc/fanline/fanline.toml; systemctl enable --now fanline");
    assert_eq!(machine.sh("fanline health"), "{\"healthy\":true}\n");
    let process = "systemctl show fanline --property=MainPID --value";
    let before = machine.sh(process);
    machine.sh("printf 'symbols = 3\\n' >>/etc/fanline/fanline.toml; systemctl reload fanline");
    assert_eq!(machine.sh(process), before);
    assert_eq!(machine.sh(&format!("stat --format=%U /proc/$({process})")), "fanline\n");
    let settings = machine.sh("cat /etc/fanline/fanline.toml");

    machine.sh(&format!("apt-get install --yes -o Dpkg::Options::=--force-confold {newer}"));
    assert_ne!(machine.sh(process), before, "an upgrade restarts the service");
    assert_eq!(machine.sh("fanline health; systemctl is-enabled fanline"), "{\"healthy\":true}\nenabled\n");
    assert_eq!(machine.sh("cat /etc/fanline/fanline.toml"), settings);
    let shipped = machine.sh("cat /etc/fanline/fanline.toml.dpkg-dist");
    assert!(shipped.starts_with("# Shipped with the newer version."), "{shipped}");

    machine.sh("apt-get remove --yes fanline");
    assert_eq!(machine.sh("systemctl is-active fanline || true; test ! -e /usr/bin/fanline"), "inactive\n");
    assert_eq!(machine.sh("cat /etc/fanline/fanline.toml"), settings);
    machine.sh("apt-get purge --yes fanline");
    let users = |line: &&str| !["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-"].contains(line);
    let left = machine.sh(FILES);
    let left: Vec<&str> =
        left.lines().filter(|line| !files.lines().any(|known| known == *line)).filter(users).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!machine.try_sh("getent passwd fanline").status.success());
    assert!(!machine.try_sh("getent group fanline").status.success());
}

#[test]
fn with_the_socket_unit_an_upgrade_refuses_nobody() {
    let Some((machine, [former, newer])) = machine("socket") else { return };
    machine.sh(&format!("apt-get install --yes {former}"));
    machine.sh(
        "printf '\\n[simulate]\\n' >>/etc/fanline/fanline.toml; systemctl enable --now fanline.socket fanline.service",
    );
    let process = "systemctl show fanline --property=MainPID --value";
    let before = machine.sh(process);
    // One after the other, from before the upgrade until after it.
    let asked = machine.sh(&format!(
        "touch /tmp/upgrading
         (while [ -e /tmp/upgrading ]; do curl -s -o /dev/null -w '%{{http_code}}\\n' http://127.0.0.1:8080/healthz; done >/tmp/asked) &
         apt-get install --yes -o Dpkg::Options::=--force-confold {newer} >&2
         rm /tmp/upgrading; wait; sort /tmp/asked | uniq"
    ));
    assert_ne!(machine.sh(process), before);
    assert_eq!(asked, "200\n");

    machine.sh("apt-get purge --yes fanline");
    let left = machine.try_sh("find /etc/systemd -name 'fanline*'; curl -s http://127.0.0.1:8080/healthz");
    assert_eq!((left.status.code(), &*said(&left)), (Some(7), ""), "the socket is closed");
}
