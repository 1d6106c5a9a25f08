//! The methods of AMQP 0-9-1 and RabbitMQ's extensions: one table, from which the enum, the decoder
//! and the encoder are generated.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::fields::{FieldReader, FieldWriter};
use crate::message::{DecodeError, RawTable, Reader};

/// Class and method number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodId {
    /// The class, such as 60 for `basic`.
    pub class: u16,
    /// The method within the class, such as 40 for `basic.publish`.
    pub method: u16,
}

impl fmt::Display for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.class, self.method)
    }
}

/// The type of a method's field, named as in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)] // the protocol's own names, so that the table below reads like it
pub enum FieldKind {
    /// One bit; consecutive ones share an octet, the first in its lowest bit.
    bit,
    /// 8 bits.
    octet,
    /// 16 bits.
    short,
    /// 32 bits.
    long,
    /// 64 bits.
    longlong,
    /// At most 255 bytes.
    shortstr,
    /// Bytes with a 32-bit length.
    longstr,
    /// A field table.
    table,
}

/// What the table of methods says of one method.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Its numbers.
    pub id: MethodId,
    /// Its name, such as `basic.publish`.
    pub name: &'static str,
    /// Its fields' types in order.
    pub fields: &'static [FieldKind],
}

/// Why a method frame's payload is not a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// No class has this number.
    #[error("unknown class {}", .0.class)]
    UnknownClass(MethodId),
    /// The class has no method with this number.
    #[error("unknown method {0}")]
    UnknownMethod(MethodId),
    /// The payload ends before the two numbers do.
    #[error("a method frame without class and method: {0}")]
    NoId(DecodeError),
    /// The method's fields are not well-formed.
    #[error("{name}: {error}")]
    Fields {
        /// The method's numbers.
        id: MethodId,
        /// The method's name.
        name: &'static str,
        /// What is wrong with them.
        error: DecodeError,
    },
}

macro_rules! rust_type {
    (bit) => { bool };
    (octet) => { u8 };
    (short) => { u16 };
    (long) => { u32 };
    (longlong) => { u64 };
    (shortstr) => { &'a [u8] };
    (longstr) => { &'a [u8] };
    (table) => { RawTable<'a> };
}

macro_rules! methods {
    ($($class:literal $number:literal $name:literal $variant:ident {
        $($field:ident : $kind:ident),* $(,)?
    })*) => {
        /// A method with its fields, which borrow the received bytes.
        ///
        /// Fields that the protocol has reserved are decoded too, and named `reserved_…`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Method<'a> {
            $(
                #[doc = concat!("`", $name, "`, ", stringify!($class), ".", stringify!($number), ".")]
                $variant {
                    $(
                        #[doc = concat!("`", stringify!($field), "`, a ", stringify!($kind), ".")]
                        $field: rust_type!($kind)
                    ),*
                },
            )*
        }

        impl<'a> Method<'a> {
            /// Every method that there is.
            pub const LAYOUTS: &'static [Layout] = &[$(
                Layout {
                    id: MethodId { class: $class, method: $number },
                    name: $name,
                    fields: &[$(FieldKind::$kind),*],
                },
            )*];

            /// The method's numbers.
            #[must_use]
            pub fn id(&self) -> MethodId {
                match self {
                    $(Method::$variant { .. } => MethodId { class: $class, method: $number },)*
                }
            }

            /// The method's name, such as `basic.publish`.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Method::$variant { .. } => $name,)*
                }
            }

            fn decode_fields(id: MethodId, reader: Reader<'a>) -> Result<Method<'a>, MethodError> {
                #[allow(unused_mut)] // methods without fields
                let mut fields = FieldReader::new(reader);
                match (id.class, id.method) {
                    $(($class, $number) => {
                        let decode = || {
                            let method = Method::$variant { $($field: fields.$kind()?),* };
                            fields.finish()?;
                            Ok(method)
                        };
                        decode().map_err(|error| MethodError::Fields { id, name: $name, error })
                    })*
                    (class, _) if Method::LAYOUTS.iter().any(|layout| layout.id.class == class) => {
                        Err(MethodError::UnknownMethod(id))
                    }
                    _ => Err(MethodError::UnknownClass(id)),
                }
            }

            fn encode_fields(&self, out: &mut BytesMut) {
                #[allow(unused_mut, unused_variables)] // methods without fields
                let mut fields = FieldWriter::new(out);
                match *self {
                    $(Method::$variant { $($field),* } => {
                        $(fields.$kind($field);)*
                    })*
                }
            }
        }
    };
}

