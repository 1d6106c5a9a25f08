//! Queues as long as the store is open, and over a clean restart.

use haypile::storage::{
    Change, Fetch, MOST_DELIVERIES, OpenError, Operation, Options, Persistence, Queue, QueueId,
    Sequence, SequenceRange, Store, StoreError,
};
use tempfile::tempdir;

use crate::support::*;

#[test]
fn messages_come_back_in_order_after_a_restart() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let texts: Vec<String> = (0..5000).map(|n| format!("order {n}")).collect();
    texts.iter().for_each(|text| {
        append(&store, &orders, text);
    });
    assert_eq!(bodies(&orders), texts);
    drop(orders);
    store.close().unwrap();

    let store = Store::open(dir.path(), small()).unwrap();
    assert_eq!(store.recovery().messages, 5000);
    let orders = queue(&store, "orders");
    assert_eq!(orders.len(), 5000);
    assert_eq!(bodies(&orders), texts);
    assert_eq!(orders.next_sequence(), Sequence::new(5000));
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay_but_the_checkpoint_itself() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..5000).for_each(|n| {
        append(&store, &orders, format!("order {n}"));
    });
    drop(orders);
    store.close().unwrap();

    let store = Store::open(dir.path(), small()).unwrap();
    assert!(store.recovery().records < 20, "{:?}", store.recovery());
}

#[test]
fn a_dropped_store_has_written_everything() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    append(&store, &orders, "one bale");
    drop((store, orders));
    let store = Store::open(dir.path(), small()).unwrap();
    assert_eq!(bodies(&queue(&store, "orders")), ["one bale"]);
}

#[test]
fn acknowledged_messages_stay_away_and_the_others_keep_their_places() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..10).for_each(|n| {
        append(&store, &orders, format!("{n}"));
    });
    for place in [0, 1, 5, 9] {
        assert!(acknowledge(&orders, place).is_some());
    }
    assert_eq!(acknowledge(&orders, 5), None, "it is gone already");
    assert_eq!(acknowledge(&orders, 99), None, "there has never been one");
    assert_eq!(orders.len(), 6);
    drop(orders);
    store.close().unwrap();

    let store = Store::open(dir.path(), small()).unwrap();
    let orders = queue(&store, "orders");
    assert_eq!(bodies(&orders), ["2", "3", "4", "6", "7", "8"]);
    let places: Vec<u64> = fetch_all(&orders).iter().map(|f| f.sequence.get()).collect();
    assert_eq!(places, [2, 3, 4, 6, 7, 8]);
    append(&store, &orders, "10");
    assert_eq!(fetch_all(&orders).last().unwrap().sequence, Sequence::new(10));
}

#[test]
fn how_often_a_message_was_handed_out_is_known_after_a_restart() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..4).for_each(|n| {
        append(&store, &orders, format!("{n}"));
    });
    let place = Sequence::new;
    orders.mark_delivered(&[(place(0), 1), (place(1), 1), (place(2), 3)]).unwrap();
    let counts = |queue: &Queue| -> Vec<u32> {
        fetch_all(queue).iter().map(|fetched| fetched.deliveries).collect()
    };
    assert_eq!(counts(&orders), [1, 1, 3, 0]);
    drop((store, orders)); // no checkpoint: the counts are in the log
    let store = Store::open(dir.path(), small()).unwrap();
    let orders = queue(&store, "orders");
    assert_eq!(counts(&orders), [1, 1, 3, 0]);
    drop(orders);
    store.close().unwrap(); // a checkpoint: the counts are in it
    let store = Store::open(dir.path(), small()).unwrap();
    assert_eq!(counts(&queue(&store, "orders")), [1, 1, 3, 0]);
}

#[test]
fn a_message_to_many_queues_is_stored_once() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let queues: Vec<_> =
        (0..50).map(|n| store.create_queue(format!("q{n}").as_bytes()).unwrap().0).collect();
    let all: Vec<_> = queues.iter().collect();
    let before = store.log_statistics().bytes;
    let body = "x".repeat(20_000);
    let appended = store.append(&message(&body), Persistence::Durable, &all).unwrap();
    store.wait_durable(appended.durable_at.unwrap()).unwrap();
    let written = store.log_statistics().bytes - before;
    assert!(written < 30_000, "{written} bytes for one message of 20,000");
    drop((queues, store));

    let store = Store::open(dir.path(), small()).unwrap();
    for queue in store.queues() {
        assert_eq!(bodies(&queue), [body.as_str()]);
        acknowledge(&queue, 0);
    }
    assert!(store.queues().iter().all(|queue| queue.is_empty()));
}

