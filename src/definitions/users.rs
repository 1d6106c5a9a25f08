//! Users, permissions and virtual hosts.

use serde_json::{Value, json};

use super::entry::{Entry, Told};
use crate::broker::access::{Password, Permissions, Right, TopicPermissions, User, UserLimits};
use crate::broker::definitions::In;
use crate::broker::{HostDescription, HostLimits};
use crate::message::ShortStr;

/// What RabbitMQ hashes with where nothing else is said.
const DEFAULT_ALGORITHM: &str = "rabbit_password_hashing_sha256";

/// Where this program keeps the hash of a password that RabbitMQ could not verify.
const OWN_HASH: &str = "haypile_password_hash";

/// An entry of `users`.
pub(super) fn read_user(entry: &Entry<'_>) -> Result<User, Told> {
    let name = entry.name("name")?;
    let algorithm = entry.optional_text("hashing_algorithm")?.unwrap_or(DEFAULT_ALGORITHM);
    let own = entry.optional_text(OWN_HASH)?;
    let hash = entry.optional_text("password_hash")?.filter(|hash| !hash.is_empty());
    let plain = entry.optional_text("password")?.filter(|plain| !plain.is_empty());
    let password = match (own, hash, plain) {
        (Some(own), ..) => Some(Password::from_hash("argon2id", own)),
        (None, Some(hash), _) => Some(Password::from_hash(algorithm, hash)),
        (None, None, Some(plain)) => Some(Password::new(plain.as_bytes())),
        (None, None, None) => None,
    };
    let password = password.transpose().map_err(|error| {
        entry.problem(format_args!(
            "the password cannot be used: {error}. Give the user a new password, or take the field out"
        ))
    })?;
    if password.is_none() {
        entry.note("there is no password: the user cannot log in");
    }
    let tags = entry.tags("tags")?;
    let mut limits = UserLimits::default();
    if let Some(inner) = entry.inner("limits") {
        limits.max_connections = inner.limit("max-connections")?;
        limits.max_channels = inner.limit("max-channels")?;
        inner.finish();
    }
    entry.finish();
    Ok(User { name, password, tags, limits })
}

/// The same, to be written.
pub(super) fn write_user(user: &User) -> Value {
    let mut limits = serde_json::Map::new();
    let both = [
        ("max-connections", user.limits.max_connections),
        ("max-channels", user.limits.max_channels),
    ];
    for (name, limit) in both {
        limits.extend(limit.map(|limit| (name.to_owned(), json!(limit))));
    }
    let mut written = json!({
        "name": user.name.to_string(),
        "password_hash": "",
        "hashing_algorithm": DEFAULT_ALGORITHM,
        "tags": user.tags.iter().map(ShortStr::to_string).collect::<Vec<_>>(),
        "limits": limits,
    });
    match &user.password {
        Some(own @ Password::Argon2id(_)) => written[OWN_HASH] = json!(own.hash()),
        Some(password) => {
            written["password_hash"] = json!(password.hash());
            written["hashing_algorithm"] = json!(password.algorithm());
        }
        None => {}
    }
    written
}

/// An entry of `permissions`.
pub(super) fn read_permissions(entry: &Entry<'_>) -> Result<In<(ShortStr, Permissions)>, Told> {
    let (user, virtual_host) = (entry.name("user")?, entry.virtual_host()?);
    let (configure, write) = (entry.text("configure")?, entry.text("write")?);
    let permissions = Permissions::new(configure, write, entry.text("read")?);
    let permissions = permissions.map_err(|error| {
        entry.problem(format_args!("user '{user}' in vhost '{virtual_host}': {error}"))
    })?;
    entry.finish();
    Ok((virtual_host, (user, permissions)))
}

/// The same, to be written.
pub(super) fn write_permissions(
    (virtual_host, (user, permissions)): &In<(ShortStr, Permissions)>,
) -> Value {
    json!({
        "user": user.to_string(),
        "vhost": virtual_host.to_string(),
        "configure": permissions.pattern(Right::Configure),
        "write": permissions.pattern(Right::Write),
        "read": permissions.pattern(Right::Read),
    })
}

