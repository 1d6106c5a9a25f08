//! What a broker that was started again has, found out as a client would: by asking, consuming and publishing.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use haypile::broker::{
    Broker, Channel, ChannelNumber, Consume, DeclareExchange, DeclareQueue, Delivery, Event,
    Refusal, Session,
};
use haypile::message::FieldTable;
use haypile::storage::{Options, Store};

use super::clients::{alternate_arguments, envelope, queue_arguments, short};
use super::model::{ALTERNATES, Exchange, Kind, Name, QueueSpec, grave_of, limit_of};
use super::oracle::{Got, Probe, Survivors};

/// The modes that queues are declared with.
pub(super) const MODES: [Option<&str>; 3] = [None, Some("default"), Some("lazy")];

/// The highest priorities that queues are declared with.
pub(super) const PRIORITIES: [u8; 2] = [0, 2];

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Universe {
    pub(super) exchanges: &'static [Name],
    pub(super) queues: &'static [Name],
    pub(super) probes: &'static [Probe],
}

/// A broker that cannot be started, or that contradicts itself.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(String);

fn broken(what: impl fmt::Display) -> Broken {
    Broken(what.to_string())
}

/// Opens the store, starts a broker on it.
pub(super) fn start(dir: &str, options: Options) -> Result<Broker, Broken> {
    Broker::open(Store::open(dir, options).map_err(broken)?).map_err(broken)
}

/// Looks at everything there is. The broker is of no use to anybody afterwards: its messages have been consumed.
pub(super) fn observe(broker: &Broker, universe: &Universe) -> Result<Survivors, Broken> {
    // What there are too many of goes first, so that it does not depend on who asks.
    while broker.work_off() {}
    let session = broker.connect(b"/", b"guest").map_err(broken)?;
    let channel = session.open_channel(ChannelNumber(1));
    let mut observer = Observer { broker, channel, session };
    let store = broker.store();
    let mut found = Survivors { entries: store.entries().len(), ..Survivors::default() };
    for name in universe.exchanges {
        if let Some(exchange) = observer.exchange(name)? {
            found.exchanges.insert(name, exchange);
        }
    }
    let mut ready = BTreeMap::new();
    for name in universe.queues {
        if let Some((spec, messages)) = observer.queue(name)? {
            found.queues.insert(name, (spec, Vec::new()));
            ready.insert(*name, messages);
        }
    }
    // One for each queue, and one for each further priority that has had a message.
    let levels: usize = found.queues.values().map(|(spec, _)| spec.levels()).sum();
    let engine_queues = store.queues().len();
    if !(found.queues.len()..=levels).contains(&engine_queues) {
        return Err(broken(format!("{engine_queues} engine queues are stored")));
    }
    for name in found.queues.keys() {
        observer.consume(name)?;
    }
    for (name, delivery) in observer.deliveries(universe)? {
        let got = Got {
            header: Bytes::copy_from_slice(delivery.message().header()),
            body: delivery.message().body(),
            redelivered: delivery.redelivered(),
        };
        observer.channel.accept(delivery);
        if let Some((_, messages)) = found.queues.get_mut(name) {
            messages.push(got);
        }
    }
    for (name, (_, messages)) in &found.queues {
        let announced = ready[name];
        if messages.len() as u32 != announced {
            return Err(broken(format!(
                "queue {name} has {announced} messages, and {} come",
                messages.len()
            )));
        }
    }
    if store.set_aside() > 0 {
        return Err(broken(format!("{} messages were set aside", store.set_aside())));
    }
    observer.channel.flush().map_err(broken)?;
    observer.probe(universe, &mut found)?;
    Ok(found)
}

struct Observer<'a> {
    broker: &'a Broker,
    // Goes before the session, as a connection's channels do.
    channel: Channel,
    session: Session,
}

/// Whether something is so: that it is missing (404) or different (406) is an answer too.
fn yes<T>(outcome: Result<T, Refusal>) -> Result<Option<T>, Broken> {
    match outcome {
        Ok(answer) => Ok(Some(answer)),
        Err(refusal) if matches!(refusal.code(), 404 | 406) => Ok(None),
        Err(refusal) => Err(broken(refusal)),
    }
}

