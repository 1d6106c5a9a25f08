//! Requests and answers, as they go over the socket: JSON objects.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are named for what the commands call them")]
pub enum Request {
    /// Everything that is declared and set, as a definitions file.
    ExportDefinitions,
    /// Take a definitions file in; what does not say in which virtual host it is, is in this one.
    ImportDefinitions { file: Value, vhost: Option<String> },
    /// All users, with their permissions.
    ListUsers,
    /// A new user. The password comes hashed.
    AddUser { name: String, algorithm: String, hash: String, tags: Vec<String> },
    /// Another password, hashed.
    ChangePassword { name: String, algorithm: String, hash: String },
    /// Other limits of a user; `None` for no limit.
    LimitUser { name: String, max_connections: Option<u64>, max_channels: Option<u64> },
    /// A user goes.
    DeleteUser { name: String },
    /// Permissions in one virtual host.
    Permit { user: String, vhost: String, configure: String, write: String, read: String },
    /// No permissions in one virtual host.
    Forbid { user: String, vhost: String },
    /// Which routing keys of a topic exchange a user may use.
    PermitTopics { user: String, vhost: String, exchange: String, write: String, read: String },
    /// All of them.
    FreeTopics { user: String, vhost: String, exchange: String },
    /// All virtual hosts.
    ListVhosts,
    /// A new virtual host.
    AddVhost { name: String, description: String, tags: Vec<String> },
    /// Other limits of a virtual host; `None` for no limit.
    LimitVhost { name: String, max_connections: Option<u64>, max_queues: Option<u64> },
    /// A virtual host goes.
    DeleteVhost { name: String },
    /// The policies of one virtual host, or of all.
    ListPolicies { vhost: Option<String> },
    /// A policy.
    SetPolicy {
        vhost: String,
        operator: bool,
        name: String,
        pattern: String,
        apply_to: String,
        priority: i64,
        definition: Value,
    },
    /// A policy goes.
    DeletePolicy { vhost: String, operator: bool, name: String },
    /// The connections that are open.
    ListConnections,
    /// Close a connection, or all of them.
    CloseConnections { id: Option<u64>, reason: String },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done(Answer),
    /// It was not, and why: a line each.
    Refused(Vec<String>),
}

/// What there is to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is so now; whether it was not before.
    Changed(bool),
    /// A definitions file, and what could not be said in it.
    Definitions {
        /// The file.
        file: Value,
        /// A line each.
        notes: Vec<String>,
    },
    /// What became of an import.
    Imported {
        /// By kind.
        counts: Vec<CountRow>,
        /// What was left out or kept: a line each.
        notes: Vec<String>,
    },
    /// Users.
    Users(Vec<UserRow>),
    /// Virtual hosts.
    Vhosts(Vec<VirtualHostRow>),
    /// Policies.
    Policies(Vec<PolicyRow>),
    /// Connections.
    Connections(Vec<ConnectionRow>),
    /// So many connections have been told to close.
    Closing(usize),
}

/// What became of definitions of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountRow {
    /// The kind.
    pub what: String,
    /// New or changed.
    pub imported: u64,
    /// There already.
    pub unchanged: u64,
    /// Left out.
    pub left_out: u64,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// Name.
    pub name: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether the settings name it: all permissions, and nothing is stored of it.
    pub settings: bool,
    /// Whether it has a password.
    pub password: bool,
    /// Connections at the same time.
    pub max_connections: Option<u64>,
    /// Channels at the same time.
    pub max_channels: Option<u64>,
    /// By virtual host.
    pub permissions: Vec<PermissionRow>,
    /// By virtual host and exchange.
    pub topic_permissions: Vec<TopicPermissionRow>,
}

/// Which routing keys of a topic exchange a user may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPermissionRow {
    /// The virtual host.
    pub vhost: String,
    /// The exchange.
    pub exchange: String,
    /// Pattern.
    pub write: String,
    /// Pattern.
    pub read: String,
}

/// Permissions in a virtual host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionRow {
    /// The virtual host.
    pub vhost: String,
    /// Pattern.
    pub configure: String,
    /// Pattern.
    pub write: String,
    /// Pattern.
    pub read: String,
}

/// A virtual host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualHostRow {
    /// Name.
    pub name: String,
    /// Description.
    pub description: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Connections at the same time.
    pub max_connections: Option<u64>,
    /// Queues at the same time.
    pub max_queues: Option<u64>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyRow {
    /// The virtual host.
    pub vhost: String,
    /// Name.
    pub name: String,
    /// Whether it is an operator's.
    pub operator: bool,
    /// Pattern.
    pub pattern: String,
    /// What it applies to.
    pub apply_to: String,
    /// Priority.
    pub priority: i64,
    /// What it says.
    pub definition: Value,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRow {
    /// Number, to close it by.
    pub id: u64,
    /// Where it comes from.
    pub peer: String,
    /// Who has logged in.
    pub user: String,
    /// The virtual host.
    pub vhost: String,
    /// Channels.
    pub channels: u64,
}
