//! Names: those that the server makes up, and those that clients give.

use base64ct::{Base64, Encoding};

use super::refusal::{Reason, Refusal};
use crate::message::ShortStr;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The prefix and 22 random characters (132 bits): nobody can guess it, and no two are the same.
pub(super) fn random_name(prefix: &str) -> Result<ShortStr, Refusal> {
    let random: [u8; 22] = random_bytes()?;
    let mut name = prefix.as_bytes().to_vec();
    name.extend(random.map(|byte: u8| ALPHABET[usize::from(byte % 64)]));
    Ok(ShortStr::copy_of(&name))
}

/// The name without its carriage returns and line feeds. RabbitMQ strips them where a queue, an exchange or a binding is declared
/// or deleted, and nowhere else.
pub(super) fn strip_line_breaks(name: &ShortStr) -> ShortStr {
    let is_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if !name.iter().any(is_break) {
        return name.clone();
    }
    let kept: Vec<u8> = name.iter().copied().filter(|byte| !is_break(byte)).collect();
    ShortStr::copy_of(&kept)
}

/// The prefix and two parts in Base64, a dot between them, as RabbitMQ makes names of direct replies. The second is a key of 16 random
/// bytes. The first, which is a process there, is random too.
pub(super) fn reply_name(prefix: &str) -> Result<ShortStr, Refusal> {
    let process: [u8; 24] = random_bytes()?;
    let key: [u8; 16] = random_bytes()?;
    let (process, key) = (Base64::encode_string(&process), Base64::encode_string(&key));
    Ok(ShortStr::copy_of(format!("{prefix}{process}.{key}").as_bytes()))
}

fn random_bytes<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut random = [0; N];
    getrandom::fill(&mut random).map_err(|error| {
        Refusal::new(Reason::InternalError, format_args!("no randomness from the system: {error}"))
    })?;
    Ok(random)
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
