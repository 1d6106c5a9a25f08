//! Writing past the system's page cache.
//!
//! A new segment's zeros are written once and never read, and most of what the log writes is delivered from memory. In the
//! page cache both would take memory that others use, and time: memory that a virtual machine has not used yet costs it many
//! times what the copy does (benchmarks.md).
#![expect(clippy::disallowed_types, reason = "a part of the one place that calls the file system")]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_getfl, fcntl_setfl};

use super::{DiskFile, FILLED, PageBuffer, write_all_at};

/// Fills an empty file with zeros, past the page cache where the file system can do that.
pub(super) fn fill(file: &File, length: u64) -> io::Result<()> {
    let size = length.min(FILLED) as usize;
    let mut zeros = PageBuffer::default();
    zeros.pad(size);
    let mut direct = set_direct(file, true).is_ok();
    let mut offset = 0;
    while offset < length {
        let piece = &zeros.as_slice()[..(length - offset).min(FILLED) as usize];
        match write_all_at(file, piece, offset) {
            Ok(()) => offset += piece.len() as u64,
            // Some file systems take the flag, and then refuse to write. What was written of the piece is written again.
            Err(error) if direct && error.kind() == ErrorKind::InvalidInput => {
                set_direct(file, false)?;
                direct = false;
            }
            Err(error) => return Err(error),
        }
    }
    if direct { set_direct(file, false) } else { Ok(()) }
}

/// Sets room aside for an empty file without writing to it, or fills it where the file system cannot do that.
pub(super) fn allocate(file: &File, length: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, length).map_err(io::Error::from) {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => {
            fill(file, length)
        }
        outcome => outcome,
    }
}

/// A file past the page cache. Its descriptor is its own, so that others can use the file through the page cache meanwhile:
/// the kernel sees to it that all have the same bytes.
#[derive(Debug)]
pub(super) struct PageFile(File);

impl PageFile {
    /// Opens a file that is open once more, whatever its name has become.
    pub(super) fn of(file: &File) -> io::Result<PageFile> {
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let writes = fcntl_getfl(file)?.intersects(OFlags::RDWR);
        let file = OpenOptions::new().read(true).write(writes).open(again)?;
        set_direct(&file, true)?;
        Ok(PageFile(file))
    }

    /// No whole pages, or a file system that took the flag and then refuses: from now on through the page cache.
    fn is_refusal(&self, error: &io::Error) -> bool {
        error.kind() == ErrorKind::InvalidInput && set_direct(&self.0, false).is_ok()
    }
}

impl DiskFile for PageFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match FileExt::read_at(&self.0, buffer, offset) {
            Err(error) if self.is_refusal(&error) => FileExt::read_at(&self.0, buffer, offset),
            outcome => outcome,
        }
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        match FileExt::write_at(&self.0, buffer, offset) {
            Err(error) if self.is_refusal(&error) => FileExt::write_at(&self.0, buffer, offset),
            outcome => outcome,
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::read_exact_at;

    #[test]
    fn a_file_is_filled_with_zeros_and_takes_ordinary_writes_afterwards() {
        let file = tempfile::tempfile().unwrap();
        for length in [0, 4096, 3 * FILLED + 8192, 3 * FILLED + 777] {
            file.set_len(0).unwrap();
            fill(&file, length).unwrap();
            assert_eq!(file.metadata().unwrap().len(), length);
            let mut content = vec![1; length as usize];
            file.read_exact_at(&mut content, 0).unwrap();
            assert!(content.iter().all(|byte| *byte == 0));
        }
        // Neither in size nor in memory nor in place what a direct write could do.
        file.write_all_at(&[1; 100], 5).unwrap();
    }

    #[test]
    fn pages_and_what_is_none_are_the_same_through_both_descriptors() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fill(file.as_file(), 4 * 4096).unwrap();
        let mut content = vec![0; 4 * 4096];
        file.as_file().read_exact_at(&mut content, 0).unwrap(); // It is in the page cache now.
        let writer = PageFile::of(file.as_file()).unwrap();
        let mut memory = PageBuffer::default();
        memory.pad(2 * 4096);
        memory.as_mut_slice().fill(7);
        let pages = memory.as_slice();
        write_all_at(&writer, pages, 4096).unwrap();
        writer.sync_data().unwrap();
        content[4096..3 * 4096].fill(7);
        write_all_at(&writer, &pages[1..100], 77).unwrap();
        write_all_at(&writer, pages, 2 * 4096).unwrap();
        content[77..176].fill(7);
        content[2 * 4096..].fill(7);
        let mut read = vec![0; 4 * 4096];
        file.as_file().read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, content);
        for (from, to) in [(0, 4 * 4096), (4096, 2 * 4096), (5, 4000)] {
            let mut memory = PageBuffer::default();
            memory.pad(to - from);
            let pages = memory.as_mut_slice();
            let reader = PageFile::of(file.as_file()).unwrap();
            read_exact_at(&reader, pages, from as u64).unwrap();
            assert_eq!(pages, &content[from..to]);
        }
        // Opened for reading alone, it is no more than that.
        let reader = PageFile::of(&File::open(file.path()).unwrap()).unwrap();
        assert!(write_all_at(&reader, pages, 0).is_err());
    }
}
