//! Sockets that the service manager has opened (sd_listen_fds(3)): those of a `.socket` unit of systemd.

use std::io;

use crate::edge::listen::inherited::{InheritedSockets, SocketOrigin};

/// Why they cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    #[error("expected LISTEN_PID and LISTEN_FDS as the service manager sets them, found something else; remove them")]
    Variables,
    #[error(
        "expected listening stream sockets from the service manager, found another file ({0}); use `ListenStream=`"
    )]
    NoListener(io::Error),
}

/// Those for this process; none without such a service manager. To be called once.
pub(in crate::app) fn sockets() -> Result<InheritedSockets, ActivationError> {
    let mut inherited = InheritedSockets::default();
    for (_, socket) in sd_listen_fds::get().map_err(|_| ActivationError::Variables)? {
        let added = inherited.add(socket.into_std(), None, SocketOrigin::ServiceManager);
        added.map_err(ActivationError::NoListener)?;
    }
    Ok(inherited)
}
