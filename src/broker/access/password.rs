//! How a password is kept: never as it is.
//!
//! New ones become Argon2id (RFC 9106), 19 MiB and two passes, with a random salt. What RabbitMQ has hashed (four bytes of salt, then the
//! SHA-256 or SHA-512 of salt and password, in base64) is kept and verified as it is.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher};
use base64ct::{Base64, Encoding};
use ring::digest;
use thiserror::Error;

use super::slow_hash;

/// The bytes of salt in front of what RabbitMQ has hashed.
const RABBITMQ_SALT: usize = 4;
/// The bytes of salt of a new password.
const SALT: usize = 16;

/// A password that can be verified, and not be read.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// Argon2id as a PHC string: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
    Argon2id(String),
    /// `rabbit_password_hashing_sha256`: salt and digest.
    RabbitSha256(Vec<u8>),
    /// `rabbit_password_hashing_sha512`: salt and digest.
    RabbitSha512(Vec<u8>),
}

/// Why a password cannot be kept or a hash not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// A hash of a kind that is not verified here.
    #[error("the hashing algorithm '{0}' is not supported; known are {known}", known = KNOWN.join(", "))]
    Algorithm(String),
    /// It is not what the algorithm yields.
    #[error("it is no hash of {algorithm}: {why}")]
    Malformed {
        /// The algorithm.
        algorithm: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Nobody may log in without a password.
    #[error("an empty password is no password")]
    Empty,
    /// It could not be hashed.
    #[error("the password cannot be hashed: {0}")]
    Hashing(String),
}

const ARGON2ID: &str = "argon2id";
const SHA256: &str = "rabbit_password_hashing_sha256";
const SHA512: &str = "rabbit_password_hashing_sha512";
const KNOWN: [&str; 3] = [SHA256, SHA512, ARGON2ID];

/// Without the hash, so that it never gets into a log.
impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Password({})", self.algorithm())
    }
}

impl Password {
    /// Hashes a new password. Takes some 20 ms and 19 MiB.
    ///
    /// # Errors
    /// [`PasswordError::Empty`]; [`PasswordError::Hashing`] without randomness or memory.
    pub fn new(plain: &[u8]) -> Result<Password, PasswordError> {
        if plain.is_empty() {
            return Err(PasswordError::Empty);
        }
        let mut salt = [0; SALT];
        let hashing = |error: &dyn std::fmt::Display| PasswordError::Hashing(error.to_string());
        getrandom::fill(&mut salt).map_err(|error| hashing(&error))?;
        let hashed = Argon2::default().hash_password_with_salt(plain, &salt);
        hashed.map(|hash| Password::Argon2id(hash.to_string())).map_err(|error| hashing(&error))
    }

    /// Reads a hash as definitions files have it: the name of the algorithm, and what it has made of the password.
    ///
    /// # Errors
    /// [`PasswordError::Algorithm`], [`PasswordError::Malformed`].
    pub fn from_hash(algorithm: &str, hash: &str) -> Result<Password, PasswordError> {
        match algorithm {
            SHA256 => salted(SHA256, hash, digest::SHA256_OUTPUT_LEN).map(Password::RabbitSha256),
            SHA512 => salted(SHA512, hash, digest::SHA512_OUTPUT_LEN).map(Password::RabbitSha512),
            ARGON2ID => {
                let malformed = |why: String| PasswordError::Malformed { algorithm: ARGON2ID, why };
                let parsed =
                    PasswordHash::new(hash).map_err(|error| malformed(error.to_string()))?;
                match slow_hash::complaint(&parsed) {
                    Some(complaint) => Err(malformed(complaint)),
                    None => Ok(Password::Argon2id(hash.to_owned())),
                }
            }
            other => Err(PasswordError::Algorithm(other.to_owned())),
        }
    }

