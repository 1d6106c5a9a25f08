//! Sessions of a seed: several publishers and consumers interleaved, over several lives of a broker.

use std::collections::BTreeMap;

use haypile::simulation::{Image, Random, SimulatedDisk};

use super::clients::{At, Clients, Publish};
use super::cuts::{Count, Stage, options};
use super::model::{
    ALTERNATES, Binding, COPY, Effect, Exchange, Kind, Name, QueueSpec, Wanted, World, grave_of,
    limit_of,
};
use super::recorded::{DURABLE, binding, exchange};

/// Sessions in a default run, and how often a life is ended by a power cut in each.
const SEEDS: u64 = 6;
const LIVES: u64 = 3;

/// What is done in one life.
const STEPS: u64 = 120;

/// The channel of each connection that has transactions.
const TRANSACTIONAL: usize = 2;

/// For more of them: a number of seeds.
const MORE: &str = "HAYPILE_BROKER_SEEDS";

/// How many sessions there are to be, if nobody wants more.
pub(super) fn seeds(default: u64) -> u64 {
    std::env::var(MORE).map_or(default, |text| text.parse().expect("a number of seeds"))
}

fn some<T: Clone>(random: &Random, all: &[T]) -> T {
    all[random.below(all.len() as u64) as usize].clone()
}

const QUEUES: [Name; 8] = super::cuts::QUEUES;
const EXCHANGES: [Name; 5] = super::cuts::EXCHANGES;
const KEYS: [&str; 4] = ["hay", "straw", "hay.dry", "hay.dry.bale"];

/// Mostly a queue that is there.
fn some_queue(random: &Random, clients: &Clients) -> Name {
    let known: Vec<Name> = clients.world().queues.keys().copied().collect();
    if known.is_empty() || random.one_in(10) { some(random, &QUEUES) } else { some(random, &known) }
}

fn queue_spec(random: &Random, name: Name) -> QueueSpec {
    let mode = some(random, &[None, None, Some("lazy"), Some("default")]);
    let spec = QueueSpec { grave: grave_of(name).filter(|_| !random.one_in(4)), ..DURABLE };
    match name {
        "q-auto" => QueueSpec { auto_delete: true, mode, ..spec },
        "q-volatile" => QueueSpec { durable: false, ..spec },
        "q-exclusive" => QueueSpec { exclusive: true, durable: random.one_in(2), ..spec },
        "q-short" => QueueSpec { max_length: limit_of(name), ..spec },
        "q-b" => QueueSpec { max_priority: 2, mode, ..spec },
        // Declared otherwise from time to time, which is refused while it is there.
        _ => QueueSpec { mode: mode.filter(|_| random.one_in(4)), ..spec },
    }
}

fn exchange_spec(random: &Random, name: Name) -> Exchange {
    let kind = match name {
        "ex-direct" => Kind::Direct,
        "ex-topic" => Kind::Topic,
        "ex-headers" => Kind::Headers,
        _ => Kind::Fanout,
    };
    Exchange {
        durable: !random.one_in(6),
        auto_delete: random.one_in(3),
        internal: name == "ex-inner" && random.one_in(2),
        alternate: some(random, &ALTERNATES),
        ..exchange(kind)
    }
}

fn some_binding(random: &Random) -> Binding {
    let predeclared = ["amq.direct", "amq.fanout", "amq.topic", "amq.headers"];
    let source =
        if random.one_in(4) { some(random, &predeclared) } else { some(random, &EXCHANGES) };
    let keys = if source.ends_with("topic") {
        &["hay.#", "*.dry", "#", "straw"][..]
    } else {
        &["hay", "straw", ""]
    };
    let wanted = source.ends_with("headers").then(|| Wanted {
        all: random.one_in(2),
        headers: some(random, &[vec![("crop", "hay")], vec![("crop", "hay"), ("state", "dry")]]),
    });
    let to_exchange = random.one_in(4);
    let destination = some(random, if to_exchange { &EXCHANGES[..] } else { &QUEUES[..] });
    Binding { to_exchange, wanted, ..binding(source, destination, some(random, keys)) }
}

