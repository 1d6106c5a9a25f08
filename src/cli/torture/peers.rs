//! The publishers and consumers of a broker, a thread and a connection each.
//!
//! The oracle is told of a deed before it is done, and of what it came to after it is known. All of them go on until the
//! server is gone; what had reached their sockets by then counts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::client::{Client, DeliveryTag, Event, Route};
use super::defect::DefectKind;
use super::oracle::{Consumer, Found, Oracle, Sent};
use super::plan::Plan;
use super::stamp::{Identity, Publisher, QueueNumber};
use crate::cli::client::{ClientError, consuming, prefetching};

/// The exchange that leads to all queues.
pub(super) const EVERYWHERE: &str = "torture.everywhere";

/// The exchange that leads to a queue and the one behind it.
pub(super) const PAIRS: &str = "torture.pairs";

/// A publisher has so much on the way at most.
const WINDOW: usize = 500;
const WINDOW_BYTES: u64 = 8 << 20;

/// A publisher sends so many before it looks at what has come.
const BURST: usize = 32;

/// A consumer holds so many unacknowledged messages at most.
const PREFETCH: u16 = 300;

/// A consumer asks after so many deliveries what of its doings is durable.
const FENCED: usize = 50;

/// How long one waits for something to come before it looks around.
const GLANCE: Duration = Duration::from_millis(20);

/// How long a server may leave everything unconfirmed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the clients of one life of the server share.
pub(super) struct Peers<'a> {
    pub(super) address: SocketAddr,
    pub(super) plan: &'a Plan,
    pub(super) oracle: &'a Mutex<Oracle>,
    /// The server is being ended.
    pub(super) over: &'a AtomicBool,
    /// Messages and bytes that may still be published.
    pub(super) messages: AtomicI64,
    pub(super) bytes: AtomicI64,
    /// Consumers publish too, to learn what is durable.
    pub(super) fences: bool,
}

impl Peers<'_> {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Takes a message off what may be published, if there is that much left.
    fn may_publish(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > 0
            && self.messages.fetch_sub(1, Ordering::Relaxed) > 0
            && !self.is_over()
    }

    /// The end of a connection is in order when the server is being ended. What else ended it is complained of.
    fn complaint(&self, who: &str, outcome: Result<(), ClientError>) -> Option<String> {
        outcome.err().filter(|_| !self.is_over()).map(|error| format!("{who}: {error}"))
    }

    fn note(&self, event: &Event) {
        match event {
            Event::Confirmed(confirmed) => {
                let mut oracle = self.oracle.lock();
                confirmed.iter().for_each(|identity| oracle.confirmed(*identity));
            }
            Event::Returned(label) => self.oracle.lock().defect(
                DefectKind::Misbehaved,
                format!("{label} came back, as if a binding or queue was lost"),
            ),
            Event::Delivered(..) => {}
        }
    }

    /// Takes note of what had come before the server was gone.
    fn drain(&self, client: &mut Client) {
        let until = Instant::now() + PATIENCE;
        while let Ok(event) = client.event(GLANCE) {
            match event {
                Some(event) => self.note(&event),
                None if Instant::now() > until => return,
                None => {}
            }
        }
    }
}

/// Where a message is published so that it gets to its queues.
pub(super) fn route(plan: &Plan, sent: Sent) -> Route {
    let queues = sent.stamp.queues;
    let first = queues.iter().next().unwrap_or(QueueNumber(0));
    match queues.iter().count() {
        1 => Route { exchange: "", key: first.to_string() },
        count if count == usize::from(plan.queues) => {
            Route { exchange: EVERYWHERE, key: String::new() }
        }
        // The pair of the last queue is the last and the first.
        _ if plan.behind(first) != first && queues.holds(plan.behind(first)) => {
            Route { exchange: PAIRS, key: first.to_string() }
        }
        _ => {
            let last = queues.iter().last().unwrap_or(first);
            Route { exchange: PAIRS, key: last.to_string() }
        }
    }
}

/// Publishes as fast as confirms come, until the server is gone.
pub(super) fn publish(peers: &Peers<'_>, publisher: Publisher, next: &AtomicU64) -> Option<String> {
    let who = format!("publisher {}", publisher.0);
    let mut client = match Client::connect(peers.address) {
        Ok(client) => client,
        Err(error) => return peers.complaint(&who, Err(error)),
    };
    let outcome = keep_publishing(peers, &mut client, publisher, next);
    let complaint = peers.complaint(&who, outcome);
    peers.drain(&mut client);
    complaint
}

fn keep_publishing(
    peers: &Peers<'_>,
    client: &mut Client,
    publisher: Publisher,
    next: &AtomicU64,
) -> Result<(), ClientError> {
    let mut heard = Instant::now();
    while !peers.is_over() {
        for _ in 0..BURST {
            let (messages, bytes) = client.unconfirmed();
            if messages >= WINDOW || bytes >= WINDOW_BYTES || !peers.may_publish() {
                break;
            }
            let number = next.fetch_add(1, Ordering::Relaxed);
            let sent = peers.plan.message(Identity { publisher, number });
            let length = i64::from(sent.stamp.length);
            peers.bytes.fetch_sub(length, Ordering::Relaxed);
            peers.oracle.lock().published(sent);
            client.publish(&route(peers.plan, sent), sent);
        }
        client.flush()?;
        let (messages, bytes) = client.unconfirmed();
        let is_full = messages >= WINDOW || bytes >= WINDOW_BYTES;
        if messages == 0 {
            heard = Instant::now();
            thread::sleep(GLANCE); // Enough was published in this round.
        }
        let within = if is_full { GLANCE } else { Duration::ZERO };
        while let Some(event) = client.event(within)? {
            peers.note(&event);
            heard = Instant::now();
            if is_full {
                break;
            }
        }
        // With a full disk, nothing is confirmed for as long as it is.
        if heard.elapsed() > PATIENCE && peers.fences {
            return Err(ClientError::Silent(PATIENCE));
        }
    }
    Ok(())
}

