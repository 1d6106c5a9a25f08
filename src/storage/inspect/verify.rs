//! Reading all of a store, and telling everything that is damaged.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::Extent;
use super::messages;
use super::search::{self, WholeRecord};
use super::sweep::{Counts, Sweep};
use crate::storage::disk::{Access, Descriptors, Disk, MOST_OPEN_TO_LOOK};
use crate::storage::error::{Damage, OpenError};
use crate::storage::recovery::{self, Examined, Hole, Place, Recovered, end_of, known_places};
use crate::storage::segment::Segment;
use crate::storage::superblock::SuperblockFile;
use crate::storage::units::{Lsn, QueueId, Sequence, SequenceRange};

/// Bytes of a copy of the superblock.
const COPY: u64 = 512;

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
    /// Why an open refuses the store, if it does.
    pub refusal: Option<Damage>,
    /// The last checkpoint cannot be read; this older one can, [`Lsn::ZERO`] being the beginning of the log.
    pub older_checkpoint: Option<Lsn>,
    /// No checkpoint can be read at all: which messages are live cannot be told.
    pub no_checkpoint: bool,
    /// Everything that could not be read, or did not pass its check.
    pub damage: Vec<Finding>,
    /// Parts of the log that are lost, or damaged, and that an open would have to replay.
    pub holes: Vec<LogHole>,
    /// Damaged places that a repair has dealt with, and that nothing needs any more. They go when their segment is
    /// recycled.
    pub dealt_with: Vec<Finding>,
}

impl Verification {
    /// Whether nothing is damaged, but for what has been dealt with.
    pub fn is_whole(&self) -> bool {
        self.refusal.is_none() && self.damage.is_empty() && self.holes.is_empty()
    }
}

/// A damaged place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How much of it is damaged at most, in bytes; 0: there is nothing to be had.
    pub bytes: u64,
    /// What is wrong there.
    pub what: String,
    /// The store needs what was there: for these messages, or to open at all.
    pub needed: bool,
    /// The live messages that cannot be read because of it.
    pub messages: Vec<LostMessage>,
    /// It is a list of messages: these may be whole themselves.
    pub list: bool,
    /// It is the list of a deep queue's lists: it cannot be told for certain which messages were live. Some of these may
    /// have been acknowledged, and how often they were handed out is not known any more.
    pub uncertain: bool,
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
    /// Where a whole record of it is found all the same.
    pub record: Option<WholeRecord>,
}

/// A part of the log that was on stable storage and cannot be replayed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHole {
    /// Where it begins.
    pub from: Lsn,
    /// Where it ends.
    pub to: Lsn,
    /// Where that is on disk.
    pub extents: Vec<Extent>,
    /// What is wrong there.
    pub what: String,
    /// Whole records that are found in it nevertheless.
    pub records: u64,
    /// Places in queues whose messages are not found. A message that was not meant to survive a restart leaves such a gap
    /// as well, so these are the most that can be lost of the queues; acknowledgements may be lost besides, and the
    /// messages come back.
    pub places: Vec<LostPlaces>,
    /// Messages behind it, up to the next hole, whose queue is not known: it was deleted, or what created it is lost in the
    /// hole, and these messages with it.
    pub strays: u64,
}

/// A run of places in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostPlaces {
    /// The queue.
    pub queue: QueueId,
    /// Its attributes.
    pub attributes: Bytes,
    /// The places.
    pub places: SequenceRange,
}

/// Findings, each place once.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    by_place: HashMap<(PathBuf, u64), usize>,
}

impl Findings {
    pub(super) fn list(&self) -> &[Finding] {
        &self.list
    }

    pub(super) fn list_mut(&mut self) -> &mut [Finding] {
        &mut self.list
    }

    /// Adds a finding, or what it says to the finding that there is of the same place.
    pub(super) fn add(&mut self, finding: Finding) {
        let place = (finding.file.clone(), finding.offset);
        match self.by_place.get(&place) {
            Some(index) => {
                let known = &mut self.list[*index];
                known.messages.extend(finding.messages);
                known.needed |= finding.needed;
                known.list |= finding.list;
                known.uncertain |= finding.uncertain;
                known.bytes = known.bytes.max(finding.bytes);
            }
            None => {
                self.by_place.insert(place, self.list.len());
                self.list.push(finding);
            }
        }
    }
}

/// Reads and checks every record of every segment in use, and every live message through its queue's index. `progress`
/// is told the share of the segments that have been read, before each one. Changes nothing.
///
/// A store that an open refuses is read as far as it can be. A bounded number of files is open at a time, and a bounded part of
/// a segment in memory.
///
/// # Errors
/// What keeps it from reading at all. Damage is not an error here: it is what this looks for.
pub fn verify(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    progress: impl FnMut(f64),
) -> Result<Verification, OpenError> {
    let disk = Descriptors::new(disk.clone(), MOST_OPEN_TO_LOOK);
    match recovery::examine(&disk, dir, Access::Read) {
        Ok(examined) => look(&disk, dir, &examined, progress),
        // Without a superblock it is not known what to look for.
        Err(OpenError::Damaged(damage)) => Ok(Verification {
            damage: vec![needed(&damage)],
            refusal: Some(damage),
            no_checkpoint: true,
            ..Verification::default()
        }),
        Err(error) => Err(error),
    }
}

