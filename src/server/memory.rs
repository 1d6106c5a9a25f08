//! The process's memory, and how much there is for it, as Linux tells.

use std::path::{Path, PathBuf};

use rustix::param::page_size;

use crate::storage::Options;
use crate::{amqp, broker};

/// Memory that is the process's own and in use, in bytes; `None`: Linux does not tell.
///
/// This is what the kernel kills processes for, and the sum of everything: messages, what connections are about to send, tables,
/// and what the allocator wastes. No account of the broker's own would see all of that.
pub(super) fn in_use() -> Option<u64> {
    parse_statm(&std::fs::read_to_string("/proc/self/statm").ok()?, page_size() as u64)
}

/// Budgets that follow from the memory that there is for the process.
///
/// They fit each other: the messages and indexes that the process keeps stay so far below the limit that they alone never hold
/// publishers back, and no single client can take as much as there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budgets {
    /// The most memory that the process is to use, in bytes; `None`: not known, so there is no limit.
    pub(crate) memory: Option<u64>,
    /// For messages that wait to be delivered, in bytes.
    pub(crate) cache: u64,
    /// For the indexes of the queues, in bytes.
    pub(crate) index: u64,
    /// For data that waits for the disk, in bytes.
    pub(crate) unsynced: u64,
    /// For the queues, exchanges and bindings of a virtual host, in bytes.
    pub(crate) topology: u64,
    /// For the exclusive queues of a connection, in bytes.
    pub(crate) owned_topology: u64,
    /// For the open transactions of a connection, in bytes.
    pub(crate) transaction: u64,
    /// For the body of a message, in bytes.
    pub(crate) message: u64,
    /// For read buffers and unfinished bodies of all connections, in bytes.
    pub(crate) receive: u64,
}

impl Budgets {
    /// What befits this process, or one that is to use `memory` bytes.
    pub(crate) fn new(memory: Option<u64>) -> Budgets {
        Budgets::below(memory.or_else(|| available(Path::new("/")).map(Budgets::limit)))
    }

    /// The limit where so much is available: two fifths, in whole mebibytes.
    fn limit(available: u64) -> u64 {
        (available / 5 * 2).max(MIB) / MIB * MIB
    }

    fn below(memory: Option<u64>) -> Budgets {
        let (engine, clients) = (Options::default(), broker::Limits::default());
        // In whole mebibytes, so that they can be read.
        let share = |part: u64, most: u64| {
            memory.map_or(most, |all| (all / part / MIB * MIB).clamp(MIB, most))
        };
        Budgets {
            memory,
            // Half as much again is for messages that were handed out.
            cache: share(4, engine.cache),
            index: share(16, engine.index),
            unsynced: share(8, engine.unsynced_limit),
            topology: share(4, clients.topology as u64),
            owned_topology: share(16, clients.owned_topology as u64),
            transaction: share(4, clients.transaction as u64),
            // A connection may hold unfinished bodies of twice that size.
            message: share(4, amqp::Limits::default().message_size),
            receive: share(8, amqp::Limits::default().receive_memory as u64),
        }
    }
}

const MIB: u64 = 1 << 20;

