//! From the protocol header to an open channel (AMQP 0-9-1, section 2.2.4).

use std::time::Duration;

use super::connection::{CHANNEL, only_news};
use super::input::FRAME_MAX;
use super::{AmqpUri, ClientError, Connection};
use crate::amqp::codec::{FRAME_MIN_SIZE, Method, PROTOCOL_HEADER, put_method};
use crate::message::{FieldTable, RawTable, ShortStr, Value};

/// The longest interval of heartbeats that is agreed to, in seconds.
const HEARTBEAT: u16 = 60;

/// What the server offers in `connection.tune`.
#[derive(Clone, Copy, Debug, Default)]
struct Offer {
    channel_max: u16,
    frame_max: u32,
    heartbeat: u16,
}

pub(super) fn negotiate(
    connection: &mut Connection,
    uri: &AmqpUri,
    name: &str,
) -> Result<(), ClientError> {
    let foreign = |why: String| ClientError::Protocol { uri: Box::new(uri.clone()), why };
    connection.output().extend_from_slice(&PROTOCOL_HEADER);
    connection.flush()?;
    start(connection)
        .map_err(|error| match error {
            ClientError::Answer { .. } | ClientError::Frame(_) | ClientError::Method(_) => {
                foreign(format!("{error}; what listens there may be something else, or want TLS"))
            }
            ClientError::Ended => foreign("it closed the connection at once".to_owned()),
            other => other,
        })?
        .then_some(())
        .ok_or_else(|| foreign("it does not offer the login mechanism PLAIN".to_owned()))?;

    let properties = client_properties(name).to_bytes();
    let start = Method::ConnectionStartOk {
        client_properties: RawTable::parse(&properties).unwrap_or(RawTable::EMPTY),
        mechanism: b"PLAIN",
        response: &[b"\0", uri.user().as_bytes(), b"\0", uri.password().as_bytes()].concat(),
        locale: b"en_US",
    };
    put_method(connection.output(), 0, &start);
    connection.flush()?;
    let mut offer = Offer::default();
    let tune = |method: &Method<'_>| {
        if let Method::ConnectionTune { channel_max, frame_max, heartbeat } = *method {
            offer = Offer { channel_max, frame_max, heartbeat };
        }
    };
    connection.answer_with("connection.start-ok", "connection.tune", tune, only_news).map_err(
        |error| match error {
            // Servers may close the socket instead of saying that they refuse.
            ClientError::Ended | ClientError::Closed { code: 403, .. } => {
                ClientError::Login { uri: Box::new(uri.clone()) }
            }
            other => other,
        },
    )?;
    agree(connection, offer);

    let virtual_host = uri.virtual_host().as_bytes();
    let open = Method::ConnectionOpen { virtual_host, reserved_1: b"", reserved_2: false };
    put_method(connection.output(), 0, &open);
    connection.flush()?;
    connection.answer_with("connection.open", "connection.open-ok", |_| {}, only_news)?;
    connection.call(&Method::ChannelOpen { reserved_1: b"" }, "channel.open-ok")
}

/// Waits for `connection.start`; whether it offers the mechanism PLAIN.
fn start(connection: &mut Connection) -> Result<bool, ClientError> {
    let mut offers_plain = false;
    let mut server = String::new();
    connection.answer_with(
        "the protocol header",
        "connection.start",
        |method| {
            if let Method::ConnectionStart { mechanisms, server_properties, .. } = method {
                server = describe(*server_properties);
                offers_plain =
                    mechanisms.split(|octet| *octet == b' ').any(|word| word == b"PLAIN");
            }
        },
        |_| Ok(false),
    )?;
    connection.server = server;
    Ok(offers_plain)
}

/// Product and version.
fn describe(properties: RawTable<'_>) -> String {
    let text = |name: &[u8]| {
        let value = properties.get(name)?.as_long_str()?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    let product = text(b"product").unwrap_or_else(|| "a broker without a name".to_owned());
    text(b"version").map_or(product.clone(), |version| format!("{product} {version}"))
}

/// Takes the offer within our own limits, and says so.
fn agree(connection: &mut Connection, offer: Offer) {
    let frame_max = match offer.frame_max {
        0 => FRAME_MAX,
        offered => offered.clamp(FRAME_MIN_SIZE, FRAME_MAX),
    };
    let channel_max = match offer.channel_max {
        0 => CHANNEL,
        offered => offered.min(CHANNEL),
    };
    let heartbeat = offer.heartbeat.min(HEARTBEAT);
    connection.frame_max = frame_max;
    connection.heartbeat = (heartbeat > 0).then(|| Duration::from_secs(u64::from(heartbeat)));
    let tune = Method::ConnectionTuneOk { channel_max, frame_max, heartbeat };
    put_method(connection.output(), 0, &tune);
}

fn client_properties(name: &str) -> FieldTable {
    let capabilities: FieldTable = [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "publisher_confirms",
    ]
    .into_iter()
    .map(|name| (ShortStr::from_static(name), Value::Bool(true)))
    .collect();
    [
        ("capabilities", Value::Table(capabilities)),
        ("connection_name", Value::text(name)),
        ("product", Value::text("haypile")),
        ("version", Value::text(env!("CARGO_PKG_VERSION"))),
    ]
    .into_iter()
    .map(|(name, value)| (ShortStr::from_static(name), value))
    .collect()
}
