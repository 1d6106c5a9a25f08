//! Stores of earlier formats.
//!
//! A fixture has the files of a store without their zeros: for each file the length of its name (2
//! bytes, little-endian like all numbers), its name, its length (8), and how many runs follow (4),
//! each with its offset (8), its length (4) and its bytes.

use std::collections::BTreeMap;
use std::path::Path;

use haypile::storage::disk::Disk;

/// A store of format version 3.
pub(crate) const VERSION_3: &[u8] = include_bytes!("../storage/fixtures/version-3.store");

fn unpack(mut packed: &[u8]) -> BTreeMap<String, Vec<u8>> {
    fn take<'a>(packed: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = packed.split_at(count);
        *packed = rest;
        taken
    }
    fn number(packed: &mut &[u8], bytes: usize) -> usize {
        take(packed, bytes).iter().rfold(0, |sum, byte| sum << 8 | usize::from(*byte))
    }
    let mut files = BTreeMap::new();
    while !packed.is_empty() {
        let length = number(&mut packed, 2);
        let name = String::from_utf8(take(&mut packed, length).to_vec()).unwrap();
        let mut content = vec![0; number(&mut packed, 8)];
        for _ in 0..number(&mut packed, 4) {
            let (at, length) = (number(&mut packed, 8), number(&mut packed, 4));
            content[at..at + length].copy_from_slice(take(&mut packed, length));
        }
        files.insert(name, content);
    }
    files
}

/// Puts the files of a fixture onto a disk.
pub(crate) fn put(disk: &dyn Disk, dir: &Path, fixture: &[u8]) {
    disk.create_dir_all(dir).unwrap();
    for (name, content) in unpack(fixture) {
        let file = disk.create(&dir.join(name)).unwrap();
        let mut at = 0;
        while at < content.len() {
            at += file.write_at(&content[at..], at as u64).unwrap();
        }
        file.sync_all().unwrap();
    }
    disk.sync_dir(dir).unwrap();
    dir.ancestors().skip(1).for_each(|parent| disk.sync_dir(parent).unwrap());
}
