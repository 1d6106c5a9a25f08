//! The rare records, described by their Rust types: `serde` with `bincode` 2 behind a version byte.
//!
//! This is the only place that knows of bincode, which is not maintained any more (RUSTSEC-2025-0141). Its encoding
//! (configuration `standard`: little-endian, variable-length numbers, length-prefixed sequences) is part of the
//! format; the golden-bytes tests of the records hold it.

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Malformed;

/// The largest structured payload, in bytes: more is not decoded, whatever it says of itself.
const LIMIT: usize = 1 << 30;

fn configuration() -> Configuration<LittleEndian, Varint, Limit<LIMIT>> {
    standard().with_limit::<LIMIT>()
}

/// Appends `version` and the encoded value to `buffer`.
pub(crate) fn encode<T: Serialize>(buffer: &mut Vec<u8>, version: u8, value: &T) {
    buffer.push(version);
    bincode::serde::encode_into_std_write(value, buffer, configuration())
        .expect("plain data is encoded into memory without fail");
}

/// Reads what [`encode`] wrote, to the last byte.
pub(crate) fn decode<T: DeserializeOwned>(payload: &[u8], version: u8) -> Result<T, Malformed> {
    let (&found, rest) = payload.split_first().ok_or(Malformed("is empty"))?;
    if found != version {
        return Err(Malformed("has an unknown version"));
    }
    let (value, read) = bincode::serde::decode_from_slice(rest, configuration())
        .map_err(|_| Malformed("cannot be decoded"))?;
    if read != rest.len() {
        return Err(Malformed("has bytes left over"));
    }
    Ok(value)
}
