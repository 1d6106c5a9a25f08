//! One object of a definitions file, looked at field by field; what is wrong is told with its place.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::values;
use crate::message::{FieldTable, ShortStr};

/// What is wrong with a file, and what is left out of it: a line each.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// One object of one of a file's lists.
pub(super) struct Entry<'f> {
    /// Which one: `queues[3]`.
    place: String,
    fields: &'f Map<String, Value>,
    /// The fields that somebody has looked at.
    seen: RefCell<Vec<&'static str>>,
    /// The virtual host that it is in if it does not say so.
    virtual_host: Option<&'f ShortStr>,
    findings: &'f RefCell<Findings>,
}

/// Something is wrong, and has been told.
#[derive(Debug)]
pub(super) struct Told;

impl<'f> Entry<'f> {
    pub(super) fn new(
        list: &str,
        index: usize,
        value: &'f Value,
        virtual_host: Option<&'f ShortStr>,
        findings: &'f RefCell<Findings>,
    ) -> Result<Self, Told> {
        let mut place = format!("{list}[{index}]");
        let Value::Object(fields) = value else {
            let problem = format!("{place} is {}, and should be an object", values::kind(value));
            findings.borrow_mut().problems.push(problem);
            return Err(Told);
        };
        if let Some(Value::String(name)) = fields.get("name") {
            place = format!("{place} ('{name}')");
        }
        Ok(Self { place, fields, seen: RefCell::default(), virtual_host, findings })
    }

    /// An object inside of this one.
    pub(super) fn inner(&self, field: &'static str) -> Option<Self> {
        let Value::Object(fields) = self.value(field)? else { return None };
        let place = format!("{}.{field}", self.place);
        let Self { virtual_host, findings, .. } = *self;
        Some(Self { place, fields, seen: RefCell::default(), virtual_host, findings })
    }

    /// Says that the entry cannot be used.
    pub(super) fn problem(&self, what: impl std::fmt::Display) -> Told {
        self.findings.borrow_mut().problems.push(format!("{}: {what}", self.place));
        Told
    }

    /// Says that something of the entry is left out.
    pub(super) fn note(&self, what: impl std::fmt::Display) {
        self.findings.borrow_mut().notes.push(format!("{}: {what}", self.place));
    }

    /// A field that may be missing; one that says `null` is.
    pub(super) fn value(&self, field: &'static str) -> Option<&'f Value> {
        self.seen.borrow_mut().push(field);
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn wrong(&self, field: &str, value: &Value, expected: &str) -> Told {
        let found = values::kind(value);
        self.problem(format_args!("field '{field}' is {found}, and should be {expected}"))
    }

    fn missing(&self, field: &str) -> Told {
        self.problem(format_args!("field '{field}' is missing"))
    }

    /// A text that may be missing.
    pub(super) fn optional_text(&self, field: &'static str) -> Result<Option<&'f str>, Told> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(field, other, "a text")),
        }
    }

    pub(super) fn text(&self, field: &'static str) -> Result<&'f str, Told> {
        self.optional_text(field)?.ok_or_else(|| self.missing(field))
    }

    /// A text of at most 255 bytes.
    pub(super) fn name(&self, field: &'static str) -> Result<ShortStr, Told> {
        self.short(field, self.text(field)?)
    }

    /// The virtual host that it is in.
    pub(super) fn virtual_host(&self) -> Result<ShortStr, Told> {
        match (self.optional_text("vhost")?, self.virtual_host) {
            (None, Some(meant)) => Ok(meant.clone()),
            _ => self.name("vhost"),
        }
    }

    pub(super) fn short(&self, field: &str, text: &str) -> Result<ShortStr, Told> {
        ShortStr::try_from(text).map_err(|_| {
            let bytes = text.len();
            self.problem(format_args!("field '{field}' has {bytes} bytes, and may have 255"))
        })
    }

    pub(super) fn flag(&self, field: &'static str) -> Result<bool, Told> {
        match self.value(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(field, other, "true or false")),
        }
    }

    /// A whole number that may be missing.
    pub(super) fn number(&self, field: &'static str) -> Result<Option<i64>, Told> {
        match self.value(field) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(field, value, "a whole number")),
            },
        }
    }

    /// A limit: a negative one is none.
    pub(super) fn limit(&self, field: &'static str) -> Result<Option<u64>, Told> {
        Ok(self.number(field)?.and_then(|number| u64::try_from(number).ok()))
    }

    /// A table that may be missing.
    pub(super) fn table(&self, field: &'static str) -> Result<FieldTable, Told> {
        let Some(value) = self.value(field) else { return Ok(FieldTable::new()) };
        let pairs = self.pairs(field, value)?;
        let read = values::table(pairs.iter().map(|(name, value)| (name.as_str(), *value)));
        read.map_err(|why| self.problem(format_args!("field '{field}': {why}")))
    }

    /// Names and values, which RabbitMQ writes as an object or as a list of pairs.
    pub(super) fn pairs(
        &self,
        field: &str,
        value: &'f Value,
    ) -> Result<Vec<(&'f String, &'f Value)>, Told> {
        let wrong = || self.wrong(field, value, "an object");
        match value {
            Value::Object(fields) => Ok(fields.iter().collect()),
            Value::Array(list) => list
                .iter()
                .map(|pair| match pair.as_array().map(Vec::as_slice) {
                    Some([Value::String(name), value]) => Ok((name, value)),
                    _ => Err(wrong()),
                })
                .collect(),
            _ => Err(wrong()),
        }
    }

    /// Tags: a list of texts, or one text with commas.
    pub(super) fn tags(&self, field: &'static str) -> Result<Vec<ShortStr>, Told> {
        let texts: Vec<&str> = match self.value(field) {
            None => Vec::new(),
            Some(Value::String(text)) => text.split(',').map(str::trim).collect(),
            Some(value @ Value::Array(list)) => {
                let texts: Option<_> = list.iter().map(Value::as_str).collect();
                texts.ok_or_else(|| self.wrong(field, value, "a list of texts"))?
            }
            Some(other) => return Err(self.wrong(field, other, "a list of texts")),
        };
        let tags = texts.into_iter().filter(|tag| !tag.is_empty());
        tags.map(|tag| self.short(field, tag)).collect()
    }

    /// Fields that say nothing that would make a difference here.
    pub(super) fn ignore(&self, fields: &[&'static str]) {
        self.seen.borrow_mut().extend(fields);
    }

    /// Notes the fields that nobody has looked at.
    pub(super) fn finish(&self) {
        let seen = self.seen.borrow();
        for field in self.fields.keys().filter(|field| !seen.contains(&field.as_str())) {
            self.note(format_args!("field '{field}' is not understood, and left out"));
        }
    }
}