/// Once the queues beyond the 65,535th were not counted, and the segment was recycled under them.
#[test]
fn a_message_in_more_queues_than_are_told_apart_is_kept_for_the_last_one() {
    let dir = tempdir().unwrap();
    let options = Options { checkpoint_distance: u64::MAX, segment_size: 4 << 20, ..manual() };
    let store = Store::open(dir.path(), options.clone()).unwrap();
    let queues: Vec<_> = (0..65_540).map(|_| store.create_queue(b"q").unwrap().0).collect();
    let all: Vec<_> = queues.iter().collect();
    let appended = store.append(&message("for all"), Persistence::Durable, &all).unwrap();
    store.wait_durable(appended.durable_at.unwrap()).unwrap();
    queues[1..].iter().for_each(|queue| {
        acknowledge(queue, 0);
    });
    let filler = "x".repeat(1 << 20);
    (0..5).for_each(|_| confirm(&store, &queues[1], &filler));
    for _ in 0..3 {
        store.checkpoint().unwrap();
        (0..5).for_each(|_| confirm(&store, &queues[1], &filler));
    }
    assert_eq!(queues[0].len(), 1);
    drop((queues, store));
    let store = Store::open(dir.path(), options).unwrap();
    let mut queues = store.queues();
    queues.sort_by_key(|queue| queue.id());
    assert_eq!(bodies(&queues[0]), ["for all"]);
}

#[test]
fn a_queue_that_is_named_twice_gets_the_message_once() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    store.append(&message("m"), Persistence::Durable, &[&orders, &orders.clone()]).unwrap();
    assert_eq!(orders.len(), 1);
}

#[test]
fn transient_messages_and_volatile_queues_are_gone_after_a_restart() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let volatile = store.create_volatile_queue();
    for n in 0..3000 {
        let persistence = if n % 3 == 0 { Persistence::Durable } else { Persistence::Transient };
        store.append(&message(n.to_string()), persistence, &[&orders, &volatile]).unwrap();
    }
    assert_eq!((orders.len(), volatile.len()), (3000, 3000));
    assert_eq!(bodies(&orders), bodies(&volatile));
    drop((orders, volatile));
    store.close().unwrap();

    let store = Store::open(dir.path(), small()).unwrap();
    assert_eq!(store.queues().len(), 1);
    let expected: Vec<String> = (0..1000).map(|n| (n * 3).to_string()).collect();
    assert_eq!(bodies(&queue(&store, "orders")), expected);
}

#[test]
fn a_transient_message_needs_no_disk_and_has_nothing_to_wait_for() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, created) = store.create_queue(b"orders").unwrap();
    store.wait_durable(created).unwrap();
    let groups = store.log_statistics().groups;
    let appended = store.append(&message("m"), Persistence::Transient, &[&orders]).unwrap();
    assert_eq!(appended.durable_at, None);
    assert_eq!(store.append(&message("m"), Persistence::Durable, &[]).unwrap().durable_at, None);
    assert_eq!(store.log_statistics().groups, groups);
}

#[test]
fn metadata_is_put_replaced_and_removed() {
    let dir = tempdir().unwrap();
    let put = |key: &str, value: &str| Change::put(key.to_owned(), value.to_owned());
    let sorted = |store: &Store| {
        let mut entries = store.entries();
        entries.sort();
        entries
    };
    let store = Store::open(dir.path(), small()).unwrap();
    let many = (0..200).map(|n| put(&format!("key {n:03}"), "old")).collect();
    store.apply(many).unwrap();
    store.checkpoint().unwrap();
    store.apply(vec![put("key 007", "new"), Change::remove("key 100")]).unwrap();
    let expected = sorted(&store);
    assert_eq!(expected.len(), 199);
    assert_eq!(expected[7].1, "new");
    drop(store);
    let store = Store::open(dir.path(), small()).unwrap();
    assert_eq!(sorted(&store), expected);
    store.close().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    assert_eq!(sorted(&store), expected);
}

