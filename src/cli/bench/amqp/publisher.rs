//! One who publishes: a thread and a connection.
//!
//! What it does is a loop: publish what may be published now, send, take the confirms that have come. It waits only when it may
//! publish nothing: its window is full, the server reads nothing, or the next message is not due yet.

use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use rustix::thread::set_current_timer_slack;

use super::super::report::Latencies;
use super::super::schedule::Schedule;
use super::scenario::Limit;
use super::shared::{GLANCE, Shared};
use super::stamp::{Filler, LENGTH, Publisher, Route, Stamp};
use super::window::{NotOpen, Window};
use crate::amqp::codec::{
    FRAME_END, FRAME_OVERHEAD, FrameKind, Method, put_body_frame_header, put_content_header,
    put_method,
};
use crate::cli::client::{AmqpUri, CHANNEL, ClientError, Connection};
use crate::message::{Properties, RawProperties};

/// So many bytes are collected before they are sent.
const BURST: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Publishing<'a> {
    shared: &'a Shared<'a>,
    connection: Connection,
    letters: Letters,
    publisher: Publisher,
    window: Window,
    pace: Pace<'a>,
    /// How many it may still publish.
    left: u64,
    /// When it has to stop.
    deadline: Option<Instant>,
    /// Which route is next.
    turn: usize,
    done: Published,
}

/// What one publisher has done.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) publisher: Publisher,
    /// How many by each route; their numbers count up from zero.
    pub(super) by_route: Vec<u64>,
    pub(super) published: u64,
    pub(super) confirmed: u64,
    /// By `basic.nack`.
    pub(super) refused: u64,
    pub(super) last_sent: Instant,
    /// Without confirms: when the server had read everything.
    pub(super) last_confirmed: Instant,
    pub(super) confirms: Latencies,
    /// With a rate: how long after they were due messages were handed over.
    pub(super) late: Latencies,
    /// How often the server has said that it takes nothing more for now.
    pub(super) blocked: u64,
}

/// When the next message may be published.
#[derive(Debug)]
enum Pace<'a> {
    /// At once.
    Free,
    /// When it is due.
    Scheduled { schedule: &'a Schedule, next: Instant },
}

/// Messages as bytes, as far as they are the same each time.
#[derive(Debug)]
struct Letters {
    /// `basic.publish` for each route.
    methods: Vec<BytesMut>,
    header: BytesMut,
    filler: Filler,
    size: usize,
    /// The most that a body frame may hold.
    part: usize,
}

