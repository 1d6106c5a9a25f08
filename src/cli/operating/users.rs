//! `haypile users`

use clap::Subcommand;

use super::password::PasswordSource;
use super::target::Target;
use super::{CommandError, Ended, end, limit, print_json, say_changed, tags};
use crate::cli::DONE;
use crate::cli::output::say;
use crate::server::control::{Answer, Request, UserRow};

/// List and change the users that are kept in the store. The user of the settings is stored when a
/// server starts on an empty directory.
///
/// The server that runs on the data directory does it; if there is none, the directory is opened.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Users {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all users and what they may do.
    List {
        #[command(flatten)]
        target: Target,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Add a user, who may do nothing until permitted. The password is read from standard input.
    Add {
        /// The user's name.
        name: String,
        #[command(flatten)]
        password: PasswordSource,
        /// Tags, kept for other programs.
        #[arg(long, value_name = "TAG,…", value_delimiter = ',')]
        tags: Vec<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Give a user another password, which is read from standard input. Connections that are open stay so.
    Password {
        /// The user's name.
        name: String,
        #[command(flatten)]
        password: PasswordSource,
        #[command(flatten)]
        target: Target,
    },
    /// Say what a user may do in a virtual host: three regular expressions of names. It holds at once.
    Permit {
        /// The user's name.
        name: String,
        /// Which queues and exchanges the user may declare and delete; '' for none.
        configure: String,
        /// Which the user may publish to and bind; '' for none.
        write: String,
        /// Which the user may consume from and bind to; '' for none.
        read: String,
        /// The virtual host.
        #[arg(long, default_value = "/")]
        vhost: String,
        #[command(flatten)]
        target: Target,
    },
    /// Take what a user may do in a virtual host away.
    Forbid {
        /// The user's name.
        name: String,
        /// The virtual host.
        #[arg(long, default_value = "/")]
        vhost: String,
        #[command(flatten)]
        target: Target,
    },
    /// Restrict the routing keys that a user may use with a topic exchange: two regular expressions, in which {username} and
    /// {vhost} stand for the names.
    PermitTopics {
        /// The user's name.
        name: String,
        /// The exchange.
        exchange: String,
        /// Which keys the user may publish with.
        write: String,
        /// Which keys the user may bind with.
        read: String,
        /// The virtual host.
        #[arg(long, default_value = "/")]
        vhost: String,
        #[command(flatten)]
        target: Target,
    },
    /// Let a user use all routing keys of an exchange again.
    FreeTopics {
        /// The user's name.
        name: String,
        /// The exchange.
        exchange: String,
        /// The virtual host.
        #[arg(long, default_value = "/")]
        vhost: String,
        #[command(flatten)]
        target: Target,
    },
    /// Limit a user's connections and channels, for those to come; what is not given is not limited.
    Limit {
        /// The user's name.
        name: String,
        /// Connections at the same time.
        #[arg(long, value_name = "COUNT")]
        connections: Option<u64>,
        /// Channels at the same time, on all connections together.
        #[arg(long, value_name = "COUNT")]
        channels: Option<u64>,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a user, and close the user's connections.
    Delete {
        /// The user's name.
        name: String,
        #[command(flatten)]
        target: Target,
    },
}

impl Users {
    pub(in crate::cli) fn run(self) -> u8 {
        end(self.action.run())
    }
}

impl Action {
    fn run(self) -> Ended {
        match self {
            Action::List { target, json } => match target.perform(&Request::ListUsers)? {
                Answer::Users(users) if json => print_json(&users),
                Answer::Users(users) => {
                    users.iter().for_each(print);
                    Ok(DONE)
                }
                _ => Err(CommandError::OtherAnswer),
            },
            Action::Add { name, password, tags, target } => {
                let password = password.read()?;
                let (algorithm, hash) = (password.algorithm().to_owned(), password.hash());
                let done =
                    format!("user '{name}' added; `haypile users permit` says what it may do");
                let request = Request::AddUser { name, algorithm, hash, tags };
                say_changed(&target.perform(&request)?, &done)
            }
            Action::Password { name, password, target } => {
                let password = password.read()?;
                let (algorithm, hash) = (password.algorithm().to_owned(), password.hash());
                let done = format!("user '{name}' has another password");
                let request = Request::ChangePassword { name, algorithm, hash };
                say_changed(&target.perform(&request)?, &done)
            }
            Action::Permit { name, configure, write, read, vhost, target } => {
                let done = format!("permissions of user '{name}' in vhost '{vhost}' set");
                let request = Request::Permit { user: name, vhost, configure, write, read };
                say_changed(&target.perform(&request)?, &done)
            }
            Action::Forbid { name, vhost, target } => {
                let done = format!("user '{name}' has no permissions in vhost '{vhost}' any more");
                say_changed(&target.perform(&Request::Forbid { user: name, vhost })?, &done)
            }
            Action::PermitTopics { name, exchange, write, read, vhost, target } => {
                let done =
                    format!("user '{name}' may use these routing keys of exchange '{exchange}'");
                let request = Request::PermitTopics { user: name, vhost, exchange, write, read };
                say_changed(&target.perform(&request)?, &done)
            }
            Action::FreeTopics { name, exchange, vhost, target } => {
                let done =
                    format!("user '{name}' may use all routing keys of exchange '{exchange}'");
                let request = Request::FreeTopics { user: name, vhost, exchange };
                say_changed(&target.perform(&request)?, &done)
            }
            Action::Limit { name, connections, channels, target } => {
                let done = format!("limits of user '{name}' set");
                let request = Request::LimitUser {
                    name,
                    max_connections: connections,
                    max_channels: channels,
                };
                say_changed(&target.perform(&request)?, &done)
            }
            Action::Delete { name, target } => {
                let done = format!("user '{name}' deleted");
                say_changed(&target.perform(&Request::DeleteUser { name })?, &done)
            }
        }
    }
}

fn print(user: &UserRow) {
    if user.settings {
        say!("{}: not stored, may do everything", user.name);
        return;
    }
    say!(
        "{}{}{}{}{}",
        user.name,
        tags(&user.tags),
        if user.password { "" } else { ", has no password and cannot log in" },
        limit("connections", user.max_connections),
        limit("channels", user.max_channels)
    );
    for may in &user.permissions {
        say!(
            "  in vhost '{}': configure '{}', write '{}', read '{}'",
            may.vhost,
            may.configure,
            may.write,
            may.read
        );
    }
    for may in &user.topic_permissions {
        say!(
            "  in vhost '{}', routing keys of exchange '{}': write '{}', read '{}'",
            may.vhost,
            may.exchange,
            may.write,
            may.read
        );
    }
}
