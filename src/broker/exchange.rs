//! An exchange: how it was declared, and its index of bindings.

use std::collections::HashSet;

use super::arguments::ALTERNATE_EXCHANGE;
use super::equivalence::{check_arguments, check_field};
use super::policy::Policy;
use super::record::{BindingKey, ExchangeRecord};
use super::refusal::Refusal;
use super::routing::{ExchangeKind, Matches, Router};
use crate::message::{FieldTable, RawProperties, ShortStr};
use crate::storage::Lsn;

/// The exchanges that every virtual host has. They cannot be declared differently or deleted, and are not stored.
pub(super) const PREDECLARED: [(ShortStr, ExchangeKind); 5] = [
    (ShortStr::from_static("amq.direct"), ExchangeKind::Direct),
    (ShortStr::from_static("amq.fanout"), ExchangeKind::Fanout),
    (ShortStr::from_static("amq.topic"), ExchangeKind::Topic),
    (ShortStr::from_static("amq.headers"), ExchangeKind::Headers),
    (ShortStr::from_static("amq.match"), ExchangeKind::Headers),
];

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
    /// The bindings that it is the source of.
    pub(super) outgoing: HashSet<BindingKey>,
    /// Where a message goes that none of the bindings takes. There need not be an exchange of that name.
    alternate: Option<ShortStr>,
}

impl ExchangeSpec {
    /// A pre-declared exchange.
    pub(super) fn predeclared(name: ShortStr, kind: ExchangeKind) -> Self {
        let arguments = FieldTable::new();
        Self { name, kind, durable: true, auto_delete: false, internal: false, arguments }
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
        let router = Router::new(spec.kind);
        let alternate = spec.alternate();
        Self { spec, declared_at, router, outgoing: HashSet::new(), alternate }
    }

    /// Whether every virtual host has it.
    pub(super) fn is_predeclared(&self) -> bool {
        PREDECLARED.iter().any(|(name, _)| *name == self.spec.name)
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
        let before = matches.len();
        for key in keys {
            self.router.route(key, properties, matches);
        }
        if let Some(alternate) = &self.alternate
            && matches.len() == before
        {
            matches.add_exchange(alternate);
        }
    }
}
