//! The queues and the exchange of a run: their names, how messages get from one to the other, making and removing them.
//!
//! A *route* is an exchange and a routing key. With the default exchange each queue has one. With an exchange of its own, and
//! so many bindings for each message, route `n` leads to queue `n` and to those behind it; a fanout exchange has
//! one route, to all queues.

use std::fmt;

use clap::ValueEnum;

use super::stamp::{Route, RunId};
use crate::amqp::codec::Method;
use crate::cli::client::{ClientError, Connection, declaration};
use crate::message::{FieldTable, RawTable, ShortStr, Value};

/// One of the queues, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct QueueNumber(pub(super) u32);

/// Through what messages are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ExchangeKind {
    /// The default exchange: straight to a queue.
    Default,
    /// A direct exchange, with so many bindings for each routing key as --fan-out says.
    Direct,
    /// The same with a topic exchange; routing keys of three words.
    Topic,
    /// A fanout exchange: each message goes to all queues.
    Fanout,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    prefix: String,
    run: RunId,
    kind: ExchangeKind,
    queues: u32,
    fan_out: u32,
    queue_type: Option<String>,
}

impl Topology {
    /// `fan_out`: how many queues each message goes to.
    pub(super) fn new(
        prefix: &str,
        run: RunId,
        kind: ExchangeKind,
        queues: u32,
        fan_out: u32,
        queue_type: Option<String>,
    ) -> Topology {
        let fan_out = match kind {
            ExchangeKind::Default => 1,
            ExchangeKind::Direct | ExchangeKind::Topic => fan_out.clamp(1, queues),
            ExchangeKind::Fanout => queues,
        };
        Topology { prefix: prefix.to_owned(), run, kind, queues, fan_out, queue_type }
    }

