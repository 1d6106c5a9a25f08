use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

/// One entry of every type, and its bytes written out by hand.
fn every_type() -> (FieldTable, Vec<u8>) {
    let name = |text: &'static str| ShortStr::from_static(text);
    let table: FieldTable = [
        (name("t"), Value::Bool(true)),
        (name("b"), Value::I8(-2)),
        (name("B"), Value::U8(254)),
        (name("s"), Value::I16(-3)),
        (name("U"), Value::ShortInt(-3)),
        (name("u"), Value::U16(65533)),
        (name("I"), Value::I32(-4)),
        (name("i"), Value::U32(4_294_967_292)),
        (name("l"), Value::I64(-5)),
        (name("L"), Value::LongLong(5)),
        (name("f"), Value::F32(1.5)),
        (name("d"), Value::F64(-2.0)),
        (name("D"), Value::Decimal { scale: 2, value: 314 }),
        (name("S"), Value::text("hi")),
        (name("T"), Value::Timestamp(1)),
        (name("A"), Value::Array(vec![Value::Bool(false), Value::Void])),
        (name("F"), Value::Table([(name("k"), Value::U8(1))].into_iter().collect())),
        (name("x"), Value::Bytes(Bytes::from_static(b"\xff\x00"))),
        (name("V"), Value::Void),
    ]
    .into_iter()
    .collect();
    let bytes = [
        &b"\x01tt\x01"[..],
        b"\x01bb\xfe",
        b"\x01BB\xfe",
        b"\x01ss\xff\xfd",
        b"\x01UU\xff\xfd",
        b"\x01uu\xff\xfd",
        b"\x01II\xff\xff\xff\xfc",
        b"\x01ii\xff\xff\xff\xfc",
        b"\x01ll\xff\xff\xff\xff\xff\xff\xff\xfb",
        b"\x01LL\x00\x00\x00\x00\x00\x00\x00\x05",
        b"\x01ff\x3f\xc0\x00\x00",
        b"\x01dd\xc0\x00\x00\x00\x00\x00\x00\x00",
        b"\x01DD\x02\x00\x00\x01\x3a",
        b"\x01SS\x00\x00\x00\x02hi",
        b"\x01TT\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\x01AA\x00\x00\x00\x03t\x00V",
        b"\x01FF\x00\x00\x00\x04\x01kB\x01",
        b"\x01xx\x00\x00\x00\x02\xff\x00",
        b"\x01VV",
    ]
    .concat();
    (table, bytes)
}

#[test]
fn every_field_type_has_its_published_bytes() {
    let (table, bytes) = every_type();
    assert_eq!(table.to_bytes(), bytes);
    assert_eq!(FieldTable::decode(&bytes).unwrap(), table);
    assert_eq!(RawTable::parse(&bytes).unwrap().to_table(), table);
}

#[test]
fn a_table_cut_anywhere_is_refused_or_shorter_but_never_a_panic() {
    let (table, bytes) = every_type();
    for end in 0..bytes.len() {
        let owned = FieldTable::decode(&bytes[..end]);
        assert_eq!(owned.is_ok(), RawTable::parse(&bytes[..end]).is_ok());
        if let Ok(cut) = owned {
            assert!(cut.len() < table.len());
        }
    }
}

#[test]
fn entries_are_found_by_name_the_first_one_wins() {
    let bytes = b"\x01aB\x01\x01bS\x00\x00\x00\x02hi\x01aB\x02";
    let raw = RawTable::parse(bytes).unwrap();
    assert_eq!(raw.get(b"a").unwrap().to_value(), Value::U8(1));
    assert_eq!(raw.get(b"b").unwrap().as_long_str(), Some(&b"hi"[..]));
    assert_eq!(raw.get(b"c"), None);
    assert_eq!(raw.to_table().get(b"a"), Some(&Value::U8(1)));
    assert_eq!(raw.entries().count(), 3);
}

#[test]
fn an_unknown_field_type_is_named() {
    assert_eq!(FieldTable::decode(b"\x01aZ"), Err(DecodeError::UnknownFieldType(b'Z')));
    assert_eq!(RawTable::parse(b"\x01aZ"), Err(DecodeError::UnknownFieldType(b'Z')));
}

/// A table that holds a table that holds … `depth` tables in all.
fn nested_tables(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 1..depth {
        let mut outer = b"\x01nF".to_vec();
        put_long_str(&mut outer, &bytes);
        bytes = outer;
    }
    bytes
}

fn nested_arrays(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 2..depth {
        let mut outer = b"A".to_vec();
        put_long_str(&mut outer, &bytes);
        bytes = outer;
    }
    let mut table = b"\x01nA".to_vec();
    put_long_str(&mut table, &bytes);
    table
}

/// Nested arrays with something behind each, so that all of them are open at once.
fn nested_arrays_with_more(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 2..depth {
        let mut outer = b"A".to_vec();
        put_long_str(&mut outer, &bytes);
        outer.push(b'V');
        bytes = outer;
    }
    let mut table = b"\x01nA".to_vec();
    put_long_str(&mut table, &bytes);
    table
}

