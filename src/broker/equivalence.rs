//! Whether a second declaration says the same as the first: the comparisons, and RabbitMQ's words for a difference.

use std::fmt::Display;

use super::refusal::{Reason, Refusal};
use crate::message::{FieldTable, Value};

/// Refuses (406) when a field of the declaration of `label` differs.
pub(super) fn check_field<T: PartialEq + Display + ?Sized>(
    label: &str,
    field: &str,
    received: &T,
    current: &T,
) -> Result<(), Refusal> {
    if received == current {
        return Ok(());
    }
    Err(inequivalent(label, field, &format!("'{received}'"), &format!("'{current}'")))
}

/// Refuses (406) when one of the `compared` arguments differs. Numbers of different width are the same if their
/// values are.
pub(super) fn check_arguments(
    label: &str,
    compared: &[&str],
    received: &FieldTable,
    current: &FieldTable,
) -> Result<(), Refusal> {
    for name in compared {
        let (received, current) = (received.get(name.as_bytes()), current.get(name.as_bytes()));
        let same = match (received, current) {
            (None, None) => true,
            (Some(received), Some(current)) => {
                received == current
                    || (received.as_integer().is_some()
                        && received.as_integer() == current.as_integer())
            }
            _ => false,
        };
        if same {
            continue;
        }
        // Where both say something, the values are told, and not their types.
        let (received, current) = match (received, current) {
            (Some(received), Some(current)) => {
                (format!("'{}'", shown_value(received)), format!("'{}'", shown_value(current)))
            }
            _ => (shown(received), shown(current)),
        };
        return Err(inequivalent(label, name, &received, &current));
    }
    Ok(())
}

fn inequivalent(label: &str, field: &str, received: &str, current: &str) -> Refusal {
    Refusal::new(
        Reason::PreconditionFailed,
        format_args!(
            "inequivalent arg '{field}' for {label}: received {received} but current is {current}"
        ),
    )
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(
        || "none".to_owned(),
        |value| format!("the value '{}' of type '{}'", shown_value(value), type_name(value.tag())),
    )
}

/// What RabbitMQ calls the type of a field with that tag; these names are in texts that clients know.
pub(super) fn type_name(tag: u8) -> &'static str {
    match tag {
        b'S' => "longstr",
        b't' => "bool",
        b'b' => "byte",
        b'B' => "unsignedbyte",
        b's' | b'U' => "short",
        b'u' => "unsignedshort",
        b'I' => "signedint",
        b'i' => "unsignedint",
        b'l' | b'L' => "long",
        b'T' => "timestamp",
        b'f' => "float",
        b'd' => "double",
        b'D' => "decimal",
        b'A' => "array",
        b'F' => "table",
        b'x' => "binary",
        _ => "void",
    }
}

/// A value as a person reads it; what is long or nested is left out.
pub(super) fn shown_value(value: &Value) -> String {
    match value {
        Value::LongStr(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        Value::Decimal { scale, value } => format!("{value}e-{scale}"),
        Value::Array(_) | Value::Table(_) | Value::Packed { .. } | Value::Bytes(_) => {
            "…".to_owned()
        }
        Value::Void => "undefined".to_owned(),
        number => number.as_integer().map(|number| number.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ShortStr;

    #[test]
    fn a_difference_is_told_in_the_words_that_clients_know() {
        let refusal = check_field("queue 'q' in vhost '/'", "durable", &false, &true).unwrap_err();
        assert_eq!(
            refusal.text(),
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': \
             received 'false' but current is 'true'"
        );
        assert_eq!(refusal.code(), 406);
    }

    #[test]
    fn arguments_compare_by_value_and_a_missing_one_is_none() {
        let name = ShortStr::from_static("x-queue-mode");
        let lazy: FieldTable = [(name, Value::text("lazy"))].into_iter().collect();
        let none = FieldTable::new();
        let compared = ["x-queue-mode"];
        assert!(check_arguments("q", &compared, &lazy, &lazy).is_ok());
        let refusal = check_arguments("q", &compared, &none, &lazy).unwrap_err();
        assert_eq!(
            refusal.text(),
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-mode' for q: received none but \
             current is the value 'lazy' of type 'longstr'"
        );
        let name = ShortStr::from_static("x-queue-mode");
        let other: FieldTable = [(name, Value::I32(5))].into_iter().collect();
        let refusal = check_arguments("q", &compared, &other, &lazy).unwrap_err();
        assert_eq!(
            refusal.text(),
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-mode' for q: received '5' but \
             current is 'lazy'"
        );
    }
}
