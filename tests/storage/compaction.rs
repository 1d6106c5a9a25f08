//! Compaction, and what leaves memory for the log: seen from outside nothing changes but the space that it takes.

use haypile::storage::disk::RealDisk;
use haypile::storage::inspect::inspect;
use haypile::storage::{
    Compacted, CompactionActivity, Options, Persistence, Sequence, SequenceRange, Store, StoreError,
};
use tempfile::tempdir;

use crate::support::*;

/// Appends messages and waits for the last of them only, so that groups are large.
fn fill(store: &Store, queues: &[&haypile::storage::Queue], count: u64) {
    let mut newest = None;
    for n in 0..count {
        let appended = store.append(&message(format!("{n:>500}")), Persistence::Durable, queues);
        newest = appended.unwrap().durable_at;
    }
    store.wait_durable(newest.unwrap()).unwrap();
}

/// Acknowledges all but every hundredth of so many messages.
fn keep_every_hundredth(queue: &haypile::storage::Queue, count: u64) {
    for first in (0..count).step_by(100) {
        let range =
            SequenceRange::new(Sequence::new(first + 1), Sequence::new(first + 99)).unwrap();
        assert_eq!(queue.acknowledge(&[range]).unwrap().messages, 99);
    }
}

#[test]
fn stuck_messages_keep_themselves_and_not_their_segments() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    fill(&store, &[&orders], 5000);
    keep_every_hundredth(&orders, 5000);
    let expected: Vec<String> = (0..5000).step_by(100).map(|n| format!("{n:>500}")).collect();
    let compacted = store.compact().unwrap();
    assert!(compacted.segments > 30, "{compacted:?}");
    assert!(compacted.messages >= 40, "{compacted:?}");
    assert_eq!(bodies(&orders), expected);
    drop((orders, store));

    let store = Store::open(dir.path(), manual()).unwrap();
    assert_eq!(bodies(&queue(&store, "orders")), expected);
    store.close().unwrap();
    let segments = inspect(&RealDisk::shared(), dir.path()).unwrap().segments;
    assert!(segments.len() <= 4, "50 messages of 500 bytes are in {} segments", segments.len());
}

#[test]
fn a_message_of_many_queues_is_moved_once_for_those_that_still_have_it() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let queues: Vec<_> = (0..5).map(|n| store.create_queue(&[n]).unwrap().0).collect();
    fill(&store, &queues.iter().collect::<Vec<_>>(), 2000);
    for queue in &queues[..3] {
        keep_every_hundredth(queue, 2000);
    }
    for queue in &queues[3..] {
        let all = SequenceRange::new(Sequence::FIRST, Sequence::new(1999)).unwrap();
        queue.acknowledge(&[all]).unwrap();
    }
    let compacted = store.compact().unwrap();
    // One that came to lie behind much that was dead is moved once more; queue by queue it would be 60 or more.
    assert!((1..=40).contains(&compacted.messages), "20 are left, in three queues: {compacted:?}");
    let expected: Vec<String> = (0..2000).step_by(100).map(|n| format!("{n:>500}")).collect();
    for queue in &queues[..3] {
        assert_eq!(bodies(queue), expected);
    }
    drop((queues, store));
    let store = Store::open(dir.path(), manual()).unwrap();
    for (number, queue) in store.queues().iter().enumerate() {
        assert_eq!(bodies(queue), if number < 3 { expected.clone() } else { Vec::new() });
    }
}

/// Compaction kept the lists of 64 chunks in memory, and began anew when there were more: a message in more queues than
/// that, whose lists were all in the log alone, had it read the same lists for ever, with the upkeep waiting behind it.
#[test]
fn a_message_of_more_queues_than_lists_fit_in_memory_is_moved() {
    const QUEUES: u32 = 80;
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let queues: Vec<_> =
        (0..QUEUES).map(|n| store.create_queue(&n.to_le_bytes()).unwrap().0).collect();
    fill(&store, &queues.iter().collect::<Vec<_>>(), 500);
    queues.iter().for_each(|queue| keep_every_hundredth(queue, 500));
    drop(queues);
    store.close().unwrap();

    let store = Store::open(dir.path(), manual()).unwrap();
    assert_eq!(store.resident_places(), 0);
    let compacted = store.compact().unwrap();
    assert!((4..=5).contains(&compacted.messages), "each is moved once: {compacted:?}");
    let expected: Vec<String> = (0..500).step_by(100).map(|n| format!("{n:>500}")).collect();
    for queue in store.queues() {
        assert_eq!(bodies(&queue), expected);
    }
}

