//! File descriptors: a connection takes one, and so does each segment of the log.
//!
//! Without one for its next segment the log fails, and the server with it. So whoever may connect must not be able to take the last
//! one, and that needs no login.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Has the process have as many as the system allows it. What a process begins with is a fraction of that, for the sake of
/// programs that use `select`.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!("the limit of open files stays as it is: {error}");
    }
}

/// How many connections there may be at the same time: as many as are wanted, and half of the descriptors at most.
pub(super) fn connections(wanted: usize) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return wanted };
    let half = usize::try_from(limit / 2).unwrap_or(usize::MAX).max(1);
    if half < wanted {
        tracing::warn!(
            open_files = limit,
            "connections are limited to {half} instead of {wanted}: the other half of the open files that the system allows \
             (`ulimit -n`, or LimitNOFILE) are for the log"
        );
    }
    wanted.min(half)
}
