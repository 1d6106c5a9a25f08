//! The settings as a whole: the table is sound, and each source counts as much as it should.
#![allow(clippy::disallowed_methods)] // a configuration file is no file of the engine

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file;
use super::kind::{Kind, Written};
use super::settings::Settings;
use super::sources::{Effective, Sources};
use super::table::{SECTIONS, SETTINGS, Setting};
use super::template::render;
use super::units::{show_size, show_time};

/// A value that is not the setting's default, as it is written in a variable.
fn another(setting: &Setting) -> String {
    match &setting.kind {
        Kind::Directory(_) | Kind::File(_) => "else\"where\\".to_owned(),
        Kind::Addresses(_) => "127.0.0.1:1,[::1]:2".to_owned(),
        Kind::LogFilter(_) => "warn,haypile::amqp=debug".to_owned(),
        Kind::Name(_) | Kind::Secret(_) => "Zoë".to_owned(),
        Kind::Truth(_) => "true".to_owned(),
        Kind::Threads(_, range) | Kind::Count(_, range) => range.end().to_string(),
        Kind::Size(_, range, _) => show_size(*range.end()),
        Kind::Budget(_, range) => show_size(*range.end()),
        Kind::Time(_, range, _) => show_time(Duration::from_millis(*range.end())),
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// The settings with these flags and variables; the problems as they are printed.
fn gather(sources: &Sources, variables: &[(&str, &str)]) -> Result<Effective, Vec<String>> {
    sources.gather(environment(variables)).map_err(|problems| {
        problems
            .iter()
            .map(|problem| problem.to_string().replace(&file_name(sources), "FILE"))
            .collect()
    })
}

fn file_name(sources: &Sources) -> String {
    sources.config.as_ref().map_or_else(|| "no file".to_owned(), |path| path.display().to_string())
}

/// A file with that text, which `use_it` can have read.
fn with_file<T>(text: &str, use_it: impl FnOnce(Sources) -> T) -> T {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("haypile.toml");
    fs::write(&path, text).unwrap();
    use_it(Sources { config: Some(path), ..Sources::default() })
}

/// What is wrong with a file of that text.
fn problems(text: &str) -> Vec<String> {
    with_file(text, |sources| gather(&sources, &[]).err().unwrap_or_default())
}

fn shown(settings: &Settings) -> Vec<Option<String>> {
    SETTINGS.iter().map(|setting| setting.kind.show(settings)).collect()
}

#[test]
fn every_setting_has_its_own_key_and_variable_and_stands_with_its_section() {
    let keys: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    let variables: BTreeSet<String> = SETTINGS.iter().map(Setting::variable).collect();
    assert_eq!((keys.len(), variables.len()), (SETTINGS.len(), SETTINGS.len()));
    let sections: Vec<&str> = SETTINGS.iter().map(|setting| setting.place().0).collect();
    let mut in_order = sections.clone();
    in_order.dedup();
    assert_eq!(in_order, SECTIONS.map(|(section, _)| section));
    assert_eq!(
        Setting::find("limits.message_size").unwrap().variable(),
        "HAYPILE_LIMITS_MESSAGE_SIZE"
    );
}

/// What a server gets, with files for TLS where none are set: without them the other settings of TLS mean nothing.
fn served(settings: &Settings) -> String {
    let mut settings = settings.clone();
    let tls = &mut settings.tls;
    for (file, name) in [
        (&mut tls.certificate, "certificate.pem"),
        (&mut tls.key, "key.pem"),
        (&mut tls.client_roots, "roots.pem"),
    ] {
        file.get_or_insert_with(|| name.into());
    }
    format!("{:?}", settings.into_config())
}

#[test]
fn every_setting_changes_itself_alone_and_reaches_the_server() {
    let defaults = Settings::default();
    let config = served(&defaults);
    for (index, setting) in SETTINGS.iter().enumerate() {
        let mut settings = defaults.clone();
        setting.kind.set(&mut settings, &Written::Outside(another(setting).into())).unwrap();
        assert!(settings != defaults, "{} changes nothing", setting.key);
        for (other, (before, after)) in
            shown(&defaults).into_iter().zip(shown(&settings)).enumerate()
        {
            let changed = before != after;
            let secret = matches!(setting.kind, Kind::Secret(_));
            assert_eq!(changed, other == index && !secret, "{} {other}", setting.key);
        }
        let users = settings.clone().into_config().users;
        match setting.key {
            // The log is not the server's, and a password shows nowhere.
            "log" => assert_eq!(settings.log, another(setting)),
            "login.password" => assert_eq!(users[0].password, another(setting)),
            key => assert_ne!(served(&settings), config, "{key}"),
        }
    }
}

#[test]
fn without_any_source_a_server_runs_with_the_defaults_that_the_library_has() {
    let ours = gather(&Sources::default(), &[]).ok().unwrap().settings.into_config();
    let library = crate::server::Config::default();
    assert_eq!(format!("{ours:?}"), format!("{library:?}"));
    assert!(ours.users == library.users);
}

#[test]
fn the_template_with_all_its_lines_in_force_sets_every_default() {
    let effective = gather(&Sources::default(), &[]).ok().unwrap();
    let template = render(&effective);
    let in_force: Vec<&str> = template
        .lines()
        .map(|line| {
            let set = line.strip_prefix("# ").filter(|set| set.split(' ').nth(1) == Some("="));
            set.unwrap_or(line)
        })
        .collect();
    let (found, wrong) = file::read(Path::new("template"), &in_force.join("\n"));
    assert_eq!((wrong, found.len()), (vec![], SETTINGS.len()));
    let mut settings = Settings::default();
    for (setting, written, _) in found {
        setting.kind.set(&mut settings, &written).unwrap();
    }
    assert_eq!(shown(&settings), shown(&Settings::default()));
}

#[test]
fn what_is_printed_is_a_file_with_the_same_effect() {
    let variables: Vec<(String, String)> = SETTINGS
        .iter()
        .map(|setting| (setting.variable(), another(setting)))
        .filter(|(variable, _)| variable != "HAYPILE_LIMITS_CLOSE_TIMEOUT")
        .collect();
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (&**name, &**value)).collect();
    let effective = gather(&Sources::default(), &variables).ok().unwrap();
    let printed = render(&effective);
    assert!(!printed.contains("password = \"Zoë\""), "{printed}");
    assert!(printed.contains("# From: variable HAYPILE_LOGIN_PASSWORD; not shown\n"), "{printed}");
    with_file(&printed, |sources| {
        let again = gather(&sources, &[]).ok().unwrap();
        assert_eq!(shown(&again.settings), shown(&effective.settings));
    });
}

#[test]
fn a_flag_counts_more_than_a_variable_and_that_more_than_the_file() {
    let text = "listen = [\"127.0.0.1:1\"]\ndata_dir = \"file\"\nthreads = 1\nlog = \"warn\"\n";
    with_file(text, |mut sources| {
        sources.listen = vec!["127.0.0.1:3".parse().unwrap()];
        sources.set = vec![("threads".to_owned(), "3".to_owned())];
        let variables = [
            ("HAYPILE_LISTEN", "127.0.0.1:2"),
            ("HAYPILE_DATA_DIR", "variable"),
            ("HAYPILE_THREADS", "2"),
            // Set to nothing is not set.
            ("HAYPILE_LOG", ""),
        ];
        let effective = gather(&sources, &variables).ok().unwrap();
        let stated: Vec<(String, String)> = SETTINGS[..5]
            .iter()
            .map(|setting| {
                let origin = effective.origin(setting).to_string();
                let value = setting.kind.show(&effective.settings).unwrap();
                (value, origin.replace(&file_name(&sources), "FILE"))
            })
            .collect();
        let stated: Vec<(&str, &str)> = stated.iter().map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(
            stated,
            [
                ("\"variable\"", "variable HAYPILE_DATA_DIR"),
                ("[\"127.0.0.1:3\"]", "flag --listen"),
                ("3", "flag --set"),
                ("\"warn\"", "FILE, line 4"),
                ("\"5 s\"", "default"),
            ]
        );
    });
}

#[test]
fn the_file_may_be_named_by_a_variable_and_a_flag_counts_more() {
    with_file("threads = 7", |sources| {
        let path = file_name(&sources);
        let variables = [("HAYPILE_CONFIG", &*path)];
        let effective = gather(&Sources::default(), &variables).ok().unwrap();
        assert_eq!(effective.settings.threads, Some(7));
        let effective = gather(&sources, &[("HAYPILE_CONFIG", "/nowhere")]).ok().unwrap();
        assert_eq!(effective.settings.threads, Some(7));
    });
}

#[test]
fn all_that_is_wrong_with_a_file_is_said_at_once_in_the_order_of_its_lines() {
    let text = "\
limits = 3
lisen = []
[storage]
cache = \"128 MB\"
index = 64
segmentsize = \"1 MiB\"
[colours]
[login.more]
remote = 1
";
    assert_eq!(
        problems(text),
        [
            "FILE, line 1: `limits` is a section: write `[limits]` on a line of its own, and its settings below",
            "FILE, line 2: unknown key `lisen`: did you mean `listen`?",
            "FILE, line 4: `storage.cache` cannot be \"128 MB\": it must be \"auto\" or a size from 0 B to 1024 GiB, written like \"64 MiB\", with B, KiB, MiB or GiB",
            "FILE, line 5: `storage.index` cannot be 64: it must be \"auto\" or a size from 1 MiB to 1024 GiB, written like \"64 MiB\", with B, KiB, MiB or GiB",
            "FILE, line 6: unknown key `storage.segmentsize`: did you mean `storage.segment_size`?",
            "FILE, line 7: unknown key `colours`: `haypile config` shows all that there are",
            "FILE, line 9: unknown key `login.more.remote`: did you mean `login.remote`?",
        ]
    );
}

#[test]
fn a_value_that_cannot_be_is_refused_with_what_can() {
    for (text, wrong) in [
        ("data_dir = \"\"", "`data_dir` cannot be \"\": it must be the path of a directory"),
        (
            "data_dir = { at = 1 }",
            "`data_dir` cannot be a value of the type table: it must be the path of a directory",
        ),
        ("threads = 0", "`threads` cannot be 0: it must be \"auto\" or a number from 1 to 1024"),
        ("threads = -1", "`threads` cannot be -1: it must be \"auto\" or a number from 1 to 1024"),
        (
            "threads = \"4\"",
            "`threads` cannot be \"4\": it must be \"auto\" or a number from 1 to 1024",
        ),
        (
            "threads = 99999999999999999999999",
            "`threads` cannot be 99999999999999999999999: it must be \"auto\" or a number from 1 to 1024",
        ),
        ("login.remote = \"yes\"", "`login.remote` cannot be \"yes\": it must be true or false"),
        (
            "login.password = 12345",
            "`login.password` cannot be what is written there: it must be a text of 1 to 255 bytes without zero bytes",
        ),
        (
            "limits.heartbeat = \"1500 ms\"",
            "`limits.heartbeat` cannot be \"1500 ms\": it must be a time from 0 ms to 60 min and a multiple of 1 s, written like \"10 s\", with ms, s or min",
        ),
        (
            "storage.segment_size = \"1048577 B\"",
            "`storage.segment_size` cannot be \"1048577 B\": it must be a size from 1 MiB to 4 GiB and a multiple of 4 KiB, written like \"64 MiB\", with B, KiB, MiB or GiB",
        ),
    ] {
        assert_eq!(problems(text), [format!("FILE, line 1: {wrong}")]);
    }
    for text in [
        "listen = []",
        "listen = \"127.0.0.1:1\"",
        "listen = [\"localhost\"]",
        "listen = [1]",
        "listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
    ] {
        let problems = problems(text);
        assert!(problems[0].contains("it must be a list of addresses with ports"), "{problems:?}");
    }
    // Any free port, twice, are two.
    assert_eq!(problems("listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]"), [] as [String; 0]);
    assert_eq!(problems("threads = 0x10"), [] as [String; 0]);
}

#[test]
fn what_is_no_toml_is_named_with_its_line() {
    let problems = problems("log = \"info\"\nthreads 4\n");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("FILE, line 2: this is not TOML: "), "{problems:?}");
}