#[test]
fn a_deleted_queue_is_gone_with_its_messages_and_its_number_is_not_used_again() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (first, _) = store.create_queue(b"first").unwrap();
    let (second, _) = store.create_queue(b"second").unwrap();
    append(&store, &first, "lost on purpose");
    append(&store, &second, "kept");
    store.checkpoint().unwrap();
    store.apply(vec![Change::DeleteQueue(second.id())]).unwrap();
    store.apply(vec![Change::DeleteQueue(first.id())]).unwrap();
    assert_eq!(first.len(), 0);
    let appended = store.append(&message("late"), Persistence::Durable, &[&first]).unwrap();
    assert_eq!(appended.durable_at, None, "a deleted queue gets nothing");
    let (third, _) = store.create_queue(b"third").unwrap();
    assert!(third.id() > second.id());
    drop((first, second, third, store));
    let store = Store::open(dir.path(), small()).unwrap();
    assert_eq!(store.queues().len(), 1);
    assert_eq!(queue(&store, "third").len(), 0);
    let (fourth, _) = store.create_queue(b"fourth").unwrap();
    assert!(fourth.id() > queue(&store, "third").id());
}

#[test]
fn messages_larger_than_a_segment_have_files_of_their_own() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let sizes = [10, 200_000, 0, 64 << 10, 1_000_000, 3, 65_000, 61_000];
    let texts: Vec<String> = sizes.iter().map(|size| "x".repeat(*size)).collect();
    texts.iter().for_each(|text| confirm(&store, &orders, text));
    assert_eq!(bodies(&orders), texts);
    drop((store, orders));
    for _ in 0..2 {
        let store = Store::open(dir.path(), small()).unwrap();
        let orders = queue(&store, "orders");
        assert_eq!(bodies(&orders), texts);
        drop(orders);
        store.close().unwrap();
    }
    let store = Store::open(dir.path(), small()).unwrap();
    let orders = queue(&store, "orders");
    let all = SequenceRange::new(Sequence::FIRST, Sequence::new(7)).unwrap();
    store.wait_durable(orders.acknowledge(&[all]).unwrap().durable_at.unwrap()).unwrap();
    // One checkpoint still needs the pages of the one before.
    (0..3).for_each(|_| store.checkpoint().unwrap());
    let largest = files(dir.path()).values().map(Vec::len).max();
    assert_eq!(largest, Some(64 << 10), "oversized files are removed, not recycled");
}

#[test]
fn segments_are_recycled_when_their_messages_are_gone() {
    let dir = tempdir().unwrap();
    let options = Options { segments_spare: 2, ..small() };
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let body = "x".repeat(1000);
    for round in 0..20 {
        for _ in 0..200 {
            append(&store, &orders, &body);
        }
        let first = Sequence::new(round * 200);
        let all = SequenceRange::new(first, Sequence::new(round * 200 + 199)).unwrap();
        let done = orders.acknowledge(&[all]).unwrap();
        assert_eq!(done.messages, 200);
        store.wait_durable(done.durable_at.unwrap()).unwrap();
    }
    (0..2).for_each(|_| store.checkpoint().unwrap());
    // 4 MB went through segments of 64 KiB: without recycling there would be more than sixty.
    let segments = files(dir.path()).keys().filter(|name| name.ends_with(".segment")).count();
    assert!(segments <= 12, "{segments} segments are left");
    drop((store, orders));
    let store = Store::open(dir.path(), small()).unwrap();
    assert_eq!(queue(&store, "orders").next_sequence(), Sequence::new(4000));
}

#[test]
fn bodies_beyond_the_budget_are_read_from_the_log() {
    let dir = tempdir().unwrap();
    let options = Options { cache: 10_000, ..small() };
    let store = Store::open(dir.path(), options).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let texts: Vec<String> = (0..500).map(|n| format!("{n:>1000}")).collect();
    texts.iter().for_each(|text| {
        append(&store, &orders, text);
    });
    assert!(store.cached_bytes() <= 10_000, "{}", store.cached_bytes());
    let mut fetched = Vec::new();
    assert_eq!(orders.fetch(Sequence::FIRST, 500, &mut fetched), Fetch::Partial);
    assert!(fetched.len() < 11);
    assert_eq!(bodies(&orders), texts);
    assert_eq!(bodies(&orders), texts, "and again: what was fetched is read once more");
    let all = SequenceRange::new(Sequence::FIRST, Sequence::new(499)).unwrap();
    orders.acknowledge(&[all]).unwrap();
    assert_eq!(store.cached_bytes(), 0);
}

