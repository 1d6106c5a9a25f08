//! The target `tables`: bytes as the entries of a field table.
//!
//! Checking and decoding agree on what is well-formed, views and owned values on what it says; what is decoded is
//! written byte for byte as it came, but for a truth that was written as something else than 1.

use super::{FieldTable, RawTable, ShortStr, Value};

/// Runs the target.
pub(crate) fn tables(bytes: &[u8]) {
    let (raw, table) = match (RawTable::parse(bytes), FieldTable::decode(bytes)) {
        (Ok(raw), Ok(table)) => (raw, table),
        (Err(_), Err(_)) => return,
        (raw, table) => unreachable!("checked: {raw:?}, decoded: {table:?}"),
    };
    let again = table.to_bytes();
    assert_eq!(again.len(), bytes.len());
    let differs = |(new, old): (&u8, &u8)| new != old && !(*new == 1 && *old > 1);
    assert!(!again.iter().zip(bytes).any(differs), "{table:?} was written otherwise");
    assert_eq!(FieldTable::decode(&again).as_ref(), Ok(&table));
    assert_eq!(raw.to_table(), table);
    assert_eq!(raw.entries().count(), table.len());
    for ((name, value), (owned_name, owned)) in raw.entries().zip(table.entries()) {
        assert_eq!(name, owned_name.as_bytes());
        assert_eq!(value.tag(), owned.tag());
        assert_eq!(&value.to_value(), owned);
        assert_eq!(value.as_long_str(), owned.as_long_str().map(|text| &text[..]));
        assert_eq!(raw.get(name).map(|first| first.to_value()).as_ref(), table.get(name));
    }
}

/// Inputs to begin with: every type of value, nested and repeated.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let name = ShortStr::from_static;
    let plain = [
        Value::Bool(true),
        Value::I8(-1),
        Value::U8(1),
        Value::I16(-2),
        Value::ShortInt(2),
        Value::U16(3),
        Value::I32(-4),
        Value::U32(4),
        Value::I64(-5),
        Value::LongLong(5),
        Value::F32(0.5),
        Value::F64(f64::NAN),
        Value::Decimal { scale: 2, value: 314 },
        Value::text("text"),
        Value::Timestamp(1_700_000_000),
        Value::Bytes(b"\0\xff".as_slice().into()),
        Value::Void,
    ];
    let all: FieldTable = plain.iter().map(|value| (name("name"), value.clone())).collect();
    let headers: FieldTable = [
        (name("x-match"), Value::text("all")),
        (name("list"), Value::Array(plain.to_vec())),
        (name("table"), Value::Table(all.clone())),
        (name(""), Value::Array(Vec::new())),
        (name("table"), Value::Table(FieldTable::new())),
    ]
    .into_iter()
    .collect();
    let mut deep = FieldTable::new();
    let mut too_deep = FieldTable::new();
    for _ in 1..super::MAX_DEPTH {
        deep = [(name("d"), Value::Table(deep))].into_iter().collect();
        too_deep = [(name("d"), Value::Array(vec![Value::Table(too_deep)]))].into_iter().collect();
    }
    let mut seeds = vec![
        ("empty".to_owned(), Vec::new()),
        ("all".to_owned(), all.to_bytes().to_vec()),
        ("nested".to_owned(), headers.to_bytes().to_vec()),
        ("deep".to_owned(), deep.to_bytes().to_vec()),
        ("too-deep".to_owned(), too_deep.to_bytes().to_vec()),
        ("truth".to_owned(), b"\x01at\x07".to_vec()),
    ];
    for value in plain {
        let tag = char::from(value.tag());
        let kind = if tag.is_lowercase() { "small" } else { "capital" };
        let table: FieldTable = [(name("k"), value)].into_iter().collect();
        seeds.push((format!("{kind}-{}", tag.to_lowercase()), table.to_bytes().to_vec()));
    }
    seeds
}
