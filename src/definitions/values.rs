//! Field values as JSON, and back, as RabbitMQ does it: whole numbers are 64 bits wide, texts are UTF-8.

use serde_json::{Map, Number, Value as Json};

use crate::message::{FieldTable, MAX_DEPTH, ShortStr, Value};

/// Tables and lists may be nested so deep in a table: deeper ones would be read back packed.
const DEEPEST: usize = MAX_DEPTH - 1;

/// What a person calls a JSON value.
pub(super) fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// A table of named JSON values.
pub(super) fn table<'j>(
    entries: impl Iterator<Item = (&'j str, &'j Json)>,
) -> Result<FieldTable, String> {
    nested(entries, DEEPEST)
}

/// A table in which others may be nested so many times more.
fn nested<'j>(
    entries: impl Iterator<Item = (&'j str, &'j Json)>,
    depth: usize,
) -> Result<FieldTable, String> {
    let mut table = FieldTable::new();
    for (name, value) in entries {
        let short = ShortStr::try_from(name);
        let short = short.map_err(|_| format!("the name '{name}' has more than 255 bytes"))?;
        table.push(short, from_json(value, depth)?);
    }
    Ok(table)
}

fn from_json(json: &Json, depth: usize) -> Result<Value, String> {
    let deeper =
        || depth.checked_sub(1).ok_or_else(|| format!("it is nested more than {DEEPEST} times"));
    Ok(match json {
        Json::Null => Value::Void,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::I64(whole),
            (None, Some(float)) if !number.is_u64() => Value::F64(float),
            _ => return Err(format!("{number} does not fit into 64 bits with a sign")),
        },
        Json::String(text) => Value::text(text),
        Json::Array(list) => {
            let depth = deeper()?;
            Value::Array(
                list.iter().map(|value| from_json(value, depth)).collect::<Result<_, _>>()?,
            )
        }
        Json::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.as_str(), value));
            Value::Table(nested(fields, deeper()?)?)
        }
    })
}

/// A table as JSON; `lost` is told of each value that JSON has no form for.
pub(super) fn table_to_json(table: &FieldTable, lost: &mut dyn FnMut(&ShortStr)) -> Json {
    let mut fields = Map::new();
    for (name, value) in table.entries() {
        match (std::str::from_utf8(name), to_json(value, lost)) {
            (Ok(text), Some(json)) => _ = fields.insert(text.to_owned(), json),
            _ => lost(name),
        }
    }
    Json::Object(fields)
}

fn to_json(value: &Value, lost: &mut dyn FnMut(&ShortStr)) -> Option<Json> {
    Some(match value {
        Value::Void => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::LongStr(text) => Json::String(String::from_utf8(text.to_vec()).ok()?),
        Value::F32(number) => Json::Number(Number::from_f64(f64::from(*number))?),
        Value::F64(number) => Json::Number(Number::from_f64(*number)?),
        Value::Timestamp(seconds) => Json::Number(Number::from(*seconds)),
        Value::Array(list) => {
            Json::Array(list.iter().map(|value| to_json(value, lost)).collect::<Option<_>>()?)
        }
        Value::Table(table) => table_to_json(table, lost),
        Value::Decimal { .. } | Value::Bytes(_) | Value::Packed { .. } => return None,
        number => Json::Number(Number::from(number.as_integer()?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_json_and_back_as_wide_as_rabbitmq_makes_them() {
        let json = serde_json::json!({
            "a": 7, "b": -1.5, "c": "x", "d": true, "e": null, "f": [1, "y"], "g": {"h": 2}
        });
        let fields = json.as_object().unwrap();
        let read = table(fields.iter().map(|(name, value)| (name.as_str(), value))).unwrap();
        assert_eq!(read.get(b"a"), Some(&Value::I64(7)));
        assert_eq!(read.get(b"b"), Some(&Value::F64(-1.5)));
        assert_eq!(read.get(b"e"), Some(&Value::Void));
        let mut lost = Vec::new();
        assert_eq!(table_to_json(&read, &mut |name| lost.push(name.clone())), json);
        assert!(lost.is_empty());
    }

    /// A record that is deeper than what is read back would keep the broker from starting.
    #[test]
    fn what_is_nested_too_deep_is_refused_and_all_else_can_be_read_back() {
        let deep = |depth| {
            let mut value = serde_json::json!(1);
            for _ in 0..depth {
                value = serde_json::json!([value]);
            }
            table([("k", &value)].into_iter())
        };
        let table = deep(DEEPEST).unwrap();
        assert!(FieldTable::decode(&table.to_bytes()).is_ok());
        assert_eq!(deep(DEEPEST + 1).unwrap_err(), "it is nested more than 31 times");
    }

    #[test]
    fn what_json_has_no_form_for_is_told() {
        let entry = |name, value| (ShortStr::from_static(name), value);
        let odd: FieldTable = [
            entry("kept", Value::I8(1)),
            entry("bytes", Value::Bytes(b"x"[..].into())),
            entry("text", Value::LongStr(b"\xff"[..].into())),
        ]
        .into_iter()
        .collect();
        let mut lost = Vec::new();
        let json = table_to_json(&odd, &mut |name| lost.push(name.to_string()));
        assert_eq!(json, serde_json::json!({"kept": 1}));
        assert_eq!(lost, ["bytes", "text"]);
        let large = serde_json::json!({"n": 18_446_744_073_709_551_615_u64});
        let fields = large.as_object().unwrap().iter();
        assert!(table(fields.map(|(name, value)| (name.as_str(), value))).is_err());
    }
}
