//! What the store is put through: each workload is short, and about one thing that it does to the disk.
//!
//! Segments hold three pages of groups, chunks 16 places, and next to nothing may be in memory: so a few messages meet all
//! that a store of many gigabytes does. Each workload says whether it has met what it is about.

use super::ledger::{KnownChange, messages_of};
use super::scene::{Scene, SceneError, Workload, empty};
use crate::storage::{
    Draft, Message, Operation, Options, Persistence, Queue, Sequence, SequenceRange, StoreError,
};

type Played = Result<(), SceneError>;

/// All of them.
pub const ALL: &[Workload] = &[
    plain("publish and confirm", publish_and_confirm),
    plain("acknowledge and hand out", acknowledge_and_hand_out),
    plain("fan-out", fan_out),
    plain("roll over", roll_over),
    plain("recycle", recycle),
    plain("checkpoint", checkpoint),
    plain("compaction", compaction),
    plain("compaction of a deep queue", compaction_of_a_deep_queue),
    plain("topology", topology),
    plain("deep queue", deep_queue),
    plain("oversized message", oversized_message),
    plain("transient messages", transient_messages),
    plain("applied together", applied_together),
    plain("an oversized message together", an_oversized_message_together),
    Workload {
        capacity: Some(10 * (16 << 10) + (12 << 10)),
        tune: |options: &mut Options| options.segments_ahead = 4,
        ..plain("full disk", full_disk)
    },
    Workload {
        // All that it takes, and less than another file of that size besides.
        capacity: Some(8 * (16 << 10) + (28 << 10)),
        tune: |options: &mut Options| options.segments_ahead = 4,
        ..plain("oversized message on a full disk", oversized_message_on_a_full_disk)
    },
    plain("close and open again", close_and_open_again),
    plain("killed and started again", killed_and_started_again),
];

