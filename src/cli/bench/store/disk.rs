//! The disk itself: what a log could reach that had nothing to do but to write and to sync.
//!
//! Groups of pages are written one behind the other, each with one sync, to a file that was written full before: as the engine does
//! it in its segments, from one thread and through the same calls.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::BenchError;
use super::session::Session;
use crate::cli::bench::report::{Latencies, Measurement, Parameters, Setting, Since, Throughput};
use crate::storage::disk::{Access, Disk, DiskFile, RealDisk, read_exact_at, write_all_at};

/// The size of the file, in bytes: that of a segment.
const FILE: u64 = 64 << 20;

/// A group begins and ends on a page, in bytes.
const PAGE: u64 = 4096;

/// How much is read at a time, in bytes: as much as the engine reads ahead.
const READ: usize = 2 << 20;

/// The sizes of groups that are measured, in bytes.
const SIZES: [u64; 6] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
const FEW_SIZES: [u64; 3] = [4 << 10, 64 << 10, 1 << 20];

pub(super) fn run(session: &mut Session) -> Result<(), BenchError> {
    let sizes = if session.quick { &FEW_SIZES[..] } else { &SIZES };
    for size in sizes {
        if !session.goes_on() {
            break;
        }
        let (time, mut pace) = (session.time, Pace::default());
        session.probe.write(*size, time, &mut pace)?;
        let mut parameters = Parameters::default();
        parameters.set("group", Setting::Bytes(*size));
        let throughput = Throughput::new("syncs", pace.groups, pace.bytes, pace.time);
        let mut measurement = Measurement::new("disk", parameters, throughput);
        measurement.latencies.extend(pace.latencies.summary("write and sync", Since::Begun));
        session.take(measurement);
    }
    Ok(())
}

/// The file that is written.
#[derive(Debug)]
pub(super) struct Probe {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Where the next group goes.
    offset: u64,
    /// What is written: nothing that a disk could make smaller.
    noise: Vec<u8>,
    /// Set when somebody wants it to end.
    stop: Arc<AtomicBool>,
}

/// What the disk did.
#[derive(Debug, Default)]
pub(super) struct Pace {
    pub(super) groups: u64,
    pub(super) bytes: u64,
    pub(super) time: Duration,
    pub(super) latencies: Latencies,
}

/// How fast files were read, from the front to the end.
#[derive(Debug, Default)]
pub(super) struct Reading {
    times: u64,
    time: Duration,
}

impl Reading {
    /// Reads all of these files.
    pub(super) fn measure(&mut self, files: &[PathBuf]) -> Result<(), BenchError> {
        let mut buffer = vec![0; READ];
        let begin = Instant::now();
        for path in files {
            let mut read_file = || -> std::io::Result<()> {
                let file = RealDisk.open(path, Access::Read)?;
                let size = file.size()?;
                for offset in (0..size).step_by(READ) {
                    let piece = READ.min((size - offset) as usize);
                    read_exact_at(&*file, &mut buffer[..piece], offset)?;
                }
                Ok(())
            };
            read_file().map_err(|source| BenchError::Io {
                action: "read",
                path: path.clone(),
                source,
            })?;
        }
        self.time += begin.elapsed();
        self.times += 1;
        Ok(())
    }

    /// How often a second all of it was read.
    pub(super) fn times_a_second(&self) -> f64 {
        self.times as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl Pace {
    /// Groups a second.
    pub(super) fn per_second(&self) -> f64 {
        let seconds = self.time.as_secs_f64();
        if seconds > 0.0 { self.groups as f64 / seconds } else { 0.0 }
    }
}

impl Probe {
    /// Makes the file, full of zeros and synced.
    pub(super) fn prepare(dir: &Path, stop: Arc<AtomicBool>) -> Result<Probe, BenchError> {
        let path = dir.join("disk");
        let made = RealDisk.create(&path).and_then(|file| {
            file.fill(FILE)?;
            file.sync_all()?;
            Ok(file)
        });
        let file = made.map_err(|source| BenchError::Io {
            action: "make the file",
            path: path.clone(),
            source,
        })?;
        let mut noise = vec![0; FILE as usize / 2];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        Ok(Probe { path, file, offset: 0, noise, stop })
    }

    /// Writes and syncs groups of so many bytes (a full number of pages, and half of the file at most) for so long.
    pub(super) fn write(
        &mut self,
        group: u64,
        time: Duration,
        pace: &mut Pace,
    ) -> Result<(), BenchError> {
        let group = group.clamp(1, self.noise.len() as u64).next_multiple_of(PAGE);
        let begin = Instant::now();
        let mut now = begin;
        while now - begin < time && !self.stop.load(Ordering::Relaxed) {
            if self.offset + group > FILE {
                self.offset = 0;
            }
            let content = self.noise.get(..group as usize).unwrap_or_default();
            write_all_at(&*self.file, content, self.offset)
                .and_then(|()| self.file.sync_data())
                .map_err(|source| BenchError::Io {
                    action: "write and sync",
                    path: self.path.clone(),
                    source,
                })?;
            self.offset += group;
            let done = Instant::now();
            pace.latencies.record(done - now);
            pace.groups += 1;
            pace.bytes += group;
            now = done;
        }
        pace.time += now - begin;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_full_pages_and_stay_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = Probe::prepare(dir.path(), Arc::default()).unwrap();
        let mut pace = Pace::default();
        for (group, written) in [(1, 4096), (4097, 8192), (u64::MAX, FILE / 2)] {
            let before = pace.bytes;
            // It writes one whatever the time, and from the front again where the file ends.
            probe.offset = FILE - 4096;
            probe.write(group, Duration::from_nanos(1), &mut pace).unwrap();
            assert_eq!(pace.bytes - before, written);
            assert_eq!(probe.offset, if written == 4096 { FILE } else { written });
        }
        assert_eq!(pace.groups, 3);
        assert_eq!(probe.file.size().unwrap(), FILE);
    }
}
