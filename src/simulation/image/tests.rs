//! Each line of the fault model.

use std::path::Path;

use super::*;

const FILE: &str = "/file";

/// A file of this content, all of it durable.
fn durable(content: &[u8]) -> (Image, FileId) {
    let mut image = Image::default();
    let file = image.create(0, Path::new(FILE)).unwrap();
    image.write(1, file, content, 0);
    image.sync(file, false);
    image.sync_dir(Path::new("/"), false);
    assert!(image.pending().is_empty());
    (image, file)
}

fn read(image: &Image, path: &str) -> Option<Vec<u8>> {
    image.contents().remove(Path::new(path))
}

/// What is left if only these units are written.
fn only(image: &Image, units: &[usize]) -> Image {
    let fate = |unit| if units.contains(&unit) { Fate::Kept } else { Fate::Dropped };
    image.after_power_cut(|unit, _| fate(unit))
}

fn sectors(of: &[u8]) -> Vec<u8> {
    of.iter().flat_map(|byte| [*byte; SECTOR]).collect()
}

#[test]
fn what_was_synced_is_there_after_a_power_cut_and_nothing_else_is_certain() {
    let (mut image, file) = durable(&sectors(b"ab"));
    image.write(2, file, &sectors(b"X"), SECTOR as u64);
    assert_eq!(read(&image, FILE).unwrap(), sectors(b"aX"), "the system reads what it wrote");
    assert_eq!(read(&only(&image, &[]), FILE).unwrap(), sectors(b"ab"));
    assert_eq!(read(&only(&image, &[0]), FILE).unwrap(), sectors(b"aX"));
    image.sync(file, false);
    assert!(image.pending().is_empty());
    assert_eq!(read(&only(&image, &[]), FILE).unwrap(), sectors(b"aX"));
}

#[test]
fn a_write_tears_at_every_sector() {
    let (mut image, file) = durable(&sectors(b"abcd"));
    image.write(2, file, &sectors(b"WXYZ"), 0);
    let torn = [b"abcd", b"Wbcd", b"WXcd", b"WXYd", b"WXYZ"];
    for (units, expected) in torn.iter().enumerate() {
        let kept: Vec<usize> = (0..units).collect();
        assert_eq!(read(&only(&image, &kept), FILE).unwrap(), sectors(*expected), "{units}");
    }
}

#[test]
fn writes_reach_the_disk_in_any_order() {
    let (mut image, file) = durable(&sectors(b"ab"));
    image.write(2, file, &sectors(b"X"), 0);
    image.write(3, file, &sectors(b"Y"), 512);
    assert_eq!(read(&only(&image, &[1]), FILE).unwrap(), sectors(b"aY"), "the later one alone");
    // Of two writes to one sector the later one counts, if it is written at all.
    image.write(4, file, &sectors(b"Z"), 0);
    assert_eq!(read(&only(&image, &[0, 2]), FILE).unwrap(), sectors(b"Zb"));
    assert_eq!(read(&only(&image, &[0]), FILE).unwrap(), sectors(b"Xb"));
}

#[test]
fn a_sector_has_its_old_bytes_or_its_new_ones_wherever_the_write_began() {
    let (mut image, file) = durable(&sectors(b"ab"));
    image.write(2, file, b"0123456789", 507);
    assert_eq!(image.pending().len(), 2);
    let mut first = sectors(b"ab");
    first[507..512].copy_from_slice(b"01234");
    let mut second = sectors(b"ab");
    second[512..517].copy_from_slice(b"56789");
    assert_eq!(read(&only(&image, &[0]), FILE).unwrap(), first);
    assert_eq!(read(&only(&image, &[1]), FILE).unwrap(), second);
}

#[test]
#[should_panic(expected = "a single sector is atomic")]
fn a_sector_that_had_durable_bytes_does_not_become_garbage() {
    let (mut image, file) = durable(&sectors(b"a"));
    image.write(2, file, &sectors(b"X"), 0);
    image.after_power_cut(|_, _| Fate::Garbage(1));
}

