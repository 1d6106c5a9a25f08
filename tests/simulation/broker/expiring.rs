//! Messages whose time is over, and their letters: the power cut at every change of the disk while a clock goes on that the test sets.
//!
//! What a message is to be after a power cut follows from the clock alone, so this has an oracle of its own: a confirmed message is in its queue
//! until its time is over, and then with the dead letters, always in exactly one of the two. Where a queue has no dead-letter exchange,
//! it is gone then, and not before. More messages than the carrier moves at once die at the same time, and more than fit into a segment.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use haypile::broker::{Broker, Channel, ChannelNumber, Consume, DeclareQueue, Event, Session};
use haypile::message::{Envelope, FieldTable, Properties, RawProperties, Value};
use haypile::simulation::{Fate, Image, Random, SimulatedDisk, Verdict};
use haypile::storage::{Clock, Message, Options, Timestamp};
use parking_lot::Mutex;

use super::clients::short;
use super::cuts::{DIR, options};
use super::model::Name;
use super::observe::start;
use super::random::seeds;

/// A queue whose messages live for [`LIFE`], one that loses them then, and one whose messages say it themselves.
const MORTAL: [Name; 3] = ["q-brief", "q-lost", "q-own"];

/// Where those of the first and the last go.
const GRAVE: Name = "q-grave";

/// How long messages live by their queue's `x-message-ttl`, in milliseconds.
const LIFE: u64 = 100;

/// Long enough for every message. A session takes less than a second, which is all that its letters tell of the time.
const FOR_ALL: u64 = 10_000;

/// More than the carrier moves at once, and larger ones that fill more than a segment together.
const MANY: usize = 300;
const LARGE: usize = 5;

/// Sessions in a test run.
const SEEDS: u64 = 4;

/// Stands still until it is set.
#[derive(Debug, Default)]
struct Hands(Mutex<u64>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(*self.0.lock())
    }
}

fn has_letters(queue: Name) -> bool {
    queue != "q-lost"
}

/// What was published: which queue it went to, and when its time is over.
struct Mortal {
    queue: Name,
    dies_at: u64,
    body: Bytes,
}

/// How far a session is: what time it is, and how many of its messages were published and are confirmed.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    time: u64,
    published: usize,
    confirmed: usize,
}

struct Moment {
    image: Image,
    known: Known,
}

fn broker_at(disk: &SimulatedDisk, time: u64) -> (Broker, Arc<Hands>) {
    let hands = Arc::new(Hands(Mutex::new(time)));
    let broker = start(DIR, Options { clock: hands.clone(), ..options(disk, 1) }).unwrap();
    (broker, hands)
}

/// A publisher, and the broker that does what is due when time goes by.
struct Stage {
    // Goes before the session, as a connection's channels do.
    channel: Channel,
    _session: Session,
    broker: Broker,
    hands: Arc<Hands>,
    known: Arc<Mutex<Known>>,
    mortals: Vec<Mortal>,
}

impl Stage {
    fn new(disk: &SimulatedDisk) -> Stage {
        let (broker, hands) = broker_at(disk, 0);
        let session = broker.connect(b"/", b"guest").unwrap();
        let mut channel = session.open_channel(ChannelNumber(1));
        channel.confirm_select().unwrap();
        for name in MORTAL.into_iter().chain([GRAVE]) {
            let life = (short("x-message-ttl"), Value::I32(LIFE as i32));
            let letters = [
                (short("x-dead-letter-exchange"), Value::text("")),
                (short("x-dead-letter-routing-key"), Value::text(GRAVE)),
            ];
            let life = Some(life).filter(|_| matches!(name, "q-brief" | "q-lost"));
            let letters = letters.into_iter().filter(|_| name != GRAVE && has_letters(name));
            let request = DeclareQueue {
                name: short(name),
                passive: false,
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: life.into_iter().chain(letters).collect(),
            };
            let declared = channel.declare_queue(&request).unwrap();
            if let Some(lsn) = declared.durable_at {
                broker.store().wait_durable(lsn).unwrap();
            }
        }
        let (known, mortals) = (Arc::default(), Vec::new());
        Stage { channel, _session: session, broker, hands, known, mortals }
    }

