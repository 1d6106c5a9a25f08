//! What a power cut may make of some pending units: the list of all that is tried.

use std::fmt;

use crate::simulation::image::{Fate, Image, Pending};

/// All subsets are tried of so many units at most.
pub(super) const SUBSETS: usize = 12;

/// What is there instead of a sector's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// Zeros.
    Zeros,
    /// Bytes that mean nothing.
    Garbage,
}

/// Which sectors' data was written, where names and lengths go by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sectors {
    /// None of them.
    None,
    /// All of them.
    All,
    /// All but the unit with this number.
    AllBut(usize),
    /// Only the unit with this number.
    Only(usize),
}

/// What becomes of the disk at some moment. Units are counted in the order in which they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Only the process ends: the disk keeps what is in its cache.
    Killed,
    /// Nothing pending was written.
    Nothing,
    /// All of it was.
    Everything,
    /// So many units were, in order. Within one write this is a tear.
    Prefix(usize),
    /// All units but one.
    AllBut(usize),
    /// One unit alone.
    Only(usize),
    /// The units of which the bit is set.
    Subset(u32),
    /// A journaling file system: so many names and lengths, in order, and some sectors.
    Ordered {
        /// How many names and lengths were written.
        metadata: usize,
        /// Which data was.
        sectors: Sectors,
    },
    /// All is written, but for what all sectors hold that had no durable bytes before.
    Fresh(Filling),
    /// The same for one of them.
    FreshOne(usize, Filling),
    /// The medium is worse than it may be: all sectors that were being written are garbage.
    Destroyed,
    /// The same for one of them, the others being written.
    DestroyedOne(usize),
}

impl Variant {
    /// All that is tried with what is pending, in an order that is always the same. Some may come to the same disk.
    pub fn all(pending: &[Pending]) -> Vec<Variant> {
        let units = 0..pending.len();
        let fresh = || units.clone().filter(|unit| pending[*unit].is_fresh());
        let sectors = || units.clone().filter(|unit| pending[*unit].is_sector());
        let mut all = vec![Variant::Killed, Variant::Nothing, Variant::Everything];
        all.extend(units.clone().skip(1).map(Variant::Prefix));
        all.extend(units.clone().map(Variant::AllBut));
        all.extend(units.clone().map(Variant::Only));
        if pending.len() <= SUBSETS {
            all.extend((0..1 << pending.len()).map(Variant::Subset));
        } else {
            for metadata in 0..=pending.iter().filter(|unit| unit.is_metadata()).count() {
                let ordered = |sectors| Variant::Ordered { metadata, sectors };
                all.extend([ordered(Sectors::None), ordered(Sectors::All)]);
                all.extend(sectors().map(|unit| ordered(Sectors::AllBut(unit))));
                all.extend(sectors().map(|unit| ordered(Sectors::Only(unit))));
            }
        }
        for filling in [Filling::Zeros, Filling::Garbage] {
            all.push(Variant::Fresh(filling));
            all.extend(fresh().map(|unit| Variant::FreshOne(unit, filling)));
        }
        all.push(Variant::Destroyed);
        all.extend(sectors().map(Variant::DestroyedOne));
        all
    }

    /// What becomes of each unit.
    pub fn fates(self, pending: &[Pending]) -> Vec<Fate> {
        let mut metadata_before = 0;
        let fate = |(unit, pending): (usize, &Pending)| {
            let kept = |kept| if kept { Fate::Kept } else { Fate::Dropped };
            let filled = |concerned: bool, filling: Filling| match filling {
                _ if !concerned => Fate::Kept,
                Filling::Zeros => Fate::Zeroed,
                Filling::Garbage => Fate::Garbage(unit as u8 | 1),
            };
            match self {
                // The process has nothing to do with what is written: it is as if all of it were.
                Variant::Killed | Variant::Everything => Fate::Kept,
                Variant::Nothing => Fate::Dropped,
                Variant::Prefix(end) => kept(unit < end),
                Variant::AllBut(other) => kept(unit != other),
                Variant::Only(other) => kept(unit == other),
                Variant::Subset(bits) => kept(bits >> unit & 1 == 1),
                Variant::Ordered { metadata, sectors } => {
                    let before = metadata_before;
                    metadata_before += usize::from(pending.is_metadata());
                    match sectors {
                        _ if pending.is_metadata() => kept(before < metadata),
                        Sectors::None => Fate::Dropped,
                        Sectors::All => Fate::Kept,
                        Sectors::AllBut(other) => kept(unit != other),
                        Sectors::Only(other) => kept(unit == other),
                    }
                }
                Variant::Fresh(filling) => filled(pending.is_fresh(), filling),
                Variant::FreshOne(other, filling) => filled(unit == other, filling),
                Variant::Destroyed => filled(pending.is_sector(), Filling::Garbage),
                Variant::DestroyedOne(other) => filled(unit == other, Filling::Garbage),
            }
        };
        pending.iter().enumerate().map(fate).collect()
    }

