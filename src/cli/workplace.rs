//! The directory that a torture or a benchmark works in: new, measured, and removed by whoever wants that.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the engine's files are looked at from outside, as a person would"
)]

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

/// A directory that cannot be worked in.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {source}; give a directory that can be written to", path.display())]
pub(super) struct WorkplaceError {
    path: PathBuf,
    source: io::Error,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Workplace {
    dir: PathBuf,
    /// Data directories that have been begun.
    begun: u32,
}

impl Workplace {
    /// Makes a new directory, named `what` and a number, in `parent`, which is made if it is not there.
    pub(super) fn fresh(parent: &Path, what: &str) -> Result<Workplace, WorkplaceError> {
        let failed = |path: &Path, source| Err(WorkplaceError { path: path.to_owned(), source });
        if let Err(error) = fs::create_dir_all(parent) {
            return failed(parent, error);
        }
        for number in 1.. {
            let dir = parent.join(format!("{what}-{number}"));
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Workplace { dir, begun: 0 }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return failed(&dir, error),
            }
        }
        failed(parent, ErrorKind::AlreadyExists.into())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a store may be begun; the one before is removed.
    pub(super) fn begin_data(&mut self) -> Result<PathBuf, WorkplaceError> {
        if self.begun > 0 {
            self.remove(&self.data())?;
        }
        self.begun += 1;
        Ok(self.data())
    }

    fn data(&self) -> PathBuf {
        self.dir.join(format!("data-{}", self.begun))
    }

    /// What the files of the store take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(self.data()) else { return 0 };
        // A file that goes while it is looked at takes nothing.
        entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
    }

    /// Has the system forget what it keeps in memory of the store's files, so that they are read from the disk.
    pub(super) fn forget(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.data())? {
            let file = fs::File::open(entry?.path())?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    }

    /// Removes all of it.
    pub(super) fn clear(&self) -> Result<(), WorkplaceError> {
        self.remove(&self.dir)
    }

    fn remove(&self, path: &Path) -> Result<(), WorkplaceError> {
        match fs::remove_dir_all(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(WorkplaceError { path: path.to_owned(), source })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workplace_is_new_and_leaves_its_neighbours_alone() {
        let parent = tempfile::tempdir().unwrap();
        let first = Workplace::fresh(parent.path(), "torture").unwrap();
        let mut second = Workplace::fresh(parent.path(), "torture").unwrap();
        assert_ne!(first.dir(), second.dir());
        let data = second.begin_data().unwrap();
        fs::create_dir(&data).unwrap();
        fs::write(data.join("file"), [0; 100]).unwrap();
        assert_eq!(second.bytes(), 100);
        let next = second.begin_data().unwrap();
        assert!(!data.exists() && data != next);
        second.clear().unwrap();
        assert!(first.dir().is_dir() && !second.dir().exists());
    }
}
