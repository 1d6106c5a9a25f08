//! Taking definitions in: all of them are checked first, and nothing is changed if one of them cannot be.
//!
//! Virtual hosts, users, permissions and policies are then one record of the log; exchanges, queues and bindings follow, one after
//! the other. A machine that stops in between has a part of them, and importing again adds the rest.
//!
//! What is there already and says the same is left alone. Users, permissions, virtual hosts and policies that say something else are changed;
//! exchanges and queues are not, because nobody may change how they were declared: that is noted.

use std::collections::{HashMap, HashSet};

use super::{Definitions, In};
use crate::broker::access::Draft;
use crate::broker::administration::{Administration, AdministrationError};
use crate::broker::arguments::{check_exchange, check_queue, check_queue_equivalence};
use crate::broker::exchange::{ExchangeSpec, PREDECLARED};
use crate::broker::hosts::{HostDescription, HostLimits};
use crate::broker::policy::Policy;
use crate::broker::queue::QueueSpec;
use crate::broker::record::BindingKey;
use crate::broker::refusal::Refusal;
use crate::broker::request::{Bind, DeclareExchange, DeclareQueue, DestinationKind};
use crate::broker::routing::{ExchangeKind, check_headers_arguments};
use crate::broker::session::SessionId;
use crate::broker::virtual_host::VirtualHost;
use crate::message::{FieldTable, ShortStr, Value};
use crate::storage::Lsn;

/// No connection has this number: nothing that is exclusive belongs to it.
const NOBODY: SessionId = SessionId(u64::MAX);

/// What became of definitions of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// New, or changed.
    pub imported: u64,
    /// There already, and the same.
    pub unchanged: u64,
    /// Left out: a note says why.
    pub left_out: u64,
}

/// What came of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// What became of how many, by kind.
    pub counts: Vec<(&'static str, Count)>,
    /// What was left out, or kept as it is, and why: a line each.
    pub notes: Vec<String>,
    /// When all of it is durable; `None`: there was nothing to do.
    pub durable_at: Option<Lsn>,
}

/// An import under way.
struct Import<'a> {
    administration: &'a Administration<'a>,
    definitions: &'a Definitions,
    problems: Vec<String>,
    done: Imported,
}

impl Administration<'_> {
    /// Takes definitions in.
    ///
    /// # Errors
    /// What is wrong with them, a line each: nothing has changed then. Or the one line that says why the store did not take
    /// them: then a part of them may be there.
    pub fn import(&self, definitions: &Definitions) -> Result<Imported, Vec<String>> {
        let mut import = Import {
            administration: self,
            definitions,
            problems: Vec::new(),
            done: Imported::default(),
        };
        let draft = import.draft_accounts();
        import.check_hosts_and_policies();
        let exchanges = import.choose_exchanges();
        let queues = import.choose_queues();
        let bindings = import.choose_bindings(&exchanges, &queues);
        if !import.problems.is_empty() {
            return Err(import.problems);
        }
        let stopped = |error: &dyn std::fmt::Display| {
            vec![format!(
                "{error}; a part of the definitions may have been imported: import them again"
            )]
        };
        import.settle(draft).map_err(|error| stopped(&error))?;
        import
            .declare(&exchanges, &queues, &bindings)
            .map_err(|(what, refusal)| stopped(&format_args!("{what}: {}", refusal.text())))?;
        Ok(import.done)
    }
}

impl<'a> Import<'a> {
    fn count(&mut self, what: &'static str, count: Count) {
        self.done.counts.push((what, count));
    }

    fn host(&self, name: &ShortStr) -> Option<std::sync::Arc<VirtualHost>> {
        self.administration.host(name).ok()
    }

    /// Whether there is such a virtual host, or is going to be. If not, that is a problem of `what`.
    fn check_host(&mut self, name: &ShortStr, what: &str) -> bool {
        let known = self.host(name).is_some()
            || self.definitions.virtual_hosts.iter().any(|(other, _)| other == name);
        if !known {
            self.problems
                .push(format!("{what}: vhost '{name}' is neither here nor in the definitions"));
        }
        known
    }