#[test]
fn evicted_messages_are_read_from_the_log_and_those_of_other_queues_too() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let volatile = store.create_volatile_queue();
    let texts: Vec<String> = (0..3000).map(|n| format!("order {n}")).collect();
    for (text, n) in texts.iter().zip(0..) {
        let persistence = if n % 3 == 0 { Persistence::Transient } else { Persistence::Durable };
        store.append(&message(text), persistence, &[&orders, &volatile]).unwrap();
    }
    assert!(store.cached_bytes() > 0);
    store.release_spare_memory();
    store.evict_messages().unwrap();
    assert_eq!(store.cached_bytes(), 0);
    let (mut fetched, first) = (Vec::new(), Sequence::FIRST);
    assert_eq!(orders.fetch(first, 10, &mut fetched), Fetch::NeedsLoad);
    assert_eq!(bodies(&orders), texts);
    assert_eq!(bodies(&volatile), texts);
    // What comes afterwards is in memory again.
    append(&store, &orders, "new");
    assert!(store.cached_bytes() > 0);
    assert_eq!(bodies(&orders).last().unwrap(), "new");
    assert_eq!(orders.acknowledge(&[SequenceRange::one(first)]).unwrap().messages, 1);
    assert_eq!(orders.len(), 3000);
}

#[test]
fn messages_in_memory_alone_stay_there_while_the_log_is_congested() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), Options { unsynced_limit: 10_000, ..manual() }).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let texts: Vec<String> = (0..100).map(|n| format!("{n:>1000}")).collect();
    for text in &texts {
        store.append(&message(text), Persistence::Transient, &[&orders]).unwrap();
    }
    let mut before = store.cached_bytes();
    while before > 0 {
        store.evict_messages().unwrap();
        let now = store.cached_bytes();
        assert!(now < before && before - now < 20_000, "{before}, {now}");
        before = now;
        store.wait_durable(store.congested().unwrap_or_default()).unwrap();
    }
    assert_eq!(bodies(&orders), texts);
}

#[test]
fn a_directory_serves_one_store_at_a_time() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let error = Store::open(dir.path(), small()).unwrap_err();
    assert!(matches!(error, OpenError::Locked(_)));
    let text = error.to_string();
    assert!(text.contains("in use") && text.contains(dir.path().to_str().unwrap()), "{text}");
    drop(store);
    Store::open(dir.path(), small()).unwrap();
}

#[test]
fn a_closed_store_takes_nothing_more() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let other = store.clone();
    store.close().unwrap();
    let refused = other.append(&message("late"), Persistence::Durable, &[&orders]);
    assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
}

#[test]
fn several_queues_are_created_at_once_and_know_each_others_numbers() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let names = |ids: &[QueueId], place: usize| format!("{} of {ids:?}", ids[place]).into_bytes();
    let (queues, created) = store.create_queues(3, names).unwrap();
    let ids: Vec<QueueId> = queues.iter().map(Queue::id).collect();
    for (place, queue) in queues.iter().enumerate() {
        assert_eq!(queue.attributes(), &names(&ids, place));
    }
    append(&store, &queues[1], "in the second");
    store.wait_durable(created).unwrap();
    // Neither these nor what they hold is there if it is not durable.
    let (lost, _) = store.create_queues(2, |_, place| vec![place as u8]).unwrap();
    append(&store, &lost[0], "lost");
    drop((store, queues, lost));
    let store = Store::open(dir.path(), manual()).unwrap();
    let found: Vec<QueueId> = store.queues().iter().map(Queue::id).collect();
    assert_eq!(found, ids);
    assert_eq!(bodies(&store.queues()[1]), ["in the second"]);
    let (next, _) = store.create_queue(b"next").unwrap();
    assert!(!ids.contains(&next.id()));
    assert_eq!(store.create_queues(0, names).unwrap().0, []);
}

