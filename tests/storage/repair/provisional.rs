//! Repair of a store that ends with provisional groups: of an open that was cut off, or of a large
//! message that was not confirmed. A repair leaves out what an open leaves out.

use haypile::simulation::SimulatedDisk;
use haypile::storage::Persistence;

use super::*;

const DIR: &str = "/store";

const SEGMENT: u64 = 16 << 10;

const MESSAGES: u64 = 8;

/// The message that is damaged, so that there is something to repair.
const DAMAGED: u64 = 4;

fn open(disk: &SimulatedDisk) -> Result<Store, OpenError> {
    let options =
        Options { segment_size: SEGMENT, segments_ahead: 2, disk: disk.shared(), ..options() };
    Store::open(DIR, options)
}

fn orders(disk: &SimulatedDisk) -> Vec<String> {
    bodies(&queue(&open(disk).unwrap(), "orders"))
}

/// A store with some messages, one to a group, left as a crash does.
fn some_messages() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..MESSAGES).for_each(|n| confirm(&store, &orders, text(n)));
    drop((store, orders));
    copy_of(&disk)
}

fn copy_of(disk: &SimulatedDisk) -> SimulatedDisk {
    SimulatedDisk::of(disk.image())
}

fn flip_sector(disk: &SimulatedDisk, path: &Path, offset: usize) {
    disk.corrupt(path, offset as u64 / 512 * 512, |sector| sector[offset % 512] ^= 1);
}

fn damage(disk: &SimulatedDisk, n: u64) {
    let text = text(n);
    for (path, content) in disk.image().contents() {
        let found = content.windows(text.len()).position(|window| window == text.as_bytes());
        if let Some(at) = found {
            return flip_sector(disk, &path, at + 20);
        }
    }
    panic!("message {n} is nowhere");
}

/// Repairs a damaged store. Returns the messages of the repaired one, and the places that are told
/// as lost.
fn repaired_orders(disk: &SimulatedDisk) -> (Vec<String>, Vec<u64>) {
    let repair = repair(&disk.shared(), Path::new(DIR), true, |_| {}).unwrap();
    assert!(repair.applied.as_ref().unwrap().after.is_whole(), "{repair:?}");
    let places = lost_in_holes(&repair.found).into_iter().flat_map(|(first, last)| first..=last);
    (orders(disk), places.collect())
}

/// The segment that ends the log with provisional groups, if the superblock does not say that one
/// of them was durable.
fn unnoted(disk: &SimulatedDisk) -> Option<PathBuf> {
    let contents = disk.image().contents();
    let superblock = &contents[&Path::new(DIR).join("superblock")];
    let number = |at: usize| u64::from_le_bytes(superblock[at..at + 8].try_into().unwrap());
    let durable = number(112).max(number(GROUP + 112));
    let is_provisional =
        |content: &[u8]| content[GROUP + 4..][..4] == *b"HAYG" && content[GROUP + 48] == 1;
    let mut segments =
        contents.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "segment"));
    let last = segments.rfind(|(_, content)| content[GROUP + 4..][..4] == *b"HAYG")?;
    let begin = u64::from_str_radix(last.0.file_stem()?.to_str()?, 16).unwrap() * SEGMENT;
    (is_provisional(last.1) && durable <= begin + GROUP as u64).then(|| last.0.clone())
}

#[test]
fn a_repair_leaves_out_the_groups_of_an_open_that_was_cut_off() {
    let original = some_messages();
    let mut expected: Vec<String> = (0..MESSAGES).map(text).collect();
    expected.remove(DAMAGED as usize);
    let mut of_interest = 0;
    for changes in 0.. {
        let disk = copy_of(&original);
        disk.cut_after(changes);
        let finished = open(&disk).is_ok() && !disk.is_off();
        let disk = copy_of(&disk);
        damage(&disk, DAMAGED);
        if let Some(path) = unnoted(&disk) {
            let twice = copy_of(&disk);
            flip_sector(&twice, &path, GROUP + 100);
            assert_eq!(repaired_orders(&twice), (expected.clone(), vec![DAMAGED]), "{changes}");
            of_interest += 1;
        }
        assert_eq!(repaired_orders(&disk), (expected.clone(), vec![DAMAGED]), "{changes}");
        if finished {
            break;
        }
    }
    assert!(of_interest > 0);
}

#[test]
fn a_repair_leaves_out_a_large_message_that_was_not_confirmed() {
    let original = some_messages();
    let mut of_interest = 0;
    for changes in 0.. {
        let disk = copy_of(&original);
        let store = open(&disk).unwrap();
        let orders_queue = queue(&store, "orders");
        disk.cut_after(changes);
        let appended =
            store.append(&message("x".repeat(20 << 10)), Persistence::Durable, &[&orders_queue]);
        let confirmed = appended.is_ok_and(|appended| {
            appended.durable_at.is_some_and(|lsn| store.wait_durable(lsn).is_ok())
        });
        drop((orders_queue, store));
        let disk = copy_of(&disk);
        let mut expected = orders(&copy_of(&disk));
        assert!(!confirmed || expected.len() as u64 == MESSAGES + 1);
        expected.retain(|body| *body != text(DAMAGED));
        of_interest += u64::from(unnoted(&disk).is_some());
        damage(&disk, DAMAGED);
        let (found, told) = repaired_orders(&disk);
        assert!(found == expected, "{changes}: {} instead of {}", found.len(), expected.len());
        assert_eq!(told, [DAMAGED], "{changes}");
        if confirmed {
            break;
        }
    }
    assert!(of_interest > 0);
}
