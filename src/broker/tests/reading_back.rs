//! Messages that are on disk only: reading ahead, and reads that fail.

use std::sync::Weak;

use super::super::backlog::{Backlog, Supply};
use super::super::dead_letters::PendingSources;
use super::super::levels::Levels;
use super::super::outbox::Outbox;
use super::super::queue::{Queue, QueueSpec};
use super::super::workers::{WorkerThreads, Workers};
use super::*;
use crate::storage::{self, Persistence, Sequence, StoreError};

/// A store that keeps no body in memory, and a queue of it with that many messages.
fn on_disk(messages: u32) -> (TempDir, Store, storage::Queue) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_size: 1 << 20, cache: 0, ..Options::default() };
    let store = Store::open(dir.path().join("data"), options).unwrap();
    let (queue, _) = store.create_queue(b"q").unwrap();
    for number in 0..messages {
        let message = message("", "q", &number.to_string(), &persistent());
        store.append(&message, Persistence::Durable, &[&queue]).unwrap();
    }
    (dir, store, queue)
}

/// A queue that is in no virtual host, and whose reads nobody does.
fn broker_queue(queue: storage::Queue, store: &Store) -> Arc<Queue> {
    let spec = QueueSpec {
        name: name("q"),
        virtual_host: name("/"),
        durable: true,
        auto_delete: false,
        owner: None,
        arguments: FieldTable::new(),
    };
    Arc::new(Queue::new(spec, queue.into(), None, Weak::new(), Arc::new(Workers::new(store))))
}

fn unreadable() -> StoreError {
    StoreError::Unreadable {
        lsn: storage::Lsn::default(),
        file: "segment".into(),
        offset: 0,
        reason: "Input/output error".into(),
    }
}

fn take_event(outbox: &Outbox) -> Option<Event> {
    let mut events = Vec::new();
    outbox.take(&mut events, usize::MAX);
    assert!(events.len() <= 1, "{events:?}");
    events.pop()
}

#[test]
fn the_next_read_is_asked_for_while_half_of_the_last_one_is_still_there() {
    const MESSAGES: u32 = 5000;
    let (_dir, _store, queue) = on_disk(MESSAGES);
    let queue = Levels::from(queue);
    let mut backlog = Backlog::default();
    let (mut bodies, mut dry) = (Vec::new(), 0);
    let mut asked = None;
    loop {
        match backlog.supply(&queue) {
            Supply::Ready => {
                bodies.push(backlog.pop().unwrap().message.body());
                asked = asked.or_else(|| backlog.read_ahead(&queue));
                // The disk is slower than those who consume: a hundred messages go meanwhile.
                if bodies.len().is_multiple_of(100)
                    && let Some(from) = asked.take()
                {
                    queue.load(from).unwrap();
                }
            }
            Supply::OnDisk(from) => {
                dry += 1;
                asked = None;
                queue.load(from).unwrap();
            }
            Supply::Empty => break,
        }
    }
    let expected: Vec<_> = numbers(0..MESSAGES).into_iter().map(Bytes::from).collect();
    assert_eq!(bodies, expected);
    assert_eq!(dry, 1, "only the first message had to be waited for");
}

#[test]
fn a_queue_that_is_emptied_as_it_is_filled_reads_nothing_ahead() {
    let (_dir, _store, queue) = on_disk(1);
    let queue = Levels::from(queue);
    let mut backlog = Backlog::default();
    queue.load(Sequence::FIRST).unwrap();
    assert_eq!(backlog.supply(&queue), Supply::Ready);
    assert!(backlog.pop().is_some());
    assert_eq!(backlog.read_ahead(&queue), None);
    assert_eq!(backlog.supply(&queue), Supply::Empty);
}

/// A failed read left the queue waiting for it for ever, and every `basic.get` was refused from then on.
#[test]
fn a_read_that_failed_is_tried_again() {
    let (_dir, store, queue) = on_disk(1);
    let queue = broker_queue(queue, &store);
    let outbox = Arc::new(Outbox::default());
    let mut pending = PendingSources::default();
    let channel = ChannelNumber(1);
    assert!(matches!(queue.get(&outbox, channel, true, &mut pending), Ok(Get::Pending)));
    assert!(queue.load_failed(unreadable()), "to be tried again");
    let Some(Event::GetRefused { refusal, .. }) = take_event(&outbox) else { panic!("refused") };
    assert_eq!(refusal.code(), 541);
    // Whoever asks now waits for the next try.
    assert!(matches!(queue.get(&outbox, channel, true, &mut pending), Ok(Get::Pending)));
    let any = queue.load(Sequence::FIRST).unwrap();
    queue.loaded(any);
    assert!(matches!(take_event(&outbox), Some(Event::Got { message: Some(_), .. })));
}

/// Two reads may be asked for, and the second may find that the first has, or is reading, all there is. It must not ask for
/// more of the same, and what came up meanwhile must not wait for ever.
#[test]
fn a_read_that_finds_nothing_to_do_leaves_nothing_undone() {
    for in_order in [true, false] {
        let (_dir, store, queue) = on_disk(2);
        let queue = broker_queue(queue, &store);
        let outbox = Arc::new(Outbox::default());
        let mut pending = PendingSources::default();
        let channel = ChannelNumber(1);
        for _ in 0..3 {
            assert!(matches!(queue.get(&outbox, channel, true, &mut pending), Ok(Get::Pending)));
        }
        // Something comes up while that is read, and asks for the second read.
        queue.dispatch(None, &mut pending);
        // The first read has begun, and ends before the second or after it.
        let any = queue.load(Sequence::FIRST).unwrap();
        assert!(any);
        if in_order {
            queue.loaded(true);
            queue.loaded(queue.load(Sequence::FIRST).unwrap());
        } else {
            queue.loaded(queue.load(Sequence::FIRST).unwrap());
            queue.loaded(true);
        }
        let mut events = Vec::new();
        outbox.take(&mut events, usize::MAX);
        let got = |event: &Event| matches!(event, Event::Got { message: Some(_), .. });
        assert_eq!(events.iter().map(got).collect::<Vec<_>>(), [true, true, false], "{in_order}");
    }
}

#[test]
fn a_store_that_failed_is_asked_again_only_when_somebody_wants_to_know() {
    let (_dir, store, queue) = on_disk(1);
    let queue = broker_queue(queue, &store);
    let outbox = Arc::new(Outbox::default());
    let mut pending = PendingSources::default();
    for _ in 0..2 {
        assert!(matches!(
            queue.get(&outbox, ChannelNumber(1), true, &mut pending),
            Ok(Get::Pending)
        ));
        assert!(!queue.load_failed(StoreError::Failed("Input/output error".into())));
        assert!(matches!(take_event(&outbox), Some(Event::GetRefused { .. })));
    }
}

#[test]
fn what_is_put_off_comes_back_in_time() {
    let (_dir, store, queue) = on_disk(1);
    let threads = WorkerThreads::start(&store).unwrap();
    // So that the queue itself does not ask: its own loader has no threads.
    let queue = broker_queue(queue, &store);
    let outbox = Arc::new(Outbox::default());
    let mut pending = PendingSources::default();
    assert!(matches!(queue.get(&outbox, ChannelNumber(1), true, &mut pending), Ok(Get::Pending)));
    threads.workers().loader.submit_later(queue, Sequence::FIRST, Duration::from_millis(10));
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "not read");
        match take_event(&outbox) {
            Some(event) => break assert!(matches!(event, Event::Got { message: Some(_), .. })),
            None => std::thread::sleep(Duration::from_micros(100)),
        }
    }
}