#[test]
fn tables_nest_as_deep_as_there_are_bytes() {
    for nested in [nested_tables, nested_arrays, nested_arrays_with_more] {
        for depth in [2, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 5_000] {
            let bytes = nested(depth);
            let table = FieldTable::decode(&bytes).unwrap();
            assert_eq!(table.to_bytes(), bytes);
            assert_eq!(table, table.clone());
            assert!(!format!("{table:?}").is_empty());
            let raw = RawTable::parse(&bytes).unwrap();
            assert_eq!(raw.to_table(), table);
            let other = FieldTable::decode(&nested(depth + 1)).unwrap();
            assert_ne!(table, other);
            let cut = &bytes[..bytes.len() - 1];
            assert!(FieldTable::decode(cut).is_err() && RawTable::parse(cut).is_err());
        }
    }
}

#[test]
fn a_packed_value_is_checked_and_equals_the_unpacked_one() {
    let deep = nested_tables(MAX_DEPTH + 2);
    let unknown = deep.iter().rposition(|byte| *byte == b'F').unwrap();
    let mut damaged = deep.clone();
    damaged[unknown] = b'Z';
    assert_eq!(FieldTable::decode(&damaged), Err(DecodeError::UnknownFieldType(b'Z')));
    // One level further in, the same value is unpacked one level further.
    let outer = RawTable::parse(&deep).unwrap();
    let inner = outer.get(b"n").unwrap().as_table().unwrap();
    let Some(Value::Table(unpacked)) = outer.to_table().get(b"n").cloned() else { panic!() };
    assert_eq!(unpacked, inner.to_table());
}

#[test]
fn a_not_a_number_keeps_its_bits() {
    let bytes = b"\x01nf\x7f\x80\x00\x01\x01md\x7f\xf0\x00\x00\x00\x00\x00\x01";
    let table = FieldTable::decode(bytes).unwrap();
    assert_eq!(table.to_bytes(), &bytes[..]);
    assert_eq!(table, table.clone());
}

impl Arbitrary for ShortStr {
    fn arbitrary(g: &mut Gen) -> ShortStr {
        ShortStr::copy_of(&Vec::<u8>::arbitrary(g))
    }
}

fn arbitrary_value(g: &mut Gen, depth: usize) -> Value {
    let kinds: u8 = if depth < 4 { 19 } else { 17 };
    match u8::arbitrary(g) % kinds {
        0 => Value::Bool(bool::arbitrary(g)),
        1 => Value::I8(i8::arbitrary(g)),
        2 => Value::U8(u8::arbitrary(g)),
        3 => Value::I16(i16::arbitrary(g)),
        4 => Value::ShortInt(i16::arbitrary(g)),
        5 => Value::U16(u16::arbitrary(g)),
        6 => Value::I32(i32::arbitrary(g)),
        7 => Value::U32(u32::arbitrary(g)),
        8 => Value::I64(i64::arbitrary(g)),
        9 => Value::LongLong(i64::arbitrary(g)),
        10 => Value::F32(f32::from_bits(u32::arbitrary(g))),
        11 => Value::F64(f64::from_bits(u64::arbitrary(g))),
        12 => Value::Decimal { scale: u8::arbitrary(g), value: u32::arbitrary(g) },
        13 => Value::LongStr(Vec::<u8>::arbitrary(g).into()),
        14 => Value::Timestamp(u64::arbitrary(g)),
        15 => Value::Bytes(Vec::<u8>::arbitrary(g).into()),
        16 => Value::Void,
        17 => Value::Array((0..g.size() % 5).map(|_| arbitrary_value(g, depth + 1)).collect()),
        _ => Value::Table(arbitrary_table(g, depth + 1)),
    }
}

fn arbitrary_table(g: &mut Gen, depth: usize) -> FieldTable {
    let entries = usize::arbitrary(g) % 6;
    (0..entries).map(|_| (ShortStr::arbitrary(g), arbitrary_value(g, depth))).collect()
}

impl Arbitrary for FieldTable {
    fn arbitrary(g: &mut Gen) -> FieldTable {
        arbitrary_table(g, 1)
    }
}

quickcheck! {
    fn any_table_comes_back_byte_for_byte(table: FieldTable) -> bool {
        let bytes = table.to_bytes();
        let decoded = FieldTable::decode(&bytes).unwrap();
        let raw = RawTable::parse(&bytes).unwrap();
        decoded == table && decoded.to_bytes() == bytes && raw.to_table() == table
            && raw.entries().count() == table.len()
    }

    fn any_bytes_are_a_table_for_both_readers_or_for_none(bytes: Vec<u8>) -> bool {
        FieldTable::decode(&bytes).is_ok() == RawTable::parse(&bytes).is_ok()
    }

    fn a_damaged_table_never_panics(table: FieldTable, at: usize, with: u8) -> bool {
        let mut bytes = table.to_bytes().to_vec();
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = with;
        }
        FieldTable::decode(&bytes).is_ok() == RawTable::parse(&bytes).is_ok()
    }
}
