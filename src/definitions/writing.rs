//! From definitions to a file's text.

use std::cell::RefCell;

use serde_json::{Value, json};

use super::policies::{write_operator_policy, write_policy};
use super::topology::{write_binding, write_exchange, write_queue};
use super::users::{
    write_limits, write_permissions, write_topic_permissions, write_user, write_virtual_host,
};
use crate::broker::definitions::Definitions;
use crate::broker::policy::PolicyKind;
use crate::message::ShortStr;

/// A definitions file.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// What is in it.
    pub file: Value,
    /// What could not be said in it: a line each.
    pub notes: Vec<String>,
}

/// Writes definitions as RabbitMQ 3.10 does. A password that RabbitMQ cannot verify is in a field of its own, and the user
/// cannot log in there.
#[must_use]
pub fn write(all: &Definitions) -> Written {
    let notes = RefCell::new(Vec::new());
    let lost = |what: &str, name: &ShortStr, value: &ShortStr| {
        notes.borrow_mut().push(format!(
            "{what} '{name}': the value of '{value}' has no form in JSON, and is left out"
        ));
    };
    let text = |what: &str, names: &[&ShortStr]| {
        let all = names.iter().all(|name| std::str::from_utf8(name).is_ok());
        if !all {
            let name = names[0];
            notes
                .borrow_mut()
                .push(format!("{what} '{name}': its name is no text, and it is left out"));
        }
        all
    };
    let of_kind = |kind| all.policies.iter().filter(move |(_, policy)| policy.kind == kind);
    let policies: Vec<_> = of_kind(PolicyKind::User)
        .map(|policy| write_policy(policy, &mut |value| lost("policy", &policy.1.name, value)))
        .collect();
    let operators: Vec<_> = of_kind(PolicyKind::Operator)
        .map(|policy| {
            write_operator_policy(policy, &mut |value| lost("policy", &policy.1.name, value))
        })
        .collect();
    let exchanges: Vec<_> = all
        .exchanges
        .iter()
        .filter(|(_, found)| text("exchange", &[&found.name]))
        .map(|found| write_exchange(found, &mut |value| lost("exchange", &found.1.name, value)))
        .collect();
    let queues: Vec<_> = all
        .queues
        .iter()
        .filter(|(_, found)| text("queue", &[&found.name]))
        .map(|found| write_queue(found, &mut |value| lost("queue", &found.1.name, value)))
        .collect();
    let bindings: Vec<_> = all
        .bindings
        .iter()
        .filter(|(_, found)| {
            text("binding to", &[&found.destination, &found.source, &found.routing_key])
        })
        .map(|found| {
            write_binding(found, &mut |value| lost("binding to", &found.1.destination, value))
        })
        .collect();
    let limits = all.virtual_hosts.iter().filter_map(write_limits);
    let file = json!({
        "rabbit_version": "3.10.0",
        "rabbitmq_version": "3.10.0",
        "product_name": "Haypile",
        "product_version": env!("CARGO_PKG_VERSION"),
        "users": all.users.iter().map(write_user).collect::<Vec<_>>(),
        "vhosts": all.virtual_hosts.iter().map(write_virtual_host).collect::<Vec<_>>(),
        "permissions": all.permissions.iter().map(write_permissions).collect::<Vec<_>>(),
        "topic_permissions":
            all.topic_permissions.iter().map(write_topic_permissions).collect::<Vec<_>>(),
        "parameters": operators.into_iter().chain(limits).collect::<Vec<_>>(),
        "global_parameters": [],
        "policies": policies,
        "queues": queues,
        "exchanges": exchanges,
        "bindings": bindings,
    });
    Written { file, notes: notes.into_inner() }
}
