//! Reading every live message the way it would be read to be delivered.

use std::collections::HashMap;
use std::path::Path;

use super::verify::{Finding, Findings, LostMessage};
use crate::storage::disk::PageBuffer;
use crate::storage::error::{OpenError, StoreError};
use crate::storage::index::{MissingMessage, NotResident};
use crate::storage::queue::QueueCore;
use crate::storage::reader;
use crate::storage::record::{ChunkEntry, ChunkRecord};
use crate::storage::recovery::Recovered;
use crate::storage::segment::file_name;
use crate::storage::units::{SegmentId, Sequence};

/// Reads all live messages; gives their number. Of a deep queue the places of one chunk at a time are in memory.
pub(super) fn read(
    recovered: &Recovered,
    dir: &Path,
    findings: &mut Findings,
) -> Result<u64, OpenError> {
    let mut messages = Messages { recovered, dir, findings, read: 0 };
    for queue in recovered.catalog.queues.iter() {
        let missing = queue.state.lock().index.not_resident();
        for chunk in missing {
            match reader::read_chunk(&recovered.segments, chunk.page) {
                Ok(record) => messages.chunk(queue, chunk, &record)?,
                Err(error) => messages.damaged_list(queue, chunk, &error)?,
            }
        }
        // What the log has beyond the checkpoint.
        let stored: Vec<_> = queue.state.lock().index.stored_messages().collect();
        messages.messages(queue, &stored)?;
    }
    Ok(messages.read)
}

struct Messages<'a> {
    recovered: &'a Recovered,
    dir: &'a Path,
    findings: &'a mut Findings,
    read: u64,
}

impl Messages<'_> {
    fn chunk(
        &mut self,
        queue: &QueueCore,
        chunk: NotResident,
        record: &ChunkRecord,
    ) -> Result<(), OpenError> {
        let listed = queue.state.lock().index.listed(chunk, record);
        let (mut stored, mut unlisted) = (Vec::with_capacity(listed.len()), Vec::new());
        for (sequence, entry) in listed {
            match entry {
                Some(ChunkEntry { lsn, length, sharers }) => {
                    stored.push(MissingMessage { sequence, lsn, length, sharers });
                }
                None => unlisted.push(sequence),
            }
        }
        if !unlisted.is_empty() {
            let reason = "the list of messages there is whole, and lacks some that are live";
            let error = reader::unreadable(&self.recovered.segments, chunk.page.lsn, &reason);
            let messages = unlisted.into_iter().map(|sequence| lost(queue, sequence)).collect();
            let finding = self.unreadable(&error)?;
            self.findings.add(Finding { messages, ..finding });
        }
        self.messages(queue, &stored)
    }

    fn damaged_list(
        &mut self,
        queue: &QueueCore,
        chunk: NotResident,
        error: &StoreError,
    ) -> Result<(), OpenError> {
        let places = queue.state.lock().index.live_places(chunk.base);
        let finding = self.unreadable(error)?;
        self.findings.add(Finding {
            bytes: u64::from(chunk.page.length),
            what: format!("{}; a list of messages is there", finding.what),
            messages: places.into_iter().map(|sequence| lost(queue, sequence)).collect(),
            list: true,
            ..finding
        });
        Ok(())
    }

    fn messages(
        &mut self,
        queue: &QueueCore,
        messages: &[MissingMessage],
    ) -> Result<(), OpenError> {
        let mut failed = Vec::new();
        let read = &mut self.read;
        let mut buffer = PageBuffer::default();
        reader::read_messages(&self.recovered.segments, &mut buffer, messages, |run| {
            *read += run.len() as u64;
            failed
                .extend(run.drain(..).filter_map(|r| Some((r.wanted.sequence, r.outcome.err()?))));
        });
        if failed.is_empty() {
            return Ok(());
        }
        let lengths: HashMap<Sequence, u32> =
            messages.iter().map(|wanted| (wanted.sequence, wanted.length)).collect();
        for (sequence, error) in failed {
            let finding = self.unreadable(&error)?;
            let bytes = lengths.get(&sequence).copied().unwrap_or_default();
            let messages = vec![lost(queue, sequence)];
            self.findings.add(Finding { bytes: u64::from(bytes), messages, ..finding });
        }
        Ok(())
    }

    /// The finding of a record that could not be read.
    fn unreadable(&self, error: &StoreError) -> Result<Finding, OpenError> {
        let segment_size = self.recovered.segments.segment_size();
        let StoreError::Unreadable { lsn, file, offset, reason } = error else {
            return Err(error.clone().into());
        };
        let mut finding = Finding {
            file: file.clone(),
            offset: *offset,
            what: reason.to_string(),
            needed: true,
            ..Finding::default()
        };
        if file.as_os_str().is_empty() {
            let segment = SegmentId::holding(*lsn, segment_size);
            finding.file = self.dir.join(file_name(segment));
            finding.offset = lsn.since(segment.start(segment_size));
        }
        Ok(finding)
    }
}

fn lost(queue: &QueueCore, sequence: Sequence) -> LostMessage {
    LostMessage {
        queue: queue.id(),
        attributes: queue.attributes().clone(),
        sequence,
        record: None,
    }
}
