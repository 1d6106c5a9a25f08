//! What was meant by a name that is none.

use strsim::damerau_levenshtein;

/// The known name that looks most like `wrong`, unless none of them does. A name is also found by its last part alone, or
/// below another section: `message_size` is `limits.message_size`.
pub(super) fn nearest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let wrong_last = last(&wrong);
    let distance = |name: &str| {
        let lower = name.to_lowercase();
        let whole = damerau_levenshtein(&wrong, &lower);
        // The section is wrong as well.
        let part = 1 + damerau_levenshtein(&wrong_last, &last(&lower));
        whole.min(part)
    };
    let (distance, name) = known
        .into_iter()
        .map(|name| (distance(name), name))
        .min_by_key(|(distance, _)| *distance)?;
    // Beyond a third of the letters it is a guess.
    (distance <= (wrong_last.len() / 3).max(1)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["data_dir", "listen", "limits.message_size", "storage.cache"];

    #[test]
    fn slips_of_the_finger_and_wrong_sections_are_understood() {
        for (wrong, meant) in [
            ("limits.mesage_size", "limits.message_size"),
            ("limits.message_szie", "limits.message_size"),
            ("limit.message_size", "limits.message_size"),
            ("message_size", "limits.message_size"),
            ("storage.message_size", "limits.message_size"),
            ("data-dir", "data_dir"),
            ("Listen", "listen"),
            ("cache", "storage.cache"),
        ] {
            assert_eq!(nearest(wrong, KNOWN), Some(meant), "{wrong}");
        }
    }

    #[test]
    fn what_looks_like_nothing_gets_no_suggestion() {
        for wrong in ["colour", "limits.max_queue_length", "x", ""] {
            assert_eq!(nearest(wrong, KNOWN), None, "{wrong}");
        }
    }
}
