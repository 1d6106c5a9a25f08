//! Bindings that were added while a lookup was put off.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Additions that are noted while a lookup is put off. After more, the lookup starts again.
const MOST: usize = 1024;

/// The latest additions to an index, each with the version that it made.
#[derive(Debug)]
pub(super) struct News<T> {
    /// A lookup has been put off, so additions are noted.
    wanted: AtomicBool,
    /// Nothing is missing that was added after this version.
    complete_from: u64,
    items: VecDeque<(u64, T)>,
}

impl<T> Default for News<T> {
    fn default() -> Self {
        Self { wanted: AtomicBool::new(false), complete_from: 0, items: VecDeque::new() }
    }
}

impl<T> News<T> {
    /// Has additions noted from now on.
    pub(super) fn want(&self) {
        self.wanted.store(true, Relaxed);
    }

    /// The version from which on nothing is missing.
    pub(super) fn complete_from(&self) -> u64 {
        self.complete_from
    }

    /// Notes an addition of the version `born`, in an index of the version `latest`.
    pub(super) fn add(&mut self, born: u64, latest: u64, item: impl FnOnce() -> T) {
        if *self.wanted.get_mut() && self.items.len() < MOST {
            self.items.push_back((born, item()));
        } else {
            *self.wanted.get_mut() = false;
            self.items = VecDeque::new();
            self.complete_from = latest;
        }
    }

    /// What was added after that version.
    pub(super) fn since(&self, version: u64) -> impl Iterator<Item = &T> {
        self.items.iter().filter(move |(born, _)| *born > version).map(|(_, item)| item)
    }
}
