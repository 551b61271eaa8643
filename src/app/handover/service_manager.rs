//! What the service manager is told (sd_notify(3)): that the server is ready, that it stops, which process it is.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

const VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells nobody without a service manager that wants to know.
#[derive(Clone, Debug, Default)]
pub(in crate::app) struct ServiceManager(Option<PathBuf>);

impl ServiceManager {
    pub(in crate::app) fn find(variables: &[(OsString, OsString)]) -> ServiceManager {
        let found = variables.iter().find(|(name, value)| name == VARIABLE && !value.is_empty());
        ServiceManager(found.map(|(_, value)| value.into()))
    }

    /// Sends assignments, one a line. What fails is logged: the server goes on without.
    pub(in crate::app) fn tell(&self, assignments: &str) {
        let Some(path) = &self.0 else { return };
        if let Err(error) = send(path.as_os_str(), assignments) {
            tracing::warn!(%error, path = %path.display(), "the service manager could not be told `{assignments}`");
        }
    }
}

fn send(path: &OsStr, assignments: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up the server.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(assignments.as_bytes(), &address(path)?).map(drop)
}

/// `@` opens a name in the abstract namespace.
fn address(path: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = path.as_bytes().strip_prefix(b"@") {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(path: &str) -> ServiceManager {
        ServiceManager::find(&[(VARIABLE.into(), path.into())])
    }

    #[test]
    fn the_manager_hears_what_it_is_told_at_a_path_and_at_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("fanline-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let name = format!("@fanline-notify-{}", std::process::id());
        for place in [path.to_str().expect("UTF-8"), &name] {
            let socket = UnixDatagram::bind_addr(&address(OsStr::new(place)).expect("short")).expect("free");
            manager(place).tell("READY=1\nMAINPID=7");
            let mut heard = [0; 64];
            let bytes = socket.recv(&mut heard).expect("it was sent");
            assert_eq!(&heard[..bytes], b"READY=1\nMAINPID=7");
        }
        std::fs::remove_file(&path).expect("it was there");
        // Nobody is there any more.
        manager(path.to_str().expect("UTF-8")).tell("READY=1");
        ServiceManager::find(&[]).tell("READY=1");
    }
}