#[test]
fn transient_messages_beyond_the_budget_come_back_from_the_log_and_end_with_the_process() {
    let dir = tempdir().unwrap();
    let options = Options { cache: 10_000, index: 0, chunk_places: 16, ..manual() };
    let store = Store::open(dir.path(), options.clone()).unwrap();
    let (orders, created) = store.create_queue(b"orders").unwrap();
    store.wait_durable(created).unwrap();
    let volatile = store.create_volatile_queue();
    let expected: Vec<String> = (0..500).map(|n| format!("{n:>100}")).collect();
    for text in &expected {
        store
            .append(&message(text.as_str()), Persistence::Transient, &[&orders, &volatile])
            .unwrap();
    }
    assert!(store.cached_bytes() <= 10_000);
    assert!(store.resident_places() < 500, "{} are in memory", store.resident_places());
    assert_eq!(bodies(&orders), expected);
    assert_eq!(bodies(&volatile), expected);
    store.compact().unwrap();
    assert_eq!(bodies(&volatile), expected);
    drop((orders, volatile));
    store.close().unwrap();
    let store = Store::open(dir.path(), options).unwrap();
    assert!(queue(&store, "orders").is_empty());
}

#[test]
fn a_deep_queue_comes_back_from_its_directories() {
    const MESSAGES: u64 = 300_000; // Three directories.
    let dir = tempdir().unwrap();
    let options = Options { segment_size: 4 << 20, index: 100_000, ..manual() };
    let store = Store::open(dir.path(), options.clone()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let mut newest = None;
    for n in 0..MESSAGES {
        let appended = store.append(&message(n.to_string()), Persistence::Durable, &[&orders]);
        newest = appended.unwrap().durable_at;
    }
    store.wait_durable(newest.unwrap()).unwrap();
    store.checkpoint().unwrap();
    // In the first directory and in the last one; the one between them stays as it is.
    let acknowledge = |first, last| {
        let range = SequenceRange::new(Sequence::new(first), Sequence::new(last)).unwrap();
        orders.acknowledge(&[range]).unwrap()
    };
    assert_eq!(acknowledge(1000, 9999).messages, 9000);
    store.checkpoint().unwrap();
    let end = acknowledge(290_000, 299_998).durable_at.unwrap();
    store.wait_durable(end).unwrap();
    drop((orders, store));

    let store = Store::open(dir.path(), options).unwrap();
    let orders = queue(&store, "orders");
    let expected = (0..1000).chain(10_000..290_000).chain(299_999..MESSAGES);
    assert!(bodies(&orders).into_iter().eq(expected.map(|n| n.to_string())));
    assert!(store.resident_places() < 20_000, "{} are in memory", store.resident_places());
}

/// Acknowledging one of many messages of a chunk that is not in memory leaves open which segment is needed less. A checkpoint
/// found that out for durable queues alone: of a volatile one, each message that was left kept the segments of two thousand
/// others for as long as the store was in use.
#[test]
fn what_is_left_in_a_volatile_queue_keeps_itself_and_not_its_segments() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), Options { cache: 0, index: 0, ..manual() }).unwrap();
    let passing = store.create_volatile_queue();
    for n in 0..8000 {
        store.append(&message(format!("{n:>500}")), Persistence::Transient, &[&passing]).unwrap();
    }
    for first in (0..8000).step_by(1000) {
        let last = Sequence::new(first + 999);
        let range = SequenceRange { first: Sequence::new(first + 1), last };
        assert_eq!(passing.acknowledge(&[range]).unwrap().messages, 999);
    }
    for _ in 0..2 {
        store.checkpoint().unwrap();
    }
    let segments = files(dir.path()).len();
    assert!(segments < 25, "8 messages are in 8 segments, and there are {segments} files");
    let expected: Vec<String> = (0..8000).step_by(1000).map(|n| format!("{n:>500}")).collect();
    assert_eq!(bodies(&passing), expected);
}

