//! Exchanges, queues and bindings.

use serde_json::{Value, json};

use super::entry::{Entry, Told};
use super::values::table_to_json;
use crate::broker::definitions::In;
use crate::broker::{Bind, DeclareExchange, DeclareQueue, DestinationKind};
use crate::message::{self, ShortStr};

/// An entry of `exchanges`.
pub(super) fn read_exchange(entry: &Entry<'_>) -> Result<In<DeclareExchange>, Told> {
    let declared = DeclareExchange {
        name: entry.name("name")?,
        kind: entry.name("type")?,
        passive: false,
        durable: entry.flag("durable")?,
        auto_delete: entry.flag("auto_delete")?,
        internal: entry.flag("internal")?,
        arguments: entry.table("arguments")?,
    };
    let virtual_host = entry.virtual_host()?;
    entry.finish();
    Ok((virtual_host, declared))
}

/// The same, to be written.
pub(super) fn write_exchange(
    (virtual_host, declared): &In<DeclareExchange>,
    lost: &mut dyn FnMut(&ShortStr),
) -> Value {
    json!({
        "name": declared.name.to_string(),
        "vhost": virtual_host.to_string(),
        "type": declared.kind.to_string(),
        "durable": declared.durable,
        "auto_delete": declared.auto_delete,
        "internal": declared.internal,
        "arguments": table_to_json(&declared.arguments, lost),
    })
}

/// An entry of `queues`. Its type may be said beside its arguments.
pub(super) fn read_queue(entry: &Entry<'_>) -> Result<In<DeclareQueue>, Told> {
    let mut arguments = entry.table("arguments")?;
    if let Some(kind) = entry.optional_text("type")?
        && kind != "classic"
        && arguments.get(b"x-queue-type").is_none()
    {
        arguments.push(ShortStr::from_static("x-queue-type"), message::Value::text(kind));
    }
    let declared = DeclareQueue {
        name: entry.name("name")?,
        passive: false,
        durable: entry.flag("durable")?,
        exclusive: false,
        auto_delete: entry.flag("auto_delete")?,
        arguments,
    };
    let virtual_host = entry.virtual_host()?;
    entry.finish();
    Ok((virtual_host, declared))
}

/// The same, to be written.
pub(super) fn write_queue(
    (virtual_host, declared): &In<DeclareQueue>,
    lost: &mut dyn FnMut(&ShortStr),
) -> Value {
    let kind = declared.arguments.get(b"x-queue-type").and_then(message::Value::as_long_str);
    json!({
        "name": declared.name.to_string(),
        "vhost": virtual_host.to_string(),
        "type": kind.map_or("classic".into(), |kind| String::from_utf8_lossy(kind)),
        "durable": declared.durable,
        "auto_delete": declared.auto_delete,
        "arguments": table_to_json(&declared.arguments, lost),
    })
}

/// An entry of `bindings`.
pub(super) fn read_binding(entry: &Entry<'_>) -> Result<In<Bind>, Told> {
    let kind = match entry.text("destination_type")? {
        "queue" => DestinationKind::Queue,
        "exchange" => DestinationKind::Exchange,
        other => {
            return Err(entry.problem(format_args!(
                "field 'destination_type' is '{other}', and should be 'queue' or 'exchange'"
            )));
        }
    };
    let bind = Bind {
        source: entry.name("source")?,
        kind,
        destination: entry.name("destination")?,
        routing_key: entry.name("routing_key")?,
        arguments: entry.table("arguments")?,
    };
    let virtual_host = entry.virtual_host()?;
    entry.ignore(&["properties_key"]);
    entry.finish();
    Ok((virtual_host, bind))
}

/// The same, to be written.
pub(super) fn write_binding(
    (virtual_host, bind): &In<Bind>,
    lost: &mut dyn FnMut(&ShortStr),
) -> Value {
    json!({
        "source": bind.source.to_string(),
        "vhost": virtual_host.to_string(),
        "destination": bind.destination.to_string(),
        "destination_type": match bind.kind {
            DestinationKind::Queue => "queue",
            DestinationKind::Exchange => "exchange",
        },
        "routing_key": bind.routing_key.to_string(),
        "arguments": table_to_json(&bind.arguments, lost),
    })
}
