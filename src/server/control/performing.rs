//! What is done for a request.

use serde_json::Value;

use super::request::{
    Answer, ConnectionRow, CountRow, Outcome, PermissionRow, PolicyRow, Request,
    TopicPermissionRow, UserRow, VirtualHostRow,
};
use crate::broker::access::{Password, Permissions, Right, TopicPermissions, User, UserLimits};
use crate::broker::policy::{ApplyTo, Policy, PolicyKind};
use crate::broker::{AdministrationError, Broker, HostDescription};
use crate::definitions;
use crate::message::ShortStr;
use crate::storage::Lsn;

/// Why a request is refused: a line each.
type Lines = Vec<String>;

/// Does what a request asks for, and waits until that is durable. Blocks the thread.
#[must_use]
pub fn perform(broker: &Broker, request: Request) -> Outcome {
    match answer(broker, request) {
        Ok(answer) => Outcome::Done(answer),
        Err(lines) => Outcome::Refused(lines),
    }
}

fn line(what: impl std::fmt::Display) -> Lines {
    vec![what.to_string()]
}

fn answer(broker: &Broker, request: Request) -> Result<Answer, Lines> {
    match request {
        Request::ExportDefinitions => {
            let definitions::Written { file, notes } = definitions::write(&broker.definitions());
            Ok(Answer::Definitions { file, notes })
        }
        Request::ImportDefinitions { file, vhost } => import(broker, &file, vhost),
        Request::ListUsers => Ok(Answer::Users(users(broker))),
        Request::AddUser { .. }
        | Request::ChangePassword { .. }
        | Request::LimitUser { .. }
        | Request::DeleteUser { .. }
        | Request::Permit { .. }
        | Request::Forbid { .. }
        | Request::PermitTopics { .. }
        | Request::FreeTopics { .. } => change_user(broker, request),
        Request::ListVhosts => Ok(Answer::Vhosts(virtual_hosts(broker))),
        Request::AddVhost { .. } | Request::LimitVhost { .. } | Request::DeleteVhost { .. } => {
            change_virtual_host(broker, request)
        }
        Request::ListPolicies { vhost } => policies(broker, vhost),
        Request::SetPolicy { .. } | Request::DeletePolicy { .. } => change_policy(broker, request),
        Request::ListConnections => Ok(Answer::Connections(connections(broker))),
        Request::CloseConnections { id, reason } => {
            match (broker.close_connections(id, &reason), id) {
                (0, Some(id)) => Err(line(format_args!("there is no connection {id}"))),
                (count, _) => Ok(Answer::Closing(count)),
            }
        }
    }
}

fn wait(broker: &Broker, durable_at: Option<Lsn>) -> Result<(), Lines> {
    durable_at.map_or(Ok(()), |lsn| broker.store().wait_durable(lsn)).map_err(line)
}

fn changed(
    broker: &Broker,
    done: Result<Option<Lsn>, AdministrationError>,
) -> Result<Answer, Lines> {
    let durable_at = done.map_err(line)?;
    wait(broker, durable_at)?;
    Ok(Answer::Changed(durable_at.is_some()))
}

fn import(broker: &Broker, file: &Value, vhost: Option<String>) -> Result<Answer, Lines> {
    let vhost = vhost.map(|vhost| name(&vhost)).transpose()?;
    let definitions::Read { definitions, mut notes } =
        definitions::read(file.to_string().as_bytes(), vhost.as_ref())?;
    let imported = broker.administer().import(&definitions)?;
    wait(broker, imported.durable_at)?;
    notes.extend(imported.notes);
    let counts = imported.counts.into_iter().map(|(what, count)| CountRow {
        what: what.to_owned(),
        imported: count.imported,
        unchanged: count.unchanged,
        left_out: count.left_out,
    });
    Ok(Answer::Imported { counts: counts.collect(), notes })
}

fn name(text: &str) -> Result<ShortStr, Lines> {
    let too_long = |_| line(format_args!("'{text}' is too long: a name has at most 255 bytes"));
    ShortStr::try_from(text).map_err(too_long)
}

fn names(texts: &[String]) -> Result<Vec<ShortStr>, Lines> {
    texts.iter().map(|text| name(text)).collect()
}

