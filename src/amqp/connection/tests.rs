//! Publishers that are held back, without sockets: bytes in, bytes out, and nobody is looked at unless he was woken.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use tempfile::TempDir;

use super::super::codec::{PROTOCOL_HEADER, put_body_frame_header, put_content_header, put_method};
use super::super::{Resource, User};
use super::*;
use crate::broker::Broker;
use crate::message::{RawProperties, RawTable};
use crate::storage::{Background, Options, Store};

const FRAME_MAX: u32 = 4096;

/// A broker on a store that writes when it is asked.
struct Rig {
    gateway: Arc<Gateway>,
    _dir: TempDir,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(Limits::default())
    }

    fn with(limits: Limits) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let background = Background::Caller;
        let options = Options { segment_size: 1 << 20, background, ..Options::default() };
        let store = Store::open(dir.path().join("data"), options).unwrap();
        let broker = Broker::open(store.clone()).unwrap();
        let gateway = Gateway::new(broker, store, vec![User::guest()], limits);
        Rig { gateway: Arc::new(gateway), _dir: dir }
    }

    /// A client with channels 1 and 2, in confirm mode.
    fn connect(&self) -> Client {
        let mut client = Client {
            connection: Connection::new(self.gateway.clone(), ([127, 0, 0, 1], 1).into()),
            input: BytesMut::from(&PROTOCOL_HEADER[..]),
            received: BytesMut::new(),
            woken: Arc::default(),
        };
        let properties = RawTable::EMPTY;
        let response = b"\0guest\0guest";
        client.put(
            0,
            &Method::ConnectionStartOk {
                client_properties: properties,
                mechanism: b"PLAIN",
                response,
                locale: b"en_US",
            },
        );
        let tune = Method::ConnectionTuneOk { channel_max: 8, frame_max: FRAME_MAX, heartbeat: 0 };
        client.put(0, &tune);
        let (virtual_host, reserved_1) = (b"/", b"");
        client.put(0, &Method::ConnectionOpen { virtual_host, reserved_1, reserved_2: false });
        for channel in [1, 2] {
            client.put(channel, &Method::ChannelOpen { reserved_1: b"" });
        }
        client.work();
        assert_eq!(client.received().last(), Some(&"channel.open-ok"));
        client
    }

    fn set_short(&self, resource: Resource, is_short: bool) {
        assert!(self.gateway.set_short(resource, is_short));
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Client {
    connection: Connection,
    input: BytesMut,
    received: BytesMut,
    woken: Arc<Woken>,
}

impl Client {
    fn put(&mut self, channel: u16, method: &Method<'_>) {
        put_method(&mut self.input, channel, method);
    }

    /// Sends a method, and has done what can be done about it.
    fn send(&mut self, method: &Method<'_>) {
        self.put(1, method);
        self.work();
    }

    fn begin(&mut self, channel: u16, size: u64) {
        let publish = Method::BasicPublish {
            reserved_1: 0,
            exchange: b"",
            routing_key: b"q",
            mandatory: false,
            immediate: false,
        };
        self.put(channel, &publish);
        put_content_header(&mut self.input, channel, size, RawProperties::NONE);
        self.work();
    }

    /// Publishes an empty message.
    fn publish(&mut self, exchange: &str, key: &str) {
        let publish = Method::BasicPublish {
            reserved_1: 0,
            exchange: exchange.as_bytes(),
            routing_key: key.as_bytes(),
            mandatory: false,
            immediate: false,
        };
        self.put(1, &publish);
        put_content_header(&mut self.input, 1, 0, RawProperties::NONE);
        self.work();
    }

    fn go_on(&mut self, channel: u16, body: &[u8]) {
        put_body_frame_header(&mut self.input, channel, body.len() as u32);
        self.input.extend_from_slice(body);
        self.input.extend_from_slice(b"\xce");
        self.work();
    }

    /// Sends the beginning of a message of `size` bytes, then frames of its body for as long as the server reads, `most` bytes
    /// of them at most. Returns how many bytes the server has read.
    fn push(&mut self, most: usize) -> usize {
        const PIECE: usize = 4000;
        let mut sent = 0;
        while sent < most && self.connection.wants_input() {
            if self.connection.admit(self.input.len(), PIECE) < PIECE {
                self.work();
                continue;
            }
            let piece = PIECE.min(most - sent);
            self.go_on(1, &[7; PIECE][..piece]);
            self.connection.release_arrived(self.input.len(), PIECE);
            sent += piece;
        }
        sent
    }

    /// What the task of a connection does until it has to wait.
    fn work(&mut self) {
        let waker = Waker::from(self.woken.clone());
        for _ in 0..100 {
            while self.connection.work(&mut self.input) {}
            while !self.connection.output.is_empty() {
                let mut slices = [std::io::IoSlice::new(&[]); 8];
                let filled = self.connection.output.slices(&mut slices);
                let count = slices[..filled].iter().map(|slice| slice.len()).sum();
                slices[..filled].iter().for_each(|slice| self.received.extend_from_slice(slice));
                self.connection.output.advance(count);
            }
            if self.connection.poll(&mut Context::from_waker(&waker)).is_pending() {
                return;
            }
        }
        panic!("it never waits");
    }

    /// Works if it was woken; whether it was.
    fn work_if_woken(&mut self) -> bool {
        let woken = self.woken.0.swap(false, Ordering::SeqCst);
        if woken {
            self.work();
        }
        woken
    }

    /// The names of the methods that have come since this was last asked.
    fn received(&mut self) -> Vec<&'static str> {
        let (frames, error) = split_frames(&mut self.received, FRAME_MAX);
        assert_eq!(error, None);
        frames.map(|frame| Method::decode(&frame.payload).unwrap().name()).collect()
    }

    fn select_confirms(&mut self) {
        self.send(&Method::ConfirmSelect { nowait: false });
        // There may be declarations before it, which take several turns.
        settle(&mut [&mut *self]);
        assert_eq!(self.received(), ["confirm.select-ok"]);
    }
}