#[test]
fn values_that_make_no_sense_together_are_refused_with_where_each_comes_from() {
    let wrong = with_file("storage.segment_size = \"1 GiB\"\n", |sources| {
        gather(&sources, &[("HAYPILE_GRACE", "1 s")]).err().unwrap()
    });
    assert_eq!(
        wrong,
        [
            "`grace` = \"1 s\" (variable HAYPILE_GRACE) and `limits.close_timeout` = \"3 s\" (default) make no sense together: at a stop, clients would be cut off that still have time to say goodbye; `grace` must not be the shorter one",
            "`storage.checkpoint_distance` = \"128 MiB\" (default) and `storage.segment_size` = \"1 GiB\" (FILE, line 1) make no sense together: a checkpoint is there to free whole segments; `storage.checkpoint_distance` must not be the smaller one",
        ]
    );
}

#[test]
fn flags_that_are_unknown_or_say_the_same_twice_are_refused() {
    let mut sources = Sources {
        data_dir: Some(PathBuf::from("a")),
        set: vec![
            ("data_dir".to_owned(), "b".to_owned()),
            ("limits.cache".to_owned(), String::new()),
        ],
        ..Sources::default()
    };
    assert_eq!(
        gather(&sources, &[]).err().unwrap(),
        [
            "`data_dir` is set by two flags: leave one of them out",
            "flag --set: unknown key `limits.cache`: did you mean `storage.cache`?",
        ]
    );
    sources.set.clear();
    assert!(gather(&sources, &[]).is_ok());
}

