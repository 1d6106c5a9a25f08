//! Validates the definition of a policy: the keys and values of RabbitMQ 3.10 and 4.3, as far as there is such a thing here.

use super::{PolicyError, PolicyKind};
use crate::broker::equivalence::shown_value;
use crate::message::{FieldTable, Value};

/// What a value has to be.
enum Valid {
    Text,
    AtLeast(i64),
    /// Below zero it means no limit.
    Integer,
    OneOf(&'static [&'static str]),
    Version,
    /// It is about replication or streams, of which there are none here: whatever it says is kept.
    Anything,
}

/// Key, who may set it, what the value stands for, what it has to be.
const KEYS: [(&str, bool, &str, Valid); 28] = [
    ("alternate-exchange", false, "alternate exchange name", Valid::Text),
    ("dead-letter-exchange", false, "dead letter exchange name", Valid::Text),
    ("dead-letter-routing-key", false, "dead letter routing key", Valid::Text),
    (
        "dead-letter-strategy",
        false,
        "dead letter strategy",
        Valid::OneOf(&["at-most-once", "at-least-once"]),
    ),
    ("message-ttl", true, "message TTL", Valid::AtLeast(0)),
    ("expires", true, "queue expiry", Valid::AtLeast(1)),
    ("max-length", true, "maximum length", Valid::AtLeast(0)),
    ("max-length-bytes", true, "maximum length in bytes", Valid::AtLeast(0)),
    ("max-in-memory-length", true, "maximum length in memory", Valid::AtLeast(0)),
    ("max-in-memory-bytes", true, "maximum of bytes in memory", Valid::AtLeast(0)),
    ("consumer-timeout", false, "consumer timeout", Valid::AtLeast(0)),
    ("delivery-limit", true, "delivery limit", Valid::Integer),
    (
        "overflow",
        false,
        "overflow value",
        Valid::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"]),
    ),
    ("queue-mode", false, "queue-mode value", Valid::OneOf(&["default", "lazy"])),
    ("queue-version", false, "queue-version value", Valid::Version),
    ("queue-master-locator", false, "queue-master-locator value", Valid::Anything),
    ("queue-leader-locator", false, "queue-leader-locator value", Valid::Anything),
    ("initial-cluster-size", false, "initial cluster size", Valid::Anything),
    ("max-age", false, "maximum age", Valid::Anything),
    ("stream-max-segment-size-bytes", false, "segment size", Valid::Anything),
    ("stream-filter-size-bytes", false, "filter size", Valid::Anything),
    ("target-group-size", false, "target group size", Valid::Anything),
    ("consumer-disconnected-timeout", false, "consumer disconnected timeout", Valid::AtLeast(0)),
    ("ha-mode", false, "ha-mode value", Valid::OneOf(&["all", "exactly", "nodes"])),
    ("ha-params", false, "ha-params value", Valid::Anything),
    ("ha-sync-mode", false, "ha-sync-mode value", Valid::OneOf(&["automatic", "manual"])),
    ("ha-sync-batch-size", false, "ha-sync-batch-size value", Valid::AtLeast(1)),
    (
        "ha-promote-on-failure",
        false,
        "ha-promote-on-failure value",
        Valid::OneOf(&["always", "when-synced"]),
    ),
];

/// One more of the same, whose name says the opposite.
const PROMOTE_ON_SHUTDOWN: &str = "ha-promote-on-shutdown";

/// Checks all that a definition says.
pub(super) fn check(kind: PolicyKind, definition: &FieldTable) -> Result<(), PolicyError> {
    if definition.is_empty() {
        return Err(PolicyError::Empty);
    }
    for (name, value) in definition.entries() {
        let name = match &name[..] {
            name if name == PROMOTE_ON_SHUTDOWN.as_bytes() => &b"ha-promote-on-failure"[..],
            name => name,
        };
        let found = KEYS.iter().find(|(key, ..)| key.as_bytes() == name);
        let unknown = |by| PolicyError::UnknownKey(String::from_utf8_lossy(name).into_owned(), by);
        let Some((key, by_operators, what, valid)) = found else { return Err(unknown("")) };
        if kind == PolicyKind::Operator && !by_operators {
            return Err(unknown(" of an operator policy"));
        }
        if !is_valid(valid, value) {
            return Err(PolicyError::Value {
                key,
                what,
                value: format!("'{}'", shown_value(value)),
            });
        }
    }
    Ok(())
}

fn is_valid(valid: &Valid, value: &Value) -> bool {
    match valid {
        Valid::Text => value.as_long_str().is_some(),
        Valid::AtLeast(least) => value.as_integer().is_some_and(|number| number >= *least),
        Valid::Integer => value.as_integer().is_some(),
        Valid::OneOf(choices) => value
            .as_long_str()
            .is_some_and(|text| choices.iter().any(|choice| choice.as_bytes() == &text[..])),
        Valid::Version => matches!(value.as_integer(), Some(1 | 2)),
        Valid::Anything => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ShortStr;

    fn check_one(kind: PolicyKind, key: &'static str, value: Value) -> Result<(), String> {
        let definition: FieldTable = [(ShortStr::from_static(key), value)].into_iter().collect();
        check(kind, &definition).map_err(|error| error.to_string())
    }

    #[test]
    fn values_have_the_types_that_rabbitmq_asks_for() {
        let user = |key, value| check_one(PolicyKind::User, key, value);
        for (key, value) in [
            ("message-ttl", Value::I64(0)),
            ("expires", Value::I32(1)),
            ("delivery-limit", Value::I64(-1)),
            ("dead-letter-exchange", Value::text("")),
            ("overflow", Value::text("reject-publish-dlx")),
            ("queue-version", Value::I64(2)),
            ("ha-mode", Value::text("all")),
            ("ha-promote-on-shutdown", Value::text("always")),
        ] {
            assert_eq!(user(key, value), Ok(()), "{key}");
        }
        for (key, value, why) in [
            ("message-ttl", Value::text("x"), "'x' is not a valid message TTL ('message-ttl')"),
            ("message-ttl", Value::I64(-1), "'-1' is not a valid message TTL ('message-ttl')"),
            ("expires", Value::I64(0), "'0' is not a valid queue expiry ('expires')"),
            (
                "max-length-bytes",
                Value::F64(1.5),
                "'1.5' is not a valid maximum length in bytes ('max-length-bytes')",
            ),
            (
                "overflow",
                Value::text("never"),
                "'never' is not a valid overflow value ('overflow')",
            ),
            (
                "queue-version",
                Value::I64(3),
                "'3' is not a valid queue-version value ('queue-version')",
            ),
            ("max-priority", Value::I64(3), "'max-priority' is not a recognised policy setting"),
        ] {
            assert_eq!(user(key, value), Err(why.to_owned()));
        }
        assert_eq!(check(PolicyKind::User, &FieldTable::new()), Err(PolicyError::Empty));
    }

    #[test]
    fn operators_set_limits_and_nothing_else() {
        let operator = |key, value| check_one(PolicyKind::Operator, key, value);
        assert_eq!(operator("max-length", Value::I64(5)), Ok(()));
        assert_eq!(
            operator("dead-letter-exchange", Value::text("x")),
            Err("'dead-letter-exchange' is not a recognised policy setting of an operator policy"
                .to_owned())
        );
    }
}
