//! What can go wrong, in words for the person who has to act on it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::units::{Lsn, QueueId};

/// Why a running store did not do what it was asked for.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// A write or a sync failed. Nothing is confirmed any more, and nothing is tried again: after a failed sync
    /// the kernel may call unwritten pages clean, so only a restart, which reads what the disk really has, is safe.
    #[error(
        "the log failed and takes nothing more: {0}. What was confirmed before is on disk; \
         check the disk and the kernel's log, then restart"
    )]
    Failed(Arc<str>),
    /// The store was closed while this was waiting, or before it began.
    #[error("the store is closed")]
    Closed,
    /// There is no room for anything new. What makes room goes on: acknowledging, deleting, checkpoints.
    #[error(
        "the disk is full: free some space, or let consumers take messages away; \
         it then goes on by itself"
    )]
    Full,
    /// There is no room for the file that this needs, because it is larger than a segment. Everything else goes on.
    #[error(
        "the disk has no room for a file of {bytes} bytes, which a message larger than a segment needs: \
         free some space, then send it again"
    )]
    NoRoom {
        /// The size of the file, in bytes.
        bytes: u64,
    },
    /// More bytes than one record can hold, or than can be [applied together](super::Store::apply_together).
    #[error("{bytes} bytes are to be stored in one piece, and at most {limit} bytes can be")]
    TooLarge {
        /// What it would take, in bytes.
        bytes: u64,
        /// What it may take, in bytes.
        limit: u64,
    },
    /// The handle of a queue came from another store, or from an earlier open of this one. Nothing was done.
    #[error(
        "queue {queue} belongs to another store: use the handle that this store gave, \
         from `create_queue` or `queues`"
    )]
    ForeignQueue {
        /// The queue's number in its own store.
        queue: QueueId,
    },
    /// An LSN that this store has never given out: nothing will be written there until more is stored.
    #[error(
        "nothing was stored up to {lsn}: wait for an LSN that this store gave, from `append` or `apply`"
    )]
    UnknownLsn {
        /// The LSN.
        lsn: Lsn,
    },
    /// A record below the durable LSN could not be read back.
    #[error("cannot read the log at {lsn} ({}, byte {offset}): {reason}", file.display())]
    Unreadable {
        /// Where the record begins.
        lsn: Lsn,
        /// The segment's file.
        file: PathBuf,
        /// Where the record begins in the file, in bytes.
        offset: u64,
        /// What the disk or the check said.
        reason: Arc<str>,
    },
}

/// Why a data directory was not opened. Nothing that was stored has been changed; see
/// [`Store::open`](super::Store::open) for files that hold nothing.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process, or another store in this one, has the directory.
    #[error(
        "{} is in use by another process: a data directory serves one at a time; \
         stop the other one (`fuser {}` names it) or use another directory", .0.display(), .0.display()
    )]
    Locked(PathBuf),
    /// Another directory has the same files, as a copy that is made of hard links has, and is in use.
    #[error(
        "the files of {} are in use under another name: a copy that is made of hard links (`cp -al`) shares them, and \
         two stores in one file destroy each other; stop the other one, and make a real copy (`cp -a`)", .0.display()
    )]
    Shared(PathBuf),
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The path of the data directory leads to a file, or through one.
    #[error(
        "cannot {action} {}: it is a file, or lies below one. A data directory is a directory: name \
         that, or a path at which nothing is yet", path.display()
    )]
    NotDirectory {
        /// The action that failed.
        action: &'static str,
        /// The path that is no directory, or lies in none.
        path: PathBuf,
    },
    /// Not a data directory, where one was expected.
    #[error("{} holds no haypile store: there is no file `superblock` in it", .0.display())]
    NoStore(PathBuf),
    /// Written by a version of this program with another format.
    #[error(
        "{} has format version {found}, and this program reads version {supported}: \
         use the program that wrote it, or a later one", file.display()
    )]
    Format {
        /// The file that says so.
        file: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version that this program reads.
        supported: u32,
    },
    /// Data that was on stable storage is not there any more, or not as it was.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// An option that cannot work.
    #[error("option {option}: {reason}")]
    Option {
        /// Which option.
        option: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The store is in order, and there is no room for the segment that it needs to go on, or the two if it has to take up a whole
    /// segment anew. Unfinished segments have been removed to make some.
    #[error(
        "the disk is full: {} cannot be opened without {bytes} free bytes for what it has to write; \
         free some space (no file in this directory can be spared), then start again", dir.display()
    )]
    Full {
        /// The data directory.
        dir: PathBuf,
        /// How many bytes have to be free.
        bytes: u64,
    },
    /// The store was opened, and failed before it was ready.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> OpenError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotADirectory => OpenError::NotDirectory { action, path },
            _ => OpenError::Io { action, path, source },
        }
    }

    /// The error of making the data directory itself.
    pub(crate) fn making(dir: &Path, source: io::Error) -> OpenError {
        let action = "create the directory";
        match source.kind() {
            io::ErrorKind::AlreadyExists => {
                OpenError::NotDirectory { action, path: dir.to_owned() }
            }
            _ => OpenError::io(action, dir, source),
        }
    }
}

/// Stable data that is damaged or missing: where, what, and what it means.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct Damage {
    /// The damaged file.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What was found there.
    pub what: String,
    /// What it means for the data in the store.
    pub affected: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is damaged at byte {}: {}. This means: {}. Nothing was changed; keep a copy of the whole \
             directory, check the disk, run `haypile verify` for a full list, or restore a backup",
            self.file.display(),
            self.offset,
            self.what,
            self.affected
        )
    }
}