    /// How many queues each message goes to.
    pub(super) fn fan_out(&self) -> u32 {
        self.fan_out
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = QueueNumber> + use<> {
        (0..self.queues).map(QueueNumber)
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = Route> + use<> {
        let count = if self.kind == ExchangeKind::Fanout { 1 } else { self.queues };
        (0..count).map(Route)
    }

    /// The queues that a route leads to.
    pub(super) fn destinations(&self, route: Route) -> impl Iterator<Item = QueueNumber> + use<> {
        let queues = self.queues;
        (0..self.fan_out).map(move |step| QueueNumber((route.0 + step) % queues))
    }

    /// Whether a route leads to a queue.
    pub(super) fn leads(&self, route: Route, queue: QueueNumber) -> bool {
        let routes = if self.kind == ExchangeKind::Fanout { 1 } else { self.queues };
        let is_known = route.0 < routes && queue.0 < self.queues;
        is_known && (queue.0 + self.queues - route.0) % self.queues < self.fan_out
    }

    /// Nobody else has queues of this name: the run's number is in it.
    pub(super) fn queue_name(&self, queue: QueueNumber) -> String {
        format!("{self}.{}", queue.0)
    }

    /// Empty: the default exchange.
    pub(super) fn exchange_name(&self) -> String {
        if self.kind == ExchangeKind::Default { String::new() } else { self.to_string() }
    }

    pub(super) fn routing_key(&self, route: Route) -> String {
        match self.kind {
            ExchangeKind::Default => self.queue_name(QueueNumber(route.0)),
            ExchangeKind::Direct => format!("key-{}", route.0),
            ExchangeKind::Topic => format!("bench.key.{}", route.0),
            ExchangeKind::Fanout => String::new(),
        }
    }

    /// Declares everything, durable; returns when the server has answered all of it.
    pub(super) fn declare(&self, connection: &mut Connection) -> Result<(), ClientError> {
        let arguments: FieldTable = self
            .queue_type
            .iter()
            .map(|kind| (ShortStr::from_static("x-queue-type"), Value::text(kind)))
            .collect();
        let arguments = arguments.to_bytes();
        let arguments = RawTable::parse(&arguments).unwrap_or(RawTable::EMPTY);
        let names: Vec<String> = self.queues().map(|queue| self.queue_name(queue)).collect();
        let declarations = names.iter().map(|name| declaration(name, false, arguments));
        connection.call_all(declarations, "queue.declare-ok", |_| {})?;
        let exchange = self.exchange_name();
        let Some(kind) = self.kind.protocol_name() else { return Ok(()) };
        let declare = Method::ExchangeDeclare {
            reserved_1: 0,
            exchange: exchange.as_bytes(),
            kind: kind.as_bytes(),
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: RawTable::EMPTY,
        };
        connection.call(&declare, "exchange.declare-ok")?;
        let bindings: Vec<(String, String)> = self
            .routes()
            .flat_map(|route| {
                let key = self.routing_key(route);
                self.destinations(route).map(move |queue| (self.queue_name(queue), key.clone()))
            })
            .collect();
        let bindings = bindings.iter().map(|(queue, key)| Method::QueueBind {
            reserved_1: 0,
            queue: queue.as_bytes(),
            exchange: exchange.as_bytes(),
            routing_key: key.as_bytes(),
            nowait: false,
            arguments: RawTable::EMPTY,
        });
        connection.call_all(bindings, "queue.bind-ok", |_| {})
    }

    /// How many messages wait in all queues.
    pub(super) fn waiting(&self, connection: &mut Connection) -> Result<u64, ClientError> {
        let names: Vec<String> = self.queues().map(|queue| self.queue_name(queue)).collect();
        let passive = names.iter().map(|name| declaration(name, true, RawTable::EMPTY));
        let mut waiting = 0;
        connection.call_all(passive, "queue.declare-ok", |method| {
            if let Method::QueueDeclareOk { message_count, .. } = method {
                waiting += u64::from(*message_count);
            }
        })?;
        Ok(waiting)
    }

    /// Removes everything.
    pub(super) fn remove(&self, connection: &mut Connection) -> Result<(), ClientError> {
        let names: Vec<String> = self.queues().map(|queue| self.queue_name(queue)).collect();
        let deletions = names.iter().map(|name| Method::QueueDelete {
            reserved_1: 0,
            queue: name.as_bytes(),
            if_unused: false,
            if_empty: false,
            nowait: false,
        });
        connection.call_all(deletions, "queue.delete-ok", |_| {})?;
        if self.kind == ExchangeKind::Default {
            return Ok(());
        }
        let exchange = self.exchange_name();
        let delete = Method::ExchangeDelete {
            reserved_1: 0,
            exchange: exchange.as_bytes(),
            if_unused: false,
            nowait: false,
        };
        connection.call(&delete, "exchange.delete-ok")
    }
}

impl ExchangeKind {
    fn protocol_name(self) -> Option<&'static str> {
        match self {
            ExchangeKind::Default => None,
            ExchangeKind::Direct => Some("direct"),
            ExchangeKind::Topic => Some("topic"),
            ExchangeKind::Fanout => Some("fanout"),
        }
    }
}

/// What all names begin with.
impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:08x}", self.prefix, self.run.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(kind: ExchangeKind, queues: u32, fan_out: u32) -> Topology {
        Topology::new("bench", RunId(0xab), kind, queues, fan_out, None)
    }

    #[test]
    fn a_route_leads_to_its_destinations_and_nowhere_else() {
        for kind in [ExchangeKind::Default, ExchangeKind::Direct, ExchangeKind::Fanout] {
            let topology = topology(kind, 5, 3);
            for route in topology.routes() {
                let destinations: Vec<QueueNumber> = topology.destinations(route).collect();
                for queue in (0..7).map(QueueNumber) {
                    assert_eq!(topology.leads(route, queue), destinations.contains(&queue));
                }
            }
            assert!(!topology.leads(Route(5), QueueNumber(0)));
        }
    }

    fn ways(topology: &Topology) -> Vec<(String, Vec<u32>)> {
        topology
            .routes()
            .map(|route| {
                let queues = topology.destinations(route).map(|queue| queue.0).collect();
                (topology.routing_key(route), queues)
            })
            .collect()
    }

    #[test]
    fn each_kind_of_exchange_leads_to_as_many_queues_as_it_says() {
        let key = |text: &str| text.to_owned();
        assert_eq!(
            ways(&topology(ExchangeKind::Default, 2, 7)),
            [(key("bench.000000ab.0"), vec![0]), (key("bench.000000ab.1"), vec![1])]
        );
        assert_eq!(
            ways(&topology(ExchangeKind::Direct, 3, 2)),
            [(key("key-0"), vec![0, 1]), (key("key-1"), vec![1, 2]), (key("key-2"), vec![2, 0])]
        );
        assert_eq!(
            ways(&topology(ExchangeKind::Topic, 2, 9)),
            [(key("bench.key.0"), vec![0, 1]), (key("bench.key.1"), vec![1, 0])]
        );
        assert_eq!(ways(&topology(ExchangeKind::Fanout, 3, 1)), [(String::new(), vec![0, 1, 2])]);
    }

    #[test]
    fn names_are_of_this_run_alone() {
        let topology = topology(ExchangeKind::Fanout, 1, 1);
        assert_eq!(topology.exchange_name(), "bench.000000ab");
        assert_eq!(topology.queue_name(QueueNumber(0)), "bench.000000ab.0");
    }
}
