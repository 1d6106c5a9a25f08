//! What a setting may be: how it is written, and within which bounds.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::addresses;
use super::settings::Settings;
use super::units;

/// Where the value of a setting is.
pub(super) type Slot<T> = fn(&mut Settings) -> &mut T;

/// See the module.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Directory(Slot<PathBuf>),
    /// A file, or none.
    File(Slot<Option<PathBuf>>),
    Addresses(Slot<Vec<SocketAddr>>),
    /// A number of threads, or one for each processor.
    Threads(Slot<Option<u64>>, RangeInclusive<u64>),
    LogFilter(Slot<String>),
    /// A short text.
    Name(Slot<String>),
    /// A text that is never shown.
    Secret(Slot<String>),
    Truth(Slot<bool>),
    Count(Slot<u64>, RangeInclusive<u64>),
    /// In bytes, and a multiple of the last number.
    Size(Slot<u64>, RangeInclusive<u64>, u64),
    /// A size, or as much as befits the machine.
    Budget(Slot<Option<u64>>, RangeInclusive<u64>),
    /// In milliseconds, and a multiple of the last number.
    Time(Slot<Duration>, RangeInclusive<u64>, u64),
}

/// A value as somebody has written it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// In the environment or in a flag, where everything is text. A list has commas.
    Outside(OsString),
    /// In the file, where values have types.
    Text(String),
    Number(String),
    Truth(bool),
    List(Vec<Written>),
    /// Something that no setting is.
    Other(&'static str),
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Written::Outside(text) => write!(f, "{}", quoted(&text.to_string_lossy())),
            Written::Text(text) => write!(f, "{}", quoted(text)),
            Written::Number(number) => f.write_str(number),
            Written::Truth(truth) => write!(f, "{truth}"),
            Written::List(items) => {
                let items: Vec<String> = items.iter().map(Written::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Written::Other(what) => write!(f, "a value of the type {what}"),
        }
    }
}

impl Written {
    fn text(&self) -> Option<&str> {
        match self {
            Written::Outside(text) => text.to_str(),
            Written::Text(text) => Some(text),
            _ => None,
        }
    }

    fn count(&self) -> Option<u64> {
        match self {
            Written::Outside(text) => units::parse_count(text.to_str()?),
            Written::Number(number) => units::parse_count(number),
            _ => None,
        }
    }

    fn truth(&self) -> Option<bool> {
        match self {
            Written::Outside(text) => text.to_str()?.parse().ok(),
            Written::Truth(truth) => Some(*truth),
            _ => None,
        }
    }

    /// `Some(None)`: no file.
    fn file(&self) -> Option<Option<PathBuf>> {
        if self.text() == Some("") { Some(None) } else { self.directory().map(Some) }
    }

    fn directory(&self) -> Option<PathBuf> {
        let path = match self {
            Written::Outside(path) => PathBuf::from(path),
            Written::Text(path) => PathBuf::from(path),
            _ => return None,
        };
        // The system knows no file with a zero in its name.
        let can_be =
            !path.as_os_str().is_empty() && !path.as_os_str().as_encoded_bytes().contains(&0);
        can_be.then_some(path)
    }

    /// The texts of a list of addresses. `None` means something else than a list of texts.
    fn address_texts(&self) -> Option<Vec<&str>> {
        match self {
            Written::Outside(text) => Some(text.to_str()?.split(',').collect()),
            Written::List(items) => items
                .iter()
                .map(|item| if let Written::Text(text) = item { Some(&**text) } else { None })
                .collect(),
            _ => None,
        }
    }

    fn addresses(&self) -> Option<Vec<SocketAddr>> {
        let parsed = self.address_texts()?.into_iter().map(|one| addresses::parse(one).ok());
        let addresses: Vec<SocketAddr> = parsed.collect::<Option<Vec<_>>>()?.concat();
        let mut seen = HashSet::new();
        let once = addresses.iter().all(|address| address.port() == 0 || seen.insert(*address));
        (once && !addresses.is_empty()).then_some(addresses)
    }