#[test]
fn a_queue_of_another_store_is_refused_by_every_method_that_takes_one() {
    let dirs = [tempdir().unwrap(), tempdir().unwrap()];
    let store = Store::open(dirs[0].path(), small()).unwrap();
    let other = Store::open(dirs[1].path(), small()).unwrap();
    let (own, _) = store.create_queue(b"own").unwrap();
    let (durable, _) = other.create_queue(b"other").unwrap();
    let volatile = other.create_volatile_queue();
    append(&store, &own, "own");
    append(&other, &durable, "other");
    let text = message("lost");
    let ranges = [SequenceRange::one(Sequence::FIRST)];
    for foreign in [&durable, &volatile] {
        let append = |queues: &[&Queue], persistence| {
            store.append(&text, persistence, queues).map(|_| ()).unwrap_err()
        };
        let together = |operations: &[Operation<'_>]| {
            store.apply_together(operations).map(|_| ()).unwrap_err()
        };
        let appending = |queues| Operation::Append {
            message: (&text).into(),
            persistence: Persistence::Durable,
            queues,
        };
        let acknowledging = |queue| Operation::Acknowledge { queue, ranges: &ranges };
        let mixed = [&own, foreign];
        let only = [foreign];
        let refusals = [
            ("append", append(&only, Persistence::Durable)),
            ("transient append", append(&only, Persistence::Transient)),
            ("append to both", append(&mixed, Persistence::Durable)),
            ("append together", together(&[appending(&only)])),
            ("append together to both", together(&[appending(&mixed)])),
            ("acknowledge together", together(&[acknowledging(foreign)])),
            ("acknowledge both", together(&[acknowledging(&own), acknowledging(foreign)])),
        ];
        for (method, refusal) in refusals {
            let named =
                matches!(refusal, StoreError::ForeignQueue { queue } if queue == foreign.id());
            assert!(named, "{method}: {refusal}");
        }
    }
    assert_eq!((own.len(), durable.len(), volatile.len()), (1, 1, 0));
    assert_eq!((bodies(&own), bodies(&durable)), (vec!["own".into()], vec!["other".into()]));
}

#[test]
fn the_documented_loop_reads_ten_thousand_messages_from_the_disk() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let texts: Vec<String> = (0..10_000).map(|n| format!("order {n}")).collect();
    texts.iter().for_each(|text| {
        append(&store, &orders, text);
    });
    drop(orders);
    store.close().unwrap();

    let store = Store::open(dir.path(), small()).unwrap();
    let orders = queue(&store, "orders");
    let (mut from, mut fetched) = (Sequence::FIRST, Vec::new());
    let (mut all, mut loads) = (Vec::new(), 0);
    loop {
        let outcome = orders.fetch(from, 100, &mut fetched);
        if outcome == Fetch::Partial {
            assert!((1..100).contains(&fetched.len()), "{} messages", fetched.len());
        }
        if outcome == Fetch::NeedsLoad {
            assert!(fetched.is_empty(), "messages came with the request to load");
            orders.load(from).unwrap();
            loads += 1;
            assert!(loads <= 1000, "the loop does not end");
            continue;
        }
        let Some(last) = fetched.last() else { break };
        from = last.sequence.next();
        for fetched in fetched.drain(..) {
            all.push(body(&fetched));
            orders.acknowledge(&[SequenceRange::one(fetched.sequence)]).unwrap();
        }
    }
    assert_eq!(all, texts);
    assert!(loads > 1, "one read-ahead brought them all");
    assert!(orders.is_empty());
}

#[test]
fn hand_outs_beyond_the_bound_count_as_the_bound_also_after_a_restart() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    (0..4).for_each(|n| {
        append(&store, &orders, format!("order {n}"));
    });
    let counts = [MOST_DELIVERIES - 1, MOST_DELIVERIES, MOST_DELIVERIES + 1, u32::MAX];
    let marks: Vec<_> = (0..).map(Sequence::new).zip(counts).collect();
    orders.mark_delivered(&marks).unwrap();
    let counted = |queue: &Queue| -> Vec<u32> {
        fetch_all(queue).iter().map(|fetched| fetched.deliveries).collect()
    };
    let expected = [MOST_DELIVERIES - 1, MOST_DELIVERIES, MOST_DELIVERIES, MOST_DELIVERIES];
    assert_eq!(counted(&orders), expected);
    drop(orders);
    drop(store);
    let store = Store::open(dir.path(), small()).unwrap();
    assert_eq!(counted(&queue(&store, "orders")), expected, "replayed");
    store.close().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    assert_eq!(counted(&queue(&store, "orders")), expected, "from the checkpoint");
}