    fn draft_accounts(&mut self) -> Draft {
        let accounts = self.administration.accounts();
        let mut draft = accounts.draft();
        let mut count = Count::default();
        for user in &self.definitions.users {
            if accounts.is_administrator(&user.name) {
                let name = &user.name;
                self.done
                    .notes
                    .push(format!("user '{name}' is not stored, and may do everything: left out"));
                count.left_out += 1;
                continue;
            }
            match draft.put_user(user.clone()) {
                Ok(changed) => count.add(changed),
                Err(error) => self.problems.push(error.to_string()),
            }
        }
        self.count("users", count);
        let mut count = Count::default();
        for (virtual_host, (user, permissions)) in &self.definitions.permissions {
            let what = format!("permissions of user '{user}' in vhost '{virtual_host}'");
            if !self.check_host(virtual_host, &what) {
                continue;
            }
            if accounts.is_administrator(user) {
                // Noted with the user, if anywhere: this one may do everything.
                count.left_out += 1;
                continue;
            }
            match draft.permit(user, virtual_host, permissions.clone()) {
                Ok(changed) => count.add(changed),
                Err(error) => self.problems.push(format!("{what}: {error}")),
            }
        }
        self.count("permissions", count);
        let mut count = Count::default();
        for (virtual_host, (user, exchange, topics)) in &self.definitions.topic_permissions {
            let what = format!(
                "topic permissions of user '{user}' for exchange '{exchange}' in vhost '{virtual_host}'"
            );
            if !self.check_host(virtual_host, &what) {
                continue;
            }
            if accounts.is_administrator(user) {
                count.left_out += 1;
                continue;
            }
            match draft.permit_topics(user, virtual_host, exchange, topics.clone()) {
                Ok(changed) => count.add(changed),
                Err(error) => self.problems.push(format!("{what}: {error}")),
            }
        }
        self.count("topic permissions", count);
        draft
    }

    fn check_hosts_and_policies(&mut self) {
        let mut count = Count::default();
        for (name, description) in &self.definitions.virtual_hosts {
            if let Err(error) = Administration::check_description(name, description) {
                self.problems.push(error.to_string());
            }
            count.add(self.is_new_description(name, description));
        }
        for (name, limits) in &self.definitions.limits {
            if self.check_host(name, "limits") {
                count.add(self.limited(name, *limits).is_some());
            }
        }
        self.count("vhosts", count);
        let mut count = Count::default();
        for (virtual_host, policy) in &self.definitions.policies {
            if self.check_host(virtual_host, &format!("policy '{}'", policy.name)) {
                count.add(!self.has_policy(virtual_host, policy));
            }
        }
        self.count("policies", count);
    }

    fn has_policy(&self, virtual_host: &ShortStr, policy: &Policy) -> bool {
        let host = self.host(virtual_host);
        host.is_some_and(|host| host.policies().iter().any(|found| **found == *policy))
    }

    fn is_new_description(&self, name: &ShortStr, description: &HostDescription) -> bool {
        self.host(name).is_none_or(|host| *host.description() != *description)
    }

    /// What is to be said of a virtual host that gets other limits.
    fn limited(&self, name: &ShortStr, limits: HostLimits) -> Option<HostDescription> {
        let described = HostDescription::clone(&*self.host(name)?.description());
        let is_new = described.limits != limits;
        is_new.then_some(HostDescription { limits, ..described })
    }