/// A pattern of 60 words, `#`, `*` and `a`.
fn long_pattern(number: usize) -> String {
    let words: Vec<&str> =
        (0..60).map(|place| ["a", "#", "a", "*"][(number >> (place % 9)) % 4]).collect();
    words.join(".")
}

/// Has everybody work who was woken, until nobody is.
fn settle(clients: &mut [&mut Client]) {
    for _ in 0..100 {
        let mut working = false;
        for client in &mut *clients {
            working |= client.work_if_woken();
        }
        if !working {
            return;
        }
    }
    panic!("they wake each other for ever");
}

/// Leave that had been waited for was given back, to be asked for again, and had gone on to the next who waited by then: two
/// that waited gave it to each other, as fast as they could, for as long as memory was short. It was they who took the memory.
#[test]
fn two_that_wait_for_leave_to_finish_their_messages_get_it_one_after_the_other() {
    let rig = Rig::new();
    let [mut one, mut two, mut three] = [rig.connect(), rig.connect(), rig.connect()];
    for client in [&mut one, &mut two, &mut three] {
        client.select_confirms();
        client.begin(1, 6);
        client.go_on(1, b"be");
    }
    rig.set_short(Resource::Memory, true);
    one.go_on(1, b"gi");
    two.go_on(1, b"gins");
    three.go_on(1, b"gins");
    settle(&mut [&mut one, &mut two, &mut three]);
    assert_eq!([one.received(), two.received(), three.received()], [[""; 0]; 3]);
    one.go_on(1, b"ns");
    settle(&mut [&mut one, &mut two, &mut three]);
    for client in [&mut one, &mut two, &mut three] {
        assert_eq!(client.received(), ["basic.ack"]);
    }
}

#[test]
fn who_may_not_begin_another_message_keeps_nobody_from_finishing_his() {
    let rig = Rig::new();
    let [mut one, mut two] = [rig.connect(), rig.connect()];
    for client in [&mut one, &mut two] {
        client.select_confirms();
        client.begin(1, 6);
        client.go_on(1, b"be");
    }
    rig.set_short(Resource::Memory, true);
    one.go_on(1, b"gi");
    two.go_on(1, b"gins");
    assert_eq!(two.received(), [""; 0]);
    one.begin(2, 0);
    settle(&mut [&mut one, &mut two]);
    assert_eq!(two.received(), ["basic.ack"]);
    assert_eq!(one.received(), [""; 0]);
    rig.set_short(Resource::Memory, false);
    one.go_on(1, b"ns");
    settle(&mut [&mut one, &mut two]);
    assert_eq!(one.received(), ["basic.ack"]);
}