/// An entry of `topic_permissions`.
pub(super) fn read_topic_permissions(
    entry: &Entry<'_>,
) -> Result<In<(ShortStr, ShortStr, TopicPermissions)>, Told> {
    let (user, virtual_host, exchange) =
        (entry.name("user")?, entry.virtual_host()?, entry.name("exchange")?);
    let (write, read) = (entry.text("write")?, entry.text("read")?);
    let topics = TopicPermissions::new(&user, &virtual_host, write, read);
    let topics = topics.map_err(|error| {
        entry.problem(format_args!("user '{user}' in vhost '{virtual_host}': {error}"))
    })?;
    entry.finish();
    Ok((virtual_host, (user, exchange, topics)))
}

/// The same, to be written.
pub(super) fn write_topic_permissions(
    (virtual_host, (user, exchange, topics)): &In<(ShortStr, ShortStr, TopicPermissions)>,
) -> Value {
    json!({
        "user": user.to_string(),
        "vhost": virtual_host.to_string(),
        "exchange": exchange.to_string(),
        "write": topics.write(),
        "read": topics.read(),
    })
}

/// An entry of `vhosts`. Its limits are the same as in `parameters`.
pub(super) fn read_virtual_host(entry: &Entry<'_>) -> Result<In<HostDescription>, Told> {
    let name = entry.name("name")?;
    let inner = entry.inner("metadata");
    let described = inner.as_ref().unwrap_or(entry);
    let description = described.optional_text("description")?.unwrap_or_default().to_owned();
    let tags = described.tags("tags")?;
    let limits = match entry.value("limits") {
        Some(value) => read_limits(entry, "limits", value)?,
        None => HostLimits::default(),
    };
    for place in [Some(entry), inner.as_ref()].into_iter().flatten() {
        place.ignore(&["description", "tags", "tracing", "cluster_state"]);
        if matches!(place.optional_text("default_queue_type"), Ok(Some("quorum" | "stream"))) {
            place.note("field 'default_queue_type' is not understood, and left out: queues are classic unless they say otherwise");
        }
        place.finish();
    }
    Ok((name, HostDescription { description, tags, limits }))
}

/// The limits of a virtual host; a negative one is none.
pub(super) fn read_limits<'f>(
    entry: &Entry<'f>,
    field: &str,
    value: &'f Value,
) -> Result<HostLimits, Told> {
    let mut limits = HostLimits::default();
    for (name, value) in entry.pairs(field, value)? {
        let place = match name.as_str() {
            "max-connections" => &mut limits.max_connections,
            "max-queues" => &mut limits.max_queues,
            other => {
                entry.note(format_args!("limit '{other}' is not understood, and left out"));
                continue;
            }
        };
        let Some(number) = value.as_i64() else {
            return Err(entry.problem(format_args!(
                "limit '{name}' is {}, and should be a whole number",
                super::values::kind(value)
            )));
        };
        *place = u64::try_from(number).ok();
    }
    Ok(limits)
}

/// A virtual host, to be written.
pub(super) fn write_virtual_host((name, said): &In<HostDescription>) -> Value {
    let tags: Vec<_> = said.tags.iter().map(ShortStr::to_string).collect();
    json!({
        "name": name.to_string(),
        "description": said.description,
        "tags": tags,
        "metadata": { "description": said.description, "tags": tags },
    })
}

/// Its limits, if it has any, as an entry of `parameters`: so RabbitMQ reads them.
pub(super) fn write_limits((name, said): &In<HostDescription>) -> Option<Value> {
    let mut limits = serde_json::Map::new();
    let both =
        [("max-connections", said.limits.max_connections), ("max-queues", said.limits.max_queues)];
    for (name, limit) in both {
        limits.extend(limit.map(|limit| (name.to_owned(), json!(limit))));
    }
    (!limits.is_empty()).then(|| {
        json!({
            "component": "vhost-limits",
            "name": "limits",
            "vhost": name.to_string(),
            "value": limits,
        })
    })
}
