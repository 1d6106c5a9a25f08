//! Operations that are applied together: all of them, or none.

use haypile::storage::{
    Change, Message, Operation, Options, Persistence, Queue, Sequence, SequenceRange, Store,
    StoreError, Together,
};
use tempfile::tempdir;

use crate::support::*;

/// What a unit may take in a segment of this size: one page and the header of a group are not for records.
fn room(options: &Options) -> usize {
    options.segment_size as usize - 4096 - 64
}

fn places(first: u64, last: u64) -> SequenceRange {
    SequenceRange { first: Sequence::new(first), last: Sequence::new(last) }
}

fn durable<'a>(message: &'a Message, queues: &'a [&'a Queue]) -> Operation<'a> {
    Operation::Append { message: message.into(), persistence: Persistence::Durable, queues }
}

fn transient<'a>(message: &'a Message, queues: &'a [&'a Queue]) -> Operation<'a> {
    Operation::Append { message: message.into(), persistence: Persistence::Transient, queues }
}

fn acknowledged<'a>(queue: &'a Queue, ranges: &'a [SequenceRange]) -> Operation<'a> {
    Operation::Acknowledge { queue, ranges }
}

/// A store with the queues `orders`, which has messages 0 to 9, and `dead`.
fn example(store: &Store) -> (Queue, Queue) {
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let (dead, _) = store.create_queue(b"dead").unwrap();
    (0..10).for_each(|n| confirm(store, &orders, n.to_string()));
    (orders, dead)
}

fn reopened(dir: &std::path::Path, options: &Options) -> (Store, Queue, Queue) {
    let store = Store::open(dir, options.clone()).unwrap();
    let (orders, dead) = (queue(&store, "orders"), queue(&store, "dead"));
    (store, orders, dead)
}

#[test]
fn messages_go_from_one_queue_to_others_at_once_and_stay_there() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, dead) = example(&store);
    let passing = store.create_volatile_queue();
    let (three, four) = (message("3"), message("4"));
    let done = store
        .apply_together(&[
            durable(&three, &[&dead, &passing]),
            durable(&four, &[&dead]),
            acknowledged(&orders, &[places(3, 4)]),
        ])
        .unwrap();
    assert_eq!(done.messages, 2);
    assert_eq!(bodies(&dead), ["3", "4"]);
    assert_eq!(bodies(&passing), ["3"]);
    assert_eq!(orders.len(), 8);
    store.wait_durable(done.durable_at.unwrap()).unwrap();
    drop((orders, dead, passing, store));

    let (_store, orders, dead) = reopened(dir.path(), &small());
    assert_eq!(bodies(&dead), ["3", "4"]);
    assert_eq!(bodies(&orders), ["0", "1", "2", "5", "6", "7", "8", "9"]);
}

#[test]
fn the_order_in_a_queue_is_that_of_the_operations_and_what_goes_was_there_before() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, dead) = example(&store);
    let texts: Vec<Message> = (0..5).map(|n| message(format!("new {n}"))).collect();
    let everything = [places(0, u64::MAX)];
    let done = store
        .apply_together(&[
            durable(&texts[0], &[&orders, &dead, &orders]),
            acknowledged(&orders, &everything),
            durable(&texts[1], &[&dead]),
            durable(&texts[2], &[&orders]),
            acknowledged(&orders, &everything),
            acknowledged(&dead, &everything),
            transient(&texts[3], &[&orders]),
            durable(&texts[4], &[&dead, &orders]),
        ])
        .unwrap();
    assert_eq!(done.messages, 10, "each went once");
    assert_eq!(bodies(&orders), ["new 0", "new 2", "new 3", "new 4"]);
    assert_eq!(fetch_all(&orders)[0].sequence, Sequence::new(10));
    assert_eq!(bodies(&dead), ["new 0", "new 1", "new 4"]);
    drop((orders, dead, store));

    let (_store, orders, dead) = reopened(dir.path(), &small());
    assert_eq!(bodies(&orders), ["new 0", "new 2", "new 4"]);
    assert_eq!(fetch_all(&orders)[2].sequence, Sequence::new(13));
    assert_eq!(bodies(&dead), ["new 0", "new 1", "new 4"]);
}