/// A transaction that waited for the disk went on to wait for memory, which it would itself have given back.
#[test]
fn a_commit_that_waits_for_the_disk_does_not_wait_for_memory() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(&Method::TxSelect {});
    client.begin(1, 4);
    client.go_on(1, b"body");
    rig.set_short(Resource::Disk, true);
    client.send(&Method::TxCommit {});
    assert_eq!(client.received(), ["tx.select-ok"]);
    rig.set_short(Resource::Memory, true);
    settle(&mut [&mut client]);
    assert_eq!(client.received(), [""; 0]);
    rig.set_short(Resource::Disk, false);
    settle(&mut [&mut client]);
    assert_eq!(client.received(), ["tx.commit-ok"]);
}

/// A client that hears of a message from elsewhere, and closes the publisher's connection then, took the message for unconfirmed.
#[test]
fn a_confirm_that_waits_for_nothing_is_written_before_another_connection_gets_the_message() {
    let rig = Rig::new();
    let [mut publisher, mut consumer] = [rig.connect(), rig.connect()];
    let declare = Method::QueueDeclare {
        reserved_1: 0,
        queue: b"q",
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    };
    consumer.send(&declare);
    let consume = Method::BasicConsume {
        reserved_1: 0,
        queue: b"q",
        consumer_tag: b"c",
        no_local: false,
        no_ack: true,
        exclusive: false,
        nowait: false,
        arguments: RawTable::EMPTY,
    };
    consumer.send(&consume);
    assert_eq!(consumer.received(), ["queue.declare-ok", "basic.consume-ok"]);
    publisher.select_confirms();
    let publish = Method::BasicPublish {
        reserved_1: 0,
        exchange: b"",
        routing_key: b"q",
        mandatory: false,
        immediate: false,
    };
    publisher.put(1, &publish);
    put_content_header(&mut publisher.input, 1, 0, RawProperties::NONE);
    assert!(publisher.connection.work(&mut publisher.input), "there is a confirm to write");
    assert!(!publisher.connection.output.is_empty());
    assert!(!consumer.work_if_woken());
    publisher.work();
    assert_eq!(publisher.received(), ["basic.ack"]);
    assert!(consumer.work_if_woken());
    let (frames, _) = split_frames(&mut consumer.received, FRAME_MAX);
    assert_eq!(frames.count(), 2, "basic.deliver, and its content header");
}

/// A key of 60 words stopped the whole thread for seconds, where 5,000 bindings had patterns as long.
#[test]
fn others_have_their_turn_while_a_long_key_is_looked_up() {
    let rig = Rig::new();
    let [mut one, mut two, mut other] = [rig.connect(), rig.connect(), rig.connect()];
    one.send(&Method::QueueDeclare {
        reserved_1: 0,
        queue: b"q",
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: true,
        arguments: RawTable::EMPTY,
    });
    for number in 0..512 {
        one.put(
            1,
            &Method::QueueBind {
                reserved_1: 0,
                queue: b"q",
                exchange: b"amq.topic",
                routing_key: long_pattern(number).as_bytes(),
                nowait: true,
                arguments: RawTable::EMPTY,
            },
        );
    }
    for client in [&mut one, &mut two, &mut other] {
        client.select_confirms();
    }
    let key = ["a"; 60].join(".");
    for client in [&mut one, &mut two] {
        client.publish("amq.topic", &key);
        assert_eq!(client.received(), [""; 0], "it had to be put off");
    }
    // Both are woken for a piece each, at most.
    other.publish("", "q");
    assert_eq!(other.received(), ["basic.ack"]);
    settle(&mut [&mut one, &mut two]);
    assert_eq!(one.received(), ["basic.ack"]);
    assert_eq!(two.received(), ["basic.ack"]);
    // It is known now.
    two.publish("amq.topic", &key);
    assert_eq!(two.received(), ["basic.ack"]);
}

/// A client that binds a queue as fast as it can sent thousands of methods that were carried out in one go.
#[test]
fn others_have_their_turn_while_a_client_declares_much() {
    let rig = Rig::new();
    let [mut one, mut other] = [rig.connect(), rig.connect()];
    other.select_confirms();
    let count = 2 * DECLARATIONS_OF_A_TURN + 10;
    for number in 1..count {
        let name = number.to_string();
        one.put(
            1,
            &Method::QueueDeclare {
                reserved_1: 0,
                queue: name.as_bytes(),
                passive: false,
                durable: false,
                exclusive: false,
                auto_delete: false,
                nowait: true,
                arguments: RawTable::EMPTY,
            },
        );
    }
    one.send(&Method::ConfirmSelect { nowait: false });
    let mut turns = 1;
    while one.received().is_empty() {
        turns += 1;
        other.publish("", "1");
        assert_eq!(other.received(), ["basic.ack"]);
        assert!(one.work_if_woken(), "it goes on by itself");
    }
    // It is woken once for its turn and once to have it.
    assert!((3..=6).contains(&turns), "{turns}");
}

