//! What something was measured with.

use serde::{Serialize, Serializer};

use crate::cli::text;

/// Something that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) value: Setting,
}

/// What it was set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Setting {
    /// So many.
    Count(u64),
    /// So many bytes.
    Bytes(u64),
    /// One of several words.
    Word(String),
}

/// All that was chosen, in an order that a person would tell it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<Parameter>);

impl Parameters {
    /// Sets one, in its place if it is there.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<Setting>) -> &mut Parameters {
        let value = value.into();
        match self.0.iter_mut().find(|parameter| parameter.name == name) {
            Some(parameter) => parameter.value = value,
            None => self.0.push(Parameter { name, value }),
        }
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.iter().find(|parameter| parameter.name == name).map(|parameter| &parameter.value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.0.iter()
    }
}

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|parameter| (parameter.name, &parameter.value)))
    }
}

impl Setting {
    /// For a person.
    pub(crate) fn text(&self) -> String {
        match self {
            Setting::Count(count) => text::count(*count),
            Setting::Bytes(bytes) => text::whole_bytes(*bytes),
            Setting::Word(word) => word.clone(),
        }
    }
}

impl From<u64> for Setting {
    fn from(count: u64) -> Setting {
        Setting::Count(count)
    }
}

impl From<&str> for Setting {
    fn from(word: &str) -> Setting {
        Setting::Word(word.to_owned())
    }
}

impl From<String> for Setting {
    fn from(word: String) -> Setting {
        Setting::Word(word)
    }
}
