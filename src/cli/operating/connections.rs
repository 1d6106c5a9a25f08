//! `haypile connections`

use clap::Subcommand;

use super::target::Target;
use super::{CommandError, Ended, end, print_json};
use crate::cli::DONE;
use crate::cli::output::say;
use crate::server::control::{Answer, Request};

/// List and close the connections of a running server.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Connections {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all connections.
    List {
        #[command(flatten)]
        target: Target,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Close a connection, or all of them. Clients are told why (320), and may come back.
    Close {
        /// The number that `list` shows.
        #[arg(required_unless_present = "all")]
        id: Option<u64>,
        /// All connections.
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// What the client is told.
        #[arg(long, default_value = "closed by an operator")]
        reason: String,
        #[command(flatten)]
        target: Target,
    },
}

impl Connections {
    pub(in crate::cli) fn run(self) -> u8 {
        end(self.action.run())
    }
}

impl Action {
    fn run(self) -> Ended {
        match self {
            Action::List { target, json } => {
                match target.perform_on_server(&Request::ListConnections)? {
                    Answer::Connections(all) if json => print_json(&all),
                    Answer::Connections(all) => {
                        for one in all {
                            say!(
                                "{}: {} as '{}' in vhost '{}', {} channels",
                                one.id,
                                one.peer,
                                one.user,
                                one.vhost,
                                one.channels
                            );
                        }
                        Ok(DONE)
                    }
                    _ => Err(CommandError::OtherAnswer),
                }
            }
            Action::Close { id, all: _, reason, target } => {
                match target.perform_on_server(&Request::CloseConnections { id, reason })? {
                    Answer::Closing(count) => {
                        say!("{count} told to close");
                        Ok(DONE)
                    }
                    _ => Err(CommandError::OtherAnswer),
                }
            }
        }
    }
}
