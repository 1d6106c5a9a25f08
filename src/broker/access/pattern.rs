//! A regular expression of an operator's: which names a permission or a policy is about.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use thiserror::Error;

/// A compiled pattern may take so many bytes.
const COMPILED_LIMIT: usize = 1 << 20;

/// A pattern. It need not match the whole name unless it says so with `^` and `$`, as with RabbitMQ.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the pattern '{text}' is not understood: {why}")]
pub struct PatternError {
    text: String,
    why: String,
}

impl Pattern {
    /// Compiles a pattern. Names are bytes, and so is what `.` stands for.
    ///
    /// # Errors
    /// It is no regular expression, or one that cannot be matched in linear time: look-around and back references are refused.
    pub fn new(text: &str) -> Result<Pattern, PatternError> {
        let compile =
            |unicode| RegexBuilder::new(text).unicode(unicode).size_limit(COMPILED_LIMIT).build();
        // Classes of letters that are not ASCII need Unicode; everything else is about bytes.
        let regex = compile(false).or_else(|error| compile(true).map_err(|_| error));
        match regex {
            Ok(regex) => Ok(Pattern { text: text.to_owned(), regex }),
            Err(error) => {
                let why = match error {
                    // The crate draws the place over several lines; the last one says what is wrong.
                    regex::Error::Syntax(drawn) => drawn.lines().last().map_or_else(
                        || "it is no regular expression".to_owned(),
                        |line| line.trim_start_matches("error: ").to_owned(),
                    ),
                    error => error.to_string(),
                };
                Err(PatternError { text: text.to_owned(), why })
            }
        }
    }

    /// As the operator wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is found in this name.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        self.regex.is_match(name)
    }

    /// Whether it is written such that there is no name that it does not match.
    pub(super) fn matches_everything(&self) -> bool {
        matches!(self.text.as_str(), ".*" | "^.*" | "^")
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &[u8]) -> bool {
        Pattern::new(pattern).unwrap().matches(name)
    }

    #[test]
    fn a_pattern_is_anchored_only_where_it_says_so() {
        assert!(matches("shop", b"the.shop.mail"));
        assert!(!matches("^shop", b"the.shop.mail"));
        assert!(matches(r"^shop\.", b"shop.mail"));
        assert!(!matches(r"^shop\.", b"shopmail"));
        assert!(matches("", b"anything"));
    }

    #[test]
    fn names_are_bytes() {
        assert!(matches("^a.b$", b"a\xffb"));
        assert!(matches("^ü$", "ü".as_bytes()));
        assert!(matches("^[äöü]+$", "äö".as_bytes()));
    }

    #[test]
    fn what_matches_everything_is_known_to() {
        for everything in [".*", "^.*"] {
            assert!(Pattern::new(everything).unwrap().matches_everything());
            assert!(matches(everything, b"a\nb"));
        }
        assert!(!Pattern::new("^.*$").unwrap().matches_everything());
        assert!(!matches("^.*$", b"a\nb"));
    }

    #[test]
    fn what_is_no_pattern_is_told_in_one_line() {
        let refused = |text| Pattern::new(text).unwrap_err().to_string();
        assert_eq!(refused("("), "the pattern '(' is not understood: unclosed group");
        assert!(refused("(?=x)").contains("look-around"), "{}", refused("(?=x)"));
        assert!(refused("(a{1000}){1000}").contains("size limit"));
    }
}