/// A consumer's state.
struct Taking<'a> {
    peers: &'a Peers<'a>,
    client: Client,
    consumer: Consumer,
    queue: QueueNumber,
    next: &'a AtomicU64,
    random: fastrand::Rng,
    /// Neither acknowledged nor given back, in order.
    held: Vec<(DeliveryTag, Identity)>,
    /// Since the last fence.
    acknowledged: Vec<Identity>,
    handed_out: Vec<Identity>,
    /// What is durable when a fence is confirmed.
    fences: HashMap<Identity, (Vec<Identity>, Vec<Identity>)>,
}

/// Consumes, acknowledges a part, gives some back, until the server is gone.
pub(super) fn consume(
    peers: &Peers<'_>,
    consumer: Consumer,
    next: &AtomicU64,
    random: fastrand::Rng,
) -> Option<String> {
    let who = format!("consumer {}", consumer.0);
    let client = match Client::connect(peers.address) {
        Ok(client) => client,
        Err(error) => return peers.complaint(&who, Err(error)),
    };
    let mut taking = Taking {
        peers,
        client,
        consumer,
        queue: peers.plan.consumed_by(consumer),
        next,
        random,
        held: Vec::new(),
        acknowledged: Vec::new(),
        handed_out: Vec::new(),
        fences: HashMap::new(),
    };
    let outcome = taking.go_on();
    peers.complaint(&who, outcome)
}

/// Begins to consume; everything that comes has to be acknowledged.
pub(super) fn begin_consuming(
    client: &mut Client,
    queue: QueueNumber,
    prefetch_count: u16,
) -> Result<(), ClientError> {
    client.call(&prefetching(prefetch_count), "basic.qos-ok")?;
    client.call(&consuming(&queue.to_string(), "torture", false), "basic.consume-ok")
}

impl Taking<'_> {
    fn go_on(&mut self) -> Result<(), ClientError> {
        begin_consuming(&mut self.client, self.queue, PREFETCH)?;
        while !self.peers.is_over() {
            match self.client.event(GLANCE)? {
                Some(Event::Delivered(tag, found)) => self.take(tag, &found),
                Some(event) => self.confirmed(&event),
                // Nothing new comes to one who holds all that he may.
                None => self.acknowledge_all(),
            }
            if self.held.len() >= usize::from(PREFETCH) - 20 {
                self.acknowledge_all();
            }
            if self.handed_out.len() >= FENCED && self.peers.fences {
                self.fence();
            }
            self.client.flush()?;
        }
        Ok(())
    }

    fn take(&mut self, tag: DeliveryTag, found: &Found) {
        let known = self.peers.oracle.lock().handed_out(self.consumer, self.queue, found);
        // One that is not known is acknowledged all the same: it has been complained of.
        let Some(identity) = known else { return self.client.acknowledge(tag, false) };
        self.held.push((tag, identity));
        self.handed_out.push(identity);
        match self.random.u16(0..1000) {
            0..4 => self.acknowledge_all(),
            4..500 => {
                let at = self.random.usize(0..self.held.len());
                let (tag, identity) = self.held.remove(at);
                self.acknowledge(identity);
                self.client.acknowledge(tag, false);
            }
            500..515 => {
                let at = self.random.usize(0..self.held.len());
                let (tag, _) = self.held.remove(at);
                self.client.requeue(tag);
            }
            _ => {}
        }
    }

    fn acknowledge(&mut self, identity: Identity) {
        self.peers.oracle.lock().acknowledged(self.queue, identity);
        self.acknowledged.push(identity);
    }

    fn acknowledge_all(&mut self) {
        let Some((newest, _)) = self.held.last().copied() else { return };
        for (_, identity) in std::mem::take(&mut self.held) {
            self.acknowledge(identity);
        }
        self.client.acknowledge(newest, true);
    }

    /// Publishes a message: when it is confirmed, all that went before is durable.
    fn fence(&mut self) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let publisher = Plan::fencer(self.consumer);
        let sent = self.peers.plan.message(Identity { publisher, number });
        self.peers.oracle.lock().published(sent);
        let before = (std::mem::take(&mut self.acknowledged), std::mem::take(&mut self.handed_out));
        self.fences.insert(sent.stamp.identity, before);
        self.client.publish(&route(self.peers.plan, sent), sent);
    }

    fn confirmed(&mut self, event: &Event) {
        self.peers.note(event);
        let Event::Confirmed(fences) = event else { return };
        for fence in fences {
            if let Some((acknowledged, handed_out)) = self.fences.remove(fence) {
                let mut oracle = self.peers.oracle.lock();
                oracle.settled(self.queue, &acknowledged, &handed_out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_routed_to_just_its_queues() {
        for queues in [1, 2, 3, 5] {
            let plan = Plan { seed: 1, queues, publishers: 1, consumers: 1, largest: 100 };
            for number in 0..200 {
                let sent = plan.message(Identity { publisher: Publisher(0), number });
                let Route { exchange, key } = route(&plan, sent);
                let reached: Vec<QueueNumber> = (0..queues)
                    .map(QueueNumber)
                    .filter(|queue| match exchange {
                        EVERYWHERE => true,
                        PAIRS => (0..queues).map(QueueNumber).any(|pair| {
                            pair.to_string() == key
                                && (*queue == pair || *queue == plan.behind(pair))
                        }),
                        _ => queue.to_string() == key,
                    })
                    .collect();
                assert_eq!(reached, sent.stamp.queues.iter().collect::<Vec<_>>(), "{sent:?}");
            }
        }
    }
}