    /// Publishes a message of so many bytes at least, which lives so long.
    fn publish(&mut self, queue: Name, life: Option<u64>, size: usize) {
        let number = self.mortals.len();
        let mut body = format!("{number}:").into_bytes();
        body.extend((body.len()..size).map(|at| (at * 7 + number) as u8));
        let body = Bytes::from(body);
        let properties = Properties {
            delivery_mode: Some(2),
            expiration: life.map(|life| short(&life.to_string())),
            ..Properties::default()
        };
        let properties = properties.to_bytes();
        let envelope = Envelope {
            exchange: b"",
            routing_key: queue.as_bytes(),
            properties: RawProperties::parse(&properties).expect("they were just made"),
            published_at: None,
        };
        let of_queue = (queue != "q-own").then_some(LIFE);
        let lives = of_queue.into_iter().chain(life).min().expect("all of these die");
        let mut known = self.known.lock();
        self.mortals.push(Mortal { queue, dies_at: known.time + lives, body: body.clone() });
        known.published += 1;
        drop(known);
        self.channel.publish(&Message::new(envelope.to_bytes(), body)).unwrap();
    }

    /// As a front end does behind what it has read: hands out, and waits for the confirms.
    fn await_confirms(&mut self) {
        self.channel.hand_out();
        while let Some(lsn) = self.channel.awaited_lsn() {
            self.broker.store().wait_durable(lsn).unwrap();
            if let Some(confirm) = self.channel.confirms(self.broker.store().durable_lsn()) {
                self.known.lock().confirmed = confirm.tag.0 as usize;
            }
        }
    }

    /// Time goes by, and the broker does what is due.
    fn pass(&mut self, milliseconds: u64) {
        self.known.lock().time += milliseconds;
        *self.hands.0.lock() += milliseconds;
        while self.broker.work_off() {}
    }
}

fn session(stage: &mut Stage, random: &Random, many: usize) {
    for round in 0..12 {
        for _ in 0..=random.below(4) {
            let queue = MORTAL[random.below(3) as usize];
            let own = queue == "q-own" || random.one_in(4);
            let life = own.then(|| random.below(150));
            let size = [0, 0, 700, 5000][random.below(4) as usize];
            stage.publish(queue, life, size);
        }
        if random.one_in(3) {
            stage.channel.hand_out();
        } else {
            stage.await_confirms();
        }
        stage.pass(random.below(60));
        if round == 6 {
            stage.broker.store().checkpoint().unwrap();
        }
    }
    (0..LARGE).for_each(|_| stage.publish("q-brief", None, 5000));
    (0..many).for_each(|_| stage.publish("q-brief", None, 0));
    stage.await_confirms();
    stage.pass(LIFE);
    stage.pass(1);
}

/// Has the power cut at every change of the disk while something is done.
fn watch(disk: &SimulatedDisk, known: &Arc<Mutex<Known>>) -> Arc<Mutex<Vec<Moment>>> {
    let moments = Arc::new(Mutex::new(Vec::new()));
    let (sink, now) = (moments.clone(), known.clone());
    disk.direct(move |operation, image| {
        if operation.is_change() {
            sink.lock().push(Moment { image: image.clone(), known: *now.lock() });
        }
        Verdict::Proceed
    });
    moments
}

/// All messages that a broker has which was started at that time, and the queue that each comes from.
fn look(disk: &SimulatedDisk, time: u64) -> Vec<(Name, Message)> {
    let (broker, _) = broker_at(disk, time);
    while broker.work_off() {}
    let session = broker.connect(b"/", b"guest").unwrap();
    let mut channel = session.open_channel(ChannelNumber(1));
    let names = MORTAL.into_iter().chain([GRAVE]);
    for name in names.clone() {
        let request = Consume {
            queue: short(name),
            consumer_tag: short(name),
            no_ack: true,
            exclusive: true,
            arguments: FieldTable::new(),
        };
        channel.consume(&request).unwrap();
    }
    let (mut events, mut found) = (Vec::new(), Vec::new());
    loop {
        let any = broker.work_off();
        session.take_events(&mut events, usize::MAX);
        if events.is_empty() && !any {
            break;
        }
        for event in events.drain(..) {
            let Event::Delivery { delivery, .. } = event else { panic!("{event:?}") };
            let from = names.clone().find(|name| name.as_bytes() == delivery.queue().as_bytes());
            found.push((from.unwrap(), delivery.message().clone()));
            channel.accept(delivery);
        }
        channel.flush().unwrap();
    }
    assert_eq!(broker.store().set_aside(), 0);
    found
}

