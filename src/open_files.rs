//! How many files and sockets this process may hold open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files (RLIMIT_NOFILE) to the hard one; answers the soft limit before and after.
///
/// No limit is reported as `u64::MAX`. Each client needs one file, so the limit bounds the sessions.
///
/// Errors: the kernel refused; the limit is then as before.
pub fn raise_open_files_limit() -> io::Result<(u64, u64)> {
    let Rlimit { current: before, maximum } = getrlimit(Resource::Nofile);
    if before != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok((before.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (before, after) = raise_open_files_limit().expect("raising to the hard limit needs no privilege");
        assert!(before <= after);
        assert_eq!(raise_open_files_limit().expect("again"), (after, after));
    }
}
