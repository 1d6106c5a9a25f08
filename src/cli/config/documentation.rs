//! Whether docs/configuration.md says of every setting what the table says.

use std::fmt::Write;

use super::settings::Settings;
use super::table::{SECTIONS, SETTINGS};

const PAGE: &str = include_str!("../../../docs/configuration.md");
const BEGIN: &str = "<!-- the settings -->\n";
const END: &str = "<!-- the end of the settings -->";

/// The page's part about the single settings.
fn reference() -> String {
    let defaults = Settings::default();
    let mut text = String::new();
    for (section, title) in SECTIONS {
        let name = if section.is_empty() { String::new() } else { format!(": `[{section}]`") };
        writeln!(text, "\n### {title}{name}").unwrap();
        for setting in SETTINGS.iter().filter(|setting| setting.place().0 == section) {
            let default = match setting.kind.show(&defaults) {
                Some(default) => format!("`{default}`"),
                // The only secret, and everybody knows its default.
                None => format!("`\"{}\"`", defaults.login.password),
            };
            let (key, meaning, variable) = (setting.key, setting.meaning, setting.variable());
            writeln!(text, "\n**`{key}`** · default {default} · variable `{variable}`\\").unwrap();
            writeln!(text, "{meaning} It is {}.", setting.kind.allowed()).unwrap();
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_page_says_of_every_setting_what_the_table_says() {
    let (_, rest) = PAGE.split_once(BEGIN).expect("the page has a place for the settings");
    let (written, _) = rest.split_once(END).expect("the place for the settings has an end");
    let reference = reference();
    assert!(written == reference, "docs/configuration.md should say:\n{BEGIN}{reference}{END}");
}