impl<'a> Publishing<'a> {
    /// Connects, and waits for nothing but to begin.
    pub(super) fn open(
        shared: &'a Shared<'a>,
        uri: &AmqpUri,
        publisher: Publisher,
    ) -> Result<Publishing<'a>, ClientError> {
        let name = format!("haypile bench publisher {}", publisher.0);
        let mut connection = Connection::open(uri, &name)?;
        if shared.scenario.window > 0 {
            connection.call(&Method::ConfirmSelect { nowait: false }, "confirm.select-ok")?;
        }
        let letters = Letters::new(shared, publisher, connection.frame_max());
        let routes = letters.methods.len();
        let publishers = u64::from(shared.scenario.publishers);
        let left = match shared.scenario.limit {
            Limit::After(_) => u64::MAX,
            Limit::Messages(count) => {
                let rest = count % publishers;
                count / publishers + u64::from(u64::from(publisher.0) < rest)
            }
        };
        let done = Published {
            publisher,
            by_route: vec![0; routes],
            published: 0,
            confirmed: 0,
            refused: 0,
            last_sent: shared.epoch,
            last_confirmed: shared.epoch,
            confirms: Latencies::default(),
            late: Latencies::default(),
            blocked: 0,
        };
        Ok(Publishing {
            shared,
            connection,
            letters,
            publisher,
            window: Window::new(),
            pace: Pace::Free,
            left,
            deadline: None,
            // Publishers begin with different queues.
            turn: publisher.0 as usize % routes,
            done,
        })
    }

    /// Publishes until the limit is reached, and takes the confirms of all of it.
    pub(super) fn run(
        mut self,
        begin: Instant,
        schedule: Option<&'a Schedule>,
    ) -> Result<Published, ClientError> {
        if let Limit::After(time) = self.shared.scenario.limit {
            self.deadline = begin.checked_add(time);
        }
        if let Some(schedule) = schedule {
            wake_up_on_time();
            self.pace = Pace::Scheduled { schedule, next: schedule.next() };
        }
        loop {
            let now = Instant::now();
            let may_publish = !self.has_ended(now) && self.fill(now);
            self.connection.write_some()?;
            if self.is_settled(now) {
                break;
            }
            if !may_publish || self.connection.unsent() > 0 {
                self.connection.wait(self.wake_up(now))?;
            }
            if self.connection.read_some()? > 0 {
                self.take()?;
            }
        }
        if self.shared.scenario.window == 0 && !self.shared.is_over() {
            self.settle()?;
        }
        Ok(self.done)
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.left == 0
            || self.shared.is_over()
            || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether nothing is to be sent or to come any more.
    fn is_settled(&self, now: Instant) -> bool {
        let settled = self.window.open() == 0 && self.connection.unsent() == 0;
        self.shared.is_over() || (settled && self.has_ended(now))
    }

    fn window_is_full(&self) -> bool {
        match self.shared.scenario.window {
            0 => false,
            window => self.window.open() >= window as usize,
        }
    }

    /// Publishes what may be published now, a burst at most; whether more may be published at once.
    fn fill(&mut self, now: Instant) -> bool {
        let mut published = 0;
        let more = loop {
            if self.left == 0 || self.window_is_full() {
                break false;
            }
            if self.connection.unsent() >= BURST {
                break true;
            }
            let due = match &mut self.pace {
                Pace::Free => now,
                Pace::Scheduled { next, .. } if *next > now => break false,
                Pace::Scheduled { schedule, next } => {
                    self.done.late.record(now.saturating_duration_since(*next));
                    std::mem::replace(next, schedule.next())
                }
            };
            self.publish(due);
            published += 1;
        };
        if published > 0 {
            self.done.published += published;
            self.done.last_sent = Instant::now();
            self.shared.published.fetch_add(published, Ordering::Relaxed);
        }
        more
    }

    fn publish(&mut self, due: Instant) {
        let Some(number) = self.done.by_route.get_mut(self.turn) else { return };
        let stamp = Stamp {
            run: self.shared.run,
            publisher: self.publisher,
            route: Route(self.turn as u32),
            number: *number,
            due: due.saturating_duration_since(self.shared.epoch),
        };
        self.letters.put(self.connection.output(), self.turn, &stamp);
        *number += 1;
        self.left -= 1;
        self.turn += 1;
        if self.turn == self.letters.methods.len() {
            self.turn = 0;
        }
        if self.shared.scenario.window > 0 {
            self.window.push(due);
        }
    }

    /// When it has to look around again, if nothing comes.
    fn wake_up(&self, now: Instant) -> Instant {
        let glance = now + GLANCE;
        let deadline = self.deadline.filter(|deadline| *deadline > now).unwrap_or(glance);
        match self.pace {
            Pace::Scheduled { next, .. } if !self.window_is_full() && self.left > 0 => {
                let next = if next > now { next } else { glance };
                next.min(glance).min(deadline)
            }
            _ => glance.min(deadline),
        }
    }

    /// Takes what has come.
    fn take(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        let (window, done) = (&mut self.window, &mut self.done);
        let before = done.confirmed;
        while let Some(frame) = self.connection.next_frame()? {
            if frame.kind != FrameKind::Method {
                continue;
            }
            let method = Method::decode(frame.payload)?;
            let outcome = match method {
                Method::BasicAck { delivery_tag, multiple } => {
                    let confirms = &mut done.confirms;
                    window
                        .confirm(delivery_tag, multiple, |due, count| {
                            confirms.record_many(now.saturating_duration_since(due), count);
                        })
                        .map(|count| done.confirmed += count)
                }
                Method::BasicNack { delivery_tag, multiple, .. } => window
                    .confirm(delivery_tag, multiple, |_, _| {})
                    .map(|count| done.refused += count),
                Method::ConnectionBlocked { .. } => {
                    done.blocked += 1;
                    Ok(())
                }
                Method::ConnectionUnblocked {} => Ok(()),
                _ => return Err(ClientError::unexpected("basic.publish", &method)),
            };
            outcome.map_err(|NotOpen| ClientError::Answer {
                request: "basic.publish",
                answer: format!("{method:?}, which confirms what is not waiting for it"),
            })?;
        }
        if done.confirmed > before {
            done.last_confirmed = now;
            self.shared.confirmed.fetch_add(done.confirmed - before, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Without confirms: waits until the server has read everything.
    fn settle(&mut self) -> Result<(), ClientError> {
        let close =
            Method::ChannelClose { reply_code: 200, reply_text: b"", class_id: 0, method_id: 0 };
        self.connection.call(&close, "channel.close-ok")?;
        self.done.last_confirmed = Instant::now();
        Ok(())
    }
}

/// Has the kernel wake this thread when it is time, and not up to 50 µs later: that would be in every time that counts from when
/// a message was due.
fn wake_up_on_time() {
    if let Err(error) = set_current_timer_slack(NonZeroU64::new(1)) {
        tracing::debug!("messages may be handed over some microseconds late: {error}");
    }
}

impl Published {
    /// How many the server has said that it has, or was given if it says nothing.
    pub(super) fn accepted(&self, window: u32) -> u64 {
        if window > 0 { self.confirmed } else { self.published }
    }
}

impl Letters {
    fn new(shared: &Shared<'_>, publisher: Publisher, frame_max: u32) -> Letters {
        let topology = shared.topology;
        let exchange = topology.exchange_name();
        let methods = topology.routes().map(|route| {
            let key = topology.routing_key(route);
            let publish = Method::BasicPublish {
                reserved_1: 0,
                exchange: exchange.as_bytes(),
                routing_key: key.as_bytes(),
                mandatory: false,
                immediate: false,
            };
            let mut frame = BytesMut::new();
            put_method(&mut frame, CHANNEL, &publish);
            frame
        });
        let mode = if shared.scenario.transient { 1 } else { 2 };
        let properties = Properties { delivery_mode: Some(mode), ..Properties::default() };
        let properties = properties.to_bytes();
        let properties = RawProperties::parse(&properties).unwrap_or(RawProperties::NONE);
        let size = shared.scenario.size;
        let mut header = BytesMut::new();
        put_content_header(&mut header, CHANNEL, u64::from(size), properties);
        let seed = u64::from(shared.run.0) << 32 | u64::from(publisher.0);
        Letters {
            methods: methods.collect(),
            header,
            filler: Filler::new(seed, size as usize),
            size: size as usize,
            part: frame_max as usize - FRAME_OVERHEAD,
        }
    }

    /// Appends a whole message.
    fn put(&self, out: &mut BytesMut, route: usize, stamp: &Stamp) {
        out.put_slice(self.methods.get(route).map_or(&[], |method| method));
        out.put_slice(&self.header);
        if self.size < LENGTH {
            if self.size > 0 {
                self.put_part(out, &[], self.filler.short(self.size));
            }
            return;
        }
        let filler = self.filler.bytes(stamp.number);
        let (first, rest) = filler.split_at(filler.len().min(self.part - LENGTH));
        self.put_part(out, &stamp.bytes(&self.filler), first);
        for part in rest.chunks(self.part) {
            self.put_part(out, &[], part);
        }
    }

    fn put_part(&self, out: &mut BytesMut, front: &[u8], back: &[u8]) {
        out.reserve(front.len() + back.len() + FRAME_OVERHEAD);
        put_body_frame_header(out, CHANNEL, (front.len() + back.len()) as u32);
        out.put_slice(front);
        out.put_slice(back);
        out.put_u8(FRAME_END);
    }
}
