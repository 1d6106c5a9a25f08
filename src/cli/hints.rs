//! Tips for operators who know the words of other brokers: `rabbitmqctl`'s commands, common synonyms.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// Words that are no commands here, with the command line that does the same.
const COMMANDS: &[(&[&str], &str)] = &[
    (
        &["start", "run", "server", "daemon", "broker", "start_app"],
        "`haypile serve` runs the broker in the foreground",
    ),
    (
        &["stop", "shutdown", "stop_app", "restart"],
        "send SIGTERM to the server: it stops cleanly, and `haypile serve` starts it again",
    ),
    (
        &[
            "status",
            "list_queues",
            "list_consumers",
            "list_unresponsive_queues",
            "node_health_check",
            "report",
            "overview",
            "queues",
            "queue",
        ],
        "`haypile inspect` shows the queues, the log and the memory of a data directory, also while a \
         server runs on it",
    ),
    (
        &[
            "list_exchanges",
            "list_bindings",
            "exchanges",
            "bindings",
            "export_definitions",
            "export",
        ],
        "`haypile definitions export` prints exchanges, queues, bindings, users and policies",
    ),
    (&["import_definitions", "import"], "`haypile definitions import FILE`"),
    (&["user", "list_users", "list_user_permissions", "list_permissions"], "`haypile users list`"),
    (&["add_user"], "`haypile users add NAME`"),
    (&["delete_user"], "`haypile users delete NAME`"),
    (&["change_password"], "`haypile users password NAME`"),
    (&["set_permissions"], "`haypile users permit NAME`"),
    (&["clear_permissions"], "`haypile users forbid NAME`"),
    (&["set_topic_permissions"], "`haypile users permit-topics NAME`"),
    (&["clear_topic_permissions"], "`haypile users free-topics NAME`"),
    (&["set_user_limits", "clear_user_limits"], "`haypile users limit NAME`"),
    (&["vhost", "list_vhosts"], "`haypile vhosts list`"),
    (&["add_vhost"], "`haypile vhosts add NAME`"),
    (&["delete_vhost"], "`haypile vhosts delete NAME`"),
    (&["set_vhost_limits", "clear_vhost_limits"], "`haypile vhosts limit NAME`"),
    (&["policy", "list_policies"], "`haypile policies list`"),
    (&["set_policy"], "`haypile policies set NAME`"),
    (&["clear_policy"], "`haypile policies delete NAME`"),
    (&["connection", "list_connections", "list_channels"], "`haypile connections list`"),
    (&["close_connection", "close_all_connections"], "`haypile connections close ID`, or `--all`"),
    (&["environment", "settings", "configure"], "`haypile config` prints the settings in force"),
    (&["check", "fsck"], "`haypile verify` reads and checks every record of a store"),
    (&["version"], "`haypile --version`"),
];

/// Flags that are none here, with those that do the same.
const FLAGS: &[(&[&str], &str)] = &[
    (
        &["--port", "--host", "--address", "--bind", "-p"],
        "give address and port with --listen ADDR:PORT",
    ),
    (
        &["--dir", "--data", "--datadir", "--path", "-D"],
        "give the data directory with --data-dir DIR",
    ),
    (&["--conf", "--config-file", "-c", "-f"], "give the configuration file with --config FILE"),
    (&["--vhost"], "give the virtual host as `haypile help` and the command's --help show it"),
    (
        &["--user", "--username", "--password"],
        "set login.user and login.password with --set, or see `haypile users`",
    ),
    (&["--log-level", "--verbose", "-v", "--debug"], "set the log level with --set log=debug"),
];

/// The error with a tip for its unknown word, if there is one.
pub(super) fn with_tips(mut error: Error) -> Error {
    let (words, table) = match error.kind() {
        ErrorKind::InvalidSubcommand => (error.get(ContextKind::InvalidSubcommand), COMMANDS),
        ErrorKind::UnknownArgument => (error.get(ContextKind::InvalidArg), FLAGS),
        _ => return error,
    };
    let Some(ContextValue::String(word)) = words else { return error };
    // A flag is shown with its value.
    let word = word.split(['=', ' ']).next().unwrap_or_default();
    let found = table.iter().find(|(words, _)| words.contains(&word));
    if let Some((_, tip)) = found {
        // A similar word that clap has found is no better than the one that means the same.
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![(*tip).into()]));
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Arguments;

    fn error(arguments: &[&str]) -> String {
        let given = ["haypile"].into_iter().chain(arguments.iter().copied());
        with_tips(Arguments::try_parse_from(given).unwrap_err()).to_string()
    }

    #[test]
    fn words_of_other_brokers_are_answered_with_the_command_that_does_the_same() {
        for (arguments, tip) in [
            (&["user", "list"][..], "tip: `haypile users list`"),
            (&["status"], "tip: `haypile inspect` shows"),
            (&["list_queues"], "tip: `haypile inspect` shows"),
            (&["start"], "tip: `haypile serve` runs"),
            (&["serve", "--port", "5673"], "tip: give address and port with --listen ADDR:PORT"),
            (&["serve", "--port=5673"], "tip: give address and port with --listen ADDR:PORT"),
        ] {
            let error = error(arguments);
            assert!(error.contains(tip), "{arguments:?}: {error}");
            assert_eq!(error.matches("tip:").count(), 1, "{arguments:?}: {error}");
        }
    }

    #[test]
    fn an_unknown_word_without_a_tip_keeps_the_parsers_own() {
        assert!(error(&["inspct"]).contains("'inspect'"));
        assert!(!error(&["frobnicate"]).contains("tip: `haypile"));
    }

    #[test]
    fn no_word_with_a_tip_is_a_command() {
        let command = Arguments::command();
        for (words, _) in COMMANDS {
            assert!(words.iter().all(|word| command.find_subcommand(word).is_none()), "{words:?}");
        }
    }

    #[test]
    fn every_command_that_a_tip_names_exists() {
        for (_, tip) in COMMANDS {
            for named in tip.split('`').skip(1).step_by(2) {
                let mut words = named.split(' ');
                if words.next() != Some("haypile") {
                    continue;
                }
                let whole = Arguments::command();
                let mut command = &whole;
                for word in
                    words.take_while(|word| word.chars().all(|c| c.is_lowercase() || c == '-'))
                {
                    if word.starts_with('-') {
                        break;
                    }
                    command = command.find_subcommand(word).unwrap_or_else(|| panic!("{named}"));
                }
            }
        }
    }
}