#[test]
fn the_last_number_is_a_place_like_any_other_that_holds_nothing() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), small()).unwrap();
    let (orders, _) = store.create_queue(b"orders").unwrap();
    let mut places = vec![Sequence::new(1), Sequence::new(u64::MAX - 1), Sequence::new(u64::MAX)];
    for round in 0..2 {
        for place in &places {
            let mut fetched = Vec::new();
            assert_eq!(orders.fetch(*place, 10, &mut fetched), Fetch::Complete);
            orders.load(*place).unwrap();
            assert!(!orders.load_ahead(*place, usize::MAX).unwrap());
            assert!(orders.is_loaded(*place, 10));
            orders.keep([(*place, message("kept"))]);
            assert_eq!(orders.acknowledge(&[SequenceRange::one(*place)]).unwrap().messages, 0);
            let gone = store.apply_together(&[Operation::Acknowledge {
                queue: &orders,
                ranges: &[SequenceRange { first: *place, last: Sequence::new(u64::MAX) }],
            }]);
            assert_eq!(
                (gone.unwrap().messages, fetched.len(), place.next() < *place),
                (0, 0, false)
            );
        }
        let marks: Vec<_> = places.iter().map(|place| (*place, 7)).collect();
        orders.mark_delivered(&marks).unwrap();
        if round == 0 {
            append(&store, &orders, "first");
        }
    }
    // A hand-out that was noted before a message took the place does not count for that message.
    append(&store, &orders, "second");
    places.truncate(1);
    drop(orders);
    drop(store);
    let store = Store::open(dir.path(), small()).unwrap();
    let fetched = fetch_all(&queue(&store, "orders"));
    let told: Vec<_> = fetched.iter().map(|one| (body(one), one.deliveries)).collect();
    assert_eq!(told, [("first".to_owned(), 0), ("second".to_owned(), 0)]);
}

/// The setting went up to 1,000, and 22 were made ready.
#[test]
fn as_many_segments_are_made_ready_as_were_asked_for() {
    let dir = tempdir().unwrap();
    for segments_ahead in [16, 1] {
        let store = Store::open(dir.path(), Options { segments_ahead, ..manual() }).unwrap();
        confirm(&store, &store.create_queue(b"orders").unwrap().0, "one");
        assert_eq!(store.inspect().open.unwrap().segments_ready, segments_ahead as u64);
    }
    for segments_ahead in [0, 17, 1000] {
        let error = Store::open(dir.path(), Options { segments_ahead, ..manual() }).unwrap_err();
        assert!(matches!(error, OpenError::Option { option: "segments_ahead", .. }), "{error}");
    }
}

/// The record of such a message names all of its queues. It is read once, and the queues share the memory.
#[test]
fn many_queues_read_a_message_of_all_of_them_back_once() {
    let dir = tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    let queues: Vec<Queue> = (0..12u8).map(|n| store.create_queue(&[n]).unwrap().0).collect();
    let bodies_of = |n: usize| format!("{n:>1000}");
    let all: Vec<&Queue> = queues.iter().collect();
    for n in 0..30 {
        let appended = store.append(&message(bodies_of(n)), Persistence::Durable, &all).unwrap();
        store.wait_durable(appended.durable_at.unwrap()).unwrap();
    }
    store.checkpoint().unwrap();
    store.evict_messages().unwrap();
    let expected: Vec<String> = (0..30).map(bodies_of).collect();
    let read: Vec<Vec<_>> = queues.iter().map(fetch_all).collect();
    for of_queue in &read {
        assert_eq!(of_queue.iter().map(body).collect::<Vec<_>>(), expected);
        for (one, first) in of_queue.iter().zip(&read[0]) {
            assert_eq!(one.message.body().as_ptr(), first.message.body().as_ptr());
        }
    }
    // They are not kept for longer than somebody may want them.
    drop(read);
    store.evict_messages().unwrap();
    store.release_spare_memory();
    assert_eq!(bodies(&queues[11]), expected);
}
