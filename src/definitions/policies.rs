//! Policies of both kinds.

use serde_json::{Value, json};

use super::entry::{Entry, Told};
use super::values::{kind, table, table_to_json};
use crate::broker::definitions::In;
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};
use crate::message::{FieldTable, ShortStr};

/// An entry of `policies`, or what an entry of `parameters` says in its value; `None`: it is for streams alone.
pub(super) fn read_policy(
    kind: PolicyKind,
    name: ShortStr,
    entry: &Entry<'_>,
) -> Result<Option<Policy>, Told> {
    let pattern = entry.text("pattern")?;
    let priority = entry.number("priority")?.unwrap_or_default();
    let definition = entry.table("definition")?;
    let apply_to = entry.optional_text("apply-to")?.unwrap_or("all");
    if apply_to == "streams" {
        entry.note("there are no streams here for the policy to apply to: it is left out");
        return Ok(None);
    }
    let policy = ApplyTo::named(apply_to)
        .and_then(|apply_to| Policy::new(kind, name, pattern, apply_to, priority, definition));
    policy.map(Some).map_err(|error| entry.problem(error))
}

/// What a policy says, as JSON.
#[must_use]
pub fn policy_definition(policy: &Policy) -> Value {
    table_to_json(&policy.definition, &mut |_| {})
}

/// What a policy is to say, from JSON.
///
/// # Errors
/// It is no object, or has a value that is none of a field.
pub fn read_policy_definition(definition: &Value) -> Result<FieldTable, String> {
    let Value::Object(fields) = definition else {
        return Err(format!("the definition is {}, and should be an object", kind(definition)));
    };
    table(fields.iter().map(|(name, value)| (name.as_str(), value)))
}

/// What is written of a policy, apart from its names.
fn said(policy: &Policy, lost: &mut dyn FnMut(&ShortStr)) -> Value {
    json!({
        "pattern": policy.pattern.as_str(),
        "apply-to": policy.apply_to.name(),
        "definition": table_to_json(&policy.definition, lost),
        "priority": policy.priority,
    })
}

/// A user's policy as an entry of `policies`.
pub(super) fn write_policy(
    (virtual_host, policy): &In<Policy>,
    lost: &mut dyn FnMut(&ShortStr),
) -> Value {
    let mut written = said(policy, lost);
    written["vhost"] = json!(virtual_host.to_string());
    written["name"] = json!(policy.name.to_string());
    written
}

/// An operator's policy as an entry of `parameters`: so RabbitMQ reads it.
pub(super) fn write_operator_policy(
    (virtual_host, policy): &In<Policy>,
    lost: &mut dyn FnMut(&ShortStr),
) -> Value {
    json!({
        "component": "operator_policy",
        "name": policy.name.to_string(),
        "vhost": virtual_host.to_string(),
        "value": said(policy, lost),
    })
}
