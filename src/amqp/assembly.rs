//! Putting a published message together from its frames: method, content header, body.
//!
//! The order of frames on a channel is checked here, and what has really arrived is counted here:
//! nothing is allocated for an announced size.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::codec::{ContentHeader, Frame, FrameKind, Method, MethodId, ReplyCode};
use super::fault::Fault;
use crate::message::{Envelope, RawProperties};
use crate::storage::{Body, Message};

/// Bodies up to this size are copied together with their envelope into one allocation; larger ones
/// stay slices of the read buffer.
///
/// A slice keeps its whole read buffer (up to 256 KiB) alive for as long as the message is queued in memory. While
/// its neighbours live as long, nothing is wasted; but one small message left over from a burst would hold sixty
/// times its size, unseen by anybody who counts bodies. A copy of 4 KiB costs less than the message's other work.
const COPIED: usize = 4 * 1024;

/// `basic.publish`, to which errors of a message's frames are put down.
pub(super) const PUBLISH: MethodId = MethodId { class: 60, method: 40 };

/// What of a message has arrived on a channel.
#[derive(Debug, Default)]
pub(super) enum Assembly {
    /// No message is under way: the next frame must be a method.
    #[default]
    Idle,
    /// `basic.publish` has arrived. Its payload, checked.
    Announced(Bytes),
    /// The content header has arrived as well.
    Body(Partial),
}

/// A message whose body is not complete.
#[derive(Debug)]
pub(super) struct Partial {
    /// The checked payload of `basic.publish`.
    method: Bytes,
    /// Flags and values, checked.
    properties: Bytes,
    /// What is still to come of the announced size.
    missing: u64,
    received: usize,
    parts: Vec<Bytes>,
}

/// A message that has arrived completely.
#[derive(Debug)]
pub(super) struct Published {
    /// To be returned if it cannot be routed.
    pub(super) mandatory: bool,
    /// The message to store.
    pub(super) message: Arc<Message>,
}

impl Assembly {
    /// Whether a message is under way.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Assembly::Idle)
    }

    /// Bytes of the body that have arrived.
    pub(super) fn received(&self) -> usize {
        if let Assembly::Body(partial) = self { partial.received } else { 0 }
    }

    /// A `basic.publish` has arrived, which [`Method::decode`] has found well-formed.
    pub(super) fn announce(&mut self, payload: Bytes) {
        *self = Assembly::Announced(payload);
    }

    /// Takes the next frame of the message under way, and returns the message when it is complete.
    /// `largest` is the limit of a body's size in bytes.
    pub(super) fn push(&mut self, frame: Frame, largest: u64) -> Result<Option<Published>, Fault> {
        match std::mem::take(self) {
            Assembly::Idle => Err(Fault::connection(
                ReplyCode::UnexpectedFrame,
                "expected method frame, got non method frame instead",
            )),
            Assembly::Announced(method) => {
                let partial = header(method, &frame, largest)?;
                Ok(self.complete_or_keep(partial))
            }
            Assembly::Body(mut partial) => {
                partial.append(frame)?;
                Ok(self.complete_or_keep(partial))
            }
        }
    }

    fn complete_or_keep(&mut self, partial: Partial) -> Option<Published> {
        if partial.missing == 0 {
            Some(partial.finish())
        } else {
            *self = Assembly::Body(partial);
            None
        }
    }
}

/// Takes the content header.
fn header(method: Bytes, frame: &Frame, largest: u64) -> Result<Partial, Fault> {
    if frame.kind != FrameKind::Header {
        return Err(Fault::connection(
            ReplyCode::UnexpectedFrame,
            "expected content header for class 60, got non content header frame instead",
        )
        .during(PUBLISH));
    }
    let header = ContentHeader::decode(&frame.payload).map_err(|error| {
        Fault::connection(ReplyCode::SyntaxError, format_args!("content header: {error}"))
            .during(PUBLISH)
    })?;
    if header.class != PUBLISH.class {
        return Err(Fault::connection(
            ReplyCode::UnexpectedFrame,
            format_args!(
                "expected content header for class 60, got one for class {} instead",
                header.class
            ),
        )
        .during(PUBLISH));
    }
    if header.body_size > largest {
        return Err(Fault::channel(
            ReplyCode::PreconditionFailed,
            format_args!(
                "message size {} is larger than configured max size {largest}",
                header.body_size
            ),
        )
        .during(PUBLISH));
    }
    Ok(Partial {
        method,
        properties: frame.payload.slice_ref(header.properties.as_bytes()),
        missing: header.body_size,
        received: 0,
        parts: Vec::new(),
    })
}

impl Partial {
    fn append(&mut self, frame: Frame) -> Result<(), Fault> {
        if frame.kind != FrameKind::Body {
            return Err(Fault::connection(
                ReplyCode::UnexpectedFrame,
                "expected content body, got non content body frame instead",
            )
            .during(PUBLISH));
        }
        let length = frame.payload.len();
        self.missing = self.missing.checked_sub(length as u64).ok_or_else(|| {
            Fault::connection(
                ReplyCode::FrameError,
                "content body frame exceeds remaining content size",
            )
            .during(PUBLISH)
        })?;
        if length > 0 {
            self.received += length;
            self.parts.push(frame.payload);
        }
        Ok(())
    }

    fn finish(self) -> Published {
        let Ok(Method::BasicPublish { exchange, routing_key, mandatory, .. }) =
            Method::decode(&self.method)
        else {
            unreachable!("only a basic.publish that has been decoded is announced")
        };
        let properties = RawProperties::from_checked(&self.properties);
        let envelope = Envelope { exchange, routing_key, properties };
        let copied = if self.received <= COPIED { self.received } else { 0 };
        let mut bytes = BytesMut::with_capacity(envelope.encoded_len() + copied);
        envelope.encode(&mut bytes);
        let message = if self.received <= COPIED {
            let header = bytes.len();
            for part in &self.parts {
                bytes.extend_from_slice(part);
            }
            let mut bytes = bytes.freeze();
            let body = bytes.split_off(header);
            Message { header: bytes, body: Body::from(body) }
        } else {
            Message { header: bytes.freeze(), body: Body::from_parts(self.parts) }
        };
        Published { mandatory, message: Arc::new(message) }
    }
}
