//! What can be wrong, and how much of it was.

use std::fmt;

/// A kind of breach of the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DefectKind {
    /// Confirmed, not acknowledged, and not there.
    Lost,
    /// Not the bytes that were published.
    Altered,
    /// In another order than it was published, or was seen in before.
    Reordered,
    /// There twice, or handed out again without the flag that says so.
    Duplicated,
    /// There again after it was gone for good.
    Resurrected,
    /// There, and never published.
    Unknown,
    /// Not a message: the program did what it must not do.
    Misbehaved,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Defect {
    pub(super) kind: DefectKind,
    /// Which message of which queue, and what about it.
    pub(super) text: String,
}

/// Everything that is wrong: all of it counted, the first of it kept.
#[derive(Debug, Default)]
pub(super) struct Defects {
    counts: [u64; DefectKind::ALL.len()],
    first: Vec<Defect>,
}

impl DefectKind {
    pub(super) const ALL: [DefectKind; 7] = [
        DefectKind::Lost,
        DefectKind::Altered,
        DefectKind::Reordered,
        DefectKind::Duplicated,
        DefectKind::Resurrected,
        DefectKind::Unknown,
        DefectKind::Misbehaved,
    ];

    /// One word, as in the report.
    pub(super) fn word(self) -> &'static str {
        match self {
            DefectKind::Lost => "lost",
            DefectKind::Altered => "altered",
            DefectKind::Reordered => "reordered",
            DefectKind::Duplicated => "duplicated",
            DefectKind::Resurrected => "resurrected",
            DefectKind::Unknown => "unknown",
            DefectKind::Misbehaved => "misbehaved",
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.word().to_uppercase(), self.text)
    }
}

impl Defects {
    /// So many are kept; a store that lost everything need not fill the memory.
    const KEPT: usize = 1000;

    pub(super) fn push(&mut self, defect: Defect) {
        if let Some(count) = self.counts.get_mut(defect.kind as usize) {
            *count += 1;
        }
        if self.first.len() < Self::KEPT {
            self.first.push(defect);
        }
    }

    pub(super) fn count(&self, kind: DefectKind) -> u64 {
        self.counts.get(kind as usize).copied().unwrap_or_default()
    }

    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The first of them.
    pub(super) fn list(&self) -> &[Defect] {
        &self.first
    }
}