/// The number of the message that this is, once it has been compared.
fn number_of(message: &Message, mortals: &[Mortal]) -> Result<usize, String> {
    let body = message.body();
    let digits = body.split(|byte| *byte == b':').next().unwrap_or_default();
    let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<usize>().ok());
    let number = number.filter(|number| mortals.get(*number).is_some_and(|m| m.body == body));
    number.ok_or_else(|| "a message is not what was published".to_owned())
}

/// A letter says why and where its message has died, and does not die once more.
fn is_letter(message: &Message, queue: Name) -> bool {
    let envelope = Envelope::parse(message.header()).unwrap();
    let properties = envelope.properties.to_properties();
    let headers = properties.headers.unwrap_or_default();
    let Some(Value::Array(deaths)) = headers.get(b"x-death") else { return false };
    let [Value::Table(death)] = &deaths[..] else { return false };
    let says = |name: &str, value| death.get(name.as_bytes()) == Some(&Value::text(value));
    properties.expiration.is_none() && says("reason", "expired") && says("queue", queue)
}

/// Whether this is what there may be, at that time, of a session that was cut off there.
fn judge(
    found: &[(Name, Message)],
    mortals: &[Mortal],
    known: Known,
    time: u64,
) -> Result<(), String> {
    let (mut times, mut last) = (vec![0; mortals.len()], [None; MORTAL.len()]);
    for (from, message) in found {
        let number = number_of(message, mortals)?;
        let Mortal { queue, dies_at, .. } = &mortals[number];
        times[number] += 1;
        let is_dead = *from == GRAVE;
        if is_dead && !(has_letters(queue) && is_letter(message, queue)) {
            return Err(format!("message {number} of {queue} is no letter"));
        }
        if !is_dead && from != queue {
            return Err(format!("message {number} of {queue} is in {from}"));
        }
        if is_dead != (*dies_at <= time) {
            return Err(format!("message {number} of {queue} is in {from} at {time}: {dies_at}"));
        }
        let before = MORTAL.iter().zip(&mut last).find(|(name, _)| !is_dead && *name == queue);
        if let Some((_, last)) = before
            && last.replace(number).is_some_and(|last| last > number)
        {
            return Err(format!("message {number} of {queue} is out of order"));
        }
    }
    for (number, (times, Mortal { queue, dies_at, .. })) in times.iter().zip(mortals).enumerate() {
        let may_be_gone = number >= known.confirmed || !has_letters(queue) && *dies_at <= time;
        let most = usize::from(number < known.published);
        if *times > most || *times == 0 && !may_be_gone {
            return Err(format!("message {number} of {queue} is there {times} times"));
        }
    }
    Ok(())
}

/// What is left of a moment at once, and when all messages have died; and the power goes off again while they do.
fn try_moment(
    Moment { image, known }: &Moment,
    mortals: &[Mortal],
    again: bool,
) -> Result<usize, String> {
    let at = |image: &Image, time| {
        let found = look(&SimulatedDisk::of(image.clone()), time);
        judge(&found, mortals, *known, time)
    };
    at(image, known.time)?;
    at(image, known.time + FOR_ALL)?;
    if !again {
        return Ok(2);
    }
    let disk = SimulatedDisk::of(image.clone());
    let moments = watch(&disk, &Arc::new(Mutex::new(*known)));
    let (broker, _) = broker_at(&disk, known.time + FOR_ALL);
    while broker.work_off() {}
    disk.undirect();
    let mut seen = HashSet::new();
    for Moment { image, .. } in std::mem::take(&mut *moments.lock()) {
        for fate in [Fate::Dropped, Fate::Kept] {
            let after = image.after_power_cut(|_, _| fate);
            if seen.insert(after.digest()) {
                at(&after, known.time + FOR_ALL)?;
            }
        }
    }
    Ok(2 + seen.len())
}

