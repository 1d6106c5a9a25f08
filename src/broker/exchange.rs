//! An exchange: how it was declared, and its index of bindings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::arguments::ALTERNATE_EXCHANGE;
use super::equivalence::{check_arguments, check_field};
use super::policy::Policy;
use super::record::{BindingKey, ExchangeRecord};
use super::refusal::Refusal;
use super::routing::{ExchangeEnd, ExchangeKind, Matches, Router, Target};
use crate::message::{FieldTable, RawProperties, ShortStr};
use crate::storage::Lsn;

/// The exchanges that every virtual host has. They cannot be declared differently or deleted, and are not stored.
pub(super) const PREDECLARED: [(ShortStr, ExchangeKind); 6] = [
    (ShortStr::from_static("amq.direct"), ExchangeKind::Direct),
    (ShortStr::from_static("amq.fanout"), ExchangeKind::Fanout),
    (ShortStr::from_static("amq.topic"), ExchangeKind::Topic),
    (ShortStr::from_static("amq.headers"), ExchangeKind::Headers),
    (ShortStr::from_static("amq.match"), ExchangeKind::Headers),
    (TRACE, ExchangeKind::Topic),
];

/// The exchange of RabbitMQ's firehose, which is internal. Nothing is traced here, so that it never routes a message; but
/// definitions and tools bind to it.
const TRACE: ShortStr = ShortStr::from_static("amq.rabbitmq.trace");

/// The arguments that a second declaration has to repeat.
const COMPARED_ARGUMENTS: [&str; 1] = [ALTERNATE_EXCHANGE];

/// An exchange as it was declared.
#[derive(Debug, Clone)]
pub(super) struct ExchangeSpec {
    pub(super) name: ShortStr,
    pub(super) kind: ExchangeKind,
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    pub(super) internal: bool,
    pub(super) arguments: FieldTable,
}

/// An exchange. Protected by the virtual host's topology lock.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) spec: ExchangeSpec,
    /// When its declaration is durable; `None` where there is nothing to wait for.
    pub(super) declared_at: Option<Lsn>,
    pub(super) router: Router,
    /// Itself, for bindings that lead to it.
    pub(super) end: Arc<ExchangeEnd>,
    /// How many bindings it is the source of.
    pub(super) outgoing: usize,
    /// Where a message goes that none of the bindings takes. There need not be an exchange of that name.
    alternate: Option<ShortStr>,
}

impl ExchangeSpec {
    /// A pre-declared exchange.
    pub(super) fn predeclared(name: ShortStr, kind: ExchangeKind) -> Self {
        let (internal, arguments) = (name == TRACE, FieldTable::new());
        Self { name, kind, durable: true, auto_delete: false, internal, arguments }
    }

    /// The exchange that takes what this one routes nowhere. A name that no exchange can have names none.
    fn alternate(&self) -> Option<ShortStr> {
        named_alternate(&self.arguments)
    }

    /// What is stored of it.
    pub(super) fn record(&self) -> ExchangeRecord {
        ExchangeRecord {
            kind: self.kind,
            auto_delete: self.auto_delete,
            internal: self.internal,
            arguments: self.arguments.clone(),
        }
    }

    /// Refuses a declaration that says something else than this one did (406). `label` names the exchange.
    pub(super) fn check_equivalence(&self, other: &Self, label: &str) -> Result<(), Refusal> {
        check_field(label, "type", other.kind.name(), self.kind.name())?;
        check_field(label, "durable", &other.durable, &self.durable)?;
        check_field(label, "auto_delete", &other.auto_delete, &self.auto_delete)?;
        check_field(label, "internal", &other.internal, &self.internal)?;
        check_arguments(label, &COMPARED_ARGUMENTS, &other.arguments, &self.arguments)
    }
}

fn named_alternate(said: &FieldTable) -> Option<ShortStr> {
    let name = said.get(ALTERNATE_EXCHANGE.as_bytes())?.as_long_str()?;
    ShortStr::try_from(&name[..]).ok()
}

impl Exchange {
    /// An exchange without bindings.
    pub(super) fn new(spec: ExchangeSpec, declared_at: Option<Lsn>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let router = Router::new(spec.kind);
        let alternate = spec.alternate();
        let end = Arc::new(ExchangeEnd::new(spec.name.clone(), NEXT.fetch_add(1, Relaxed)));
        Self { spec, declared_at, router, end, outgoing: 0, alternate }
    }

    /// Whether every virtual host has it.
    pub(super) fn is_predeclared(&self) -> bool {
        PREDECLARED.iter().any(|(name, _)| *name == self.spec.name)
    }

    /// Takes a binding out of the router.
    pub(super) fn unbind(&mut self, key: &BindingKey, target: &Target) {
        let bind = key.to_bind();
        self.router.remove(&bind.routing_key, key.arguments(), target);
    }

    /// What the policy says holds where the exchange's own arguments say nothing.
    pub(super) fn go_by(&mut self, policy: Option<&Policy>) {
        let definition = policy.map(|policy| &policy.definition);
        self.alternate = self.spec.alternate().or_else(|| definition.and_then(named_alternate));
    }

    /// Adds to `matches` everything that a message with these keys goes to from here: what its bindings lead to, or if none of
    /// them takes it, the alternate.
    ///
    /// That the exchanges behind a binding take it nowhere does not count: they may have alternates of their own.
    pub(super) fn route(
        &self,
        keys: &[&[u8]],
        properties: &RawProperties<'_>,
        matches: &mut Matches,
    ) {
        let is_taken = self.router.route(keys, properties, matches);
        if let Some(alternate) = &self.alternate
            && !is_taken
            && !matches.is_put_off()
        {
            matches.add_exchange(alternate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::broker::routing::NO_CROWD;

    /// One message of 128 KiB with keys in its header `CC` filled the memory: once for each key and each queue that it led to.
    #[test]
    fn a_message_with_many_keys_goes_to_many_targets_once_or_so() {
        const TARGETS: usize = 500;
        for kind in [ExchangeKind::Topic, ExchangeKind::Fanout, ExchangeKind::Headers] {
            let mut exchange = Exchange::new(
                ExchangeSpec {
                    name: ShortStr::from_static("x"),
                    kind,
                    durable: false,
                    auto_delete: false,
                    internal: false,
                    arguments: FieldTable::new(),
                },
                None,
            );
            for n in 0..TARGETS {
                let target = ShortStr::try_from(format!("target {n}").as_str()).unwrap();
                let every_key = ShortStr::from_static("#");
                let target = Target::Exchange(Arc::new(ExchangeEnd::new(target, 0)));
                exchange.router.add(&every_key, Bytes::new(), target);
            }
            let keys: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            let mut matches = Matches::default();
            exchange.route(&keys, &RawProperties::NONE, &mut matches);
            assert!(matches.len() <= NO_CROWD + TARGETS, "{} of {kind:?}", matches.len());
            let mut targets = 0;
            while matches.next_exchange().is_some() {
                targets += 1;
            }
            assert_eq!(targets, TARGETS, "{kind:?}");
        }
    }
}