#[test]
fn a_variable_that_is_no_setting_is_a_warning_unless_it_is_for_something_else() {
    let variables = [
        ("HAYPILE_LIMITS_MESAGE_SIZE", "1 MiB"),
        ("HAYPILE_COLOUR", "green"),
        ("HAYPILE_REQUIRE_INTEROP", "1"),
        ("HAYPILE_PID", "1"),
        ("HAYPILER_LISTEN", "x"),
    ];
    let effective = gather(&Sources::default(), &variables).ok().unwrap();
    assert_eq!(
        effective.warnings,
        [
            "the variable HAYPILE_COLOUR is none of the settings and is passed over: `haypile config` shows all that there are",
            "the variable HAYPILE_LIMITS_MESAGE_SIZE is none of the settings: did you mean HAYPILE_LIMITS_MESSAGE_SIZE?",
        ]
    );
    assert!(effective.settings == Settings::default());
}

#[test]
fn the_default_password_for_everybody_is_a_warning() {
    let remote = ("HAYPILE_LOGIN_REMOTE", "true");
    let effective = gather(&Sources::default(), &[remote]).ok().unwrap();
    assert_eq!(effective.warnings.len(), 1);
    let own = [remote, ("HAYPILE_LOGIN_PASSWORD", "own")];
    let effective = gather(&Sources::default(), &own).ok().unwrap();
    assert_eq!(effective.warnings, [] as [String; 0]);
}

