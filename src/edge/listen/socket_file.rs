//! The file of a unix socket: made before anybody can connect, taken over from a server that is gone, removed at the end.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::edge::listen::listener::BACKLOG;

/// Removes the file when it is dropped, unless it is another process that removes it, or another server has put its own in
/// its place.
pub(in crate::edge) struct SocketFile {
    path: PathBuf,
    /// Device and inode; none if there is no such file.
    identity: Option<(u64, u64)>,
    ownership: FileOwnership,
}

/// Whether this process removes the file. The flag stands alone, so no other memory hangs on it.
#[derive(Clone)]
pub struct FileOwnership(Arc<AtomicBool>);

impl FileOwnership {
    fn new(is_ours: bool) -> FileOwnership {
        FileOwnership(Arc::new(AtomicBool::new(is_ours)))
    }

    /// This process removes it.
    pub fn claim(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Another process removes it.
    pub fn leave(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl SocketFile {
    /// That of a process which may go on with it itself: it is removed only once it is claimed.
    pub(crate) fn left_to_us(path: &Path) -> SocketFile {
        let identity = fs::symlink_metadata(path).as_ref().map(identity).ok();
        SocketFile { path: path.into(), identity, ownership: FileOwnership::new(false) }
    }

    pub(crate) fn ownership(&self) -> FileOwnership {
        self.ownership.clone()
    }
}

/// Listens at `path`, with the permissions `mode` or those that the umask leaves.
///
/// # Errors
/// Besides those of the system: `AddrInUse` if somebody answers there, `AlreadyExists` if it is a file of another type.
pub(in crate::edge) fn bind(path: &Path, mode: Option<u32>) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) if is_answered(path)? => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let identity = Some(identity(&fs::symlink_metadata(path)?));
    let file = SocketFile { path: path.into(), identity, ownership: FileOwnership::new(true) };
    // Nobody can connect before `listen`, whatever the umask allows.
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    Ok((socket.into(), file))
}

/// Whether a server listens there. One whose queue is full does not take the connection, but it is there.
fn is_answered(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_same = || fs::symlink_metadata(&self.path).is_ok_and(|found| Some(identity(&found)) == self.identity);
        if self.ownership.0.load(Ordering::Relaxed)
            && is_same()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "the file of a unix socket stays");
        }
    }
}
