//! Sockets that the service manager has opened (sd_listen_fds(3)): those of a `.socket` unit of systemd.

use std::ffi::OsString;
use std::fs;
use std::io;

use crate::edge::listen::inherited::{InheritedSockets, SocketOrigin};

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    #[error("expected LISTEN_PID and LISTEN_FDS as the service manager sets them, found something else; remove them")]
    Variables,
    #[error("expected {count} sockets from the service manager (LISTEN_FDS), found that file {file} is none")]
    NoSocket { count: u32, file: u32 },
    #[error(
        "expected listening stream sockets from the service manager, found another file ({0}); use `ListenStream=`"
    )]
    NoListener(io::Error),
}

/// The first file that a service manager hands over.
const FIRST_FILE: u32 = 3;
/// Far more than there are listeners.
const FILES_MAX: u32 = 1024;

/// Those for this process; none without such a service manager. To be called once.
pub(in crate::app) fn sockets(variables: &[(OsString, OsString)]) -> Result<InheritedSockets, ActivationError> {
    check_files(variables)?;
    let mut inherited = InheritedSockets::default();
    for (_, socket) in sd_listen_fds::get().map_err(|_| ActivationError::Variables)? {
        let added = inherited.add(socket.into_std(), None, SocketOrigin::ServiceManager);
        added.map_err(ActivationError::NoListener)?;
    }
    Ok(inherited)
}

/// What is not open must not be taken for an open file.
fn check_files(variables: &[(OsString, OsString)]) -> Result<(), ActivationError> {
    let number = |name: &str| {
        let (_, value) = variables.iter().find(|(found, _)| found == name)?;
        value.to_str()?.parse::<u32>().ok()
    };
    let Some(count) = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(std::process::id())) else {
        return Ok(());
    };
    if count > FILES_MAX {
        return Err(ActivationError::Variables);
    }
    let is_socket = |file: &u32| {
        let link = fs::read_link(format!("/proc/self/fd/{file}"));
        link.is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
    };
    match (FIRST_FILE..FIRST_FILE + count).find(|file| !is_socket(file)) {
        Some(file) if fs::exists("/proc/self/fd").unwrap_or(false) => Err(ActivationError::NoSocket { count, file }),
        _ => Ok(()),
    }
}