/// A session of a seed, cut off everywhere; so many power cuts are tried a second time.
fn cut_everywhere(seed: u64, again: u64) -> Result<(usize, usize), String> {
    let disk = SimulatedDisk::new();
    let mut stage = Stage::new(&disk);
    let moments = watch(&disk, &stage.known);
    let random = Random::new(seed);
    // Which takes its time: once is enough.
    session(&mut stage, &random, if seed == 1 { MANY } else { 0 });
    disk.undirect();
    let (mortals, known) = (std::mem::take(&mut stage.mortals), *stage.known.lock());
    let mut moments = std::mem::take(&mut *moments.lock());
    moments.push(Moment { image: disk.image(), known });
    let (mut states, mut seen) = (0, HashSet::new());
    for (number, Moment { image, known }) in moments.iter().enumerate() {
        for way in 0..4 {
            let image = image.after_power_cut(|_, _| match way {
                0 => Fate::Dropped,
                1 => Fate::Kept,
                _ if random.one_in(2) => Fate::Kept,
                _ => Fate::Dropped,
            });
            if seen.insert((image.digest(), known.confirmed, known.time)) {
                let again = random.one_in(again);
                states += try_moment(&Moment { image, known: *known }, &mortals, again)
                    .map_err(|wrong| format!("seed {seed}, moment {number}, {known:?}: {wrong}"))?;
            }
        }
    }
    Ok((moments.len(), states))
}

#[test]
fn a_message_whose_time_is_over_is_in_one_of_its_two_places_after_any_power_cut() {
    let (seeds, mut moments, mut states) = (seeds(SEEDS), 0, 0);
    for seed in 1..=seeds {
        let (more_moments, more_states) = cut_everywhere(seed, 20).unwrap();
        (moments, states) = (moments + more_moments, states + more_states);
    }
    eprintln!("{seeds} sessions with messages that expire: {states} states of {moments} moments");
}

#[test]
fn a_message_that_is_lost_doubled_or_gone_too_early_or_too_late_is_found_out() {
    let disk = SimulatedDisk::new();
    let mut stage = Stage::new(&disk);
    for queue in MORTAL {
        stage.publish(queue, Some(50), 0);
        stage.publish(queue, Some(80), 0);
    }
    stage.await_confirms();
    stage.pass(60);
    let (mortals, known) = (std::mem::take(&mut stage.mortals), *stage.known.lock());
    let found = look(&SimulatedDisk::of(disk.image()), known.time);
    judge(&found, &mortals, known, known.time).unwrap();
    assert_eq!(found.len(), 5, "only the queue without letters has lost one");
    for at in 0..found.len() {
        let mut lost = found.clone();
        let (queue, _) = lost.remove(at);
        let wrong = judge(&lost, &mortals, known, known.time).unwrap_err();
        assert!(wrong.ends_with("is there 0 times"), "{queue}: {wrong}");
        let mut doubled = found.clone();
        doubled.insert(at, found[at].clone());
        let wrong = judge(&doubled, &mortals, known, known.time).unwrap_err();
        assert!(wrong.ends_with("is there 2 times"), "{queue}: {wrong}");
    }
    judge(&found, &mortals, known, 49).expect_err("some of them are gone too early");
    judge(&found, &mortals, known, 80).expect_err("some of them are still there");
    // A letter that says nothing of what has happened to it.
    let mut mute = found;
    let place = mute.iter().position(|(name, _)| *name == GRAVE).unwrap();
    let alive = mute.iter().find(|(name, _)| *name != GRAVE).unwrap();
    mute[place].1 = Message::new(alive.1.header(), mute[place].1.body());
    let wrong = judge(&mute, &mortals, known, known.time).unwrap_err();
    assert!(wrong.ends_with("is no letter"), "{wrong}");
}