/// Something that some client does.
fn step(random: &Random, clients: &mut Clients) {
    let connections = clients.connections();
    if connections.len() < 2 || connections.len() < 4 && random.one_in(30) {
        let client = clients.connect(3);
        clients.confirm_select(At(client, 0));
        clients.tx_select(At(client, TRANSACTIONAL));
        return;
    }
    let client = some(random, &connections);
    let at = At(client, random.below(2) as usize);
    match random.below(114) {
        0..2 => clients.disconnect(client),
        2..6 => {
            let name = some(random, &EXCHANGES);
            let answer = clients.declare_exchange(at, name, exchange_spec(random, name));
            believe(random, clients, answer);
        }
        6..12 => {
            let name = some(random, &QUEUES);
            let answer = clients.declare_queue(at, name, queue_spec(random, name));
            believe(random, clients, answer);
        }
        12..19 => {
            let binding = some_binding(random);
            if clients.may_bind(at, &binding) {
                let answer = clients.bind(at, &binding);
                believe(random, clients, answer);
            }
        }
        19..21 => {
            let binding = clients.world().bindings.iter().nth(random.below(4) as usize).cloned();
            let binding = binding.unwrap_or_else(|| some_binding(random));
            if clients.may_use(at, binding.destination) || binding.to_exchange {
                let answer = clients.unbind(at, &binding);
                believe(random, clients, answer);
            }
        }
        21..22 => {
            let answer = clients.delete_exchange(at, some(random, &EXCHANGES));
            believe(random, clients, answer);
        }
        22..24 => {
            let name = some(random, &QUEUES);
            if clients.may_use(at, name) || !clients.world().queues.contains_key(name) {
                let answer = clients.delete_queue(at, name);
                believe(random, clients, answer);
            }
        }
        24..26 => {
            let name = some(random, &QUEUES);
            if clients.may_use(at, name) {
                let answer = clients.purge(at, name);
                believe(random, clients, answer);
            }
        }
        26..50 => {
            let Publish { exchange, key, headers, persistent, size } =
                some_publish(random, clients);
            clients.publish(at, (exchange, key), headers, persistent, size);
        }
        50..55 => clients.await_confirms(At(client, 0)),
        55..58 => clients.take_confirms(At(client, 0)),
        58..66 => {
            let name = some_queue(random, clients);
            // What waits in an outbox does not count as ready there, and nobody here knows how much that is.
            if clients.may_use(at, name) && limit_of(name).is_none() {
                let tag = some(random, &["one", "two", "no-ack"]);
                clients.consume(at, name, tag, random.below(4) as u16);
            }
        }
        66..67 => clients.cancel(at, some(random, &["one", "two", "no-ack"])),
        67..77 => {
            clients.take(client);
        }
        77..82 => clients.flush(at),
        82..83 => clients.look_after(random.one_in(2)),
        83..86 => {
            let name = some_queue(random, clients);
            if clients.may_use(at, name) {
                clients.get(at, name);
            }
        }
        86..94 => transact(random, clients, At(client, TRANSACTIONAL)),
        94..99 => reject(random, clients, at),
        99..100 => {
            clients.work_off();
        }
        _ => {
            let held = clients.holds(at) as u64;
            if held > 0 {
                let nth = random.below(held) as usize;
                let multiple = random.one_in(3);
                if random.one_in(3) {
                    clients.requeue(at, nth, multiple);
                } else {
                    clients.acknowledge(at, nth, multiple, random.one_in(4));
                }
            }
        }
    }
}

/// Most clients wait for their answers; some are gone before.
fn believe(random: &Random, clients: &mut Clients, answer: super::clients::Answer) {
    if !random.one_in(4) {
        clients.receive(answer);
    }
}

fn some_publish(random: &Random, clients: &Clients) -> Publish<'static> {
    let known: Vec<Name> = clients
        .world()
        .exchanges
        .iter()
        .filter(|(_, exchange)| !exchange.internal)
        .map(|(name, _)| *name)
        .collect();
    let exchange = if random.one_in(2) { "" } else { some(random, &known) };
    let key = if exchange.is_empty() { some_queue(random, clients) } else { some(random, &KEYS) };
    let headers: [&'static [(&str, &str)]; 5] = [
        &[],
        &[("crop", "hay")],
        &[("crop", "hay"), ("state", "dry")],
        &[(COPY, "q-a")],
        &[(COPY, "hay.dry")],
    ];
    let headers = some(random, &headers);
    let size = some(random, &[0, 0, 0, 700, 5000]);
    Publish { exchange, key, headers, persistent: !random.one_in(5), size }
}