    /// The fault of the first address that is none.
    fn address_fault(&self) -> Option<String> {
        self.address_texts()?.into_iter().find_map(|one| addresses::parse(one).err())
    }
}

impl Kind {
    /// Sets the setting to what is written. The error says what is wrong, and what is allowed.
    pub(super) fn set(&self, settings: &mut Settings, written: &Written) -> Result<(), String> {
        self.take(settings, written).ok_or_else(|| {
            let allowed = self.allowed();
            match self {
                Kind::Secret(_) => format!("cannot be what is written there: it must be {allowed}"),
                Kind::Addresses(_) if let Some(fault) = written.address_fault() => {
                    format!("cannot be {written}: {fault}; it must be {allowed}")
                }
                _ => format!("cannot be {written}: it must be {allowed}"),
            }
        })
    }

    fn take(&self, settings: &mut Settings, written: &Written) -> Option<()> {
        match self {
            Kind::Directory(slot) => *slot(settings) = written.directory()?,
            Kind::File(slot) => *slot(settings) = written.file()?,
            Kind::Addresses(slot) => *slot(settings) = written.addresses()?,
            Kind::Threads(slot, range) => {
                *slot(settings) = match written.text() {
                    Some(AUTO) => None,
                    _ => Some(written.count().filter(|count| range.contains(count))?),
                }
            }
            Kind::LogFilter(slot) => {
                *slot(settings) = written.text().filter(|text| is_log_filter(text))?.to_owned();
            }
            Kind::Name(slot) | Kind::Secret(slot) => {
                let fits = |text: &&str| (1..=LONGEST_NAME).contains(&text.len());
                // A zero separates name and password where they are sent.
                *slot(settings) =
                    written.text().filter(fits).filter(|text| !text.contains('\0'))?.to_owned();
            }
            Kind::Truth(slot) => *slot(settings) = written.truth()?,
            Kind::Count(slot, range) => {
                *slot(settings) = written.count().filter(|count| range.contains(count))?;
            }
            Kind::Size(slot, range, multiple) => {
                let fits = |size: &u64| range.contains(size) && size.is_multiple_of(*multiple);
                *slot(settings) = units::parse_size(written.text()?).filter(fits)?;
            }
            Kind::Budget(slot, range) => {
                *slot(settings) = match written.text()? {
                    AUTO => None,
                    text => Some(units::parse_size(text).filter(|size| range.contains(size))?),
                }
            }
            Kind::Time(slot, range, multiple) => {
                let fits = |time: &Duration| {
                    u64::try_from(time.as_millis())
                        .is_ok_and(|time| range.contains(&time) && time.is_multiple_of(*multiple))
                };
                *slot(settings) = units::parse_time(written.text()?).filter(fits)?;
            }
        }
        Some(())
    }

    /// The setting's value as it is written in the file. `None`: it is not to be shown, or cannot be written there.
    pub(super) fn show(&self, settings: &Settings) -> Option<String> {
        // The slots are for writing; one that is written to in vain costs less than a second set of them.
        let settings = &mut settings.clone();
        Some(match self {
            Kind::Directory(slot) => quoted(slot(settings).to_str()?),
            Kind::File(slot) => quoted(slot(settings).as_ref().map_or(Some(""), |f| f.to_str())?),
            Kind::Addresses(slot) => {
                let all: Vec<String> =
                    slot(settings).iter().map(|address| format!("\"{address}\"")).collect();
                format!("[{}]", all.join(", "))
            }
            Kind::Threads(slot, _) => {
                slot(settings).map_or_else(|| quoted(AUTO), |count| count.to_string())
            }
            Kind::LogFilter(slot) | Kind::Name(slot) => quoted(slot(settings)),
            Kind::Secret(_) => return None,
            Kind::Truth(slot) => slot(settings).to_string(),
            Kind::Count(slot, _) => slot(settings).to_string(),
            Kind::Size(slot, ..) => quoted(&units::show_size(*slot(settings))),
            Kind::Budget(slot, _) => {
                quoted(&slot(settings).map_or_else(|| AUTO.to_owned(), units::show_size))
            }
            Kind::Time(slot, ..) => quoted(&units::show_time(*slot(settings))),
        })
    }

