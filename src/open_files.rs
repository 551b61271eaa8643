//! The limit of open files: how much of it sessions, connections and the feed get.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are always open: standard streams, listeners, runtimes (about 25 with the simulated market); those open for
/// a moment (name resolution, /proc); and as many again.
const FIXED: u64 = 64;
/// A shard has a poll and a waker; twice that is reserved.
const SHARD: u64 = 4;
/// A connection to the feed, and its successor.
const UPSTREAM: u64 = 2;
/// A spool fills 16 segments, or up to twice as many where they end early; and the next.
const SPOOL: u64 = 33;
/// Divisor of the rest: the share that is kept for connections before the upgrade where sessions and connections cannot
/// both have what they want.
const CONNECTIONS_SHARE: u64 = 4;

/// How many files sessions and connections may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    pub sessions_max: usize,
    /// Connections before the upgrade.
    pub connections_max: usize,
    /// Both together. Connections also have the files of sessions that are not there.
    pub files_max: usize,
}

impl Shares {
    /// Reduces what is wanted to what `limit` allows. A reserve stays for the feed and the server itself, and a share for
    /// connections.
    pub fn within(self, limit: u64, (shards, upstreams, spools): (usize, usize, usize)) -> Shares {
        let reserve = FIXED + SHARD * shards as u64 + UPSTREAM * upstreams as u64 + SPOOL * spools as u64;
        let left = usize::try_from(limit - reserve.min(limit / 3 * 2)).unwrap_or(usize::MAX);
        let kept = (left / CONNECTIONS_SHARE as usize).min(self.connections_max).max(1);
        let sessions_max = self.sessions_max.min(left.saturating_sub(kept)).max(1);
        let files_max = self.files_max.min(left).max(2);
        Shares { sessions_max, connections_max: self.connections_max.min(files_max), files_max }
    }
}

/// Raises the soft limit of open files (RLIMIT_NOFILE) to the hard one; returns the soft limit before and after.
///
/// No limit is reported as `u64::MAX`. Each client needs one file, so the limit bounds the sessions.
///
/// Errors: the kernel refused; the limit is unchanged.
pub fn raise_open_files_limit() -> io::Result<(u64, u64)> {
    let Rlimit { current: before, maximum } = getrlimit(Resource::Nofile);
    if before != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok((before.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX)))
}

/// The current soft limit.
pub fn open_files_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (before, after) = raise_open_files_limit().expect("raising to the hard limit needs no privilege");
        assert!(before <= after);
        assert_eq!(raise_open_files_limit().expect("again"), (after, after));
        assert_eq!(open_files_limit(), after);
    }

    #[test]
    fn sessions_and_connections_leave_files_for_the_feed_and_for_each_other() {
        let wanted = Shares { sessions_max: 100_000, connections_max: 10_000, files_max: 110_000 };
        for (limit, parts, sessions_max, connections_max, files_max) in [
            (u64::MAX, (2, 1, 0), 100_000, 10_000, 110_000),
            (1 << 20, (64, 256, 4), 100_000, 10_000, 110_000),
            (65_536, (8, 1, 0), 55_438, 10_000, 65_438),
            (65_536, (8, 1, 4), 55_306, 10_000, 65_306),
            (1024, (2, 2, 0), 711, 948, 948),
            (64, (2, 1, 0), 17, 22, 22),
            (1, (2, 1, 0), 1, 2, 2),
        ] {
            let shares = wanted.within(limit, parts);
            assert_eq!(shares, Shares { sessions_max, connections_max, files_max }, "of {limit}");
            assert!(limit < 64 || files_max as u64 + 42 <= limit, "{shares:?} of {limit}");
        }
        let few = Shares { sessions_max: 10, connections_max: 10_000, files_max: 10_010 };
        assert_eq!(few.within(1024, (2, 2, 0)), Shares { sessions_max: 10, connections_max: 948, files_max: 948 });
    }
}
