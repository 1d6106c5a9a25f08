//! The disk as its users see it: verdicts, limits, traces.

use std::io::ErrorKind;

use super::*;
use crate::simulation::Fate;

fn new_file(disk: &SimulatedDisk) -> Arc<dyn DiskFile> {
    disk.create(Path::new("/file")).unwrap()
}

/// Has the operations of one kind end like this.
fn decide(disk: &SimulatedDisk, wanted: fn(&Operation) -> bool, verdict: Verdict) {
    disk.direct(move |operation, _| if wanted(operation) { verdict } else { Verdict::Proceed });
}

fn is_write(operation: &Operation) -> bool {
    matches!(operation.kind, OperationKind::Write { .. })
}

fn is_read(operation: &Operation) -> bool {
    matches!(operation.kind, OperationKind::Read { .. })
}

fn content(disk: &SimulatedDisk) -> Vec<u8> {
    disk.image().contents().remove(Path::new("/file")).unwrap()
}

#[test]
fn a_directory_is_locked_once_and_given_back() {
    let disk = SimulatedDisk::new();
    let dir = Path::new("/data");
    let lock = disk.lock_dir(dir).unwrap().unwrap();
    assert!(disk.lock_dir(dir).unwrap().is_none());
    assert!(disk.clone().lock_dir(dir).unwrap().is_none(), "a clone is the same disk");
    assert!(disk.lock_dir(Path::new("/other")).unwrap().is_some());
    drop(lock);
    assert!(disk.lock_dir(dir).unwrap().is_some());
}

#[test]
fn files_grow_up_to_the_capacity_and_not_beyond() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(Some(1000));
    let file = new_file(&disk);
    assert_eq!(file.write_at(&[1; 600], 0).unwrap(), 600);
    let error = file.write_at(&[2; 600], 600).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!((file.size().unwrap(), disk.used()), (600, 600), "nothing of it was written");
    file.write_at(&[3; 600], 0).unwrap();
    assert_eq!(file.write_at(&[2; 400], 600).unwrap(), 400);
    disk.remove(Path::new("/file")).unwrap();
    assert_eq!(disk.used(), 0);
    disk.set_capacity(None);
    new_file(&disk).write_at(&[1; 2000], 0).unwrap();
}

#[test]
fn a_short_write_takes_so_many_bytes_and_a_short_read_gives_so_many() {
    let disk = SimulatedDisk::new();
    let file = new_file(&disk);
    decide(&disk, is_write, Verdict::Short(3));
    assert_eq!(file.write_at(b"haypile", 0).unwrap(), 3);
    disk.undirect();
    assert_eq!(content(&disk), b"hay");
    file.write_at(b"pile", 3).unwrap();
    decide(&disk, is_read, Verdict::Short(4));
    let mut buffer = [0; 7];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 4);
    assert_eq!(&buffer, b"hayp\0\0\0");
}

#[test]
fn a_failed_write_may_have_got_halfway() {
    let disk = SimulatedDisk::new();
    let file = new_file(&disk);
    decide(&disk, is_write, Verdict::Fail(ErrorKind::Other));
    assert!(file.write_at(&[7; 2048], 0).is_err());
    assert_eq!(content(&disk), [7; 1024]);
}

#[test]
fn a_flipped_bit_is_read_and_is_not_on_the_disk() {
    let disk = SimulatedDisk::new();
    let file = new_file(&disk);
    file.write_at(b"hay", 0).unwrap();
    decide(&disk, is_read, Verdict::Flip { bit: 8 });
    let mut buffer = [0; 3];
    file.read_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"h`y");
    assert_eq!(content(&disk), b"hay");
}

#[test]
fn a_failed_sync_loses_what_was_written_and_a_failed_sync_of_a_directory_leaves_it_pending() {
    let disk = SimulatedDisk::new();
    let file = new_file(&disk);
    decide(&disk, Operation::is_sync, Verdict::Fail(ErrorKind::Other));
    assert!(disk.sync_dir(Path::new("/")).is_err());
    assert_eq!(disk.image().pending().len(), 1);
    file.write_at(b"hay", 0).unwrap();
    assert!(file.sync_data().is_err());
    assert_eq!(disk.image().pending().len(), 1, "the name");
    disk.undirect();
    file.sync_all().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(content(&disk), b"hay");
    let after = SimulatedDisk::of(disk.image().after_power_cut(|_, _| Fate::Kept));
    assert_eq!(content(&after), b"");
}

#[test]
fn when_the_power_is_off_the_last_write_is_pending_and_nothing_works_any_more() {
    let disk = SimulatedDisk::new();
    let file = new_file(&disk);
    disk.sync_dir(Path::new("/")).unwrap();
    disk.cut_after(1);
    file.write_at(b"hay", 0).unwrap();
    assert!(!disk.is_off());
    assert!(file.write_at(b"pile", 3).is_err());
    assert!(disk.is_off());
    let operations = disk.operations();
    assert!(file.read_at(&mut [0; 3], 0).is_err());
    assert!(file.sync_data().is_err());
    assert!(disk.create(Path::new("/other")).is_err());
    assert!(disk.list(Path::new("/")).is_err());
    assert_eq!(disk.operations(), operations);
    let after = |fate| SimulatedDisk::of(disk.image().after_power_cut(|_, _| fate));
    assert_eq!(content(&after(Fate::Kept)), b"haypile");
    assert_eq!(content(&after(Fate::Dropped)), b"");
    assert!(!after(Fate::Kept).is_off());
}

#[test]
fn a_sync_that_the_power_went_off_with_decides_nothing() {
    let disk = SimulatedDisk::new();
    let file = new_file(&disk);
    file.write_at(b"hay", 0).unwrap();
    disk.cut_after(0);
    assert!(file.sync_data().is_err());
    assert_eq!(disk.image().pending().len(), 3, "a name, a length and a sector");
}

#[test]
fn names_mean_what_they_mean_on_any_file_system() {
    let disk = SimulatedDisk::new();
    let [a, b, dir] = ["/dir/a", "/dir/b", "/dir"].map(Path::new);
    assert_eq!(disk.list(dir).unwrap_err().kind(), ErrorKind::NotFound);
    disk.create_dir_all(dir).unwrap();
    disk.create_dir_all(dir).unwrap();
    assert_eq!(disk.open(a, Access::Read).unwrap_err().kind(), ErrorKind::NotFound);
    let file = disk.create(a).unwrap();
    assert_eq!(disk.create(a).unwrap_err().kind(), ErrorKind::AlreadyExists);
    file.write_at(b"a", 0).unwrap();
    disk.create(b).unwrap();
    disk.rename(a, b).unwrap();
    assert_eq!(disk.list(dir).unwrap(), ["b"]);
    assert_eq!(disk.open(b, Access::Read).unwrap().size().unwrap(), 1);
    disk.remove(b).unwrap();
    assert_eq!(disk.remove(b).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(file.size().unwrap(), 1, "an open file lives on without a name");
}

#[test]
fn a_trace_tells_runs_apart_that_differ_in_a_byte() {
    let trace = |byte| {
        let disk = SimulatedDisk::new();
        assert_eq!(disk.trace(), None);
        disk.keep_trace();
        new_file(&disk).write_at(&[byte; 100], 0).unwrap();
        disk.trace().unwrap()
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}