impl Observer<'_> {
    fn exchange(&mut self, name: Name) -> Result<Option<Exchange>, Broken> {
        let mut request = DeclareExchange {
            name: short(name),
            kind: short(""),
            passive: true,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::new(),
        };
        if yes(self.channel.declare_exchange(&request))?.is_none() {
            return Ok(None);
        }
        request.passive = false;
        for kind in Kind::ALL {
            for (auto_delete, internal) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                request.kind = short(kind.name());
                (request.auto_delete, request.internal) = (auto_delete, internal);
                let found = Exchange { auto_delete, internal, ..Exchange::durable(kind) };
                if let Some(alternate) = self.alternate(&mut request)? {
                    return Ok(Some(Exchange { alternate, ..found }));
                }
            }
        }
        Err(broken(format!("exchange {name} is not durable")))
    }

    /// The alternate with which the declaration is what was declared; `None` when more than that is different.
    fn alternate(&mut self, request: &mut DeclareExchange) -> Result<Option<Option<Name>>, Broken> {
        let different = "inequivalent arg 'alternate-exchange'";
        for alternate in ALTERNATES {
            request.arguments = alternate_arguments(alternate);
            let outcome = self.channel.declare_exchange(request);
            let goes_on = outcome.as_ref().is_err_and(|refusal| refusal.text().contains(different));
            if yes(outcome)?.is_some() {
                return Ok(Some(alternate));
            }
            if !goes_on {
                return Ok(None);
            }
        }
        Err(broken(format!("exchange {} has an alternate that nobody has named", request.name)))
    }

    fn queue(&mut self, name: Name) -> Result<Option<(QueueSpec, u32)>, Broken> {
        let mut request = DeclareQueue {
            name: short(name),
            passive: true,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::new(),
        };
        if yes(self.channel.declare_queue(&request))?.is_none() {
            return Ok(None);
        }
        request.passive = false;
        let others = MODES.iter().flat_map(|mode| PRIORITIES.map(|max| (*mode, max)));
        let others = others.flat_map(|other| [None, grave_of(name)].map(|grave| (other, grave)));
        for ((mode, max_priority), grave) in others {
            for auto_delete in [false, true] {
                let spec = QueueSpec {
                    durable: true,
                    exclusive: false,
                    auto_delete,
                    mode,
                    max_priority,
                    grave,
                    max_length: limit_of(name),
                };
                request.auto_delete = auto_delete;
                request.arguments = queue_arguments(&spec);
                if let Some(declared) = yes(self.channel.declare_queue(&request))? {
                    return Ok(Some((spec, declared.messages)));
                }
            }
        }
        Err(broken(format!("queue {name} is not durable")))
    }

    fn consume(&mut self, name: Name) -> Result<(), Broken> {
        let request = Consume {
            queue: short(name),
            consumer_tag: short(name),
            no_ack: true,
            exclusive: true,
            arguments: FieldTable::new(),
        };
        self.channel.consume(&request).map(drop).map_err(broken)
    }

    /// All deliveries until none comes any more, with the queues that they come from.
    fn deliveries(&mut self, universe: &Universe) -> Result<Vec<(Name, Delivery)>, Broken> {
        let (mut events, mut deliveries) = (Vec::new(), Vec::new());
        loop {
            let read = self.broker.work_off();
            self.session.take_events(&mut events, usize::MAX);
            if events.is_empty() && !read {
                return Ok(deliveries);
            }
            for event in events.drain(..) {
                let Event::Delivery { delivery, .. } = event else {
                    return Err(broken(format!("nobody asked for {event:?}")));
                };
                let from = universe
                    .queues
                    .iter()
                    .find(|name| delivery.queue().as_bytes() == name.as_bytes());
                let from = from.ok_or_else(|| broken("a delivery from an unknown queue"))?;
                deliveries.push((*from, delivery));
            }
        }
    }

    /// Publishes to every exchange, and sees what arrives where.
    fn probe(&mut self, universe: &Universe, found: &mut Survivors) -> Result<(), Broken> {
        for probe in universe.probes {
            let message =
                envelope(probe.exchange, probe.key, probe.headers, false, 0, "probe".into());
            match self.channel.publish(&message) {
                Ok(_) => {}
                // It does not exist, or it is internal.
                Err(refusal) if matches!(refusal.code(), 403 | 404) => continue,
                Err(refusal) => return Err(broken(refusal)),
            }
            self.channel.hand_out();
            let arrived = self.deliveries(universe)?;
            let queues = arrived.into_iter().map(|(name, delivery)| {
                self.channel.accept(delivery);
                name
            });
            found.routes.insert(*probe, queues.collect());
            self.channel.flush().map_err(broken)?;
        }
        Ok(())
    }
}
