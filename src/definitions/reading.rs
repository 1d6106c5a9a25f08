//! From a file's text to definitions.

use std::cell::RefCell;

use serde_json::Value;

use super::entry::{Entry, Findings, Told};
use super::policies::read_policy;
use super::topology::{read_binding, read_exchange, read_queue};
use super::users::{
    read_limits, read_permissions, read_topic_permissions, read_user, read_virtual_host,
};
use super::values::kind;
use crate::broker::HostLimits;
use crate::broker::definitions::{Definitions, In};
use crate::broker::policy::{Policy, PolicyKind};
use crate::message::ShortStr;

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Read {
    /// To be taken in.
    pub definitions: Definitions,
    /// What it says besides, and is left out: a line each.
    pub notes: Vec<String>,
}

/// What says something about the file itself.
const ABOUT_THE_FILE: [&str; 8] = [
    "rabbit_version",
    "rabbitmq_version",
    "product_name",
    "product_version",
    "rabbitmq_definition_format",
    "original_cluster_name",
    "original_vhost_name",
    "explanation",
];

/// What has to be a list.
const LISTS: [&str; 9] = [
    "users",
    "vhosts",
    "permissions",
    "topic_permissions",
    "parameters",
    "policies",
    "queues",
    "exchanges",
    "bindings",
];

/// Reads a definitions file. What does not say in which virtual host it is, as in a file that was exported of one alone, is in `virtual_host`.
///
/// # Errors
/// All that is wrong with it, a line each, with the object and the field.
pub fn read(text: &[u8], virtual_host: Option<&ShortStr>) -> Result<Read, Vec<String>> {
    let file: Value =
        serde_json::from_slice(text).map_err(|error| vec![format!("this is no JSON: {error}")])?;
    let Value::Object(lists) = &file else {
        return Err(vec![format!("this is {}, and should be an object", kind(&file))]);
    };
    let findings = RefCell::<Findings>::default();
    let mut all = Definitions::default();
    let mut limits = Vec::new();
    for (list, value) in lists {
        if ABOUT_THE_FILE.contains(&list.as_str()) {
            continue;
        }
        let Value::Array(entries) = value else {
            if !LISTS.contains(&list.as_str()) {
                let note = format!("'{list}': is not understood, and left out");
                findings.borrow_mut().notes.push(note);
                continue;
            }
            let problem = format!("'{list}' is {}, and should be a list", kind(value));
            findings.borrow_mut().problems.push(problem);
            continue;
        };
        for (index, value) in entries.iter().enumerate() {
            let Ok(entry) = Entry::new(list, index, value, virtual_host, &findings) else {
                continue;
            };
            // What is wrong has been told: the rest of the file is looked at as well.
            read_entry(list, &entry, &mut all, &mut limits).unwrap_or(());
        }
    }
    for (name, limits) in limits {
        match all.virtual_hosts.iter_mut().find(|(other, _)| *other == name) {
            Some((_, described)) => described.limits = limits,
            None => all.limits.push((name, limits)),
        }
    }
    // As a broker lists them.
    all.policies
        .sort_by(|(one, p), (other, q)| (one, p.kind, &p.name).cmp(&(other, q.kind, &q.name)));
    let Findings { problems, notes } = findings.into_inner();
    if problems.is_empty() { Ok(Read { definitions: all, notes }) } else { Err(problems) }
}

fn read_entry(
    list: &str,
    entry: &Entry<'_>,
    all: &mut Definitions,
    limits: &mut Vec<In<HostLimits>>,
) -> Result<(), Told> {
    match list {
        "users" => all.users.push(read_user(entry)?),
        "vhosts" => all.virtual_hosts.push(read_virtual_host(entry)?),
        "permissions" => all.permissions.push(read_permissions(entry)?),
        "exchanges" => all.exchanges.push(read_exchange(entry)?),
        "queues" => all.queues.push(read_queue(entry)?),
        "bindings" => all.bindings.push(read_binding(entry)?),
        "policies" => {
            let (virtual_host, name) = (entry.virtual_host()?, entry.name("name")?);
            all.policies.extend(policy(PolicyKind::User, virtual_host, name, entry)?);
            entry.finish();
        }
        "parameters" => read_parameter(entry, all, limits)?,
        "topic_permissions" => all.topic_permissions.push(read_topic_permissions(entry)?),
        _ => entry.note("is not understood, and left out"),
    }
    Ok(())
}

fn policy(
    kind: PolicyKind,
    virtual_host: ShortStr,
    name: ShortStr,
    entry: &Entry<'_>,
) -> Result<Option<In<Policy>>, Told> {
    Ok(read_policy(kind, name, entry)?.map(|policy| (virtual_host, policy)))
}

/// An entry of `parameters`: what plugins and newer parts of RabbitMQ keep, operators' policies and limits among them.
fn read_parameter(
    entry: &Entry<'_>,
    all: &mut Definitions,
    limits: &mut Vec<In<HostLimits>>,
) -> Result<(), Told> {
    let component = entry.text("component")?;
    let kind = match component {
        "policy" => PolicyKind::User,
        "operator_policy" => PolicyKind::Operator,
        "vhost-limits" => {
            let Some(value) = entry.value("value") else { return Ok(()) };
            limits.push((entry.virtual_host()?, read_limits(entry, "value", value)?));
            return Ok(());
        }
        other => {
            entry.note(format_args!("component '{other}' is not understood, and left out"));
            return Ok(());
        }
    };
    let (virtual_host, name) = (entry.virtual_host()?, entry.name("name")?);
    let Some(value) = entry.inner("value") else {
        return Err(entry.problem("field 'value' is missing, or no object"));
    };
    all.policies.extend(policy(kind, virtual_host, name, &value)?);
    value.finish();
    entry.finish();
    Ok(())
}