/// Brings a queue so far that its next place is this one, with messages that never reach the log.
pub(crate) fn advance(store: &Store, queue: &haypile::storage::Queue, place: u64) {
    let passing = message("passing");
    while queue.next_sequence().get() < place {
        store.append(&passing, Persistence::Transient, &[queue]).unwrap();
        let next = queue.next_sequence();
        if next.get().is_multiple_of(32) || next.get() == place {
            let all = SequenceRange { first: Sequence::FIRST, last: next };
            queue.acknowledge(&[all]).unwrap();
        }
    }
}

#[test]
fn chunks_on_both_sides_of_a_directorys_border_come_back() {
    const BORDER: u64 = 1 << 17;
    let dir = tempdir().unwrap();
    // No chunk begins at the border: one of them lies across it.
    let options = Options { chunk_places: 48, index: 2000, cache: 0, ..manual() };
    let store = Store::open(dir.path(), options.clone()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    advance(&store, &orders, BORDER - 500);
    let mut expected: Vec<u64> = (BORDER - 500..BORDER + 500).collect();
    fill(&store, &[&orders], 700);
    store.checkpoint().unwrap();
    fill(&store, &[&orders], 300);
    let take = |expected: &mut Vec<u64>, keep: &dyn Fn(u64) -> bool| {
        for place in expected.extract_if(.., |place| !keep(*place)) {
            acknowledge(&orders, place).unwrap();
        }
    };
    take(&mut expected, &|place| place % 7 == 0 || place.abs_diff(BORDER) > 100);
    store.checkpoint().unwrap();
    take(&mut expected, &|place| place % 5 != 0 || place == BORDER);
    store.compact().unwrap();
    take(&mut expected, &|place| place % 3 == 0 || place > BORDER + 400);
    let places = |queue: &haypile::storage::Queue| {
        fetch_all(queue).iter().map(|f| f.sequence.get()).collect::<Vec<_>>()
    };
    assert_eq!(places(&orders), expected);
    confirm(&store, &orders, "the last one");
    expected.push(BORDER + 500);
    drop((orders, store));
    for _ in 0..2 {
        let store = Store::open(dir.path(), options.clone()).unwrap();
        assert_eq!(places(&queue(&store, "orders")), expected);
        store.compact().unwrap();
        assert_eq!(places(&queue(&store, "orders")), expected);
    }
}

/// The upkeep moved messages while the last checkpoint was written: they came behind it, and were replayed. On a slow machine each
/// message is in a group of its own, and much of the log is padding, which compaction does away with.
#[test]
fn a_store_that_is_closed_while_it_is_compacted_leaves_nothing_to_replay() {
    for _ in 0..10 {
        let dir = tempdir().unwrap();
        let store = Store::open(dir.path(), small()).unwrap();
        let (orders, _) = store.create_queue(b"orders").unwrap();
        fill(&store, &[&orders], 3000);
        for place in (0..3000).filter(|place| place % 3 != 0) {
            acknowledge(&orders, place);
        }
        drop(orders);
        let compacting = store.clone();
        let compaction = std::thread::spawn(move || compacting.compact());
        // It may be over before it is seen.
        while !compaction.is_finished()
            && !matches!(
                store.inspect().compaction.activity,
                CompactionActivity::Moving { moved, .. } if moved.messages > 0
            )
        {
            std::thread::yield_now();
        }
        store.close().unwrap();
        // Whether it had anything left to write depends on who was faster.
        let _either: Result<Compacted, StoreError> = compaction.join().unwrap();
        let store = Store::open(dir.path(), small()).unwrap();
        assert!(store.recovery().records < 20, "{:?}", store.recovery());
        assert_eq!(queue(&store, "orders").len(), 1000);
    }
}
