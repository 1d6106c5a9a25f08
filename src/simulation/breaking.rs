//! Breaking the engine's rules on purpose; see [`Mutant`].

use crate::storage::mutant::{self, Mutant};

/// Puts back what was broken before, however `with_mutant` ends.
struct Restore(Option<Mutant>);

impl Drop for Restore {
    fn drop(&mut self) {
        mutant::activate(self.0);
    }
}

/// Does `what` with an engine that breaks a rule: in this thread, and in those of the [explorer](super::explorer). A store that
/// works in threads of its own keeps the rules there.
pub fn with_mutant<T>(mutant: Mutant, what: impl FnOnce() -> T) -> T {
    with(Some(mutant), what)
}

/// The rule that this thread breaks, for threads that go on with its work.
pub(super) fn broken() -> Option<Mutant> {
    mutant::active()
}

pub(super) fn with<T>(mutant: Option<Mutant>, what: impl FnOnce() -> T) -> T {
    let _restore = Restore(mutant::activate(mutant));
    what()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_broken_for_as_long_as_was_asked_for_and_in_this_thread_alone() {
        assert!(!mutant::is_active(Mutant::RetrySync));
        with_mutant(Mutant::RetrySync, || {
            assert!(mutant::is_active(Mutant::RetrySync));
            with_mutant(Mutant::KeepOldName, || assert!(!mutant::is_active(Mutant::RetrySync)));
            assert!(mutant::is_active(Mutant::RetrySync));
            std::thread::scope(|scope| {
                scope.spawn(|| assert_eq!(broken(), None)).join().unwrap();
            });
        });
        assert!(!mutant::is_active(Mutant::RetrySync));
    }
}
