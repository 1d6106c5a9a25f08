//! A durable binding, as an entry of the store's metadata. All of it is in the key, because all of it together
//! is what tells bindings apart.
//!
//! ```text
//! key    b'B'                      value  version  u8  1
//!        virtual host  short str
//!        source        short str
//!        kind          u8          0 queue, 1 exchange
//!        destination   short str
//!        routing key   short str
//!        arguments     field table, its entries sorted by name
//! ```

use bytes::Bytes;

use super::{RecordError, check_version, name, put_name};
use crate::broker::request::{Bind, DestinationKind};
use crate::message::{DecodeError, FieldTable, Reader, ShortStr};

const WHAT: &str = "binding";
const VERSION: u8 = 1;

/// Where a binding's record is, and what tells the bindings of a broker apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::broker) struct BindingKey(Bytes);

/// A binding, read back from its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct BindingRecord {
    pub(in crate::broker) virtual_host: ShortStr,
    pub(in crate::broker) source: ShortStr,
    pub(in crate::broker) kind: DestinationKind,
    pub(in crate::broker) destination: ShortStr,
    pub(in crate::broker) routing_key: ShortStr,
    pub(in crate::broker) arguments: FieldTable,
}

impl BindingKey {
    /// The first byte of every such key.
    pub(in crate::broker) const PREFIX: u8 = b'B';

    /// The key of a binding in that virtual host.
    pub(in crate::broker) fn new(virtual_host: &[u8], binding: &Bind) -> Self {
        let mut out = vec![Self::PREFIX];
        put_name(&mut out, virtual_host);
        put_name(&mut out, &binding.source);
        out.push(match binding.kind {
            DestinationKind::Queue => 0,
            DestinationKind::Exchange => 1,
        });
        put_name(&mut out, &binding.destination);
        put_name(&mut out, &binding.routing_key);
        sorted(&binding.arguments).encode(&mut out);
        Self(Bytes::from(out.into_boxed_slice()))
    }

    /// The stored form: the same bytes in memory.
    pub(in crate::broker) fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// Gives up its own memory for that of `stored`, if that has the same bytes: the key is in memory once then.
    pub(in crate::broker) fn shared_with(self, stored: &Bytes) -> Self {
        if self.0 == stored { Self(stored.clone()) } else { self }
    }

    /// The arguments, sorted by name, as [`FieldTable::to_bytes`] has them: a part of the key's memory.
    pub(in crate::broker) fn arguments(&self) -> Bytes {
        let mut reader = Reader::new(&self.0);
        let mut read = || {
            reader.u8()?;
            for _ in 0..2 {
                name(&mut reader)?;
            }
            reader.u8()?;
            for _ in 0..2 {
                name(&mut reader)?;
            }
            Ok::<_, DecodeError>(reader.table()?.as_bytes())
        };
        self.0.slice_ref(read().expect("it was made of a binding"))
    }

    /// The size of the key, in bytes.
    pub(in crate::broker) fn len(&self) -> usize {
        self.0.len()
    }

    /// The binding that it stands for.
    pub(in crate::broker) fn to_bind(&self) -> Bind {
        let record = BindingRecord::decode(&self.0, &Self::value());
        record.expect("it was made of a binding").into_bind()
    }

    /// The value that belongs to it.
    pub(in crate::broker) fn value() -> Bytes {
        Bytes::from_static(&[VERSION])
    }
}

/// Two clients may list the same arguments in another order.
fn sorted(arguments: &FieldTable) -> FieldTable {
    let mut entries: Vec<_> = arguments.entries().collect();
    entries.sort_by_key(|(name, _)| *name);
    entries.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl BindingRecord {
    /// Reads the stored form.
    pub(in crate::broker) fn decode(key: &[u8], value: &[u8]) -> Result<Self, RecordError> {
        let malformed = RecordError::malformed(WHAT);
        check_version(WHAT, VERSION, Reader::new(value).u8().map_err(&malformed)?)?;
        let mut reader = Reader::new(key);
        reader.u8().map_err(&malformed)?;
        let virtual_host = name(&mut reader).map_err(&malformed)?;
        let source = name(&mut reader).map_err(&malformed)?;
        let kind = match reader.u8().map_err(&malformed)? {
            0 => DestinationKind::Queue,
            1 => DestinationKind::Exchange,
            value => return Err(RecordError::Unknown { what: WHAT, field: "kind", value }),
        };
        let read = || {
            let record = Self {
                virtual_host,
                source,
                kind,
                destination: name(&mut reader)?,
                routing_key: name(&mut reader)?,
                arguments: reader.table()?.to_table(),
            };
            reader.finish()?;
            Ok(record)
        };
        read().map_err(malformed)
    }

    /// The binding without its virtual host.
    pub(in crate::broker) fn into_bind(self) -> Bind {
        Bind {
            source: self.source,
            kind: self.kind,
            destination: self.destination,
            routing_key: self.routing_key,
            arguments: self.arguments,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample_table;
    use super::*;

    fn binding(arguments: FieldTable) -> Bind {
        Bind {
            source: ShortStr::from_static("logs"),
            kind: DestinationKind::Exchange,
            destination: ShortStr::from_static("all"),
            routing_key: ShortStr::from_static("#"),
            arguments,
        }
    }

    #[test]
    fn a_binding_record_has_these_bytes() {
        let key = BindingKey::new(b"/", &binding(sample_table())).to_bytes();
        assert_eq!(&key[..], b"B\x01/\x04logs\x01\x03all\x01#\0\0\0\x07\x01kI\0\0\0\x01");
        assert_eq!(&BindingKey::value()[..], b"\x01");
        let record = BindingRecord::decode(&key, b"\x01").unwrap();
        assert_eq!(record.virtual_host, ShortStr::from_static("/"));
        let bind = record.into_bind();
        assert_eq!(BindingKey::new(b"/", &bind).to_bytes(), key);
    }

    #[test]
    fn the_order_of_arguments_does_not_make_another_binding() {
        use crate::message::Value;
        let entry = |name, value| (ShortStr::from_static(name), Value::I32(value));
        let ab = binding([entry("a", 1), entry("b", 2)].into_iter().collect());
        let ba = binding([entry("b", 2), entry("a", 1)].into_iter().collect());
        assert_eq!(BindingKey::new(b"/", &ab), BindingKey::new(b"/", &ba));
    }

    /// Tables are read to a depth of 32, and kept as bytes below that.
    #[test]
    fn a_binding_with_deeply_nested_arguments_is_read_back_from_its_key() {
        use crate::message::RawTable;
        let mut nested = Vec::new();
        for _ in 0..1000 {
            let inner = std::mem::take(&mut nested);
            nested = b"\x01tF".to_vec();
            nested.extend_from_slice(&u32::try_from(inner.len()).unwrap().to_be_bytes());
            nested.extend_from_slice(&inner);
        }
        let arguments = RawTable::parse(&nested).unwrap().to_table();
        let bind = binding(arguments);
        let read = BindingKey::new(b"/", &bind).to_bind();
        assert_eq!(read, bind);
        assert_eq!(&read.arguments.to_bytes()[..], nested);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let key = BindingKey::new(b"/", &binding(FieldTable::new())).to_bytes();
        assert!(matches!(
            BindingRecord::decode(&key, b"\x02"),
            Err(RecordError::Version { found: 2, .. })
        ));
        assert!(BindingRecord::decode(&key[..key.len() - 1], b"\x01").is_err());
        assert!(BindingRecord::decode(&key, b"").is_err());
    }
}