    /// The disk afterwards.
    pub fn apply(self, image: &Image) -> Image {
        if self == Variant::Killed {
            return image.clone();
        }
        let fates = self.fates(image.pending());
        match self {
            Variant::Destroyed | Variant::DestroyedOne(_) => {
                image.after_rough_power_cut(|unit, _| fates[unit])
            }
            _ => image.after_power_cut(|unit, _| fates[unit]),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = |filling: &Filling| match filling {
            Filling::Zeros => "zeros",
            Filling::Garbage => "garbage",
        };
        match self {
            Variant::Killed => write!(f, "the process was killed, the disk keeps everything"),
            Variant::Nothing => write!(f, "nothing pending was written"),
            Variant::Everything => write!(f, "everything pending was written"),
            Variant::Prefix(units) => write!(f, "the first {units} units were written"),
            Variant::AllBut(unit) => write!(f, "all but unit {unit} were written"),
            Variant::Only(unit) => write!(f, "only unit {unit} was written"),
            Variant::Subset(bits) => write!(f, "the units {bits:#b} were written"),
            Variant::Ordered { metadata, sectors } => {
                write!(f, "{metadata} names and lengths were written, in order, and of the data ")?;
                match sectors {
                    Sectors::None => write!(f, "nothing"),
                    Sectors::All => write!(f, "everything"),
                    Sectors::AllBut(unit) => write!(f, "all but unit {unit}"),
                    Sectors::Only(unit) => write!(f, "only unit {unit}"),
                }
            }
            Variant::Fresh(filling) => write!(f, "all fresh sectors are {}", what(filling)),
            Variant::FreshOne(unit, filling) => write!(f, "unit {unit} is {}", what(filling)),
            Variant::Destroyed => write!(f, "all sectors being written were destroyed"),
            Variant::DestroyedOne(unit) => write!(f, "unit {unit} was destroyed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;
    use crate::simulation::SimulatedDisk;
    use crate::storage::disk::Disk;

    fn pending(sectors: usize) -> Image {
        let disk = SimulatedDisk::new();
        let file = disk.create(Path::new("/file")).unwrap();
        file.write_at(&vec![7; sectors * 512], 0).unwrap();
        disk.image()
    }

    #[test]
    fn all_subsets_of_few_units_are_tried() {
        // The name and the length are two more.
        let image = pending(10);
        assert_eq!(image.pending().len(), SUBSETS);
        let of = |variant: &Variant| variant.fates(image.pending());
        let tried: HashSet<Vec<Fate>> = Variant::all(image.pending()).iter().map(of).collect();
        let plain = tried
            .iter()
            .filter(|fates| fates.iter().all(|fate| matches!(fate, Fate::Kept | Fate::Dropped)));
        assert_eq!(plain.count(), 1 << SUBSETS);
        let garbage = |fate: &Fate| matches!(fate, Fate::Garbage(_));
        for unit in 2..SUBSETS {
            let alone = |fates: &&Vec<Fate>| {
                garbage(&fates[unit]) && fates.iter().filter(|fate| garbage(fate)).count() == 1
            };
            assert_eq!(tried.iter().filter(alone).count(), 1, "unit {unit}");
        }
        assert!(tried.iter().any(|fates| fates.iter().filter(|fate| garbage(fate)).count() == 10));
    }

    #[test]
    fn every_tear_single_loss_and_single_survivor_of_many_units_is_tried() {
        let image = pending(40);
        let units = image.pending().len();
        let of = |variant: &Variant| variant.fates(image.pending());
        let tried: HashSet<Vec<Fate>> = Variant::all(image.pending()).iter().map(of).collect();
        let with = |kept: &dyn Fn(usize) -> bool| -> Vec<Fate> {
            let fate = |unit| if kept(unit) { Fate::Kept } else { Fate::Dropped };
            (0..units).map(fate).collect()
        };
        for at in 0..=units {
            assert!(tried.contains(&with(&|unit| unit < at)), "the first {at}");
        }
        for at in 0..units {
            assert!(tried.contains(&with(&|unit| unit != at)), "all but {at}");
            assert!(tried.contains(&with(&|unit| unit == at)), "only {at}");
        }
        // The name alone, in order, with a single sector that says nothing without the length.
        assert!(tried.contains(&with(&|unit| unit == 0 || unit == 20)));
    }
}
