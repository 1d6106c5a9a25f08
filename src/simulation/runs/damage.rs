//! Damaged places: of copies that are looked at, and under a store in use.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::execution::{DIR, Run};
use super::failure::{Failure, FailureKind};
use super::plan::{Rot, RotKind};
use crate::simulation::disk::SimulatedDisk;
use crate::simulation::image::{Image, SECTOR};
use crate::simulation::judge::{Outcome, judge};
use crate::simulation::random::Random;

/// A sector that is not as it was.
pub(super) struct Damage {
    path: PathBuf,
    offset: u64,
    before: [u8; SECTOR],
    after: [u8; SECTOR],
}

/// How often each outcome of damage was met.
pub(super) type Outcomes = BTreeMap<Outcome, u64>;

impl Run<'_> {
    /// The state of the disk with a damaged place.
    fn rotten(&self, image: &Image, rot: Rot) -> Option<Damage> {
        let contents = image.contents();
        let sectors = contents.iter().flat_map(|(path, bytes)| {
            let sectors = bytes.chunks_exact(SECTOR).zip((0..).step_by(SECTOR));
            sectors
                .filter(|(sector, _)| sector.iter().any(|byte| *byte != 0))
                .map(move |s| (path, s))
        });
        let sectors: Vec<_> = sectors.collect();
        let index = (rot.sector as usize).checked_rem(sectors.len())?;
        let (path, (sector, offset)) = sectors[index];
        let before: [u8; SECTOR] = sector.try_into().expect("chunks are of a sector each");
        let mut after = before;
        match rot.kind {
            RotKind::Bit(bit) => after[usize::from(bit) / 8 % SECTOR] ^= 1 << (bit % 8),
            RotKind::Zeros => after.fill(0),
            RotKind::Garbage => {
                let random = Random::new(rot.sector.into());
                after.fill_with(|| random.next() as u8);
            }
        }
        Some(Damage { path: path.clone(), offset, before, after })
    }

    /// Looks at a damaged copy.
    pub(super) fn probe(&mut self, rot: Rot) -> Result<(), Failure> {
        let fresh = self.disk.used() == 0;
        if fresh || self.damage.is_some() || self.disk.is_off() {
            return Ok(());
        }
        let image = self.disk.image();
        let Some(damage) = self.rotten(&image, rot) else { return Ok(()) };
        let mut damaged = image.clone();
        damaged.corrupt(&damage.path, damage.offset, |bytes| *bytes = damage.after);
        self.judge(&image, &damaged, &damage)
    }

    fn judge(&mut self, whole: &Image, damaged: &Image, damage: &Damage) -> Result<(), Failure> {
        let groups = self.watch.lock().groups.clone();
        let unproven = groups.unproven_at(whole, &damage.path, damage.offset);
        let options = |disk: &SimulatedDisk| self.options_of_copy(disk);
        let judged = judge(damaged, DIR.as_ref(), self.ledger(), unproven, &options);
        match judged {
            Ok(outcome) => {
                *self.summary.damaged.entry(outcome).or_default() += 1;
                Ok(())
            }
            Err(what) => {
                let (file, at) = (damage.path.display(), damage.offset);
                let what = format!("sector at byte {at} of {file} was damaged: {what}");
                Err(Failure::new(FailureKind::Silent, what))
            }
        }
    }

    /// Damages a place under the store in use.
    pub(super) fn damage(&mut self, rot: Rot) -> Result<(), Failure> {
        self.running()?;
        let image = self.disk.image();
        // Where two versions of a sector are about, there is no one place to be damaged.
        if self.damage.is_some() || !image.pending().is_empty() {
            return Ok(());
        }
        if let Some(damage) = self.rotten(&image, rot) {
            self.disk.corrupt(&damage.path, damage.offset, |bytes| *bytes = damage.after);
            self.damage = Some(damage);
            self.summary.damaged_in_use += 1;
        }
        Ok(())
    }

    /// Makes the damaged place whole again, after a look at what would be without that.
    pub(super) fn heal(&mut self) -> Result<(), Failure> {
        let Some(damage) = self.damage.take() else { return Ok(()) };
        let damaged = self.disk.image();
        let healing = |bytes: &mut [u8; SECTOR]| {
            if *bytes == damage.after {
                *bytes = damage.before;
            }
        };
        self.disk.corrupt(&damage.path, damage.offset, healing);
        let whole = self.disk.image();
        self.judge(&whole, &damaged, &damage)
    }

    /// Whether a place is damaged, or was read wrong, in this life of the store.
    pub(super) fn may_be_unreadable(&mut self) -> bool {
        self.unreadable |= self.damage.is_some() || self.watch.lock().is_misread();
        self.unreadable
    }
}
