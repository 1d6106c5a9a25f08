//! Routing, to be measured: see [`benchmarks`](crate::benchmarks).

use std::hint::black_box;
use std::sync::Arc;

use super::routing::{ExchangeEnd, ExchangeKind, Matches, Router, Target};
use crate::benchmarks::{Benchmark, Part};
use crate::message::{FieldTable, RawProperties, ShortStr, Value};

/// How many messages a run routes.
const MESSAGES: u64 = 1024;

/// How many bindings an exchange has.
const BINDINGS: u64 = 1000;

/// See [`benchmarks::all`](crate::benchmarks::all).
pub(crate) const PARTS: &[Benchmark] = &[
    Benchmark {
        group: "route",
        name: "direct, 1,000 bindings",
        operations: MESSAGES,
        bytes: 0,
        make: || Route::of(ExchangeKind::Direct, BINDINGS),
    },
    Benchmark {
        group: "route",
        name: "topic, 1,000 patterns",
        operations: MESSAGES,
        bytes: 0,
        make: || Route::of(ExchangeKind::Topic, BINDINGS),
    },
    Benchmark {
        group: "route",
        name: "headers, 1,000 bindings",
        operations: MESSAGES,
        bytes: 0,
        make: || Route::of(ExchangeKind::Headers, BINDINGS),
    },
    Benchmark {
        group: "route",
        name: "fanout to 10",
        operations: MESSAGES,
        bytes: 0,
        make: || Route::of(ExchangeKind::Fanout, 10),
    },
];

/// Looking up where messages go to. Each goes to one binding, in a fanout to all.
struct Route {
    router: Router,
    /// Routing keys, and properties with headers.
    messages: Vec<(Vec<u8>, Vec<u8>)>,
    matches: Matches,
}

impl Route {
    fn of(kind: ExchangeKind, bindings: u64) -> Box<dyn Part> {
        let mut router = Router::new(kind);
        for binding in 0..bindings {
            let key = match kind {
                ExchangeKind::Topic => format!("hay.*.{binding}.#"),
                _ => format!("hay.bale.{binding}.dry"),
            };
            let key = ShortStr::copy_of(key.as_bytes());
            // Nothing but routes is asked of them: exchanges are as good as queues, and have no store.
            let target = Target::Exchange(Arc::new(ExchangeEnd::new(key.clone(), 0)));
            router.add(&key, headers(binding).to_bytes(), target);
        }
        let message = |number: u64| {
            let binding = number * 7 % bindings;
            let key = format!("hay.bale.{binding}.dry").into_bytes();
            // The flag of the headers, and they.
            let mut properties = vec![0x20, 0];
            headers(binding).encode(&mut properties);
            (key, properties)
        };
        let messages = (0..MESSAGES).map(message).collect();
        Box::new(Route { router, messages, matches: Matches::default() })
    }
}

fn headers(binding: u64) -> FieldTable {
    let mut table = FieldTable::default();
    table.push(ShortStr::copy_of(b"bale"), Value::text(&binding.to_string()));
    table
}

impl Part for Route {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for (key, properties) in &self.messages {
            let properties = RawProperties::parse(properties).expect("they were encoded here");
            self.matches.clear();
            self.router.route(&[black_box(key)], &properties, &mut self.matches);
        }
    }
}