#[test]
fn what_need_not_survive_takes_part_in_memory() {
    for cache in [1 << 20, 0] {
        let dir = tempdir().unwrap();
        let options = Options { cache, ..small() };
        let store = Store::open(dir.path(), options.clone()).unwrap();
        let (orders, dead) = example(&store);
        let passing = store.create_volatile_queue();
        let (one, two) = (message("one"), message("two"));
        let done = store
            .apply_together(&[transient(&one, &[&dead, &passing]), durable(&two, &[&passing])])
            .unwrap();
        assert_eq!(done, Together::default(), "nothing of it is to be durable");
        let done = store
            .apply_together(&[
                acknowledged(&dead, &[places(0, 0)]),
                acknowledged(&passing, &[places(1, 5)]),
                transient(&two, &[&orders]),
            ])
            .unwrap();
        assert_eq!(done, Together { messages: 2, durable_at: None });
        assert_eq!((bodies(&passing), dead.len()), (vec!["one".to_owned()], 0));
        assert_eq!(bodies(&orders)[10], "two");
        drop((orders, dead, passing, store));
        let (store, orders, dead) = reopened(dir.path(), &options);
        assert_eq!((orders.len(), dead.len(), store.cached_bytes()), (10, 0, 0));
    }
}

#[test]
fn nothing_comes_of_nothing_nor_of_queues_that_are_gone() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, dead) = example(&store);
    assert_eq!(store.apply_together(&[]).unwrap(), Together::default());
    let text = message("lost");
    let nothing = store.apply_together(&[
        durable(&text, &[]),
        acknowledged(&dead, &[places(0, 9)]),
        acknowledged(&orders, &[]),
        acknowledged(&orders, &[places(10, 20)]),
    ]);
    assert_eq!(nothing.unwrap(), Together::default());
    store.apply(vec![Change::DeleteQueue(dead.id())]).unwrap();
    let gone =
        store.apply_together(&[durable(&text, &[&dead]), acknowledged(&dead, &[places(0, 9)])]);
    assert_eq!(gone.unwrap(), Together::default());
    let half =
        store.apply_together(&[durable(&text, &[&dead]), acknowledged(&orders, &[places(0, 0)])]);
    let done = half.unwrap();
    assert!(done.messages == 1 && done.durable_at.is_some());
}

#[test]
fn what_does_not_fit_into_a_segment_is_refused_as_a_whole() {
    let dir = tempdir().unwrap();
    let options = manual();
    let store = Store::open(dir.path(), options.clone()).unwrap();
    let (orders, dead) = example(&store);
    // A frame, two counts, a reference, the header; and an acknowledgement with one range.
    let beside = 12 + 1 + 1 + 2 + "header".len();
    let ranges = [places(0, 3)];
    let most = room(&options) - 2 * beside - (12 + 8 + 12);
    let (large, small) = (message("z".repeat(most - 100)), message("y".repeat(100)));
    let too_much = message("x".repeat(101));
    let before = store.cached_bytes();
    let refused = store.apply_together(&[
        acknowledged(&orders, &ranges),
        durable(&large, &[&dead]),
        durable(&too_much, &[&dead]),
    ]);
    let limit = room(&options) as u64;
    assert!(
        matches!(refused, Err(StoreError::TooLarge { bytes, limit: l }) if bytes == limit + 1 && l == limit),
        "{refused:?}"
    );
    assert_eq!((orders.len(), dead.len(), store.cached_bytes()), (10, 0, before));
    let groups = store.log_statistics().groups;
    let done = store
        .apply_together(&[
            acknowledged(&orders, &ranges),
            durable(&large, &[&dead]),
            durable(&small, &[&dead]),
        ])
        .unwrap();
    store.wait_durable(done.durable_at.unwrap()).unwrap();
    assert_eq!(store.log_statistics().groups, groups + 1, "it is one group");
    assert_eq!((orders.len(), dead.len()), (6, 2));
}

#[test]
fn a_single_message_may_be_larger_than_a_segment() {
    let dir = tempdir().unwrap();
    let options = manual();
    let store = Store::open(dir.path(), options.clone()).unwrap();
    let (orders, dead) = example(&store);
    let huge = message("z".repeat(3 * options.segment_size as usize));
    let tiny = message("y");
    let refused = store.apply_together(&[durable(&huge, &[&dead]), durable(&tiny, &[&dead])]);
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    // Acknowledgements, of which only so many fit in front of it.
    let most = (room(&options) - 1 - 20) / 12;
    for (ranges, fits) in [(most + 1, false), (most, true)] {
        let ranges = vec![places(2, 2); ranges];
        let outcome = store
            .apply_together(&[durable(&huge, &[&dead, &orders]), acknowledged(&orders, &ranges)]);
        assert_eq!(outcome.is_ok(), fits, "{outcome:?}");
        assert_eq!(dead.len(), u64::from(fits));
    }
    let end = append(&store, &orders, "behind it");
    store.wait_durable(end).unwrap();
    drop((orders, dead, store));
    for _ in 0..3 {
        let (store, orders, dead) = reopened(dir.path(), &options);
        assert_eq!((orders.len(), dead.len()), (11, 1));
        assert_eq!(fetch_all(&dead)[0].message, huge);
        assert_eq!(bodies(&orders)[2], "3");
        drop((orders, dead, store));
    }
}

