//! The disk as the engine sees it: one small trait, so that a test can put a disk behind it that is
//! worse than any real one.
//!
//! What lives here: the traits [`Disk`] and [`DiskFile`], the operating system's disk behind them
//! ([`RealDisk`]), and the loops that turn partial transfers into whole ones. Nothing else in the engine
//! may call the file system (`clippy.toml` refuses it); nothing here may know of segments or records.
//!
//! # What is assumed of it
//! One 512-byte sector is written whole or not at all; a longer write may tear anywhere. Writes between two
//! syncs reach the medium in any order, or not at all. A rename is atomic, but durable only after
//! [`Disk::sync_dir`]; so is a created file. After a failed sync nothing is known of what was written before it.

mod descriptors;
mod direct;
mod page_buffer;
mod real;
mod transfer;

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub(crate) use descriptors::{Descriptors, MOST_OPEN, MOST_OPEN_TO_LOOK, is_out_of_descriptors};
pub(crate) use page_buffer::PageBuffer;
pub use real::RealDisk;
pub(crate) use transfer::{read_exact_at, write_all_at};

/// A file system, as far as the engine uses one.
pub trait Disk: Send + Sync + Debug {
    /// Makes the directory and those above it; one that exists is fine. The directory itself is for its owner alone.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names of the files and directories in a directory, in any order. Names that are not UTF-8 are left out: none of ours.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file that exists.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates an empty file for reading and writing, for its owner alone; one that exists is an error.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, replacing what has the new name: atomic, durable after [`sync_dir`](Disk::sync_dir).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Unlinks a file; durable after [`sync_dir`](Disk::sync_dir).
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the directory for this process alone, without changing anything in it.
    /// `None`: somebody else has it. Dropping the lock, or the end of the process, gives it back.
    fn lock_dir(&self, dir: &Path) -> io::Result<Option<Box<dyn DirectoryLock>>>;

    /// Takes the permissions of other users away from a file or directory. Returns the mode that it had before, or `None` if
    /// no other user had any. A file system without permissions has nothing to take away.
    fn restrict(&self, path: &Path) -> io::Result<Option<u32>> {
        let _ = path;
        Ok(None)
    }
}

/// How much [`DiskFile::fill`] writes at a time, in bytes.
const FILLED: u64 = 1 << 20;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For reading and writing.
    ReadWrite,
}

/// A directory held by this process; see [`Disk::lock_dir`].
pub trait DirectoryLock: Send + Sync + Debug {}

/// An open file. One descriptor stays open from a write to the sync that covers it: closed in between, the
/// kernel may forget to report an error.
pub trait DiskFile: Send + Sync + Debug {
    /// Reads at an offset (bytes); may give less than was asked for, and 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at an offset (bytes); may take less than was offered.
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize>;

    /// Gives an empty file so many bytes of zeros, really written, not durable yet. An error may leave a part of them.
    fn fill(&self, length: u64) -> io::Result<()> {
        let zeros = vec![0; length.min(FILLED) as usize];
        let mut offset = 0;
        while offset < length {
            let count = (length - offset).min(FILLED);
            write_all_at(self, &zeros[..count as usize], offset)?;
            offset += count;
        }
        Ok(())
    }

    /// Makes a new file `length` bytes long, all zeros, with room on the disk for all of them. Quick where the file system
    /// can set room aside without writing; otherwise the same as [`fill`](Self::fill).
    fn allocate(&self, length: u64) -> io::Result<()> {
        self.fill(length)
    }

    /// Makes the data, and the size if it grew, durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the data and all of the file's own metadata durable (`fsync`).
    fn sync_all(&self) -> io::Result<()>;

    /// The same file for whole pages of 4 KiB, from and to memory that begins on such a boundary: past the system's page cache.
    /// Anything else is read and written as well, only not as fast. `None`: that is not possible, or makes no difference.
    fn for_pages(&self) -> Option<Arc<dyn DiskFile>> {
        None
    }

    /// The size in bytes.
    fn size(&self) -> io::Result<u64>;

    /// The first hole that begins at `from` or behind it, in bytes: a part that the file system has no data for, up to where it has
    /// some again, or to the end of the file. It reads as zeros. `None`: there is none, or the file system does not say.
    fn next_hole(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let _ = from;
        Ok(None)
    }

    /// The number of names that the file has. A file with more than one is shared with a copy of its directory that was made of
    /// hard links. A file system without hard links says 1.
    fn links(&self) -> io::Result<u64> {
        Ok(1)
    }

    /// Cuts a file that is longer off at `length` bytes; durable after [`sync_all`](DiskFile::sync_all).
    fn truncate(&self, length: u64) -> io::Result<()> {
        let _ = length;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes the file itself for this process alone, whichever of its names it was opened by, until it is closed. Returns
    /// `false` if another holder has it. A file that only one process can reach needs no lock.
    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Releases the lock. Closing the file is not enough: a process that is just being started has
    /// inherited the open file until it executes its program.
    fn unlock(&self) {}
}
