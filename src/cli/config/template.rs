//! The settings as a configuration file that says what it is.

use std::fmt::Write;

use super::Origin;
use super::sources::Effective;
use super::table::{SECTIONS, SETTINGS, Setting};
use super::units;

const HEAD: &str = "\
# Settings of `haypile serve --config FILE`, with their defaults. To change one, take the # away from its line.
# A flag counts more than an environment variable, and that more than this file.
";

/// A file that has the same effect as `effective`, except for what is not to be shown. Defaults are comments, so that they
/// may change with the program.
pub(super) fn render(effective: &Effective) -> String {
    let mut text = HEAD.to_owned();
    for (section, title) in SECTIONS {
        let name = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        write(&mut text, format_args!("\n# {title}.\n{name}"));
        for setting in SETTINGS.iter().filter(|setting| setting.place().0 == section) {
            put(&mut text, effective, setting);
        }
    }
    text
}

fn put(text: &mut String, effective: &Effective, setting: &Setting) {
    let (_, name) = setting.place();
    let (meaning, allowed, variable) =
        (setting.meaning, setting.kind.allowed(), setting.variable());
    write(text, format_args!("\n# {meaning}\n# It is {allowed}.\n# Variable: {variable}\n"));
    if setting.kind.is_automatic(&effective.settings)
        && let Some(bytes) = effective.settings.automatic(setting.key)
    {
        let bytes = units::show_size(bytes);
        write(text, format_args!("# Here \"auto\" comes to {bytes}.\n"));
    }
    match (effective.origin(setting), setting.kind.show(&effective.settings)) {
        (Origin::Default, Some(value)) => write(text, format_args!("# {name} = {value}\n")),
        (Origin::Default, None) => write(text, format_args!("# {name} = \"…\"\n")),
        (origin, Some(value)) => write(text, format_args!("# From: {origin}\n{name} = {value}\n")),
        (origin, None) => {
            write(text, format_args!("# From: {origin}; not shown\n# {name} = \"…\"\n"));
        }
    }
}

fn write(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes everything");
}