    /// The exchanges that are new.
    fn choose_exchanges(&mut self) -> Vec<&'a In<DeclareExchange>> {
        let (mut chosen, mut count) = (Vec::new(), Count::default());
        let mut seen = HashSet::new();
        for exchange in &self.definitions.exchanges {
            let (virtual_host, declared) = exchange;
            let label = format!("exchange '{}' in vhost '{virtual_host}'", declared.name);
            if !seen.insert((virtual_host, &declared.name)) {
                self.leave_second_out(&label, &mut count);
                continue;
            }
            if !self.check_host(virtual_host, &label) {
                continue;
            }
            let Some(kind) = ExchangeKind::named(&declared.kind) else {
                self.problems.push(format!("{label}: unknown exchange type '{}'", declared.kind));
                continue;
            };
            if let Err(refusal) = check_exchange(&label, &declared.arguments) {
                self.problems.push(refusal.text().to_owned());
                continue;
            }
            if declared.name.is_empty() || declared.name.starts_with(b"amq.") {
                self.done.notes.push(format!("{label} is the broker's own: left out"));
                count.left_out += 1;
                continue;
            }
            let spec = ExchangeSpec {
                name: declared.name.clone(),
                kind,
                durable: declared.durable,
                auto_delete: declared.auto_delete,
                internal: declared.internal,
                arguments: declared.arguments.clone(),
            };
            let found = self.host(virtual_host).and_then(|host| {
                let topology = host.topology.read();
                let found = topology.exchanges.get(&declared.name)?;
                Some(found.spec.check_equivalence(&spec, &label))
            });
            if self.is_chosen(&label, found, &mut count) {
                chosen.push(exchange);
            }
        }
        self.count("exchanges", count);
        chosen
    }

    /// The queues that are new.
    fn choose_queues(&mut self) -> Vec<&'a In<DeclareQueue>> {
        let (mut chosen, mut count) = (Vec::new(), Count::default());
        let mut seen = HashSet::new();
        for queue in &self.definitions.queues {
            let (virtual_host, declared) = queue;
            let label = format!("queue '{}' in vhost '{virtual_host}'", declared.name);
            if !seen.insert((virtual_host, &declared.name)) {
                self.leave_second_out(&label, &mut count);
                continue;
            }
            if !self.check_host(virtual_host, &label) {
                continue;
            }
            if declared.name.is_empty() || declared.name.starts_with(b"amq.") {
                self.done
                    .notes
                    .push(format!("{label} has a name that the broker gave it: left out"));
                count.left_out += 1;
                continue;
            }
            let spec = queue_spec(virtual_host, declared);
            if let Err(refusal) = check_queue(&label, &spec) {
                self.problems.push(refusal.text().to_owned());
                continue;
            }
            let found = self.host(virtual_host).and_then(|host| {
                let topology = host.topology.read();
                let found = topology.queue(&declared.name)?;
                Some(check_queue_equivalence(found, &spec))
            });
            if self.is_chosen(&label, found, &mut count) {
                chosen.push(queue);
            }
        }
        self.count("queues", count);
        chosen
    }

    fn leave_second_out(&mut self, label: &str, count: &mut Count) {
        self.done
            .notes
            .push(format!("{label} is there twice in the definitions: the first one counts"));
        count.left_out += 1;
    }

    /// Whether something is new; what is there in another form is noted.
    fn is_chosen(
        &mut self,
        label: &str,
        found: Option<Result<(), Refusal>>,
        count: &mut Count,
    ) -> bool {
        match found {
            None => count.imported += 1,
            Some(Ok(())) => count.unchanged += 1,
            Some(Err(refusal)) => {
                let why = refusal.text().split_once(" - ").map_or(refusal.text(), |(_, why)| why);
                self.done.notes.push(format!("{label} is there, and kept as it is: {why}"));
                count.left_out += 1;
                return false;
            }
        }
        // Also one that is the same: should it go meanwhile, it is to be there afterwards.
        true
    }

    /// The bindings whose two ends there are, or are going to be.
    fn choose_bindings(
        &mut self,
        exchanges: &[&In<DeclareExchange>],
        queues: &[&In<DeclareQueue>],
    ) -> Vec<&'a In<Bind>> {
        let (mut chosen, mut count) = (Vec::new(), Count::default());
        let new_exchanges: HashMap<_, _> = exchanges
            .iter()
            .map(|(host, declared)| ((host, &declared.name), ExchangeKind::named(&declared.kind)))
            .collect();
        let new_queues: HashSet<_> =
            queues.iter().map(|(host, declared)| (host, &declared.name)).collect();
        let mut known = KnownBindings::default();
        for binding in &self.definitions.bindings {
            let (virtual_host, bind) = binding;
            let label = binding_label(virtual_host, bind);
            if !self.check_host(virtual_host, &label) {
                continue;
            }
            let host = self.host(virtual_host);
            // The type of an exchange that there is, or is going to be.
            let exchange = |name: &ShortStr| match &host {
                Some(host) if host.has_exchange(name) => {
                    let topology = host.topology.read();
                    topology.exchanges.get(name).map(|found| found.spec.kind)
                }
                _ => {
                    let own =
                        PREDECLARED.iter().find(|(own, _)| own == name).map(|(_, kind)| *kind);
                    own.or_else(|| new_exchanges.get(&(virtual_host, name)).copied().flatten())
                }
            };
            let destination = match bind.kind {
                DestinationKind::Queue => {
                    new_queues.contains(&(virtual_host, &bind.destination))
                        || host.as_ref().is_some_and(|host| host.has_queue(&bind.destination))
                }
                DestinationKind::Exchange => exchange(&bind.destination).is_some(),
            };
            let source = exchange(&bind.source);
            let missing = if bind.source.is_empty() {
                Some("the default exchange has its bindings by itself")
            } else if source.is_none() {
                Some("there is no such source")
            } else if destination {
                None
            } else {
                Some("there is no such destination")
            };
            if let Some(why) = missing {
                self.done.notes.push(format!("{label} is left out: {why}"));
                count.left_out += 1;
            } else if host.is_some_and(|host| known.has(&host, bind)) {
                count.unchanged += 1;
            } else if source == Some(ExchangeKind::Headers)
                && let Err(refusal) = check_headers_arguments(&bind.arguments)
            {
                self.problems.push(format!("{label}: {}", refusal.text()));
            } else {
                count.imported += 1;
                chosen.push(binding);
            }
        }
        self.count("bindings", count);
        chosen
    }

    /// Makes virtual hosts, users, permissions and policies so, in one record.
    fn settle(&mut self, mut draft: Draft) -> Result<(), AdministrationError> {
        let administration = self.administration;
        let mut changes = draft.take_changes();
        for (name, description) in &self.definitions.virtual_hosts {
            if self.is_new_description(name, description) {
                changes.push(Administration::description_change(name, description));
            }
        }
        let limited: Vec<_> = self
            .definitions
            .limits
            .iter()
            .filter_map(|(name, limits)| Some((name, self.limited(name, *limits)?)))
            .collect();
        for (name, description) in &limited {
            changes.push(Administration::description_change(name, description));
        }
        for (virtual_host, policy) in &self.definitions.policies {
            if !self.has_policy(virtual_host, policy) {
                changes.push(Administration::policy_change(virtual_host, policy));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.done.durable_at = Some(administration.apply(changes)?);
        for (name, description) in &self.definitions.virtual_hosts {
            administration.put_host(name, description.clone());
        }
        for (name, description) in limited {
            administration.put_host(name, description);
        }
        administration.accounts().adopt(draft);
        for (virtual_host, policy) in &self.definitions.policies {
            let host = administration.host(virtual_host)?;
            host.change_policies(|policies| _ = policies.put(policy.clone()));
        }
        Ok(())
    }

    fn declare(
        &mut self,
        exchanges: &[&In<DeclareExchange>],
        queues: &[&In<DeclareQueue>],
        bindings: &[&In<Bind>],
    ) -> Result<(), (String, Refusal)> {
        for (virtual_host, declared) in exchanges {
            let Some(host) = self.host(virtual_host) else { continue };
            let done = host.declare_exchange(declared);
            let what = || format!("exchange '{}' in vhost '{virtual_host}'", declared.name);
            self.wait_for(done.map_err(|refusal| (what(), refusal))?);
        }
        for (virtual_host, declared) in queues {
            let Some(host) = self.host(virtual_host) else { continue };
            let done = host.declare_queue(queue_spec(virtual_host, declared), false);
            let what = || format!("queue '{}' in vhost '{virtual_host}'", declared.name);
            self.wait_for(done.map_err(|refusal| (what(), refusal))?.declared_at());
        }
        for (virtual_host, bind) in bindings {
            let Some(host) = self.host(virtual_host) else { continue };
            let done = host.bind(bind, NOBODY);
            let what = || binding_label(virtual_host, bind);
            self.wait_for(done.map_err(|refusal| (what(), refusal))?);
        }
        Ok(())
    }

    fn wait_for(&mut self, durable_at: Option<Lsn>) {
        self.done.durable_at = self.done.durable_at.max(durable_at);
    }
}

impl Count {
    fn add(&mut self, changed: bool) {
        if changed { self.imported += 1 } else { self.unchanged += 1 }
    }
}

fn queue_spec(virtual_host: &ShortStr, declared: &DeclareQueue) -> QueueSpec {
    QueueSpec {
        name: declared.name.clone(),
        virtual_host: virtual_host.clone(),
        durable: declared.durable,
        auto_delete: declared.auto_delete,
        owner: None,
        arguments: declared.arguments.clone(),
    }
}

fn binding_label(virtual_host: &ShortStr, bind: &Bind) -> String {
    let Bind { source, destination, routing_key, .. } = bind;
    let kind = match bind.kind {
        DestinationKind::Queue => "queue",
        DestinationKind::Exchange => "exchange",
    };
    format!(
        "binding from '{source}' to {kind} '{destination}' with key '{routing_key}' in vhost '{virtual_host}'"
    )
}

/// The bindings of virtual hosts, as files tell of them.
#[derive(Default)]
struct KnownBindings {
    /// By virtual host: those that have numbers among their arguments, each as wide as can be.
    numbered: HashMap<ShortStr, HashSet<BindingKey>>,
}

impl KnownBindings {
    /// Whether there is a binding that says the same. Files do not tell how wide a number is.
    fn has(&mut self, host: &VirtualHost, bind: &Bind) -> bool {
        let key = BindingKey::new(host.name(), bind);
        if host.topology.read().binding(bind, &key).is_some() {
            return true;
        }
        let Some(wide) = widened(bind) else { return false };
        let known = self.numbered.entry(host.name().clone()).or_insert_with(|| {
            let topology = host.topology.read();
            let numbered = topology.bindings().filter_map(|key| widened(&key.to_bind()));
            numbered.map(|bind| BindingKey::new(host.name(), &bind)).collect()
        });
        known.contains(&BindingKey::new(host.name(), &wide))
    }
}

/// The binding with all whole numbers among its arguments in the widest type; `None` if there are none.
fn widened(bind: &Bind) -> Option<Bind> {
    let mut any = false;
    let arguments = bind.arguments.entries().map(|(name, value)| {
        let number = value.as_integer();
        any |= number.is_some();
        (name.clone(), number.map_or_else(|| value.clone(), Value::I64))
    });
    let arguments: FieldTable = arguments.collect();
    any.then(|| Bind { arguments, ..bind.clone() })
}
