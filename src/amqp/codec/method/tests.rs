use super::*;
use crate::message::{FieldTable, ShortStr, Value};

/// The published protocol: class and method numbers, field types in order. One fact a line.
const FACTS: &str = include_str!("facts.txt");

#[test]
fn the_method_table_is_the_published_one() {
    let ours: Vec<String> = Method::LAYOUTS
        .iter()
        .map(|layout| {
            let mut line = format!("{} {}", layout.id, layout.name);
            for field in layout.fields {
                line += &format!(" {field:?}");
            }
            line
        })
        .collect();
    let published: Vec<&str> = FACTS.lines().collect();
    assert_eq!(ours, published);
}

/// The bytes of a method with recognisable values, made from the table of facts alone.
fn bytes_by_the_facts(line: &str) -> Vec<u8> {
    let mut words = line.split(' ');
    let (class, method) = words.next().unwrap().split_once('.').unwrap();
    let mut bytes = class.parse::<u16>().unwrap().to_be_bytes().to_vec();
    bytes.extend(method.parse::<u16>().unwrap().to_be_bytes());
    let mut bits = 0;
    for (index, kind) in words.skip(1).enumerate() {
        let n = u8::try_from(index).unwrap() + 1;
        if kind != "bit" {
            bits = 0;
        }
        match kind {
            // Every other bit is set, so that a swapped pair shows.
            "bit" => {
                if bits == 0 {
                    bytes.push(0);
                }
                *bytes.last_mut().unwrap() |= (n & 1) << bits;
                bits += 1;
            }
            "octet" => bytes.push(n),
            "short" => bytes.extend([0x10, n]),
            "long" => bytes.extend([0x20, 0, 0, n]),
            "longlong" => bytes.extend([0x30, 0, 0, 0, 0, 0, 0, n]),
            "shortstr" => bytes.extend([2, 0xff, n]),
            "longstr" => bytes.extend([0, 0, 0, 3, 0, 0xfe, n]),
            "table" => bytes.extend([0, 0, 0, 4, 1, b'k', b'B', n]),
            other => panic!("no such field type: {other}"),
        }
    }
    bytes
}

#[test]
fn every_method_decodes_and_encodes_to_the_same_bytes() {
    for line in FACTS.lines() {
        let bytes = bytes_by_the_facts(line);
        let method = Method::decode(&bytes).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(format!("{} {}", method.id(), method.name()), {
            let mut words = line.split(' ');
            format!("{} {}", words.next().unwrap(), words.next().unwrap())
        });
        let mut out = BytesMut::new();
        method.encode(&mut out);
        assert_eq!(out, bytes, "{line}");
    }
}

#[test]
fn every_method_cut_short_or_too_long_is_refused() {
    for line in FACTS.lines() {
        let mut bytes = bytes_by_the_facts(line);
        for end in 0..bytes.len() {
            assert!(Method::decode(&bytes[..end]).is_err(), "{line} cut at {end}");
        }
        bytes.push(0);
        let error = Method::decode(&bytes).unwrap_err();
        assert!(
            matches!(error, MethodError::Fields { error: DecodeError::Trailing(1), .. }),
            "{line}: {error}"
        );
    }
}

#[test]
fn a_publish_has_its_published_bytes() {
    let method = Method::BasicPublish {
        reserved_1: 0,
        exchange: b"ex",
        routing_key: b"k",
        mandatory: true,
        immediate: false,
    };
    let mut out = BytesMut::new();
    method.encode(&mut out);
    assert_eq!(&out[..], b"\x00\x3c\x00\x28\x00\x00\x02ex\x01k\x01");
}

#[test]
fn bits_after_a_field_of_another_type_begin_a_new_octet() {
    let arguments: FieldTable = [(ShortStr::from_static("a"), Value::Void)].into_iter().collect();
    let arguments = arguments.to_bytes();
    let method = Method::QueueDeclare {
        reserved_1: 0,
        queue: b"q",
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: true,
        nowait: false,
        arguments: RawTable::parse(&arguments).unwrap(),
    };
    let mut out = BytesMut::new();
    method.encode(&mut out);
    assert_eq!(&out[..], b"\x00\x32\x00\x0a\x00\x00\x01q\x0a\x00\x00\x00\x03\x01aV");
    assert_eq!(Method::decode(&out).unwrap(), method);
}

#[test]
fn unknown_classes_and_methods_are_told_apart() {
    let id = MethodId { class: 61, method: 10 };
    assert_eq!(Method::decode(&[0, 61, 0, 10]), Err(MethodError::UnknownClass(id)));
    let id = MethodId { class: 60, method: 11_000 };
    assert_eq!(Method::decode(&[0, 60, 42, 248]), Err(MethodError::UnknownMethod(id)));
    assert!(matches!(Method::decode(&[0, 60, 0]), Err(MethodError::NoId(_))));
}

quickcheck::quickcheck! {
    fn any_payload_is_a_method_or_refused_without_a_panic(line: usize, at: usize, with: u8) -> bool {
        let line = FACTS.lines().nth(line % FACTS.lines().count()).unwrap();
        let mut bytes = bytes_by_the_facts(line);
        let at = at % bytes.len();
        bytes[at] = with;
        match Method::decode(&bytes) {
            // Bits that no field uses are not kept, so compare what they mean.
            Ok(method) => {
                let mut out = BytesMut::new();
                method.encode(&mut out);
                Method::decode(&out) == Ok(method)
            }
            Err(_) => true,
        }
    }
}