/// It is the last group, of which an open does not know whether it was durable: all of it is taken up anew.
#[test]
fn an_open_that_is_cut_off_leaves_all_of_a_unit_or_nothing() {
    let dir = tempdir().unwrap();
    let options = manual();
    let store = Store::open(dir.path(), options.clone()).unwrap();
    let (orders, dead) = example(&store);
    let huge = message("z".repeat(2 * options.segment_size as usize));
    let done = store
        .apply_together(&[durable(&huge, &[&dead]), acknowledged(&orders, &[places(0, 8)])])
        .unwrap();
    store.wait_durable(done.durable_at.unwrap()).unwrap();
    drop((orders, dead, store));
    // Each time it is the last group again.
    for _ in 0..3 {
        let (_store, orders, dead) = reopened(dir.path(), &options);
        assert_eq!((bodies(&orders), dead.len()), (vec!["9".to_owned()], 1));
    }
}

#[test]
fn a_torn_unit_leaves_nothing() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let (orders, dead) = example(&store);
    let texts: Vec<Message> = (0..4).map(|n| message(format!("{n:>1500}"))).collect();
    let mut unit: Vec<Operation<'_>> = Vec::new();
    let targets = [&dead];
    unit.extend(texts.iter().map(|text| durable(text, &targets)));
    let ranges = [places(0, 3)];
    unit.push(acknowledged(&orders, &ranges));
    let before = files(dir.path());
    let done = store.apply_together(&unit).unwrap();
    store.wait_durable(done.durable_at.unwrap()).unwrap();
    let after = files(dir.path());
    let changed = |name: &&String| after[*name] != before[*name];
    let names: Vec<&String> = before.keys().filter(changed).collect();
    let [name] = names[..] else { panic!("one segment was written to: {names:?}") };
    drop((orders, dead, store));

    let differs = |at: &usize| before[name][*at] != after[name][*at];
    let begin = (0..after[name].len()).find(differs).unwrap();
    let end = (0..after[name].len()).rfind(differs).unwrap();
    for sector in (begin / 512 * 512..end).step_by(512) {
        let torn = tempdir().unwrap();
        copy(dir.path(), torn.path());
        let mut content = after[name].clone();
        content[sector..sector + 512].copy_from_slice(&before[name][sector..sector + 512]);
        std::fs::write(torn.path().join(name), content).unwrap();
        let (_store, orders, dead) = reopened(torn.path(), &manual());
        assert_eq!((orders.len(), dead.len()), (10, 0), "sector at {sector}");
    }
    let (_store, orders, dead) = reopened(dir.path(), &manual());
    assert_eq!((orders.len(), dead.len()), (6, 4));
}

#[test]
fn units_in_opposite_directions_go_on_beside_each_other() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, dead) = example(&store);
    let (here, there) = (orders.clone(), dead.clone());
    // Each takes the first message of one queue to the other; there are never more or fewer.
    let carry = |from: &Queue, to: &Queue| {
        let mut carried = 0;
        while carried < 500 {
            let Some(first) = fetch_all(from).into_iter().next() else {
                std::thread::yield_now();
                continue;
            };
            let place = [SequenceRange::one(first.sequence)];
            let done = store
                .apply_together(&[durable(&first.message, &[to]), acknowledged(from, &place)])
                .unwrap();
            assert_eq!(done.messages, 1);
            carried += 1;
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| carry(&here, &there));
        scope.spawn(|| carry(&there, &here));
    });
    let mut all = [bodies(&orders), bodies(&dead)].concat();
    all.sort();
    assert_eq!(all, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    drop((orders, dead, here, there, store));
    let (_store, orders, dead) = reopened(dir.path(), &small());
    let mut all = [bodies(&orders), bodies(&dead)].concat();
    all.sort();
    assert_eq!(all, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
}