#[test]
fn on_a_medium_that_is_worse_it_does() {
    let (mut image, file) = durable(&sectors(b"ab"));
    image.write(2, file, &sectors(b"X"), 0);
    let after = read(&image.after_rough_power_cut(|_, _| Fate::Garbage(1)), FILE).unwrap();
    assert!(after[..512] != sectors(b"a") && after[..512] != sectors(b"X"));
    assert_eq!(after[512..], sectors(b"b"), "and no other sector");
}

#[test]
fn a_length_may_be_durable_before_the_data_and_the_data_is_zeros_or_garbage_then() {
    let (mut image, file) = durable(&sectors(b"a"));
    image.write(2, file, &sectors(b"XY"), 512);
    let units: Vec<(bool, bool)> =
        image.pending().iter().map(|unit| (unit.is_metadata(), unit.is_fresh())).collect();
    assert_eq!(units, [(true, false), (false, true), (false, true)]);
    assert_eq!(read(&only(&image, &[0]), FILE).unwrap(), sectors(b"a\0\0"));
    assert_eq!(read(&only(&image, &[0, 2]), FILE).unwrap(), sectors(b"a\0Y"));
    assert_eq!(read(&only(&image, &[1, 2]), FILE).unwrap(), sectors(b"a"), "no length, no data");
    let garbage = image.after_power_cut(|unit, _| match unit {
        1 => Fate::Garbage(1),
        _ => Fate::Kept,
    });
    let content = read(&garbage, FILE).unwrap();
    assert!(content[512..1024] != sectors(b"\0") && content[512..1024] != sectors(b"X"));
    assert_eq!(content[1024..], sectors(b"Y"));
    let zeroed = image.after_power_cut(|_, pending| match pending.is_fresh() {
        true => Fate::Zeroed,
        false => Fate::Kept,
    });
    assert_eq!(read(&zeroed, FILE).unwrap(), sectors(b"a\0\0"));
}

/// The sector was passed over, because the length that it lies within was looked at after it.
#[test]
fn a_kept_sector_shows_within_whichever_length_was_kept() {
    let (mut image, file) = durable(b"");
    image.write(2, file, &sectors(b"X"), 0);
    image.write(3, file, &sectors(b"Y"), 512);
    assert_eq!(read(&only(&image, &[1, 2]), FILE).unwrap(), sectors(b"X\0"));
}

#[test]
fn names_and_data_are_durable_apart_from_each_other() {
    let mut image = Image::default();
    let file = image.create(0, Path::new(FILE)).unwrap();
    image.write(1, file, b"hay", 0);
    image.sync(file, false);
    assert_eq!(read(&only(&image, &[]), FILE), None, "a synced file without a name is gone");
    assert_eq!(read(&only(&image, &[0]), FILE).unwrap(), b"hay");

    let mut image = Image::default();
    let file = image.create(0, Path::new(FILE)).unwrap();
    image.write(1, file, b"hay", 0);
    image.sync_dir(Path::new("/"), false);
    assert_eq!(read(&only(&image, &[]), FILE).unwrap(), b"", "a name without what it was for");
}

#[test]
fn a_rename_happens_whole_or_not_at_all_and_is_durable_with_its_directory() {
    let (mut image, _) = durable(b"old");
    let new = image.create(2, Path::new("/new")).unwrap();
    image.write(3, new, b"new", 0);
    image.sync(new, false);
    image.sync_dir(Path::new("/"), false);
    image.rename(4, Path::new("/new"), Path::new(FILE)).unwrap();
    assert_eq!(image.pending().len(), 1);
    let (before, after) = (only(&image, &[]), only(&image, &[0]));
    assert_eq!(read(&before, FILE).unwrap(), b"old");
    assert_eq!(read(&before, "/new").unwrap(), b"new");
    assert_eq!(read(&after, FILE).unwrap(), b"new");
    assert_eq!(read(&after, "/new"), None);
    image.sync_dir(Path::new("/elsewhere"), false);
    assert_eq!(image.pending().len(), 1, "another directory's sync is no use");
    image.sync_dir(Path::new("/"), false);
    assert_eq!(read(&only(&image, &[]), FILE).unwrap(), b"new");
}