/// A queue with 150,000 bindings was deleted in one go, with all publishers of the virtual host waiting.
#[test]
fn others_have_their_turn_while_bindings_to_a_deleted_queue_are_removed() {
    let rig = Rig::new();
    let [mut one, mut other] = [rig.connect(), rig.connect()];
    one.send(&Method::QueueDeclare {
        reserved_1: 0,
        queue: b"q",
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: true,
        arguments: RawTable::EMPTY,
    });
    for number in 0..1024 {
        one.put(
            1,
            &Method::QueueBind {
                reserved_1: 0,
                queue: b"q",
                exchange: b"amq.direct",
                routing_key: number.to_string().as_bytes(),
                nowait: true,
                arguments: RawTable::EMPTY,
            },
        );
    }
    one.select_confirms();
    other.select_confirms();
    one.send(&Method::QueueDelete {
        reserved_1: 0,
        queue: b"q",
        if_unused: false,
        if_empty: false,
        nowait: false,
    });
    assert_eq!(one.received(), ["queue.delete-ok"]);
    one.publish("amq.direct", "1000");
    assert_eq!(one.received(), [""; 0], "it is not done yet");
    other.publish("amq.direct", "1000");
    assert_eq!(other.received(), ["basic.ack"]);
    settle(&mut [&mut one]);
    assert_eq!(one.received(), ["basic.ack"]);
}

/// 60 publishers of 1 MiB each took 60 MiB, in a container of 96 MiB.
#[test]
fn unfinished_messages_of_all_connections_share_a_budget_and_finish_one_after_the_other() {
    const SIZE: usize = 1 << 20;
    const BUDGET: usize = 2 << 20;
    let rig = Rig::with(Limits { receive_memory: BUDGET, ..Limits::default() });
    let mut clients: Vec<Client> = (0..60).map(|_| rig.connect()).collect();
    let mut left = vec![SIZE; clients.len()];
    for client in &mut clients {
        client.select_confirms();
        client.begin(1, SIZE as u64);
    }
    let mut confirmed = 0;
    let mut rounds = 0;
    while confirmed < clients.len() {
        rounds += 1;
        assert!(rounds < 10_000, "{confirmed} have finished, and nobody goes on");
        for (client, left) in clients.iter_mut().zip(&mut left) {
            client.work_if_woken();
            // All send a part before one sends its last byte.
            let most = if rounds == 1 { SIZE - 1 } else { *left };
            *left -= client.push(most);
            confirmed += client.received().iter().filter(|name| **name == "basic.ack").count();
        }
        // What one may exceed the budget by is the rest of its message, with a quarter for what buffers lose.
        let held: usize = left.iter().filter(|left| **left > 0).map(|left| SIZE - left).sum();
        let free = clients.len() * super::super::intake::FREE;
        assert!(held <= BUDGET + free + SIZE, "{held} bytes are held");
    }
    assert!(left.iter().all(|left| *left == 0));
    let all = rig.gateway.intake.clone();
    drop(clients);
    assert_eq!(all.reserved(), 0);
}

#[test]
fn a_small_message_arrives_while_others_hold_the_whole_receive_memory() {
    let rig = Rig::with(Limits { receive_memory: 1 << 20, ..Limits::default() });
    let mut others: Vec<Client> = (0..40).map(|_| rig.connect()).collect();
    for other in &mut others {
        other.begin(1, 8 << 20);
    }
    // One of them has leave, and would go on to the end of its message.
    while others.iter().filter(|other| other.connection.wants_input()).count() > 1 {
        for other in &mut others {
            other.push(16 << 10);
        }
    }
    let mut client = rig.connect();
    client.select_confirms();
    for _ in 0..10 {
        client.begin(1, 16 << 10);
        assert_eq!(client.push(16 << 10), 16 << 10);
        assert_eq!(client.received(), ["basic.ack"]);
    }
}