/// What there is for the process, in bytes: the machine's memory, or less if its control group has less. `root`: where the
/// system's files are.
fn available(root: &Path) -> Option<u64> {
    let within = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let read = |path: &Path| std::fs::read_to_string(within(path)).ok();
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

/// Has the allocator keep no more for later than befits a process that is to use `memory` bytes, or as many as there are for it.
///
/// glibc's keeps up to 64 MiB at the end of each thread's heap once blocks of such a size have been freed, and
/// [`give_back_unused`] does not reach them. For the start of the process.
pub(crate) fn fit_allocator(memory: Option<u64>) {
    let Some(limit) = Budgets::new(memory).memory.filter(|limit| *limit < AMPLE) else { return };
    let (mapped, kept) = allocator_thresholds(limit);
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [(glibc::MMAP_THRESHOLD, mapped), (glibc::TRIM_THRESHOLD, kept)] {
        glibc::mallopt(parameter, value);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = (mapped, kept);
}

/// Where a process is to use so much, in bytes, the allocator is left to itself.
const AMPLE: u64 = 1 << 30;

/// The size from which a block is mapped by itself, and what is kept at the end of a heap, in bytes.
fn allocator_thresholds(limit: u64) -> (i32, i32) {
    let part = |part: u64| i32::try_from((limit / part).max(256 << 10)).unwrap_or(i32::MAX);
    (part(64), part(32))
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

    /// `M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD` of mallopt(3).
    pub(super) const TRIM_THRESHOLD: std::ffi::c_int = -1;
    pub(super) const MMAP_THRESHOLD: std::ffi::c_int = -3;

    #[expect(
        unsafe_code,
        reason = "glibc's allocator is asked for something that Rust has no way to ask for"
    )]
    // SAFETY: this is how <malloc.h> declares it. With the parameters above it sets a number that later calls of the allocator
    // compare sizes with, and nothing else.
    unsafe extern "C" {
        pub(super) safe fn mallopt(
            parameter: std::ffi::c_int,
            value: std::ffi::c_int,
        ) -> std::ffi::c_int;
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
#[expect(clippy::disallowed_methods, reason = "the fixtures are no files of the engine's")]
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

    /// A system with 16 GiB of memory whose process is in `groups`, with these files of control groups.
    fn available_of(groups: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let all = [("proc/meminfo", "MemTotal: 16777216 kB\n"), ("proc/self/cgroup", groups)];
        for (path, content) in all.iter().chain(files) {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        available(root.path())
    }

    #[test]
    fn the_smallest_limit_of_the_control_groups_counts() {
        let mib = |count: u64| Some(count << 20);
        // Version 2: the process's own group, one above it, none.
        let own = ("sys/fs/cgroup/a/b/memory.max", "100663296\n");
        let above = ("sys/fs/cgroup/a/memory.max", "67108864\n");
        let none = ("sys/fs/cgroup/a/memory.max", "max\n");
        assert_eq!(available_of("0::/a/b\n", &[own]), mib(96));
        assert_eq!(available_of("0::/a/b\n", &[own, above]), mib(64));
        assert_eq!(available_of("0::/a/b\n", &[own, none]), mib(96));
        assert_eq!(available_of("0::/other\n", &[own]), mib(16 << 10));
        // In a container the group is the root.
        let root = ("sys/fs/cgroup/memory.max", "134217728\n");
        assert_eq!(available_of("0::/\n", &[root]), mib(128));
        // Version 1, in a container that sees its path from outside, and without a limit (a huge number).
        let groups = "4:memory:/docker/0123\n0::/\n";
        let root = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "100663296\n");
        assert_eq!(available_of(groups, &[root]), mib(96));
        let root = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(available_of(groups, &[root]), mib(16 << 10));
        assert_eq!(available_of("", &[]), mib(16 << 10));
    }

    #[test]
    fn budgets_stay_below_the_limit_in_a_container_of_any_size() {
        for available in (6..2048).map(|count| count * 8 * MIB) {
            let limit = Budgets::limit(available);
            let budgets = Budgets::below(Some(limit));
            assert!(limit <= available / 5 * 2 && limit > available / 5 * 2 - MIB);
            assert_eq!(budgets.memory, Some(limit));
            // What stays in memory without any fault of a client's.
            let kept = budgets.cache + budgets.cache / 2 + budgets.index + budgets.unsynced;
            assert!(kept <= limit / 5 * 3, "{available}: {budgets:?}");
            // What one connection may take beside it.
            let Budgets { topology, owned_topology, transaction, message, .. } = budgets;
            assert!(owned_topology <= topology && topology <= limit / 4, "{budgets:?}");
            assert!(transaction <= limit / 4 && 2 * message <= limit / 2, "{budgets:?}");
        }
    }

    #[test]
    fn budgets_are_the_defaults_where_there_is_much_memory() {
        let defaults = Budgets::below(None);
        assert_eq!((defaults.cache, defaults.index), (64 * MIB, 16 * MIB));
        assert_eq!((defaults.topology, defaults.owned_topology), (512 * MIB, 128 * MIB));
        assert_eq!((defaults.transaction, defaults.message), (256 * MIB, 128 * MIB));
        assert_eq!((defaults.unsynced, defaults.receive), (16 * MIB, 512 * MIB));
        let much = Budgets::below(Some(4096 * MIB));
        assert_eq!(much, Budgets { memory: Some(4096 * MIB), ..defaults });
    }

    #[test]
    fn budgets_of_a_container_of_96_mib_follow_from_it() {
        let own = ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "100663296\n");
        let available = available_of("4:memory:/a\n0::/\n", &[own]).unwrap();
        let expected = Budgets {
            memory: Some(38 * MIB),
            cache: 9 * MIB,
            index: 2 * MIB,
            unsynced: 4 * MIB,
            topology: 9 * MIB,
            owned_topology: 2 * MIB,
            transaction: 9 * MIB,
            message: 9 * MIB,
            receive: 4 * MIB,
        };
        assert_eq!(Budgets::below(Some(Budgets::limit(available))), expected);
    }

    #[test]
    fn the_allocator_keeps_a_small_part_of_the_limit_at_the_end_of_each_heap() {
        assert_eq!(allocator_thresholds(64 * MIB), (1 << 20, 2 << 20));
        assert_eq!(allocator_thresholds(MIB), (256 << 10, 256 << 10));
    }

    #[test]
    fn this_process_is_smaller_than_its_machine() {
        assert!(in_use().unwrap() < available(Path::new("/")).unwrap());
        give_back_unused();
    }
}