#[test]
fn a_file_that_was_removed_may_come_back_until_its_directory_is_synced() {
    let (mut image, _) = durable(b"hay");
    image.remove(2, Path::new(FILE)).unwrap();
    assert_eq!(read(&image, FILE), None);
    assert_eq!(read(&only(&image, &[]), FILE).unwrap(), b"hay");
    image.sync_dir(Path::new("/"), false);
    assert_eq!(read(&only(&image, &[]), FILE), None);
}

#[test]
fn what_is_in_a_directory_that_was_never_durable_is_gone_with_it() {
    let mut image = Image::default();
    image.make_dirs(0, Path::new("/a/b"));
    let file = image.create(1, Path::new("/a/b/file")).unwrap();
    image.write(2, file, b"hay", 0);
    image.sync(file, false);
    image.sync_dir(Path::new("/a/b"), false);
    image.sync_dir(Path::new("/a"), false);
    assert!(image.list(Path::new("/a/b")).is_ok());
    let lost = only(&image, &[]);
    assert_eq!(read(&lost, "/a/b/file"), None, "nobody synced the root");
    assert!(lost.list(Path::new("/a")).is_err());
    image.sync_dir(Path::new("/"), false);
    assert_eq!(read(&only(&image, &[]), "/a/b/file").unwrap(), b"hay");
}

#[test]
fn after_a_failed_sync_the_new_bytes_can_be_read_and_no_later_sync_makes_them_durable() {
    let (mut image, file) = durable(&sectors(b"a"));
    image.write(2, file, &sectors(b"X"), 0);
    image.sync(file, true);
    assert!(image.pending().is_empty());
    assert_eq!(read(&image, FILE).unwrap(), sectors(b"X"));
    image.sync(file, false);
    assert_eq!(read(&image, FILE).unwrap(), sectors(b"X"));
    assert_eq!(read(&only(&image, &[]), FILE).unwrap(), sectors(b"a"), "the sync told a lie");
}

#[test]
fn a_sync_concerns_its_own_file_alone() {
    let (mut image, file) = durable(&sectors(b"a"));
    let other = image.create(2, Path::new("/other")).unwrap();
    image.write(3, file, &sectors(b"X"), 0);
    image.sync(other, false);
    assert_eq!(image.pending().len(), 2, "a name, and the sector of the other file");
    assert_eq!(read(&only(&image, &[]), FILE).unwrap(), sectors(b"a"));
}

#[test]
fn a_failing_medium_changes_what_is_read_and_what_is_durable() {
    let (mut image, _) = durable(&sectors(b"ab"));
    image.corrupt(Path::new(FILE), 700, |bytes| bytes[3] ^= 1);
    let mut expected = sectors(b"ab");
    expected[515] ^= 1;
    assert_eq!(read(&image, FILE).unwrap(), expected);
    assert_eq!(read(&only(&image, &[]), FILE).unwrap(), expected);
}

#[test]
fn every_unit_can_be_described() {
    let mut image = Image::default();
    image.make_dirs(0, Path::new("/a"));
    let file = image.create(1, Path::new("/a/new")).unwrap();
    image.write(2, file, b"hay", 0);
    image.rename(3, Path::new("/a/new"), Path::new("/a/file")).unwrap();
    image.remove(4, Path::new("/a/file")).unwrap();
    let words: Vec<String> = image.pending().iter().map(|unit| image.describe(unit)).collect();
    let expected = [
        "directory /a",
        "name /a/new",
        "length 3 of /a/file",
        "sector 0 of /a/file",
        "name /a/file instead of /a/new",
        "no name /a/file",
    ];
    assert_eq!(words, expected);
}
