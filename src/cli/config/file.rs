//! The configuration file: which values it has, and on which line.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::kind::Written;
use super::rabbitmq;
use super::suggestion::nearest;
use super::table::{SECTIONS, SETTINGS, Setting};
use super::{Origin, Problem};

/// A value of the file.
pub(super) type Found = (&'static Setting, Written, Origin);

/// What is in the file with this text; `path` is for people.
pub(super) fn read(path: &Path, text: &str) -> (Vec<Found>, Vec<Problem>) {
    let mut reading = Reading { path, text, found: Vec::new(), problems: Vec::new() };
    match DeTable::parse(text) {
        Ok(table) => reading.table("", table.get_ref()),
        Err(error) => reading.problems.push(Problem::Syntax {
            path: path.to_owned(),
            line: reading.line(error.span().map_or(0, |span| span.start)),
            error: error.message().replace('\n', ", "),
        }),
    }
    if !reading.problems.is_empty()
        && let Some(toml) = rabbitmq::translated(text)
    {
        return (Vec::new(), vec![Problem::RabbitMq { path: path.to_owned(), toml }]);
    }
    (reading.found, reading.problems)
}

struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
    found: Vec<Found>,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    /// Takes what is in a table whose key is `prefix`, which is empty or ends with a point.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let origin = Origin::File(self.path.to_owned(), self.line(name.span().start));
            let is_section =
                SECTIONS.iter().any(|(section, _)| !section.is_empty() && *section == key);
            match (Setting::find(&key), value.get_ref()) {
                (Some(setting), value) => self.found.push((setting, written(value), origin)),
                (None, DeValue::Table(inner)) if is_section || !inner.is_empty() => {
                    self.table(&format!("{key}."), inner);
                }
                (None, _) if is_section => self.problems.push(Problem::Section { origin, key }),
                (None, _) => {
                    let meant = nearest(&key, SETTINGS.iter().map(|setting| setting.key));
                    self.problems.push(Problem::Unknown { origin, key, meant });
                }
            }
        }
    }

    /// The line of that byte, counted from one.
    fn line(&self, place: usize) -> usize {
        let before = self.text.as_bytes().iter().take(place);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}

fn written(value: &DeValue<'_>) -> Written {
    match value {
        DeValue::String(text) => Written::Text(text.clone().into_owned()),
        DeValue::Integer(number) => {
            let value = i64::from_str_radix(number.as_str(), number.radix());
            Written::Number(
                value.map_or_else(|_| number.as_str().to_owned(), |value| value.to_string()),
            )
        }
        DeValue::Boolean(truth) => Written::Truth(*truth),
        DeValue::Array(items) => {
            Written::List(items.iter().map(Spanned::get_ref).map(written).collect())
        }
        other => Written::Other(other.type_str()),
    }
}
