//! What something costs the processor.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time that the threads of this process have had on processors since it began, all together, in the kernel as well.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}