/// A few messages, the acknowledgement of others, or nothing after all.
fn transact(random: &Random, clients: &mut Clients, at: At) {
    for _ in 0..random.below(3) {
        let name = some_queue(random, clients);
        if clients.may_use(at, name) {
            clients.get(at, name);
        }
    }
    // What does not fit into a segment is committed in order, and not at once.
    let fitting = |publish: Publish<'static>| Publish { size: publish.size.min(2000), ..publish };
    let messages: Vec<_> =
        (0..random.below(5)).map(|_| fitting(some_publish(random, clients))).collect();
    if random.one_in(5) {
        return clients.roll_back(at, &messages);
    }
    let answer = clients.transact(at, &messages, random.below(4) as usize);
    believe(random, clients, answer);
}

/// Gets some messages, and rejects what the channel holds, all or the last.
fn reject(random: &Random, clients: &mut Clients, at: At) {
    let name = some_queue(random, clients);
    for _ in 0..=random.below(3) {
        if clients.may_use(at, name) {
            clients.get(at, name);
        }
    }
    if let Some(last) = clients.holds(at).checked_sub(1) {
        clients.acknowledge(at, last, random.one_in(2), true);
        if !random.one_in(3) {
            clients.flush(at);
        }
    }
}

/// What clients do in one life. There are some queues to begin with, unless a life before has left others.
fn session(random: &Random, clients: &mut Clients) {
    let first = At(clients.connect(3), 0);
    clients.confirm_select(first);
    clients.tx_select(At(first.0, TRANSACTIONAL));
    if clients.world().queues.is_empty() {
        for (name, source) in [
            ("q-a", "amq.direct"),
            ("q-b", "amq.fanout"),
            ("q-auto", "amq.topic"),
            ("q-short", "amq.direct"),
        ] {
            let answer = clients.declare_queue(first, name, queue_spec(random, name));
            clients.receive(answer);
            let key = if source == "amq.topic" { "hay.#" } else { "hay" };
            let answer = clients.bind(first, &binding(source, name, key));
            believe(random, clients, answer);
        }
    }
    for _ in 0..STEPS {
        step(random, clients);
    }
}

/// A few lives of a broker, each of them cut off in all of its moments, and then gone on with after one of the cuts.
fn lives(seed: u64, done: &mut BTreeMap<&'static str, usize>) -> Result<Count, String> {
    let random = Random::new(seed);
    let mut count = Count::default();
    let (mut image, mut world, mut numbers) = (Image::default(), World::default(), (0, 0));
    for life in 0..LIVES {
        let mut stage = Stage::open(image, world, numbers, seed * 10 + life);
        session(&random, &mut stage.clients);
        let recording = stage.end();
        for (what, times) in &recording.tally {
            *done.entry(what).or_default() += times;
        }
        let in_life = |wrong| format!("seed {seed}, life {life}: {wrong}");
        count += recording.cut_everywhere(1, 25).map_err(in_life)?;
        let moment = random.below(recording.moments() as u64) as usize;
        let ways = recording.ways(moment, &random, 1);
        let left = recording
            .cut(moment, &some(&random, &ways))
            .map_err(|wrong| in_life(wrong.to_string()))?;
        (image, world, numbers) = (left.image, left.world, recording.numbers);
    }
    Ok(count)
}

#[test]
fn random_sessions_keep_their_promises_after_a_power_cut_with_any_change_of_the_disk() {
    let seeds = seeds(SEEDS);
    let begun = std::time::Instant::now();
    let (mut count, mut done) = (Count::default(), BTreeMap::new());
    for seed in 1..=seeds {
        count += lives(seed, &mut done).unwrap();
    }
    eprintln!("{seeds} random sessions: {count} in {:?}: {done:?}", begun.elapsed());
    for what in Effect::NAMES {
        assert!(done.contains_key(what), "these sessions have no {what}");
    }
}

#[test]
fn a_seed_gives_the_same_session_to_the_byte() {
    let trace = |seed| {
        let disk = SimulatedDisk::new();
        disk.keep_trace();
        let same = |disk: &SimulatedDisk| options(disk, seed);
        let mut stage = Stage::with(disk.clone(), same, World::default(), (0, 0), seed);
        session(&Random::new(seed), &mut stage.clients);
        stage.end();
        disk.trace()
    };
    for seed in 1..=20 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}
