//! A group that is in memory as a whole, checked: for tests and fuzzing. Recovery checks [in pieces](crate::storage::recovery).

use super::group::{GROUP_HEADER, GroupFault, GroupHeader};
use crate::storage::checksum::Seed;
use crate::storage::record::{self, Record};
use crate::storage::units::Lsn;

/// A group that passed every check, in a copy of its segment.
#[derive(Debug)]
pub(crate) struct CheckedGroup<'a> {
    pub(crate) header: GroupHeader,
    pub(crate) records: Vec<(Lsn, Record<'a>)>,
}

impl<'a> CheckedGroup<'a> {
    /// Checks the group at the front of `bytes`, header and every record.
    pub(crate) fn check(
        bytes: &'a [u8],
        lsn: Lsn,
        seed: Seed,
    ) -> Result<CheckedGroup<'a>, GroupFault> {
        let header = GroupHeader::decode(bytes, lsn, seed)?;
        let mut rest = bytes
            .get(GROUP_HEADER..GROUP_HEADER + header.length as usize)
            .ok_or(GroupFault::Length)?;
        let mut records = Vec::new();
        let mut at = lsn.plus(GROUP_HEADER as u64);
        while !rest.is_empty() {
            let record =
                record::open(rest, at, seed).map_err(|fault| GroupFault::Record(fault, at))?;
            records.push((at, record));
            at = at.plus(record.size() as u64);
            rest = &rest[record.size()..];
        }
        if records.len() != header.records as usize {
            return Err(GroupFault::Length);
        }
        Ok(CheckedGroup { header, records })
    }
}
