//! The process's memory, and how much there is for it, as Linux tells.

use std::path::{Path, PathBuf};

use rustix::param::page_size;

/// Memory that is the process's own and in use, in bytes; `None`: Linux does not tell.
///
/// This is what the kernel kills processes for, and the sum of everything: messages, what connections are about to send, tables,
/// and what the allocator wastes. No account of the broker's own would see all of that.
pub(super) fn in_use() -> Option<u64> {
    parse_statm(&std::fs::read_to_string("/proc/self/statm").ok()?, page_size() as u64)
}

/// What there is for the process, in bytes: the machine's memory, or less if its control group has less.
pub(super) fn available() -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| parse_meminfo(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = limit_files(&groups);
    let limits = limits.iter().filter_map(|path| read(path)?.trim().parse::<u64>().ok());
    limits.chain(machine).min()
}

/// Has the allocator give the system what it keeps for later: it may keep most of what was ever in use, and what is kept looks
/// like what is used. Without this, publishers that were held back once might be so for ever.
pub(super) fn give_back_unused() {
    #[cfg(target_env = "gnu")]
    glibc::malloc_trim(0);
}

#[cfg(target_env = "gnu")]
mod glibc {
    #[expect(
        unsafe_code,
        reason = "glibc's allocator is asked for something that Rust has no way to ask for"
    )]
    // SAFETY: this is how <malloc.h> declares it. It may be called at any time from any thread, and changes nothing that a
    // program can see: blocks in use stay where they are.
    unsafe extern "C" {
        pub(super) safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
}

/// proc(5), `/proc/pid/statm`: pages in all, resident, and of these shared with a file.
fn parse_statm(text: &str, page: u64) -> Option<u64> {
    let mut fields = text.split_ascii_whitespace();
    let resident: u64 = fields.nth(1)?.parse().ok()?;
    let shared: u64 = fields.next()?.parse().ok()?;
    Some(resident.saturating_sub(shared) * page)
}

/// proc(5), `/proc/meminfo`.
fn parse_meminfo(text: &str) -> Option<u64> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// The files with the limits of the process's control groups, from its own to the root (cgroups(7)). Some do not exist.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = Path::new(root).join(group.trim_start_matches('/'));
        let within = group.ancestors().take_while(|path| path.starts_with(root));
        files.extend(within.map(|path| path.join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_writes_is_read() {
        assert_eq!(parse_statm("90000 3000 1000 5 0 400 0\n", 4096), Some(2000 * 4096));
        assert_eq!(parse_statm("90000", 4096), None);
        let meminfo = "MemTotal:       16384 kB\nMemFree:         1024 kB\n";
        assert_eq!(parse_meminfo(meminfo), Some(16 << 20));
        assert_eq!(parse_meminfo("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn a_limit_may_be_anywhere_above_the_process() {
        let files = limit_files("0::/system.slice/haypile.service\n");
        let root = Path::new("/sys/fs/cgroup");
        let expected = ["system.slice/haypile.service", "system.slice", ""];
        assert_eq!(files, expected.map(|group| root.join(group).join("memory.max")));
        let old = limit_files("5:cpu:/a\n4:memory:/a\n0::/\n");
        let expected =
            ["memory/a/memory.limit_in_bytes", "memory/memory.limit_in_bytes", "memory.max"];
        assert_eq!(old, expected.map(|file| root.join(file)));
    }

    #[test]
    fn this_process_is_smaller_than_its_machine() {
        assert!(in_use().unwrap() < available().unwrap());
        give_back_unused();
    }
}