    /// Whether it is a budget that follows from the memory that there is.
    pub(super) fn is_automatic(&self, settings: &Settings) -> bool {
        matches!(self, Kind::Budget(slot, _) if slot(&mut settings.clone()).is_none())
    }

    /// What the setting may be, for people.
    pub(super) fn allowed(&self) -> String {
        let size = units::show_size;
        let time = |milliseconds: &u64| units::show_time(Duration::from_millis(*milliseconds));
        match self {
            Kind::Directory(_) => "the path of a directory".to_owned(),
            Kind::File(_) => "the path of a file, or \"\" for none".to_owned(),
            Kind::Addresses(_) => {
                "a list of addresses with ports, each of them once, like [\"127.0.0.1:5672\", \"[::1]:5672\"] or [\"localhost:5672\"]"
                    .to_owned()
            }
            Kind::Threads(_, range) => {
                format!("\"{AUTO}\" or a number from {} to {}", range.start(), range.end())
            }
            Kind::LogFilter(_) => {
                "\"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\", or levels of parts, like \"info,haypile::amqp=debug\""
                    .to_owned()
            }
            Kind::Name(_) | Kind::Secret(_) => {
                format!("a text of 1 to {LONGEST_NAME} bytes without zero bytes")
            }
            Kind::Truth(_) => "true or false".to_owned(),
            Kind::Count(_, range) => {
                format!("a number from {} to {}", range.start(), range.end())
            }
            Kind::Size(_, range, multiple) => {
                let of = match multiple {
                    1 => String::new(),
                    _ => format!(" and a multiple of {}", size(*multiple)),
                };
                let (least, most) = (size(*range.start()), size(*range.end()));
                format!(
                    "a size from {least} to {most}{of}, written like \"64 MiB\", with B, KiB, MiB or GiB"
                )
            }
            Kind::Budget(_, range) => {
                let (least, most) = (size(*range.start()), size(*range.end()));
                format!(
                    "\"{AUTO}\" or a size from {least} to {most}, written like \"64 MiB\", with B, KiB, MiB or GiB"
                )
            }
            Kind::Time(_, range, multiple) => {
                let of = match multiple {
                    1 => String::new(),
                    _ => format!(" and a multiple of {}", time(multiple)),
                };
                let (least, most) = (time(range.start()), time(range.end()));
                format!("a time from {least} to {most}{of}, written like \"10 s\", with ms, s or min")
            }
        }
    }
}

/// What befits the machine.
const AUTO: &str = "auto";

/// What a short string of the protocol can hold, in bytes.
const LONGEST_NAME: usize = 255;

/// Whether it is a filter as one would want it. A level with a typo would be a part of the program that does not exist, and
/// everything else would be silent.
fn is_log_filter(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_meant = |one: &str| {
        let one = one.trim();
        LEVELS.contains(&&*one.to_lowercase()) || one.contains('=') || one.starts_with("haypile::")
    };
    text.split(',').all(is_meant) && EnvFilter::try_new(text).is_ok()
}

/// The text as a string of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for sign in text.chars() {
        match sign {
            '"' | '\\' => quoted.extend(['\\', sign]),
            sign if sign.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(sign))),
            sign => quoted.push(sign),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_toml_reads_them() {
        for text in
            ["plain", "", "a \"quote\"", "back\\slash", "two\nlines\t\u{7f}\0", "heu – 干草"]
        {
            let file = format!("a = {}", quoted(text));
            let table = toml::de::DeTable::parse(&file).unwrap();
            assert_eq!(table.get_ref().get("a").unwrap().get_ref().as_str(), Some(text));
        }
    }

    #[test]
    fn a_level_with_a_typo_is_no_filter() {
        for good in
            ["info", "WARN", "off", "info,haypile::amqp=debug", "haypile::storage", "a=warn"]
        {
            assert!(is_log_filter(good), "{good}");
        }
        for wrong in ["", "inof", "info,", "loud", "haypile::amqp=loud", "info;debug"] {
            assert!(!is_log_filter(wrong), "{wrong}");
        }
    }
}
