//! Looking at a store that is not open: what is in it ([`inspect`]), and whether all of it can be read ([`verify`]).
//!
//! Nothing is ever changed here. The directory is locked meanwhile, so a store that is in use is refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Disk, read_exact_at};
use super::error::{OpenError, StoreError};
use super::index::Released;
use super::log::group::{GROUP_HEADER, GroupHeader};
use super::reader;
use super::record::{self, FRAME};
use super::recovery::{self, Recovered, RecoveryReport};
use super::segment::{PAGE, Segment, file_name};
use super::superblock::FORMAT_VERSION;
use super::units::{Lsn, QueueId, SegmentId, Sequence};

/// What is in a store.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The version of the format on disk.
    pub format: u32,
    /// The store's identity.
    pub store: [u8; 16],
    /// Bytes of a slot of the log.
    pub segment_size: u64,
    /// The root record of the last checkpoint; [`Lsn::ZERO`]: there is none.
    pub checkpoint: Lsn,
    /// Where an open replays the log from.
    pub replayed_from: Lsn,
    /// What an open would find.
    pub recovery: RecoveryReport,
    /// The segments that hold records, in the order of the log.
    pub segments: Vec<SegmentView>,
    /// Files that an open would recycle.
    pub unused: Vec<PathBuf>,
    /// The durable queues, by number.
    pub queues: Vec<QueueView>,
    /// The metadata, in no particular order.
    pub entries: Vec<(Bytes, Bytes)>,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentView {
    /// Its number.
    pub id: SegmentId,
    /// Its file.
    pub file: PathBuf,
    /// The size of the file in bytes.
    pub size: u64,
    /// How many messages (one for each queue they are in) and parts of the checkpoint in it are needed.
    pub live_references: u64,
    /// What these take, in bytes.
    pub live_bytes: u64,
}

/// A durable queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// Its number.
    pub id: QueueId,
    /// What its creator gave.
    pub attributes: Bytes,
    /// Live messages.
    pub messages: u64,
    /// What they take in the log, in bytes.
    pub bytes: u64,
    /// The place that the next message gets.
    pub next: Sequence,
}

/// Reads what an open would read, and describes it.
pub fn inspect(disk: &dyn Disk, dir: &Path) -> Result<Inspection, OpenError> {
    let (_lock, superblock, recovered) = recovery::read(disk, dir)?;
    let segments = recovered
        .segments
        .all()
        .iter()
        .map(|segment| SegmentView {
            id: segment.id(),
            file: segment.path.clone(),
            size: superblock.segment_size * u64::from(segment.header.slots),
            live_references: segment.live.references(),
            live_bytes: segment.live.bytes(),
        })
        .collect();
    let mut queues: Vec<QueueView> = recovered
        .catalog
        .queues
        .iter()
        .map(|queue| {
            let state = queue.state.lock();
            QueueView {
                id: queue.id(),
                attributes: queue.attributes().clone(),
                messages: state.index.live(),
                bytes: state.index.bytes(),
                next: state.index.next(),
            }
        })
        .collect();
    queues.sort_by_key(|queue| queue.id);
    Ok(Inspection {
        format: FORMAT_VERSION,
        store: superblock.store,
        segment_size: superblock.segment_size,
        checkpoint: superblock.root,
        replayed_from: recovered.replayed_from,
        segments,
        unused: recovered.unused.iter().map(|id| dir.join(file_name(*id))).collect(),
        queues,
        entries: recovered.catalog.entries.iter().cloned().collect(),
        recovery: recovered.report,
    })
}

/// What [`verify`] has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Segments read from front to back.
    pub segments: u64,
    /// Sync groups in them.
    pub groups: u64,
    /// Records in these.
    pub records: u64,
    /// Live messages read through the index of their queues.
    pub messages: u64,
    /// Bytes of log read.
    pub bytes: u64,
    /// Everything that could not be read, or did not pass its check.
    pub damage: Vec<Finding>,
}

/// A damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// The messages that are lost by it.
    pub messages: Vec<LostMessage>,
}

/// A message that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostMessage {
    /// Its queue.
    pub queue: QueueId,
    /// The queue's attributes.
    pub attributes: Bytes,
    /// Its place in the queue.
    pub sequence: Sequence,
}

/// Reads and checks every record of every segment in use, and every live message through its queue's index. `progress`
/// is told the share of the segments that have been read, before each one.
///
/// # Errors
/// What keeps it from reading at all. Damage is not an error here: it is what this looks for. The one exception is
/// damage that an open would refuse as well; it is given as [`OpenError::Damaged`].
pub fn verify(
    disk: &dyn Disk,
    dir: &Path,
    mut progress: impl FnMut(f64),
) -> Result<Verification, OpenError> {
    let (_lock, superblock, recovered) = recovery::read(disk, dir)?;
    let mut verification = Verification::default();
    let segments = recovered.segments.all();
    for (index, segment) in segments.iter().enumerate() {
        progress(index as f64 / segments.len() as f64);
        let sweep = Sweep {
            segment,
            start: segment.id().start(superblock.segment_size),
            end: end_of(segment, &segments[index + 1..], &recovered),
            verification: &mut verification,
        };
        sweep.run()?;
    }
    verify_messages(&recovered, &mut verification)?;
    progress(1.0);
    Ok(verification)
}

