//! Names that the server makes up.

use super::refusal::{Reason, Refusal};
use crate::message::ShortStr;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The prefix and 22 random characters (132 bits): nobody can guess it, and no two are the same.
pub(super) fn random_name(prefix: &str) -> Result<ShortStr, Refusal> {
    let mut random = [0; 22];
    getrandom::fill(&mut random).map_err(|error| {
        Refusal::new(Reason::InternalError, format_args!("no randomness from the system: {error}"))
    })?;
    let mut name = prefix.as_bytes().to_vec();
    name.extend(random.map(|byte: u8| ALPHABET[usize::from(byte % 64)]));
    Ok(ShortStr::copy_of(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_differ() {
        let (one, other) = (random_name("amq.gen-").unwrap(), random_name("amq.gen-").unwrap());
        assert_ne!(one, other);
        assert!(one.starts_with(b"amq.gen-"));
        assert_eq!(one.len(), 30);
    }
}