/// The one with this name.
pub fn named(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

const fn plain(name: &'static str, play: fn(&mut Scene) -> Played) -> Workload {
    Workload { name, capacity: None, before: empty, tune: |_| {}, play }
}

/// A message of so many bytes that differs from all others, and that is nothing like zeros.
fn hay(number: u64, bytes: usize) -> String {
    let letters = (b'a'..=b'z').cycle().skip(number as usize % 26).map(char::from);
    format!("{number:>4} ").chars().chain(letters).take(bytes.max(4)).collect()
}

fn places(first: u64, last: u64) -> SequenceRange {
    SequenceRange { first: Sequence::new(first), last: Sequence::new(last) }
}

fn place(number: u64) -> SequenceRange {
    places(number, number)
}

/// A new queue that is there for certain.
fn queue(scene: &mut Scene, name: &str) -> Result<Queue, SceneError> {
    let queue = scene.driver().create_queue(name.as_bytes())?;
    scene.driver().confirm()?;
    Ok(queue)
}

/// Publishes messages of so many bytes, and confirms each time so many are there.
fn fill(scene: &mut Scene, queue: &Queue, count: u64, bytes: usize, at_once: u64) -> Played {
    for number in 1..=count {
        scene.driver().publish(hay(number, bytes), &[queue])?;
        if number % at_once == 0 {
            scene.driver().confirm()?;
        }
    }
    Ok(scene.driver().confirm()?)
}

fn write_checkpoint(scene: &mut Scene) -> Played {
    Ok(scene.driver().upkeep(|store| store.checkpoint())?)
}

fn compact(scene: &mut Scene) -> Played {
    let done = scene.driver().store().compact()?;
    met(done.messages > 0, "a message was moved")
}

fn met(whether: bool, what: &'static str) -> Played {
    if whether { Ok(()) } else { Err(SceneError::Pointless(what)) }
}

fn publish_and_confirm(scene: &mut Scene) -> Played {
    let orders = queue(scene, "orders")?;
    for (number, bytes) in (0..).zip([10, 600, 1500, 3000, 700]) {
        scene.driver().publish(hay(number, bytes), &[&orders])?;
        scene.driver().confirm()?;
    }
    for number in 10..15 {
        scene.driver().publish(hay(number, 500), &[&orders])?;
    }
    scene.driver().confirm()?;
    scene.driver().publish(hay(20, 100), &[&orders])?;
    Ok(())
}

fn acknowledge_and_hand_out(scene: &mut Scene) -> Played {
    let orders = queue(scene, "orders")?;
    fill(scene, &orders, 8, 200, 4)?;
    let counts: Vec<_> = (0..6).map(|place| (Sequence::new(place), 1)).collect();
    let driver = scene.driver();
    driver.deliver(&orders, &counts)?;
    driver.acknowledge(&orders, &[place(4), place(1)])?;
    driver.confirm()?;
    driver.deliver(&orders, &[(Sequence::new(0), 2), (Sequence::new(5), 2)])?;
    driver.publish(hay(30, 300), &[&orders])?;
    driver.confirm()?;
    // All that there is and far more: it says nothing of what comes then, though a checkpoint has that already when
    // this is replayed.
    driver.acknowledge(&orders, &[places(2, 100)])?;
    for number in 40..44 {
        driver.publish(hay(number, 100), &[&orders])?;
    }
    write_checkpoint(scene)?;
    scene.driver().acknowledge(&orders, &[place(0), place(10)])?;
    fill(scene, &orders, 2, 100, 1)?;
    met(orders.len() == 5, "what came after the acknowledgement is there")
}

fn fan_out(scene: &mut Scene) -> Played {
    let queues = [queue(scene, "one")?, queue(scene, "two")?, queue(scene, "three")?];
    let [one, two, three] = &queues;
    for number in 0..4 {
        let driver = scene.driver();
        driver.publish(hay(number, 900), &[one, two, three])?;
        driver.publish(hay(number + 10, 50), &[three, one])?;
        driver.confirm()?;
    }
    let driver = scene.driver();
    driver.acknowledge(one, &[places(0, 5)])?;
    driver.acknowledge(three, &[place(1), place(3)])?;
    driver.deliver(two, &[(Sequence::new(0), 1), (Sequence::new(1), 1)])?;
    driver.publish(hay(30, 400), &[one, two])?;
    driver.confirm()?;
    driver.apply(&[KnownChange::DeleteQueue(two.id())])?;
    driver.publish(hay(31, 400), &[one, three])?;
    driver.confirm()?;
    Ok(())
}

fn roll_over(scene: &mut Scene) -> Played {
    let orders = queue(scene, "orders")?;
    // Groups of one page and of two, and several segments that are sealed without anybody waiting.
    fill(scene, &orders, 5, 3000, 1)?;
    fill(scene, &orders, 6, 2500, 2)?;
    fill(scene, &orders, 14, 3500, 14)?;
    fill(scene, &orders, 1, 10, 1)?;
    met(scene.disk().used() > 10 * (16 << 10), "the log is in many segments")
}

fn recycle(scene: &mut Scene) -> Played {
    let orders = queue(scene, "orders")?;
    let mut first = 0;
    for round in 0..6 {
        fill(scene, &orders, 4, 2500, if round % 2 == 0 { 1 } else { 2 })?;
        scene.driver().acknowledge(&orders, &[places(first, first + 2)])?;
        write_checkpoint(scene)?;
        first += 3;
    }
    scene.driver().acknowledge(&orders, &[places(0, 50)])?;
    write_checkpoint(scene)?;
    fill(scene, &orders, 6, 2000, 3)?;
    met(scene.disk().used() < 12 * (16 << 10), "files are used again")
}

fn checkpoint(scene: &mut Scene) -> Played {
    let orders = queue(scene, "orders")?;
    let others = queue(scene, "others")?;
    let put = |key: &str, value: &str| KnownChange::Put(key.into(), value.into());
    scene.driver().apply(&[put("exchange", "direct"), put("binding", "orders")])?;
    fill(scene, &orders, 3, 400, 3)?;
    write_checkpoint(scene)?;
    // Nothing has changed but the root itself.
    write_checkpoint(scene)?;
    let driver = scene.driver();
    driver.publish(hay(5, 300), &[&orders, &others])?;
    driver.acknowledge(&orders, &[place(0)])?;
    driver.deliver(&orders, &[(Sequence::new(1), 1)])?;
    // It is in the middle of a group, and what is in front of it was not written yet.
    write_checkpoint(scene)?;
    let driver = scene.driver();
    driver.apply(&[put("exchange", "topic"), KnownChange::DeleteQueue(others.id())])?;
    driver.publish(hay(6, 1200), &[&orders])?;
    driver.confirm()?;
    write_checkpoint(scene)?;
    scene.driver().publish(hay(7, 100), &[&orders])?;
    Ok(scene.driver().confirm()?)
}

fn compaction(scene: &mut Scene) -> Played {
    let one = queue(scene, "one")?;
    let two = queue(scene, "two")?;
    for number in 0..10 {
        scene.driver().publish(hay(number, 2600), &[&one, &two])?;
        scene.driver().publish(hay(number, 700), &[&one])?;
        scene.driver().confirm()?;
    }
    // A message here and there is left, in both queues or in one of them.
    let driver = scene.driver();
    driver.acknowledge(&one, &[places(0, 5), places(7, 11), places(13, 18)])?;
    driver.acknowledge(&two, &[places(0, 1), places(3, 5), places(7, 8)])?;
    driver.deliver(&one, &[(Sequence::new(6), 1)])?;
    driver.confirm()?;
    compact(scene)?;
    // And once more from the new places, which a second compaction leaves.
    fill(scene, &two, 6, 3000, 1)?;
    scene.driver().acknowledge(&two, &[places(7, 50)])?;
    scene.driver().acknowledge(&one, &[place(6)])?;
    scene.driver().confirm()?;
    scene.driver().store().compact()?;
    fill(scene, &one, 2, 500, 1)
}

fn compaction_of_a_deep_queue(scene: &mut Scene) -> Played {
    let deep = queue(scene, "deep")?;
    let wide = queue(scene, "wide")?;
    for number in 0..200 {
        let targets: &[&Queue] = if number % 20 == 0 { &[&deep, &wide] } else { &[&deep] };
        scene.driver().publish(hay(number, 150), targets)?;
        if number % 40 == 39 {
            scene.driver().confirm()?;
        }
    }
    scene.driver().confirm()?;
    write_checkpoint(scene)?;
    let most: Vec<_> = (0..200).filter(|number| number % 10 != 0).map(place).collect();
    scene.driver().acknowledge(&deep, &most)?;
    scene.driver().acknowledge(&wide, &[places(2, 4)])?;
    scene.driver().confirm()?;
    compact(scene)?;
    scene.driver().acknowledge(&deep, &[places(0, 45), place(100)])?;
    scene.driver().confirm()?;
    write_checkpoint(scene)?;
    scene.driver().store().compact()?;
    fill(scene, &deep, 1, 100, 1)
}

fn topology(scene: &mut Scene) -> Played {
    let put = |key: &str, value: &str| KnownChange::Put(key.into(), value.into());
    let remove = |key: &str| KnownChange::Remove(key.into());
    let one = queue(scene, "one")?;
    let two = queue(scene, "two")?;
    let driver = scene.driver();
    driver.publish(hay(1, 100), &[&one, &two])?;
    driver.apply(&[put("a", "1"), put("b", "2"), put("c", &hay(3, 1000))])?;
    driver.confirm()?;
    // All of it, or nothing.
    driver.apply(&[
        put("a", "3"),
        remove("b"),
        KnownChange::DeleteQueue(one.id()),
        put("d", &hay(4, 2500)),
    ])?;
    driver.confirm()?;
    let three = driver.create_queue(b"three")?;
    driver.publish(hay(2, 100), &[&two, &three])?;
    driver.apply(&[remove("c"), remove("nothing"), put("b", "again")])?;
    write_checkpoint(scene)?;
    let driver = scene.driver();
    driver.apply(&[KnownChange::DeleteQueue(two.id()), KnownChange::DeleteQueue(three.id())])?;
    driver.create_queue(b"four")?;
    driver.confirm()?;
    driver.apply(&[remove("a"), remove("d")])?;
    driver.confirm()?;
    Ok(())
}

fn deep_queue(scene: &mut Scene) -> Played {
    let deep = queue(scene, "deep")?;
    fill(scene, &deep, 180, 40, 60)?;
    met(scene.driver().store().resident_places() < 180, "the index left memory")?;
    write_checkpoint(scene)?;
    // A whole chunk goes, and nothing else: no other chunk says that the list of them has changed.
    scene.driver().acknowledge(&deep, &[places(16, 31)])?;
    scene.driver().confirm()?;
    write_checkpoint(scene)?;
    // Places of others go that are not in memory.
    scene.driver().acknowledge(&deep, &[place(40), place(70), places(100, 120)])?;
    scene.driver().deliver(&deep, &[(Sequence::new(0), 1), (Sequence::new(50), 3)])?;
    scene.driver().confirm()?;
    write_checkpoint(scene)?;
    // Whoever reads it has chunks in memory again.
    let found = messages_of(&deep).map_err(|_| SceneError::Pointless("it can be read"))?;
    met(found.len() as u64 == deep.len(), "all of it is read")?;
    scene.driver().acknowledge(&deep, &[places(0, 60)])?;
    fill(scene, &deep, 20, 40, 10)?;
    // Few chunks are left: no directories any more.
    scene.driver().acknowledge(&deep, &[places(61, 185)])?;
    write_checkpoint(scene)?;
    fill(scene, &deep, 3, 40, 3)
}

fn oversized_message(scene: &mut Scene) -> Played {
    let orders = queue(scene, "orders")?;
    fill(scene, &orders, 1, 300, 1)?;
    scene.driver().publish(hay(2, 20_000), &[&orders])?;
    scene.driver().confirm()?;
    fill(scene, &orders, 2, 300, 2)?;
    scene.driver().publish(hay(3, 13_000), &[&orders])?;
    scene.driver().publish(hay(4, 34_000), &[&orders])?;
    scene.driver().publish(hay(5, 100), &[&orders])?;
    scene.driver().confirm()?;
    scene.driver().acknowledge(&orders, &[place(1)])?;
    write_checkpoint(scene)?;
    fill(scene, &orders, 1, 3000, 1)?;
    met(orders.len() == 7, "all but one of the messages are there")
}

fn transient_messages(scene: &mut Scene) -> Played {
    let orders = queue(scene, "orders")?;
    let passing = scene.driver().store().create_volatile_queue();
    for number in 0..40 {
        let driver = scene.driver();
        driver.publish_transient(hay(number, 200), &[&orders, &passing])?;
        if number % 8 == 0 {
            driver.publish(hay(number, 300), &[&orders, &passing])?;
            driver.confirm()?;
        }
    }
    write_checkpoint(scene)?;
    scene.driver().acknowledge(&orders, &[places(3, 9), place(30)])?;
    scene.driver().confirm()?;
    met(scene.driver().store().cached_bytes() < 2000, "memory was short")?;
    drop(passing);
    write_checkpoint(scene)?;
    fill(scene, &orders, 2, 300, 1)
}

/// Takes messages out of a queue, and puts others into queues, all at once.
fn replace(
    scene: &mut Scene,
    (from, ranges): (&Queue, &[SequenceRange]),
    messages: &[(String, &[&Queue])],
) -> Played {
    let messages: Vec<_> =
        messages.iter().map(|(body, queues)| (Message::new("header", body), *queues)).collect();
    let appends = messages.iter().map(|(message, queues)| Operation::Append {
        message: Draft::from(message),
        persistence: Persistence::Durable,
        queues,
    });
    let acknowledge = Operation::Acknowledge { queue: from, ranges };
    let operations: Vec<Operation<'_>> = appends.chain([acknowledge]).collect();
    Ok(scene.driver().apply_together(&operations)?)
}

fn applied_together(scene: &mut Scene) -> Played {
    let one = queue(scene, "one")?;
    let two = queue(scene, "two")?;
    let three = queue(scene, "three")?;
    fill(scene, &one, 12, 900, 6)?;
    // Many of them come to the end of a segment.
    for number in 0..5 {
        let moved = [(hay(number, 2900), &[&two, &three][..]), (hay(number + 10, 1900), &[&two])];
        replace(scene, (&one, &[place(number)]), &moved)?;
        if number % 2 == 0 {
            scene.driver().confirm()?;
        }
    }
    // It comes to its own queue again, and what it acknowledges there is not what it brings.
    replace(scene, (&two, &[places(0, 100)]), &[(hay(30, 500), &[&two]), (hay(31, 50), &[&two])])?;
    write_checkpoint(scene)?;
    // A checkpoint of which some parts know of it, and it is replayed.
    replace(scene, (&two, &[place(10)]), &[(hay(32, 3000), &[&one, &three])])?;
    scene.driver().publish(hay(33, 100), &[&one])?;
    replace(scene, (&one, &[places(5, 6), place(9)]), &[])?;
    write_checkpoint(scene)?;
    let passing = scene.driver().store().create_volatile_queue();
    replace(scene, (&three, &[place(0)]), &[(hay(34, 100), &[&passing]), (hay(35, 60), &[&two])])?;
    replace(scene, (&passing, &[place(0)]), &[(hay(36, 100), &[&three])])?;
    scene.driver().confirm()?;
    met(passing.is_empty() && two.len() == 2, "all of it was done at once")?;
    fill(scene, &one, 1, 10, 1)
}

fn an_oversized_message_together(scene: &mut Scene) -> Played {
    let one = queue(scene, "one")?;
    let two = queue(scene, "two")?;
    fill(scene, &one, 6, 700, 3)?;
    replace(scene, (&one, &[place(1), place(3)]), &[(hay(10, 20_000), &[&two])])?;
    scene.driver().confirm()?;
    replace(scene, (&one, &[place(0)]), &[(hay(11, 16_000), &[&two, &one])])?;
    // It is the last that a restart finds.
    scene.driver().confirm()?;
    drop((one, two));
    scene.kill()?;
    let mut queues = scene.driver().store().queues().into_iter();
    let (Some(one), Some(two)) = (queues.next(), queues.next()) else {
        return met(false, "the queues are there after a restart");
    };
    replace(scene, (&two, &[place(0)]), &[(hay(12, 500), &[&one])])?;
    scene.driver().confirm()?;
    write_checkpoint(scene)?;
    met(one.len() == 5 && two.len() == 1, "all of it was done at once")?;
    fill(scene, &one, 1, 300, 1)
}

fn full_disk(scene: &mut Scene) -> Played {
    let orders = queue(scene, "orders")?;
    for _ in 0..2 {
        for number in 0.. {
            let driver = scene.driver();
            match driver.publish(hay(number, 12_000), &[&orders]) {
                Err(StoreError::Full) => break,
                outcome => outcome?,
            }
            driver.confirm()?;
            met(number < 100, "the disk is full")?;
        }
        let all = places(0, orders.next_sequence().get().saturating_sub(2));
        scene.driver().acknowledge(&orders, &[all])?;
        scene.driver().confirm()?;
        // The first takes what was live away from the segment of the one before, and the next can free that.
        for _ in 0..3 {
            write_checkpoint(scene)?;
            scene.driver().apply(&[])?;
            scene.driver().confirm()?;
        }
        met(!scene.driver().store().is_full(), "there is room again")?;
    }
    fill(scene, &orders, 2, 1000, 1)
}

fn oversized_message_on_a_full_disk(scene: &mut Scene) -> Played {
    let orders = queue(scene, "orders")?;
    fill(scene, &orders, 1, 300, 1)?;
    scene.driver().publish(hay(2, 34_000), &[&orders])?;
    scene.driver().confirm()?;
    let refused = scene.driver().publish(hay(3, 34_000), &[&orders]);
    let no_room = matches!(refused, Err(StoreError::Full | StoreError::NoRoom { .. }));
    met(no_room, "there is no room for another one")?;
    drop(orders);
    scene.kill()?;
    let orders = the_queue(scene)?;
    met(orders.len() == 2, "it is there after a restart")?;
    scene.driver().acknowledge(&orders, &[place(1)])?;
    scene.driver().confirm()?;
    write_checkpoint(scene)?;
    fill(scene, &orders, 1, 300, 1)
}

fn close_and_open_again(scene: &mut Scene) -> Played {
    let orders = queue(scene, "orders")?;
    fill(scene, &orders, 6, 2500, 2)?;
    scene.driver().acknowledge(&orders, &[places(0, 3)])?;
    drop(orders);
    scene.reopen()?;
    scene.reopen()?;
    let orders = the_queue(scene)?;
    scene.driver().acknowledge(&orders, &[places(0, 4)])?;
    fill(scene, &orders, 3, 2000, 1)?;
    write_checkpoint(scene)?;
    drop(orders);
    scene.reopen()?;
    let orders = the_queue(scene)?;
    fill(scene, &orders, 2, 100, 1)
}

fn killed_and_started_again(scene: &mut Scene) -> Played {
    let orders = queue(scene, "orders")?;
    fill(scene, &orders, 5, 2500, 1)?;
    scene.driver().acknowledge(&orders, &[places(0, 3)])?;
    scene.driver().publish(hay(10, 100), &[&orders])?;
    drop(orders);
    scene.kill()?;
    let orders = the_queue(scene)?;
    fill(scene, &orders, 3, 1000, 3)?;
    write_checkpoint(scene)?;
    drop(orders);
    scene.kill()?;
    scene.kill()?;
    let orders = the_queue(scene)?;
    write_checkpoint(scene)?;
    fill(scene, &orders, 4, 3000, 2)
}

fn the_queue(scene: &mut Scene) -> Result<Queue, SceneError> {
    let queue = scene.driver().store().queues().into_iter().next();
    queue.ok_or(SceneError::Pointless("the queue is there after a restart"))
}
