//! Where settings come from: a flag counts more than a variable, a variable more than the file, the file more than the default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::addresses;
use super::file;
use super::kind::{Kind, Written};
use super::settings::Settings;
use super::suggestion::nearest;
use super::table::{PREFIX, SETTINGS, Setting};
use super::{Origin, Problem, Stated};
use crate::cli::complain;
use crate::cli::output::remark;
use crate::server::is_readable_by_all;

/// The variable that names the file.
const FILE: &str = "HAYPILE_CONFIG";

/// Variables with our prefix that are not the server's: those of the tests and of their brokers.
const OF_OTHERS: [&str; 9] = [
    "HAYPILE_BIN",
    "HAYPILE_BROKER_SEEDS",
    "HAYPILE_DURABILITY_ROUNDS",
    "HAYPILE_DURABILITY_SEED",
    "HAYPILE_PID",
    "HAYPILE_REQUIRE_INTEROP",
    "HAYPILE_SCHEDULES",
    "HAYPILE_STRESS_SEEDS",
    "HAYPILE_URI",
];

/// The flags that settings come from.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct Sources {
    /// A configuration file; `haypile config` prints one to begin with. Without this, the file that the environment variable
    /// HAYPILE_CONFIG names, or none.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where the data is kept; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// An address to listen on, instead of the configured ones; may be given several times. A port alone, and
    /// localhost:PORT, listen on both loopback addresses. Port 0 means any free port.
    #[arg(long, value_name = "ADDR:PORT", value_parser = addresses::checked)]
    pub(super) listen: Vec<String>,
    /// Any other setting, such as --set "limits.message_size=16 MiB"; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    pub(super) set: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err("there is no '=' in it: write KEY=VALUE".to_owned()),
    }
}

/// The names of all variables of this process that have our prefix, for those who start servers that are not to be changed by
/// them.
pub(in crate::cli) fn variables() -> impl Iterator<Item = OsString> {
    let is_ours = |name: &OsString| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    std::env::vars_os().map(|(name, _)| name).filter(is_ours)
}

/// The settings that count, and where those that are no defaults come from.
pub(in crate::cli) struct Effective {
    pub(in crate::cli) settings: Settings,
    origins: BTreeMap<&'static str, Origin>,
    pub(super) warnings: Vec<String>,
}

impl Effective {
    pub(super) fn origin(&self, setting: &Setting) -> &Origin {
        self.origins.get(setting.key).unwrap_or(&Origin::Default)
    }

    fn stated(&self, key: &'static str) -> Stated {
        let setting = Setting::find(key).expect("what is compared is in the table");
        let value = setting.kind.show(&self.settings).unwrap_or_else(|| "…".to_owned());
        Stated { key, value, origin: self.origin(setting).clone() }
    }
}

impl Sources {
    /// The settings of this process. `None`: they cannot be used, and standard error says why.
    ///
    /// Warnings are on standard error, whatever the log's level.
    pub(in crate::cli) fn effective(&self) -> Option<Effective> {
        match self.gather(std::env::vars_os()) {
            Ok(effective) => {
                for warning in &effective.warnings {
                    complain(&format!("warning: {warning}"));
                }
                Some(effective)
            }
            Err(problems) => {
                for problem in problems {
                    complain(&problem);
                    if let Problem::RabbitMq { toml, .. } = &problem {
                        toml.lines().for_each(|line| remark!("{line}"));
                    }
                }
                None
            }
        }
    }

    /// The settings with these environment variables.
    pub(super) fn gather(
        &self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Effective, Vec<Problem>> {
        let ours: BTreeMap<String, OsString> = environment
            .into_iter()
            // As in most programs: a variable without a value is not set.
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        let mut gathering = Gathering::default();
        if let Some(path) = self.config.as_deref().or(ours.get(FILE).map(Path::new)) {
            gathering.file(path);
        }
        gathering.environment(&ours);
        gathering.flags(self);
        gathering.end()
    }
}

#[derive(Default)]
struct Gathering {
    settings: Settings,
    origins: BTreeMap<&'static str, Origin>,
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

impl Gathering {
    fn file(&mut self, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let (found, problems) = file::read(path, &text);
                if found.iter().any(|(setting, ..)| matches!(setting.kind, Kind::Secret(_)))
                    && is_readable_by_all(path)
                {
                    self.warnings.push(format!(
                        "every user of this machine can read {}, and a password is in it: take the permission away \
                         (`chmod o= FILE`)",
                        path.display()
                    ));
                }
                self.problems.extend(problems);
                for (setting, written, origin) in found {
                    self.set(setting, &written, origin);
                }
                // As one goes through the file to mend it.
                self.problems.sort_by_key(Problem::line);
            }
            Err(error) => self
                .problems
                .push(Problem::Unreadable { path: path.to_owned(), error: error.to_string() }),
        }
    }

    fn environment(&mut self, variables: &BTreeMap<String, OsString>) {
        let known: Vec<(String, &Setting)> =
            SETTINGS.iter().map(|setting| (setting.variable(), setting)).collect();
        for (name, value) in variables {
            if let Some((_, setting)) = known.iter().find(|(known, _)| known == name) {
                let written = Written::Outside(value.clone());
                self.set(setting, &written, Origin::Variable(name.clone()));
            } else if name != FILE && !OF_OTHERS.contains(&&**name) {
                let short = name.trim_start_matches(PREFIX);
                let names = known.iter().map(|(known, _)| known.trim_start_matches(PREFIX));
                let hint = match nearest(short, names) {
                    Some(meant) => format!(": did you mean {PREFIX}{meant}?"),
                    None => " and is passed over: `haypile config` shows all that there are".into(),
                };
                self.warnings.push(format!("the variable {name} is none of the settings{hint}"));
            }
        }
    }

    fn flags(&mut self, sources: &Sources) {
        let mut given = Vec::new();
        if let Some(dir) = &sources.data_dir {
            given.push(("--data-dir", "data_dir", dir.as_os_str().to_owned()));
        }
        if !sources.listen.is_empty() {
            given.push(("--listen", "listen", sources.listen.join(",").into()));
        }
        for (key, value) in &sources.set {
            given.push(("--set", key, value.into()));
        }
        for (flag, key, value) in given {
            let origin = Origin::Flag(flag);
            let Some(setting) = Setting::find(key) else {
                let meant = nearest(key, SETTINGS.iter().map(|setting| setting.key));
                self.problems.push(Problem::Unknown { origin, key: key.to_owned(), meant });
                continue;
            };
            if matches!(self.origins.get(setting.key), Some(Origin::Flag(_))) {
                self.problems.push(Problem::Twice(setting.key));
            }
            self.set(setting, &Written::Outside(value), origin);
        }
    }

    fn set(&mut self, setting: &'static Setting, written: &Written, origin: Origin) {
        match setting.kind.set(&mut self.settings, written) {
            Ok(()) => {
                self.origins.insert(setting.key, origin);
            }
            Err(wrong) => {
                self.problems.push(Problem::Value { origin, key: setting.key, wrong });
            }
        }
    }

    fn end(self) -> Result<Effective, Vec<Problem>> {
        let Gathering { settings, origins, mut warnings, mut problems } = self;
        // What a wrong value stands beside would only be said to be wrong too.
        if problems.is_empty() {
            warnings.extend(settings.warnings());
            let effective = Effective { settings, origins, warnings };
            for (one, other, why) in effective.settings.contradictions() {
                let (one, other) = (effective.stated(one), effective.stated(other));
                problems.push(Problem::Contradiction { one, other, why });
            }
            if problems.is_empty() {
                return Ok(effective);
            }
        }
        Err(problems)
    }
}
