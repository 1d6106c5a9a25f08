//! Writing past the system's page cache.
//!
//! A new segment's zeros are written once and never read, and most of what the log writes is delivered from memory. In the
//! page cache both would take memory that others use, and time: memory that a virtual machine has not used yet costs it many
//! times what the copy does (benchmarks.md).
#![expect(clippy::disallowed_types, reason = "a part of the one place that calls the file system")]

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::{DiskFile, FILLED, write_all_at};

/// What direct writes have to begin and end on, in memory and in the file, in bytes. Every disk asks for this or less.
const ALIGNMENT: usize = 4096;

/// Fills an empty file with zeros, past the page cache where the file system can do that.
pub(super) fn fill(file: &File, length: u64) -> io::Result<()> {
    let size = length.min(FILLED) as usize;
    let memory = vec![0; size + ALIGNMENT];
    let zeros = &memory[memory.as_ptr().align_offset(ALIGNMENT)..][..size];
    let mut direct = set_direct(file, true).is_ok();
    let mut offset = 0;
    while offset < length {
        let piece = &zeros[..(length - offset).min(FILLED) as usize];
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

/// A file that pages are written to. Its descriptor is its own, so that others can read the file through the page cache
/// meanwhile: the kernel sees to it that they read what was written here.
#[derive(Debug)]
pub(super) struct PageWriter(File);

impl PageWriter {
    /// Opens a file that exists.
    pub(super) fn open(path: &Path) -> io::Result<PageWriter> {
        let file = OpenOptions::new().write(true).open(path)?;
        // Where this fails, there is no such thing as writing past the page cache.
        set_direct(&file, true).ok();
        Ok(PageWriter(file))
    }
}

impl DiskFile for PageWriter {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        match FileExt::write_at(&self.0, buffer, offset) {
            // No whole pages, or a file system that took the flag and then refuses to write.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                set_direct(&self.0, false)?;
                FileExt::write_at(&self.0, buffer, offset)
            }
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
    use std::os::unix::fs::FileExt;

    use super::*;

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
    fn pages_and_what_is_none_are_read_through_another_descriptor() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fill(file.as_file(), 4 * 4096).unwrap();
        let mut content = vec![0; 4 * 4096];
        file.as_file().read_exact_at(&mut content, 0).unwrap(); // It is in the page cache now.
        let writer = PageWriter::open(file.path()).unwrap();
        let memory = vec![7; 2 * 4096 + ALIGNMENT];
        let pages = &memory[memory.as_ptr().align_offset(ALIGNMENT)..][..2 * 4096];
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
    }
}