/// Where the log left a segment, as the next one that it went to says: what lies behind was torn by a crash and cut off.
/// The end of the log, if that one is gone.
fn end_of(segment: &Segment, later: &[Arc<Segment>], recovered: &Recovered) -> Lsn {
    let size = recovered.segments.segment_size();
    let previous = |later: &Arc<Segment>| {
        let mut header = [0; GROUP_HEADER];
        read_exact_at(&**later.file()?, &mut header, PAGE).ok()?;
        let lsn = later.id().start(size).plus(PAGE);
        Some(GroupHeader::decode(&header, lsn, later.seed).ok()?.previous)
    };
    let end = later.iter().find_map(previous).filter(|end| segment.contains(*end, size));
    end.unwrap_or(recovered.report.end)
}

/// Reads every live message the way it would be read to be delivered.
fn verify_messages(
    recovered: &Recovered,
    verification: &mut Verification,
) -> Result<(), OpenError> {
    for queue in recovered.catalog.queues.iter() {
        let missing = queue.state.lock().index.not_resident();
        for chunk in missing {
            match reader::read_chunk(&recovered.segments, chunk.page) {
                Ok(record) => {
                    let mut released = Released::default();
                    queue.state.lock().index.install_chunk(chunk, &record, &mut released);
                }
                Err(error) => {
                    let (file, offset, what) = place(&error)?;
                    let what = format!(
                        "{what}; the list of messages of queue {} from place {} on is there",
                        queue.id(),
                        chunk.base
                    );
                    report(verification, Finding { file, offset, what, messages: Vec::new() });
                }
            }
        }
        let messages: Vec<_> = queue.state.lock().index.stored_messages().collect();
        let mut failed = Vec::new();
        reader::read_messages(&recovered.segments, &messages, |sequence, _, outcome| {
            verification.messages += 1;
            if let Err(error) = outcome {
                failed.push((sequence, error));
            }
        });
        for (sequence, error) in failed {
            let (file, offset, what) = place(&error)?;
            let attributes = queue.attributes().clone();
            let lost = LostMessage { queue: queue.id(), attributes, sequence };
            report(verification, Finding { file, offset, what, messages: vec![lost] });
        }
    }
    Ok(())
}

fn place(error: &StoreError) -> Result<(PathBuf, u64, String), OpenError> {
    match error {
        StoreError::Unreadable { file, offset, reason, .. } => {
            Ok((file.clone(), *offset, reason.to_string()))
        }
        other => Err(other.clone().into()),
    }
}

/// Adds a finding, or its messages to the finding that there is of the same place.
fn report(verification: &mut Verification, finding: Finding) {
    let same = |known: &&mut Finding| known.file == finding.file && known.offset == finding.offset;
    match verification.damage.iter_mut().find(same) {
        Some(known) => known.messages.extend(finding.messages),
        None => verification.damage.push(finding),
    }
}

/// One segment, read from front to back.
struct Sweep<'a> {
    segment: &'a Segment,
    start: Lsn,
    /// Where the log left the segment, or ended.
    end: Lsn,
    verification: &'a mut Verification,
}

impl Sweep<'_> {
    fn run(mut self) -> Result<(), OpenError> {
        let io = |error| OpenError::io("read", &self.segment.path, error);
        let file = self.segment.file().expect("a segment that was found has a file");
        let mut image = vec![0; file.size().map_err(io)? as usize];
        read_exact_at(&**file, &mut image, 0).map_err(io)?;
        self.verification.segments += 1;
        self.verification.bytes += image.len() as u64;

        let mut at = PAGE;
        while let Some((next, header)) = self.next_group(&image, at) {
            if next > at {
                self.found(at, "no group header passes its checksum there".to_owned());
            }
            self.group(&image, next, &header);
            at = next + header.span();
        }
        Ok(())
    }

    /// The first group header from `at` on that is valid. A torn tail has none behind it that counts.
    fn next_group(&self, image: &[u8], at: u64) -> Option<(u64, GroupHeader)> {
        let pages = image.get(at as usize..)?.chunks(PAGE as usize);
        for (page, offset) in pages.zip((at..).step_by(PAGE as usize)) {
            let lsn = self.start.plus(offset);
            if lsn >= self.end {
                return None;
            }
            if let Ok(header) = GroupHeader::decode(page, lsn, self.segment.seed) {
                return Some((offset, header));
            }
        }
        None
    }

    fn group(&mut self, image: &[u8], offset: u64, header: &GroupHeader) {
        self.verification.groups += 1;
        let begin = offset as usize + GROUP_HEADER;
        let Some(records) = image.get(begin..begin + header.length as usize) else {
            self.found(offset, "the group is longer than its segment".to_owned());
            return;
        };
        let mut at = 0;
        while at < records.len() {
            let here = begin + at;
            let lsn = self.start.plus(here as u64);
            match record::open(&records[at..], lsn, self.segment.seed) {
                Ok(record) => {
                    self.verification.records += 1;
                    at += record.size();
                }
                Err(fault) => {
                    self.found(here as u64, fault.to_string());
                    // The damaged record's own length may be wrong: what comes next is found by trying.
                    match self.next_record(records, at + FRAME, begin) {
                        Some(next) => at = next,
                        None => return,
                    }
                }
            }
        }
    }

    /// The next place from `from` on where a record passes its check.
    fn next_record(&self, records: &[u8], from: usize, begin: usize) -> Option<usize> {
        (from..records.len().saturating_sub(FRAME - 1)).find(|at| {
            let lsn = self.start.plus((begin + at) as u64);
            record::open(&records[*at..], lsn, self.segment.seed).is_ok()
        })
    }

    fn found(&mut self, offset: u64, what: String) {
        let file = self.segment.path.clone();
        report(self.verification, Finding { file, offset, what, messages: Vec::new() });
    }
}
