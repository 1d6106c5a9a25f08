//! `haypile policies`

use clap::Subcommand;

use super::target::Target;
use super::{CommandError, Ended, end, print_json, say_changed};
use crate::cli::DONE;
use crate::cli::output::say;
use crate::server::control::{Answer, PolicyRow, Request};

/// List and change policies, which say things of queues and exchanges by their names, also of those that exist.
///
/// The server that runs on the data directory does it; if there is none, the directory is opened.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Policies {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all policies.
    List {
        /// Only those of this virtual host.
        #[arg(long)]
        vhost: Option<String>,
        #[command(flatten)]
        target: Target,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Set a policy, in place of one of that name. It takes effect at once.
    Set {
        /// Its name.
        name: String,
        /// A regular expression of the names that it is for.
        pattern: String,
        /// What it says, as JSON: '{"max-length": 1000}'.
        definition: String,
        /// What it applies to: all, queues, exchanges, classic_queues or quorum_queues.
        #[arg(long, default_value = "all")]
        apply_to: String,
        /// Of several that match, the one with the highest is in force.
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        priority: i64,
        /// The virtual host.
        #[arg(long, default_value = "/")]
        vhost: String,
        /// It is an operator's: limits that apply whatever else is said.
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a policy.
    Delete {
        /// Its name.
        name: String,
        /// The virtual host.
        #[arg(long, default_value = "/")]
        vhost: String,
        /// It is an operator's.
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        target: Target,
    },
}

impl Policies {
    pub(in crate::cli) fn run(self) -> u8 {
        end(self.action.run())
    }
}

impl Action {
    fn run(self) -> Ended {
        match self {
            Action::List { vhost, target, json } => {
                match target.perform(&Request::ListPolicies { vhost })? {
                    Answer::Policies(policies) if json => print_json(&policies),
                    Answer::Policies(policies) => {
                        policies.iter().for_each(print);
                        Ok(DONE)
                    }
                    _ => Err(CommandError::OtherAnswer),
                }
            }
            Action::Set {
                name,
                pattern,
                definition,
                apply_to,
                priority,
                vhost,
                operator,
                target,
            } => {
                let definition = serde_json::from_str(&definition).map_err(|error| {
                    CommandError::Argument(format!("the definition is no JSON: {error}"))
                })?;
                let done = format!("policy '{name}' in vhost '{vhost}' set");
                let request = Request::SetPolicy {
                    vhost,
                    operator,
                    name,
                    pattern,
                    apply_to,
                    priority,
                    definition,
                };
                say_changed(&target.perform(&request)?, &done)
            }
            Action::Delete { name, vhost, operator, target } => {
                let done = format!("policy '{name}' in vhost '{vhost}' deleted");
                let request = Request::DeletePolicy { vhost, operator, name };
                say_changed(&target.perform(&request)?, &done)
            }
        }
    }
}

fn print(policy: &PolicyRow) {
    let operator = if policy.operator { " (operator)" } else { "" };
    say!(
        "{}{operator} in vhost '{}': {} matching '{}', priority {}: {}",
        policy.name,
        policy.vhost,
        policy.apply_to,
        policy.pattern,
        policy.priority,
        policy.definition
    );
}
