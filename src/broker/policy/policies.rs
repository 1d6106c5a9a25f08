//! The policies of a virtual host, and which of them is in force.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ApplyTo, Policy, PolicyKind};
use crate::broker::queue::Queue;
use crate::message::{FieldTable, ShortStr, Value};

/// What a policy may be in force for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum Object {
    Exchange,
    ClassicQueue,
    QuorumQueue,
}

/// All policies of a virtual host.
#[derive(Debug, Clone, Default)]
pub(in crate::broker) struct Policies {
    policies: BTreeMap<(PolicyKind, ShortStr), Arc<Policy>>,
}

impl Policies {
    /// Adds a policy, in place of one of its kind and name. False: it was there already.
    pub(in crate::broker) fn put(&mut self, policy: Policy) -> bool {
        let key = (policy.kind, policy.name.clone());
        if self.policies.get(&key).is_some_and(|found| **found == policy) {
            return false;
        }
        self.policies.insert(key, Arc::new(policy));
        true
    }

    /// Removes a policy. False: there was none of that name.
    pub(in crate::broker) fn remove(&mut self, kind: PolicyKind, name: &ShortStr) -> bool {
        self.policies.remove(&(kind, name.clone())).is_some()
    }

    /// All of them: the users' by name, then the operators'.
    pub(in crate::broker) fn all(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// What the policies say that are in force for a queue. Of two numbers the smaller one counts, of two other things the operators'.
    pub(in crate::broker) fn definition_for(&self, queue: &Queue) -> FieldTable {
        let object = match is_quorum(&queue.spec().arguments) {
            true => Object::QuorumQueue,
            false => Object::ClassicQueue,
        };
        let of = |kind| self.in_force(kind, object, queue.name()).map(|policy| &policy.definition);
        match (of(PolicyKind::User), of(PolicyKind::Operator)) {
            (None, None) => FieldTable::new(),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (Some(users), Some(operators)) => both(users, operators),
        }
    }

    /// The policy of a kind that is in force for a queue or exchange.
    pub(in crate::broker) fn in_force(
        &self,
        kind: PolicyKind,
        object: Object,
        name: &[u8],
    ) -> Option<&Arc<Policy>> {
        let candidates = self.policies.values().filter(|policy| {
            policy.kind == kind && applies(policy.apply_to, object) && policy.pattern.matches(name)
        });
        candidates.min_by_key(|policy| (Reverse(policy.priority), &policy.name))
    }
}

/// What both say.
fn both(users: &FieldTable, operators: &FieldTable) -> FieldTable {
    let ruled = users.entries().map(|(name, own)| {
        let value = match operators.get(name) {
            Some(other) if limit(own) <= limit(other) => own,
            Some(other) => other,
            None => own,
        };
        (name.clone(), value.clone())
    });
    let others = operators.entries().filter(|(name, _)| users.get(name).is_none());
    ruled.chain(others.map(|(name, value)| (name.clone(), value.clone()))).collect()
}

/// A number to compare limits by: one below zero means no limit. Nothing for what is no number.
fn limit(value: &Value) -> Option<u64> {
    value.as_integer().map(|number| u64::try_from(number).unwrap_or(u64::MAX))
}

fn is_quorum(arguments: &FieldTable) -> bool {
    arguments
        .get(b"x-queue-type")
        .and_then(Value::as_long_str)
        .is_some_and(|kind| &kind[..] == b"quorum")
}

fn applies(to: ApplyTo, object: Object) -> bool {
    match to {
        ApplyTo::All => true,
        ApplyTo::Queues => object != Object::Exchange,
        ApplyTo::Exchanges => object == Object::Exchange,
        ApplyTo::ClassicQueues => object == Object::ClassicQueue,
        ApplyTo::QuorumQueues => object == Object::QuorumQueue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &'static str, pattern: &str, apply_to: ApplyTo, priority: i64) -> Policy {
        let definition: FieldTable =
            [(ShortStr::from_static("max-length"), Value::I64(1))].into_iter().collect();
        let name = ShortStr::from_static(name);
        Policy::new(PolicyKind::User, name, pattern, apply_to, priority, definition).unwrap()
    }

    fn in_force(policies: &Policies, object: Object, name: &str) -> Option<String> {
        let found = policies.in_force(PolicyKind::User, object, name.as_bytes());
        found.map(|policy| policy.name.to_string())
    }

    #[test]
    fn the_highest_priority_wins_and_among_equals_the_first_name() {
        let mut policies = Policies::default();
        assert!(policies.put(policy("b", "^shop", ApplyTo::All, 0)));
        assert!(policies.put(policy("a", "^shop", ApplyTo::All, 0)));
        assert!(!policies.put(policy("a", "^shop", ApplyTo::All, 0)));
        assert_eq!(in_force(&policies, Object::ClassicQueue, "shop.mail"), Some("a".to_owned()));
        assert!(policies.put(policy("c", "mail$", ApplyTo::All, 1)));
        assert_eq!(in_force(&policies, Object::ClassicQueue, "shop.mail"), Some("c".to_owned()));
        assert_eq!(in_force(&policies, Object::ClassicQueue, "shop"), Some("a".to_owned()));
        assert_eq!(in_force(&policies, Object::ClassicQueue, "other"), None);
        assert!(policies.remove(PolicyKind::User, &ShortStr::from_static("c")));
        assert_eq!(in_force(&policies, Object::ClassicQueue, "shop.mail"), Some("a".to_owned()));
        assert!(policies.in_force(PolicyKind::Operator, Object::Exchange, b"shop").is_none());
    }

    #[test]
    fn of_a_users_and_an_operators_limit_the_smaller_is_in_force() {
        let entry = |name, value| (ShortStr::from_static(name), Value::I64(value));
        let users: FieldTable = [entry("a", 1), entry("b", 2), entry("c", 3)].into_iter().collect();
        let operators: FieldTable =
            [entry("b", 1), entry("c", 4), entry("d", 5)].into_iter().collect();
        let expected: FieldTable =
            [entry("a", 1), entry("b", 1), entry("c", 3), entry("d", 5)].into_iter().collect();
        assert_eq!(both(&users, &operators), expected);
        let delivered = |limit| [entry("delivery-limit", limit)].into_iter().collect();
        for (users, operators, expected) in [(-1, 5, 5), (5, -1, 5), (-1, -1, -1)] {
            let found = both(&delivered(users), &delivered(operators));
            assert_eq!(found, delivered(expected), "below zero there is no limit");
        }
    }

    #[test]
    fn a_policy_applies_to_what_it_says() {
        use Object::{ClassicQueue, Exchange, QuorumQueue};
        for (to, objects) in [
            (ApplyTo::All, vec![Exchange, ClassicQueue, QuorumQueue]),
            (ApplyTo::Queues, vec![ClassicQueue, QuorumQueue]),
            (ApplyTo::Exchanges, vec![Exchange]),
            (ApplyTo::ClassicQueues, vec![ClassicQueue]),
            (ApplyTo::QuorumQueues, vec![QuorumQueue]),
        ] {
            let mut policies = Policies::default();
            policies.put(policy("p", "", to, 0));
            for object in [Exchange, ClassicQueue, QuorumQueue] {
                let found = in_force(&policies, object, "x").is_some();
                assert_eq!(found, objects.contains(&object), "{to:?} {object:?}");
            }
        }
    }
}