    /// The name of the algorithm, as definitions files have it.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Password::Argon2id(_) => ARGON2ID,
            Password::RabbitSha256(_) => SHA256,
            Password::RabbitSha512(_) => SHA512,
        }
    }

    /// The hash, as definitions files have it.
    #[must_use]
    pub fn hash(&self) -> String {
        match self {
            Password::Argon2id(phc) => phc.clone(),
            Password::RabbitSha256(salted) | Password::RabbitSha512(salted) => {
                Base64::encode_string(salted)
            }
        }
    }

    /// Whether verifying takes long on purpose.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self, Password::Argon2id(_))
    }

    /// Whether this is the password. Takes the same time wherever the difference is.
    #[must_use]
    pub fn verify(&self, plain: &[u8]) -> bool {
        match self {
            Password::Argon2id(phc) => slow_hash::verify(plain, phc),
            Password::RabbitSha256(salted) => matches_digest(&digest::SHA256, salted, plain),
            Password::RabbitSha512(salted) => matches_digest(&digest::SHA512, salted, plain),
        }
    }
}

/// Takes as long as verifying a password that was hashed here.
pub(super) fn verify_nothing(plain: &[u8]) {
    slow_hash::verify_nothing(plain, &[0; SALT]);
}

/// Whether two strings of bytes are the same. Takes the same time wherever the difference is.
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |seen, (a, b)| seen | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

fn salted(algorithm: &'static str, hash: &str, length: usize) -> Result<Vec<u8>, PasswordError> {
    let malformed = |why: String| PasswordError::Malformed { algorithm, why };
    let salted = Base64::decode_vec(hash).map_err(|error| malformed(format!("base64: {error}")))?;
    if salted.len() != RABBITMQ_SALT + length {
        let expected = RABBITMQ_SALT + length;
        return Err(malformed(format!("{} bytes instead of {expected}", salted.len())));
    }
    Ok(salted)
}

fn matches_digest(algorithm: &'static digest::Algorithm, salted: &[u8], plain: &[u8]) -> bool {
    let Some((salt, expected)) = salted.split_at_checked(RABBITMQ_SALT) else { return false };
    let mut context = digest::Context::new(algorithm);
    context.update(salt);
    context.update(plain);
    same(context.finish().as_ref(), expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_password_is_argon2id_and_verifies() {
        let password = Password::new(b"s3cret").unwrap();
        assert!(password.hash().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(password.verify(b"s3cret"));
        assert!(!password.verify(b"s3cre"));
        assert_ne!(password, Password::new(b"s3cret").unwrap());
        assert_eq!(Password::from_hash("argon2id", &password.hash()), Ok(password));
    }

    #[test]
    fn an_empty_password_is_none() {
        assert_eq!(Password::new(b""), Err(PasswordError::Empty));
    }

    /// Made by RabbitMQ 3.10.8.
    #[test]
    fn what_rabbitmq_has_hashed_verifies() {
        let hash = "3S7h9CiqgHoiamit+kiU5JkMRr/W5GTrv0jGKAhLUkWLR7Dn";
        let password = Password::from_hash("rabbit_password_hashing_sha256", hash).unwrap();
        assert!(password.verify(b"s3cret"));
        assert!(!password.verify(b"S3cret"));
        assert!(!password.verify(b""));
        assert_eq!(password.hash(), hash);
        let hash = "3q2+75ZDOuS+5EKPqT6fvwPMIv5qfmwgJAnWUm0EhOG4lhGhbtiqUtwlLWc7d2pRcC4N6Y87K6PsXMR0DAfxDK8CY5o=";
        let password = Password::from_hash("rabbit_password_hashing_sha512", hash).unwrap();
        assert!(password.verify(b"s3cret"));
        assert!(!password.verify(b"s3cret "));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let read = |algorithm, hash| Password::from_hash(algorithm, hash).unwrap_err().to_string();
        assert_eq!(
            read("rabbit_password_hashing_md5", "x"),
            "the hashing algorithm 'rabbit_password_hashing_md5' is not supported; known are \
             rabbit_password_hashing_sha256, rabbit_password_hashing_sha512, argon2id"
        );
        assert_eq!(
            read("rabbit_password_hashing_sha256", "AAAA"),
            "it is no hash of rabbit_password_hashing_sha256: 3 bytes instead of 36"
        );
        assert!(read("rabbit_password_hashing_sha512", "!").contains("base64"));
        assert!(
            read("argon2id", "$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNo")
                .contains("argon2id")
        );
        assert!(read("argon2id", "secret").contains("no hash of argon2id"));
    }

    #[test]
    fn a_hash_never_shows_in_debug_output() {
        let password = Password::new(b"s3cret").unwrap();
        assert_eq!(format!("{password:?}"), "Password(argon2id)");
    }
}
