//! `haypile vhosts`

use clap::Subcommand;

use super::target::Target;
use super::{CommandError, Ended, end, limit, print_json, say_changed, tags};
use crate::cli::DONE;
use crate::cli::output::say;
use crate::server::control::{Answer, Request};

/// List and change virtual hosts. `/` is always there.
///
/// The server that runs on the data directory does it; if there is none, the directory is opened.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct VirtualHosts {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all virtual hosts.
    List {
        #[command(flatten)]
        target: Target,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Add a virtual host.
    Add {
        /// Its name.
        name: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
        /// Tags, for people.
        #[arg(long, value_name = "TAG,…", value_delimiter = ',')]
        tags: Vec<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Limit the connections and queues of a virtual host, for those to come; what is not given is not limited.
    Limit {
        /// Its name.
        name: String,
        /// Connections at the same time.
        #[arg(long, value_name = "COUNT")]
        connections: Option<u64>,
        /// Queues at the same time.
        #[arg(long, value_name = "COUNT")]
        queues: Option<u64>,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a virtual host with all that is in it, messages included, and close its connections.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        target: Target,
    },
}

impl VirtualHosts {
    pub(in crate::cli) fn run(self) -> u8 {
        end(self.action.run())
    }
}

impl Action {
    fn run(self) -> Ended {
        match self {
            Action::List { target, json } => match target.perform(&Request::ListVhosts)? {
                Answer::Vhosts(hosts) if json => print_json(&hosts),
                Answer::Vhosts(hosts) => {
                    for host in hosts {
                        let separator = if host.description.is_empty() { "" } else { ": " };
                        say!(
                            "{}{}{separator}{}{}{}",
                            host.name,
                            tags(&host.tags),
                            host.description,
                            limit("connections", host.max_connections),
                            limit("queues", host.max_queues)
                        );
                    }
                    Ok(DONE)
                }
                _ => Err(CommandError::OtherAnswer),
            },
            Action::Add { name, description, tags, target } => {
                let done = format!("vhost '{name}' added");
                let request = Request::AddVhost { name, description, tags };
                say_changed(&target.perform(&request)?, &done)
            }
            Action::Limit { name, connections, queues, target } => {
                let done = format!("limits of vhost '{name}' set");
                let request =
                    Request::LimitVhost { name, max_connections: connections, max_queues: queues };
                say_changed(&target.perform(&request)?, &done)
            }
            Action::Delete { name, target } => {
                let done = format!("vhost '{name}' deleted with all that was in it");
                say_changed(&target.perform(&Request::DeleteVhost { name })?, &done)
            }
        }
    }
}
