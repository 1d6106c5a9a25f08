//! Writing past the system's page cache.
//!
//! A new segment's zeros are written once and never read. In the page cache they would take memory that others use, and time:
//! memory that a virtual machine has not used yet costs it many times what the copy does (benchmarks.md).
#![expect(clippy::disallowed_types, reason = "a part of the one place that calls the file system")]

use std::fs::File;
use std::io::{self, ErrorKind};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::{FILLED, write_all_at};

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
}
