//! What a broker on this machine costs: processor and memory, as Linux tells them.

use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};

/// What a process has used until now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// In user mode and in the kernel, of all its threads. Linux tells it in hundredths of a second.
    pub(super) cpu: Duration,
    /// Resident memory in bytes.
    pub(super) memory: u64,
}

/// There is no such process, or Linux does not tell.
#[derive(Debug, thiserror::Error)]
#[error("--broker-pid {pid}: cannot read {path}: {why}; give the id of a process on this machine")]
pub(super) struct NoUsage {
    pid: u32,
    path: String,
    why: String,
}

impl Usage {
    /// Of the process with this id.
    pub(super) fn of(pid: u32) -> Result<Usage, NoUsage> {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path).map_err(|error| NoUsage {
            pid,
            path: path.clone(),
            why: error.to_string(),
        })?;
        let usage = Usage::parse(&text, clock_ticks_per_second(), page_size() as u64);
        usage.ok_or_else(|| NoUsage { pid, path, why: "it is not as proc(5) has it".to_owned() })
    }

    /// `/proc/PID/stat`; the name in it may be anything, and ends with the last parenthesis.
    fn parse(stat: &str, ticks_per_second: u64, page: u64) -> Option<Usage> {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        // proc(5) counts from 1, and the name is 2: user time is 14, system time 15, resident pages 24.
        let user: u64 = fields.nth(11)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let pages: u64 = fields.nth(8)?.parse().ok()?;
        let cpu = Duration::from_secs_f64((user + system) as f64 / ticks_per_second as f64);
        Some(Usage { cpu, memory: pages * page })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_where_linux_puts_them() {
        let stat = "77 (a ) (b) S 1 77 77 0 -1 4194560 100 0 0 0 150 50 9 9 20 0 5 0 1000 123456 300 \
                    18446744073709551615 1 1";
        let usage = Usage::parse(stat, 100, 4096).unwrap();
        assert_eq!(usage, Usage { cpu: Duration::from_secs(2), memory: 300 * 4096 });
        assert_eq!(Usage::parse("77 (x) S 1", 100, 4096), None);
    }

    #[test]
    fn this_process_uses_something_and_no_process_has_the_largest_id() {
        assert!(Usage::of(std::process::id()).unwrap().memory > 0);
        let error = Usage::of(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("--broker-pid 4294967295"), "{error}");
    }
}
