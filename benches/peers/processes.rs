//! A server under test with all its processes: one process group, which is killed with its last owner or after a deadline.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use fanline::bench::cpu::{Usage, usage};
use rustix::process::{Pid, Signal, kill_process_group};

/// Seconds after which coreutils' `timeout` kills the group, so that a server that hangs does not hold up the benchmark.
const DEADLINE_S: &str = "300";

pub struct Processes {
    leader: Child,
}

/// The command that starts `program` with a deadline.
pub fn bounded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", DEADLINE_S]).arg(program);
    command
}

impl Processes {
    /// Starts a `bounded` command; answers its stdin too.
    pub fn start(command: &mut Command) -> io::Result<(Processes, ChildStdin)> {
        let quiet = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut leader = quiet.process_group(0).spawn()?;
        let stdin = leader.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((Processes { leader }, stdin))
    }

    pub fn have_ended(&mut self) -> bool {
        !matches!(self.leader.try_wait(), Ok(None))
    }

    /// What all of them have used, together.
    pub fn usage(&self) -> Usage {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
        let members = ids.filter(|id| group(*id) == Some(self.leader.id()));
        members.filter_map(usage).fold(Usage::default(), |all, one| Usage {
            cpu: all.cpu + one.cpu,
            resident_bytes: all.resident_bytes + one.resident_bytes,
        })
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let group = i32::try_from(self.leader.id()).ok().and_then(Pid::from_raw);
        // They may have ended by themselves.
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.leader.wait();
    }
}

/// Field 5 of /proc/PID/stat (proc_pid_stat(5)).
fn group(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(2)?.parse().ok()
}
