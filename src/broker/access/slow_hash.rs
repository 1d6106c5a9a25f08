//! Argon2id (RFC 9106), in memory that is used again.
//!
//! One takes 19 MiB, and whoever may connect can ask for as many as there are wrong passwords. Left to the allocator, that memory stays
//! behind in the arena of each thread that has ever run one: sixty wrong passwords left 900 MiB behind.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use parking_lot::Mutex;

/// So many are run at the same time at most, whatever there is of processors: [`AT_ONCE`] × 19 MiB are kept.
pub const AT_ONCE: usize = 4;

/// What a hash from elsewhere may ask for: 256 MiB.
const MOST_MEMORY: u32 = 256 << 10;
/// Its passes over the memory.
const MOST_PASSES: u32 = 64;

/// Memory that nobody is using.
static MEMORY: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());

/// Gives up the memory that nobody is using.
pub fn release_spare_memory() {
    drop(std::mem::take(&mut *MEMORY.lock()));
}

/// Why a hash is none that is verified here.
pub(super) fn complaint(hash: &PasswordHash) -> Option<String> {
    if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() || hash.salt.is_none() {
        return Some("it does not begin with $argon2id$, or ends early".to_owned());
    }
    let params = match Params::try_from(hash) {
        Ok(params) => params,
        Err(error) => return Some(error.to_string()),
    };
    let (memory, passes) = (params.m_cost(), params.t_cost());
    (memory > MOST_MEMORY || passes > MOST_PASSES).then(|| {
        format!(
            "it asks for {memory} KiB and {passes} passes, and may ask for {MOST_MEMORY} KiB and {MOST_PASSES} passes"
        )
    })
}

/// Whether this is the password. Takes the same time wherever the difference is.
pub(super) fn verify(plain: &[u8], phc: &str) -> bool {
    let matches = || {
        let hash = PasswordHash::new(phc).ok()?;
        if complaint(&hash).is_some() {
            return None;
        }
        let version = hash.version.map(Version::try_from).transpose().ok()?.unwrap_or_default();
        let argon2 = Argon2::new(Algorithm::Argon2id, version, Params::try_from(&hash).ok()?);
        let (salt, expected) = (hash.salt?, hash.hash?);
        let mut computed = vec![0; expected.len()];
        run(&argon2, plain, &salt, &mut computed)
            .then(|| super::password::same(&computed, expected.as_bytes()))
    };
    matches().unwrap_or(false)
}

/// Takes as long as verifying a password that was hashed here.
pub(super) fn verify_nothing(plain: &[u8], salt: &[u8]) {
    // What would fail is the same for a password that there is: the time is alike then too.
    std::hint::black_box(run(&Argon2::default(), plain, salt, &mut [0; 32]));
}

#[cfg(test)]
thread_local! {
    static RUNS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// How often one was run by this thread.
#[cfg(test)]
pub(super) fn runs_of_this_thread() -> u64 {
    RUNS.get()
}

/// Fills `out` with the hash. False: there was no memory, or the salt is too short.
fn run(argon2: &Argon2<'_>, plain: &[u8], salt: &[u8], out: &mut [u8]) -> bool {
    #[cfg(test)]
    RUNS.set(RUNS.get() + 1);
    let blocks = argon2.params().block_count();
    let mut memory = MEMORY.lock().pop().unwrap_or_default();
    if memory.try_reserve_exact(blocks.saturating_sub(memory.len())).is_err() {
        return false;
    }
    if memory.len() < blocks {
        memory.resize(blocks, Block::new());
    }
    let is_done = argon2.hash_password_into_with_memory(plain, salt, out, &mut memory).is_ok();
    let mut kept = MEMORY.lock();
    if kept.len() < AT_ONCE && blocks <= Params::DEFAULT.block_count() {
        kept.push(memory);
    }
    is_done
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::broker::access::Password;

    /// Made by another implementation (argon2-cffi), with 64 MiB, 3 passes and 4 lanes.
    const LARGER: &str = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$Lki7X4WDyt7aqFmd8iPpbcMIW8txWQK9R41qEjhluEQ";

    #[test]
    fn the_memory_of_many_is_that_of_a_few() {
        let password = Password::new(b"s3cret").unwrap().hash();
        let many: Vec<_> = (0..3 * AT_ONCE)
            .map(|_| {
                let password = password.clone();
                thread::spawn(move || verify(b"s3cret", &password) && !verify(b"other", &password))
            })
            .collect();
        assert!(many.into_iter().all(|one| one.join().unwrap()));
        let kept = MEMORY.lock();
        assert!((1..=AT_ONCE).contains(&kept.len()));
        let most = Params::DEFAULT.block_count();
        assert!(kept.iter().all(|memory| memory.capacity() <= most));
    }

    #[test]
    fn a_hash_with_other_parameters_verifies_and_its_memory_is_not_kept() {
        assert!(verify(b"s3cret", LARGER));
        assert!(!verify(b"S3cret", LARGER));
        let most = Params::DEFAULT.block_count();
        assert!(MEMORY.lock().iter().all(|memory| memory.capacity() <= most));
    }

    #[test]
    fn a_hash_that_asks_for_too_much_is_refused() {
        let refused = |parameters: &str| {
            let hash = LARGER.replace("m=65536,t=3,p=4", parameters);
            complaint(&PasswordHash::new(&hash).unwrap())
        };
        assert_eq!(refused("m=262144,t=64,p=4"), None);
        for parameters in ["m=262145,t=1,p=1", "m=4294967295,t=1,p=1", "m=8,t=65,p=1"] {
            assert!(refused(parameters).unwrap().contains("may ask for 262144 KiB"));
        }
    }
}