/// Reads the rest of a store that has been examined.
pub(super) fn look(
    disk: &dyn Disk,
    dir: &Path,
    examined: &Examined,
    mut progress: impl FnMut(f64),
) -> Result<Verification, OpenError> {
    let state = *examined.superblock.state();
    let size = state.segment_size;
    let mut findings = Findings::default();
    let mut counts = Counts::default();

    let opens = examined.refusal.is_none();
    let in_use = examined.recovered.as_ref().filter(|_| opens).map(|r| &r.segments);
    let mut segments = in_use.unwrap_or(&examined.readable).all();
    let end = examined.recovered.as_ref().map(|recovered| recovered.end);
    for (index, segment) in segments.iter().enumerate() {
        progress(index as f64 / segments.len() as f64);
        let end = end_of(segment, &segments[index + 1..], size, end);
        Sweep::new(segment, size, end)?.run(&mut counts, &mut findings, |_, _| {})?;
        add_wrong_size(segment, size, &mut findings)?;
    }
    if let Some(offset) = examined.superblock.damaged_copy() {
        let what = "one of the superblock's two copies does not pass its checksum; the other is \
                    whole"
            .to_owned();
        let file = SuperblockFile::path(dir);
        findings.add(Finding { file, offset, bytes: COPY, what, ..Finding::default() });
    }
    for damage in &examined.unreadable {
        findings.add(Finding { needed: false, bytes: size, ..needed(damage) });
    }
    for damage in examined.refusal.iter().chain(&examined.lost_segments) {
        findings.add(needed(damage));
    }

    let mut verification = Verification {
        refusal: examined.refusal.clone(),
        older_checkpoint: Some(examined.root).filter(|root| *root != state.root),
        no_checkpoint: examined.recovered.is_none(),
        ..Verification::default()
    };
    if let Some(recovered) = &examined.recovered {
        verification.messages = messages::read(recovered, dir, &mut findings)?;
        // A segment that nothing needs so far may have what is to be had of a message.
        for id in search::find(examined, recovered, &mut findings)? {
            let found = examined.readable.get(id).filter(|found| !has(&segments, found));
            let Some(segment) = found else { continue };
            let later: Vec<_> =
                examined.readable.all().into_iter().filter(|later| later.id() > id).collect();
            let end = end_of(&segment, &later, size, end);
            Sweep::new(&segment, size, end)?.run(&mut counts, &mut findings, |_, _| {})?;
            // A repair that takes a message from it brings it into use, as it is.
            add_wrong_size(&segment, size, &mut findings)?;
            segments.push(segment.clone());
        }
        verification.holes = examined.holes.iter().map(|hole| described(hole, recovered)).collect();
    }

    verification.segments = counts.segments;
    verification.groups = counts.groups;
    verification.records = counts.records;
    verification.bytes = counts.bytes;

    let known = known_places(disk, dir)?;
    for mut finding in findings.list {
        finding.needed |= verification.holes.iter().any(|hole| hole.covers(&finding));
        let segment = segments.iter().find(|segment| segment.path == finding.file);
        let place = segment.map(|s| Place::new(s, finding.offset));
        if !finding.needed && place.is_some_and(|place| known.contains(&place)) {
            verification.dealt_with.push(finding);
        } else {
            verification.damage.push(finding);
        }
    }
    progress(1.0);
    Ok(verification)
}

fn has(segments: &[Arc<Segment>], segment: &Segment) -> bool {
    segments.iter().any(|other| other.id() == segment.id())
}

impl LogHole {
    fn covers(&self, finding: &Finding) -> bool {
        self.extents.iter().any(|extent| {
            extent.file == finding.file
                && (extent.offset..=extent.offset + extent.bytes).contains(&finding.offset)
        })
    }
}

/// A finding of something that keeps the store from opening.
fn needed(damage: &Damage) -> Finding {
    Finding {
        file: damage.file.clone(),
        offset: damage.offset,
        what: format!("{}: {}", damage.what, damage.affected),
        needed: true,
        ..Finding::default()
    }
}

fn add_wrong_size(
    segment: &Segment,
    segment_size: u64,
    findings: &mut Findings,
) -> Result<(), OpenError> {
    let io = |error| OpenError::io("examine", &segment.path, error);
    let file = segment.file().expect("a segment that was found has a file");
    let (size, whole) = (file.size().map_err(io)?, u64::from(segment.header.slots) * segment_size);
    if size != whole {
        findings.add(Finding {
            file: segment.path.clone(),
            offset: size.min(whole),
            what: format!("the file has {size} bytes instead of {whole}"),
            ..Finding::default()
        });
    }
    Ok(())
}

fn described(hole: &Hole, recovered: &Recovered) -> LogHole {
    let places = hole.unaccounted.iter().map(|(queue, places)| LostPlaces {
        queue: *queue,
        attributes: recovered
            .catalog
            .queue(*queue)
            .map(|queue| queue.attributes().clone())
            .unwrap_or_default(),
        places: *places,
    });
    LogHole {
        from: hole.from,
        to: hole.to,
        extents: hole.extents.clone(),
        what: hole.what.clone(),
        records: hole.found,
        places: places.collect(),
        strays: hole.strays,
    }
}