fn texts(names: &[ShortStr]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

// ---- Users ----

fn users(broker: &Broker) -> Vec<UserRow> {
    let accounts = broker.accounts();
    let (permissions, topics) = (accounts.permissions(), accounts.topic_permissions());
    let of_settings = accounts.administrators().into_iter().map(|name| UserRow {
        name: name.to_string(),
        tags: vec!["administrator".to_owned()],
        settings: true,
        password: true,
        max_connections: None,
        max_channels: None,
        permissions: Vec::new(),
        topic_permissions: Vec::new(),
    });
    let stored = accounts.users().into_iter().filter(|user| !accounts.is_administrator(&user.name));
    let stored = stored.map(|user| UserRow {
        tags: texts(&user.tags),
        settings: false,
        password: user.password.is_some(),
        max_connections: user.limits.max_connections,
        max_channels: user.limits.max_channels,
        permissions: permissions
            .iter()
            .filter(|(of, ..)| *of == user.name)
            .map(|(_, vhost, may)| PermissionRow {
                vhost: vhost.to_string(),
                configure: may.pattern(Right::Configure).to_owned(),
                write: may.pattern(Right::Write).to_owned(),
                read: may.pattern(Right::Read).to_owned(),
            })
            .collect(),
        topic_permissions: topics
            .iter()
            .filter(|(of, ..)| *of == user.name)
            .map(|(_, vhost, exchange, may)| TopicPermissionRow {
                vhost: vhost.to_string(),
                exchange: exchange.to_string(),
                write: may.write().to_owned(),
                read: may.read().to_owned(),
            })
            .collect(),
        name: user.name.to_string(),
    });
    of_settings.chain(stored).collect()
}

fn change_user(broker: &Broker, request: Request) -> Result<Answer, Lines> {
    let hashed = |algorithm: &str, hash: &str| Password::from_hash(algorithm, hash).map_err(line);
    let done = match request {
        Request::AddUser { name: text, algorithm, hash, tags } => {
            let user = User {
                name: name(&text)?,
                password: Some(hashed(&algorithm, &hash)?),
                tags: names(&tags)?,
                limits: UserLimits::default(),
            };
            broker.administer().add_user(user)
        }
        Request::ChangePassword { name: text, algorithm, hash } => {
            let password = hashed(&algorithm, &hash)?;
            let change = |user: &mut User| user.password = Some(password);
            broker.administer().change_user(&name(&text)?, change)
        }
        Request::LimitUser { name: text, max_connections, max_channels } => {
            let limits = UserLimits { max_connections, max_channels };
            broker.administer().change_user(&name(&text)?, |user| user.limits = limits)
        }
        Request::DeleteUser { name: text } => broker.administer().delete_user(&name(&text)?),
        Request::Permit { user, vhost, configure, write, read } => {
            let permissions = Permissions::new(&configure, &write, &read).map_err(line)?;
            broker.administer().permit(&name(&user)?, &name(&vhost)?, permissions)
        }
        Request::PermitTopics { user, vhost, exchange, write, read } => {
            let (user, vhost) = (name(&user)?, name(&vhost)?);
            let topics = TopicPermissions::new(&user, &vhost, &write, &read).map_err(line)?;
            broker.administer().permit_topics(&user, &vhost, &name(&exchange)?, topics)
        }
        Request::FreeTopics { user, vhost, exchange } => {
            broker.administer().free_topics(&name(&user)?, &name(&vhost)?, &name(&exchange)?)
        }
        Request::Forbid { user, vhost } => {
            broker.administer().forbid(&name(&user)?, &name(&vhost)?)
        }
        _ => Ok(None),
    };
    changed(broker, done)
}

// ---- Virtual hosts ----

fn virtual_hosts(broker: &Broker) -> Vec<VirtualHostRow> {
    let all = broker.virtual_hosts().into_iter();
    all.map(|(name, said)| VirtualHostRow {
        name: name.to_string(),
        description: said.description,
        tags: texts(&said.tags),
        max_connections: said.limits.max_connections,
        max_queues: said.limits.max_queues,
    })
    .collect()
}

fn change_virtual_host(broker: &Broker, request: Request) -> Result<Answer, Lines> {
    let administration = broker.administer();
    let done = match request {
        Request::AddVhost { name: text, description, tags } => {
            let said =
                HostDescription { description, tags: names(&tags)?, ..HostDescription::default() };
            administration.add_virtual_host(&name(&text)?, said)
        }
        Request::LimitVhost { name: text, max_connections, max_queues } => {
            let name = name(&text)?;
            let found = broker.virtual_hosts().into_iter().find(|(known, _)| *known == name);
            // One that there is not is refused with the change.
            let mut said = found.map(|(_, said)| said).unwrap_or_default();
            said.limits.max_connections = max_connections;
            said.limits.max_queues = max_queues;
            administration.describe_virtual_host(&name, said)
        }
        Request::DeleteVhost { name: text } => administration.delete_virtual_host(&name(&text)?),
        _ => Ok(None),
    };
    drop(administration);
    changed(broker, done)
}

// ---- Policies ----

fn kind(operator: bool) -> PolicyKind {
    if operator { PolicyKind::Operator } else { PolicyKind::User }
}

fn policies(broker: &Broker, vhost: Option<String>) -> Result<Answer, Lines> {
    let hosts = match vhost {
        Some(one) => vec![name(&one)?],
        None => broker.virtual_hosts().into_iter().map(|(name, _)| name).collect(),
    };
    let mut rows = Vec::new();
    for host in hosts {
        let missing = || line(AdministrationError::NoVirtualHost(host.clone()));
        for policy in broker.policies(&host).ok_or_else(missing)? {
            rows.push(PolicyRow {
                vhost: host.to_string(),
                name: policy.name.to_string(),
                operator: policy.kind == PolicyKind::Operator,
                pattern: policy.pattern.as_str().to_owned(),
                apply_to: policy.apply_to.name().to_owned(),
                priority: policy.priority,
                definition: definitions::policy_definition(&policy),
            });
        }
    }
    Ok(Answer::Policies(rows))
}

fn change_policy(broker: &Broker, request: Request) -> Result<Answer, Lines> {
    let done = match request {
        Request::SetPolicy {
            vhost,
            operator,
            name: text,
            pattern,
            apply_to,
            priority,
            definition,
        } => {
            let definition = definitions::read_policy_definition(&definition).map_err(line)?;
            let apply_to = ApplyTo::named(&apply_to).map_err(line)?;
            let policy =
                Policy::new(kind(operator), name(&text)?, &pattern, apply_to, priority, definition);
            broker.administer().set_policy(&name(&vhost)?, policy.map_err(line)?)
        }
        Request::DeletePolicy { vhost, operator, name: text } => {
            broker.administer().delete_policy(&name(&vhost)?, kind(operator), &name(&text)?)
        }
        _ => Ok(None),
    };
    changed(broker, done)
}

// ---- Connections ----

fn connections(broker: &Broker) -> Vec<ConnectionRow> {
    let all = broker.connections().into_iter();
    all.map(|found| ConnectionRow {
        id: found.id,
        peer: found.peer,
        user: found.user,
        vhost: found.virtual_host,
        channels: found.channels,
    })
    .collect()
}
