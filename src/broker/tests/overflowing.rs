//! Bounds of queues and messages that come back to them: only `drop-head` ever removes.
//!
//! A table of every way back × bound × overflow × kind of queue.

use super::*;
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};

/// Messages that the bound allows, each with a body of one byte.
const MOST: u32 = 4;

/// A way by which a queue comes to have more ready messages than its bound allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Reject,
    NackMultiple,
    Recover,
    ChannelClose,
    ConnectionClose,
    Cancel,
    Rollback,
    Commit,
    Restart,
    Policy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Classic,
    Quorum,
    Priorities,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    way: Way,
    bound: &'static str,
    overflow: &'static str,
    kind: Kind,
}

impl Cell {
    fn all() -> Vec<Self> {
        use Way::*;
        let ways = [
            Reject,
            NackMultiple,
            Recover,
            ChannelClose,
            ConnectionClose,
            Cancel,
            Rollback,
            Commit,
            Restart,
            Policy,
        ];
        let mut cells = Vec::new();
        for way in ways {
            for bound in ["max-length", "max-length-bytes"] {
                for overflow in ["drop-head", "reject-publish", "reject-publish-dlx"] {
                    for kind in [Kind::Classic, Kind::Quorum, Kind::Priorities] {
                        cells.push(Self { way, bound, overflow, kind });
                    }
                }
            }
        }
        cells
    }

    fn rules(self, prefix: &str) -> Vec<(String, Value)> {
        vec![
            (format!("{prefix}{}", self.bound), Value::U8(MOST as u8)),
            (format!("{prefix}overflow"), Value::text(self.overflow)),
        ]
    }

    /// The queue, with its bound among its arguments unless a policy brings it.
    fn queue(self, text: &str) -> DeclareQueue {
        let mut arguments = match self.kind {
            Kind::Classic => FieldTable::new(),
            Kind::Quorum => table(&[("x-queue-type", Value::text("quorum"))]),
            Kind::Priorities => table(&[("x-max-priority", Value::U8(3))]),
        };
        if self.way != Way::Policy {
            let rules = self.rules("x-").into_iter();
            rules.for_each(|(key, value)| arguments.push(name(&key), value));
        }
        DeclareQueue { arguments, ..durable(text) }
    }

    fn set_policy(self, rig: &Rig) {
        let definition = self.rules("").into_iter();
        let definition = definition.map(|(key, value)| (name(&key), value)).collect();
        let policy =
            Policy::new(PolicyKind::User, name("p"), "", ApplyTo::Queues, 0, definition).unwrap();
        rig.broker.administer().set_policy(&name("/"), policy).unwrap();
    }

    /// The messages that have to be there in the end, in order, of 0..8.
    fn expected(self) -> Vec<String> {
        let mut all: Vec<u32> = (0..2 * MOST).collect();
        if self.kind == Kind::Priorities {
            all.sort_by_key(|number| std::cmp::Reverse(rank(*number)));
        }
        let gone = if self.overflow == "drop-head" { MOST as usize } else { 0 };
        all[gone..].iter().map(u32::to_string).collect()
    }
}

/// The priority of a message.
fn rank(number: u32) -> u8 {
    (number % 3) as u8
}

fn send(client: &mut Client, numbers: std::ops::Range<u32>) {
    numbers.for_each(|number| client.send_ranked("q", rank(number), &number.to_string()));
}

/// Has the first half of the messages come back to a queue that has been filled with the second half meanwhile.
fn overfill(rig: Rig, cell: Cell) -> (Rig, Client) {
    let mut client = rig.connect();
    client.channel.declare_queue(&cell.queue("q")).unwrap();
    if cell.way == Way::Policy {
        send(&mut client, 0..2 * MOST);
        cell.set_policy(&rig);
        return (rig, client);
    }
    let mut holder = rig.connect();
    if matches!(cell.way, Way::Rollback | Way::Commit) {
        holder.channel.tx_select().unwrap();
    }
    send(&mut client, 0..MOST);
    let tags: Vec<_> = if cell.way == Way::Cancel {
        // In the outbox, and never sent.
        holder.channel.consume(&consumer("q", "c")).unwrap();
        Vec::new()
    } else {
        (0..MOST).map(|_| holder.get("q").unwrap().0.tag).collect()
    };
    assert_eq!(client.ready("q"), 0, "{cell:?}");
    if cell.way == Way::Cancel {
        holder.channel.qos(0, 1, true).unwrap();
    }
    send(&mut client, MOST..2 * MOST);
    let last = tags.last().copied();
    match cell.way {
        Way::Reject => {
            for tag in tags {
                holder.channel.nack(tag, false, true).unwrap();
                holder.channel.flush().unwrap();
            }
        }
        Way::NackMultiple => holder.channel.nack(last.unwrap(), true, true).unwrap(),
        Way::Recover => holder.channel.recover(true).unwrap(),
        Way::ChannelClose => holder.channel = holder.session.open_channel(ChannelNumber(2)),
        Way::ConnectionClose | Way::Restart => {}
        Way::Cancel => holder.channel.cancel(b"c").unwrap(),
        Way::Rollback => {
            holder.channel.ack(last.unwrap(), true).unwrap();
            holder.channel.tx_rollback().unwrap();
            holder.channel = holder.session.open_channel(ChannelNumber(2));
        }
        Way::Commit => {
            holder.channel.nack(last.unwrap(), true, true).unwrap();
            holder.channel.tx_commit().unwrap();
        }
        Way::Policy => unreachable!(),
    }
    drop(holder);
    if cell.way != Way::Restart {
        return (rig, client);
    }
    drop(client);
    let rig = rig.restart();
    let client = rig.connect();
    (rig, client)
}

/// Waits until the queue has so many ready messages, and knows their bytes: they may have to be read first.
fn settle_at(rig: &Rig, client: &mut Client, cell: Cell, count: u32) {
    let begun = Instant::now();
    let is_counted = || {
        let hosts = rig.broker.inner.virtual_hosts.read();
        hosts[&name("/")].topology.read().queue(b"q").unwrap().is_counted()
    };
    while client.ready("q") != count || !is_counted() {
        assert!(begun.elapsed() < PATIENCE, "{cell:?}: {} ready", client.ready("q"));
        std::thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn only_drop_head_removes_messages_whatever_brings_them_back() {
    let mut rig = Rig::new();
    for cell in Cell::all() {
        let (next, mut client) = overfill(rig, cell);
        rig = next;
        let expected = cell.expected();
        settle_at(&rig, &mut client, cell, expected.len() as u32);
        if cell.overflow != "drop-head" {
            let published = client.channel.publish(&message("", "q", "x", &persistent())).unwrap();
            assert!(published.refused, "{cell:?}: it is full");
            client.channel.flush().unwrap();
        }
        let mut left = Vec::new();
        while let Some((received, _)) = client.get("q") {
            client.ack(received.tag);
            left.push(received.body);
        }
        assert_eq!(left, expected, "{cell:?}");
        let published = client.channel.publish(&message("", "q", "x", &persistent())).unwrap();
        assert!(!published.refused, "{cell:?}: there is room again");
        client.channel.flush().unwrap();
        assert_eq!(client.ready("q"), 1, "{cell:?}");
        client.channel.delete_queue(b"q", false, false).unwrap();
        if cell.way == Way::Policy {
            let administer = rig.broker.administer();
            administer.delete_policy(&name("/"), PolicyKind::User, &name("p")).unwrap();
        }
    }
}