#[test]
fn every_budget_is_shown_with_what_auto_comes_to() {
    let effective =
        gather(&Sources::default(), &[("HAYPILE_STORAGE_INDEX", "2 MiB")]).ok().unwrap();
    let text = render(&effective);
    let budgets = SETTINGS.iter().filter(|setting| matches!(setting.kind, Kind::Budget(..)));
    for setting in budgets {
        let (_, name) = setting.place();
        let line = text
            .lines()
            .position(|line| line.trim_start_matches("# ").starts_with(&format!("{name} = ")))
            .unwrap();
        let before = text.lines().nth(line - 1).unwrap();
        let is_auto = setting.key != "storage.index";
        assert_eq!(before.starts_with("# Here \"auto\" comes to "), is_auto, "{before}");
    }
}

#[test]
fn budgets_follow_from_a_limit_on_memory_that_is_set() {
    let limit = [("HAYPILE_LIMITS_MEMORY", "40 MiB")];
    let config = gather(&Sources::default(), &limit).ok().unwrap().settings.into_config();
    let mib = |count: u64| count << 20;
    assert_eq!((config.storage.cache, config.storage.index), (mib(10), mib(2)));
    assert_eq!((config.limits.message_size, config.storage.unsynced_limit), (mib(10), mib(5)));
    assert_eq!(config.limits.receive_memory, 5 << 20);
    let broker = config.broker_limits;
    assert_eq!(
        (broker.topology, broker.owned_topology, broker.transaction),
        (10 << 20, 2 << 20, 10 << 20)
    );
    let own = [limit[0], ("HAYPILE_LIMITS_TOPOLOGY", "1 GiB")];
    let config = gather(&Sources::default(), &own).ok().unwrap().settings.into_config();
    assert_eq!(config.broker_limits.topology, 1 << 30);
}

#[test]
fn a_cache_beyond_the_memory_that_there_is_is_a_warning() {
    let cache = [("HAYPILE_STORAGE_CACHE", "1024 GiB")];
    let effective = gather(&Sources::default(), &cache).ok().unwrap();
    assert_eq!(effective.warnings.len(), 1);
    assert!(effective.warnings[0].starts_with("`storage.cache` is 1024 GiB, and `limits.memory`"));
}

#[test]
fn settings_of_tls_that_mean_nothing_alone_are_refused() {
    let nothing = |text: &str| {
        let problems = problems(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
    };
    nothing("[tls]\ncertificate = \"a.pem\"");
    nothing("[tls]\nkey = \"a.pem\"");
    nothing("[tls]\nonly = true");
    nothing("[tls]\nclient_roots = \"a.pem\"");
    let identity = "[tls]\ncertificate = \"a.pem\"\nkey = \"b.pem\"";
    assert_eq!(problems(identity), [""; 0]);
    nothing(&format!("{identity}\nrequire_client_certificate = true"));
    let all = format!(
        "{identity}\nclient_roots = \"c.pem\"\nrequire_client_certificate = true\nonly = true"
    );
    assert_eq!(problems(&all), [""; 0]);
}
