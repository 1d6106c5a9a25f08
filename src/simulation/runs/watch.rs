//! The director of a run: makes go wrong what is to go wrong, and remembers what happened on the disk.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::plan::{Fault, FaultKind};
use crate::simulation::disk::{Operation, OperationKind, SimulatedDisk, Verdict};
use crate::simulation::statement::Groups;

/// Transfers that are short or interrupted, once they begin to be.
const HESITATIONS: u64 = 12;

/// What has happened on a disk.
#[derive(Debug, Default)]
pub(super) struct Watch {
    fault: Option<Fault>,
    /// Operations that it could hit and that have gone well.
    passed: u64,
    /// Operations that it has hit.
    pub(super) hits: u64,
    /// Files have been written since then, so whoever opens a store has accepted it.
    written: bool,
    /// It hit something before that.
    pub(super) hit_early: bool,
    /// The file and byte that was read wrong.
    pub(super) flipped: Option<(PathBuf, u64)>,
    /// Operations that change something.
    pub(super) changes: u64,
    /// Faults that have hit something, by kind.
    pub(super) faults: BTreeMap<&'static str, u64>,
    /// The sync groups that were written.
    pub(super) groups: Groups,
}

impl Watch {
    /// Of a store with segments of this size.
    pub(super) fn new(segment_size: u64) -> Watch {
        Watch { groups: Groups::new(segment_size), ..Watch::default() }
    }

    /// From now on this is to go wrong, and nothing else.
    pub(super) fn arm(&mut self, fault: Option<Fault>) {
        self.fault = fault;
        (self.passed, self.hits, self.flipped) = (0, 0, None);
        (self.written, self.hit_early) = (false, false);
    }

    /// What has gone wrong since, if anything.
    pub(super) fn struck(&self) -> Option<Fault> {
        self.fault.filter(|_| self.hits > 0)
    }

    /// Whether the store has to have failed: something was not written, or not made durable.
    pub(super) fn is_fatal(&self) -> bool {
        use FaultKind::{DirectorySync, FileSync, PowerCut, Write};
        let kind = self.struck().map(|fault| fault.kind);
        matches!(kind, Some(DirectorySync | FileSync | PowerCut | Write))
    }

    /// Whether something was not read, or not as it is.
    pub(super) fn is_misread(&self) -> bool {
        let kind = self.struck().map(|fault| fault.kind);
        matches!(kind, Some(FaultKind::Read(_) | FaultKind::Flip(_)))
    }

    fn decide(&mut self, operation: &Operation) -> Verdict {
        let verdict = self.verdict(operation);
        self.changes += u64::from(operation.is_change());
        self.written |= matches!(operation.kind, OperationKind::Write { .. });
        if let (OperationKind::Read { offset, bytes }, Verdict::Flip { bit }) =
            (&operation.kind, verdict)
        {
            let byte = (bit / 8 % (*bytes).max(1)) as u64;
            self.flipped = Some((operation.path.clone(), offset + byte));
        }
        self.groups.note(operation);
        verdict
    }

    fn verdict(&mut self, operation: &Operation) -> Verdict {
        let Some(fault) = self.fault else { return Verdict::Proceed };
        let (limit, verdict) = match (fault.kind, &operation.kind) {
            (FaultKind::FileSync, OperationKind::SyncData | OperationKind::SyncAll)
            | (FaultKind::DirectorySync, OperationKind::SyncDir) => {
                // Whatever the reason: for want of room as well, a sync that fails is final.
                let kinds = [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
                (1, Verdict::Fail(kinds[fault.after as usize % kinds.len()]))
            }
            (FaultKind::Write, OperationKind::Write { .. }) => (1, Verdict::Fail(ErrorKind::Other)),
            (FaultKind::Read(times), OperationKind::Read { .. }) => {
                (times.into(), Verdict::Fail(ErrorKind::Other))
            }
            (FaultKind::Flip(bit), OperationKind::Read { offset, bytes }) => {
                let spread = usize::from(bit).wrapping_mul(0x9e37) ^ (fault.fate as usize & 0xffff);
                let (begin, length) = if fault.fate & 1 == 1 {
                    (0, *bytes)
                } else {
                    // Of the last group nothing says that it was durable: the first read of it.
                    let Some(last) = self.last_group_in(&operation.path, *offset, *bytes) else {
                        return Verdict::Proceed;
                    };
                    self.passed = fault.after.into();
                    last
                };
                (1, Verdict::Flip { bit: begin * 8 + spread % (length * 8).max(1) })
            }
            (FaultKind::Short(bytes), OperationKind::Read { .. } | OperationKind::Write { .. }) => {
                (HESITATIONS, Verdict::Short(bytes.into()))
            }
            (FaultKind::Interrupt, OperationKind::Read { .. } | OperationKind::Write { .. }) => {
                (HESITATIONS, Verdict::Fail(ErrorKind::Interrupted))
            }
            (FaultKind::PowerCut, _) if operation.is_change() => (1, Verdict::PowerCut),
            _ => return Verdict::Proceed,
        };
        if self.passed < u64::from(fault.after) {
            self.passed += 1;
            return Verdict::Proceed;
        }
        if self.hits == limit {
            return Verdict::Proceed;
        }
        if self.hits == 0 {
            *self.faults.entry(name_of(fault.kind)).or_default() += 1;
        }
        self.hits += 1;
        self.hit_early |= !self.written;
        verdict
    }

    /// Where the last group of a file is in what is read of it, and its bytes.
    fn last_group_in(&self, path: &Path, offset: u64, bytes: usize) -> Option<(usize, usize)> {
        let (at, length) = self.groups.last_in(path)?;
        let begin = at.checked_sub(offset)?;
        (begin + length <= bytes as u64).then_some((begin as usize, length as usize))
    }
}

fn name_of(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::FileSync => "failed syncs of files",
        FaultKind::DirectorySync => "failed syncs of directories",
        FaultKind::Write => "failed writes",
        FaultKind::Read(_) => "failed reads",
        FaultKind::Flip(_) => "flipped bits in reads",
        FaultKind::Short(_) => "short transfers",
        FaultKind::Interrupt => "interrupted transfers",
        FaultKind::PowerCut => "power cuts in the middle of an operation",
    }
}

/// Has a disk directed by a watch.
pub(super) fn direct(disk: &SimulatedDisk, watch: &Arc<Mutex<Watch>>) {
    let watch = watch.clone();
    disk.direct(move |operation, _| watch.lock().decide(operation));
}
