//! Escapes control characters, so that a name cannot end a line or tell a terminal to do something.
//!
//! Every line that a command prints and every event of the log goes through here.

use std::borrow::Cow;

/// Whether a terminal would act on `sign` instead of showing it: control characters, separators of lines, and signs that turn
/// the direction of the text around them.
pub(super) fn is_control(sign: char) -> bool {
    sign.is_control()
        || matches!(sign, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns `text` on one line, with its control characters written as in Rust: `\n`, `\u{1b}`.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, is_control, |sign, out| out.extend(sign.escape_default()))
}

/// Returns the same JSON text, with the control characters that JSON allows in strings written as `\u009b`. Line feeds and
/// tabs, which can only stand between its tokens, stay.
pub(super) fn escaped_json(text: &str) -> Cow<'_, str> {
    let is_odd = |sign| is_control(sign) && sign != '\n' && sign != '\t';
    // All of them are in the basic plane: four digits.
    replaced(text, is_odd, |sign, out| out.push_str(&format!("\\u{:04x}", u32::from(sign))))
}

fn replaced(
    text: &str,
    is_odd: impl Fn(char) -> bool,
    write: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&is_odd) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for sign in text.chars() {
        if is_odd(sign) {
            write(sign, &mut out);
        } else {
            out.push(sign);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_tells_a_terminal_nothing() {
        let plain = "three words and \u{fc}";
        assert!(matches!(escaped(plain), Cow::Borrowed(text) if text == plain));
        let odd = "queue '\x1b[2J\x07\r\n\t\u{9b}1m\x7f\u{2028}\u{202e}'";
        assert_eq!(
            escaped(odd),
            "queue '\\u{1b}[2J\\u{7}\\r\\n\\t\\u{9b}1m\\u{7f}\\u{2028}\\u{202e}'"
        );
    }

    #[test]
    fn escaped_json_means_the_same() {
        let name = "a\n\u{9b}\u{7f}\u{202e}b";
        let text = serde_json::to_string_pretty(&[name]).unwrap();
        let escaped = escaped_json(&text);
        assert_eq!(escaped, "[\n  \"a\\n\\u009b\\u007f\\u202eb\"\n]");
        assert_eq!(serde_json::from_str::<[String; 1]>(&escaped).unwrap(), [name]);
    }
}
