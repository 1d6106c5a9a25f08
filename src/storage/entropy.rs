//! Randomness, injected so that a test can repeat a run.

use std::fmt::Debug;

/// A source of random numbers.
pub trait Entropy: Send + Sync + Debug {
    /// A number that nobody can foretell.
    fn number(&self) -> u64;
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn number(&self) -> u64 {
        getrandom::u64().expect("the operating system has a source of randomness")
    }
}