methods! {
    10 10 "connection.start" ConnectionStart {
        version_major: octet, version_minor: octet, server_properties: table, mechanisms: longstr, locales: longstr,
    }
    10 11 "connection.start-ok" ConnectionStartOk {
        client_properties: table, mechanism: shortstr, response: longstr, locale: shortstr,
    }
    10 20 "connection.secure" ConnectionSecure { challenge: longstr }
    10 21 "connection.secure-ok" ConnectionSecureOk { response: longstr }
    10 30 "connection.tune" ConnectionTune { channel_max: short, frame_max: long, heartbeat: short }
    10 31 "connection.tune-ok" ConnectionTuneOk { channel_max: short, frame_max: long, heartbeat: short }
    10 40 "connection.open" ConnectionOpen { virtual_host: shortstr, reserved_1: shortstr, reserved_2: bit }
    10 41 "connection.open-ok" ConnectionOpenOk { reserved_1: shortstr }
    10 50 "connection.close" ConnectionClose {
        reply_code: short, reply_text: shortstr, class_id: short, method_id: short,
    }
    10 51 "connection.close-ok" ConnectionCloseOk {}
    10 60 "connection.blocked" ConnectionBlocked { reason: shortstr }
    10 61 "connection.unblocked" ConnectionUnblocked {}
    10 70 "connection.update-secret" ConnectionUpdateSecret { new_secret: longstr, reason: shortstr }
    10 71 "connection.update-secret-ok" ConnectionUpdateSecretOk {}

    20 10 "channel.open" ChannelOpen { reserved_1: shortstr }
    20 11 "channel.open-ok" ChannelOpenOk { reserved_1: longstr }
    20 20 "channel.flow" ChannelFlow { active: bit }
    20 21 "channel.flow-ok" ChannelFlowOk { active: bit }
    20 40 "channel.close" ChannelClose {
        reply_code: short, reply_text: shortstr, class_id: short, method_id: short,
    }
    20 41 "channel.close-ok" ChannelCloseOk {}

    30 10 "access.request" AccessRequest {
        realm: shortstr, exclusive: bit, passive: bit, active: bit, write: bit, read: bit,
    }
    30 11 "access.request-ok" AccessRequestOk { ticket: short }

    40 10 "exchange.declare" ExchangeDeclare {
        reserved_1: short, exchange: shortstr, kind: shortstr, passive: bit, durable: bit, auto_delete: bit,
        internal: bit, nowait: bit, arguments: table,
    }
    40 11 "exchange.declare-ok" ExchangeDeclareOk {}
    40 20 "exchange.delete" ExchangeDelete { reserved_1: short, exchange: shortstr, if_unused: bit, nowait: bit }
    40 21 "exchange.delete-ok" ExchangeDeleteOk {}
    40 30 "exchange.bind" ExchangeBind {
        reserved_1: short, destination: shortstr, source: shortstr, routing_key: shortstr, nowait: bit,
        arguments: table,
    }
    40 31 "exchange.bind-ok" ExchangeBindOk {}
    40 40 "exchange.unbind" ExchangeUnbind {
        reserved_1: short, destination: shortstr, source: shortstr, routing_key: shortstr, nowait: bit,
        arguments: table,
    }
    40 51 "exchange.unbind-ok" ExchangeUnbindOk {}

    50 10 "queue.declare" QueueDeclare {
        reserved_1: short, queue: shortstr, passive: bit, durable: bit, exclusive: bit, auto_delete: bit,
        nowait: bit, arguments: table,
    }
    50 11 "queue.declare-ok" QueueDeclareOk { queue: shortstr, message_count: long, consumer_count: long }
    50 20 "queue.bind" QueueBind {
        reserved_1: short, queue: shortstr, exchange: shortstr, routing_key: shortstr, nowait: bit,
        arguments: table,
    }
    50 21 "queue.bind-ok" QueueBindOk {}
    50 30 "queue.purge" QueuePurge { reserved_1: short, queue: shortstr, nowait: bit }
    50 31 "queue.purge-ok" QueuePurgeOk { message_count: long }
    50 40 "queue.delete" QueueDelete {
        reserved_1: short, queue: shortstr, if_unused: bit, if_empty: bit, nowait: bit,
    }
    50 41 "queue.delete-ok" QueueDeleteOk { message_count: long }
    50 50 "queue.unbind" QueueUnbind {
        reserved_1: short, queue: shortstr, exchange: shortstr, routing_key: shortstr, arguments: table,
    }
    50 51 "queue.unbind-ok" QueueUnbindOk {}

    60 10 "basic.qos" BasicQos { prefetch_size: long, prefetch_count: short, global: bit }
    60 11 "basic.qos-ok" BasicQosOk {}
    60 20 "basic.consume" BasicConsume {
        reserved_1: short, queue: shortstr, consumer_tag: shortstr, no_local: bit, no_ack: bit, exclusive: bit,
        nowait: bit, arguments: table,
    }
    60 21 "basic.consume-ok" BasicConsumeOk { consumer_tag: shortstr }
    60 30 "basic.cancel" BasicCancel { consumer_tag: shortstr, nowait: bit }
    60 31 "basic.cancel-ok" BasicCancelOk { consumer_tag: shortstr }
    60 40 "basic.publish" BasicPublish {
        reserved_1: short, exchange: shortstr, routing_key: shortstr, mandatory: bit, immediate: bit,
    }
    60 50 "basic.return" BasicReturn {
        reply_code: short, reply_text: shortstr, exchange: shortstr, routing_key: shortstr,
    }
    60 60 "basic.deliver" BasicDeliver {
        consumer_tag: shortstr, delivery_tag: longlong, redelivered: bit, exchange: shortstr,
        routing_key: shortstr,
    }
    60 70 "basic.get" BasicGet { reserved_1: short, queue: shortstr, no_ack: bit }
    60 71 "basic.get-ok" BasicGetOk {
        delivery_tag: longlong, redelivered: bit, exchange: shortstr, routing_key: shortstr, message_count: long,
    }
    60 72 "basic.get-empty" BasicGetEmpty { reserved_1: shortstr }
    60 80 "basic.ack" BasicAck { delivery_tag: longlong, multiple: bit }
    60 90 "basic.reject" BasicReject { delivery_tag: longlong, requeue: bit }
    60 100 "basic.recover-async" BasicRecoverAsync { requeue: bit }
    60 110 "basic.recover" BasicRecover { requeue: bit }
    60 111 "basic.recover-ok" BasicRecoverOk {}
    60 120 "basic.nack" BasicNack { delivery_tag: longlong, multiple: bit, requeue: bit }

    85 10 "confirm.select" ConfirmSelect { nowait: bit }
    85 11 "confirm.select-ok" ConfirmSelectOk {}

    90 10 "tx.select" TxSelect {}
    90 11 "tx.select-ok" TxSelectOk {}
    90 20 "tx.commit" TxCommit {}
    90 21 "tx.commit-ok" TxCommitOk {}
    90 30 "tx.rollback" TxRollback {}
    90 31 "tx.rollback-ok" TxRollbackOk {}
}

impl<'a> Method<'a> {
    /// Decodes a method frame's payload. Allocates nothing.
    ///
    /// # Errors
    /// [`MethodError`], when it is not exactly one well-formed method.
    pub fn decode(payload: &'a [u8]) -> Result<Method<'a>, MethodError> {
        let mut reader = Reader::new(payload);
        let class = reader.u16().map_err(MethodError::NoId)?;
        let method = reader.u16().map_err(MethodError::NoId)?;
        Method::decode_fields(MethodId { class, method }, reader)
    }

    /// Appends the payload of a method frame.
    pub fn encode(&self, out: &mut BytesMut) {
        let id = self.id();
        out.put_u16(id.class);
        out.put_u16(id.method);
        self.encode_fields(out);
    }
}

#[cfg(test)]
mod tests;
