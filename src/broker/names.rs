//! Names: those that the server makes up, and those that clients give.

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

/// The name without its carriage returns and line feeds. RabbitMQ strips them where a queue, an exchange or a binding is declared
/// or deleted, and nowhere else.
pub(super) fn strip_line_breaks(name: &ShortStr) -> ShortStr {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if !name.iter().any(|byte| is_break(byte)) {
        return name.clone();
    }
    let kept: Vec<u8> = name.iter().copied().filter(|byte| !is_break(byte)).collect();
    ShortStr::copy_of(&kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_are_stripped_wherever_they_are() {
        let strip = |text: &'static str| strip_line_breaks(&ShortStr::from_static(text));
        assert_eq!(strip("\r\na\nb\rc \t\n"), ShortStr::from_static("abc \t"));
        assert_eq!(strip("\r\n"), ShortStr::EMPTY);
        assert_eq!(strip("plain"), ShortStr::from_static("plain"));
    }

    #[test]
    fn made_up_names_differ() {
        let (one, other) = (random_name("amq.gen-").unwrap(), random_name("amq.gen-").unwrap());
        assert_ne!(one, other);
        assert!(one.starts_with(b"amq.gen-"));
        assert_eq!(one.len(), 30);
    }
}
