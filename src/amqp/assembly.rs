//! Putting a published message together from its frames: method, content header, body.
//!
//! The order of frames on a channel is checked here, and what has really arrived is counted here:
//! nothing is allocated for an announced size.

use bytes::{Bytes, BytesMut};

use super::codec::{ContentHeader, Frame, FrameKind, Method, MethodId, ReplyCode};
use super::fault::Fault;
use crate::message::{Envelope, RawProperties};
use crate::storage::Message;

/// Bodies up to this size are copied together with their envelope into one allocation; larger ones
/// stay slices of the read buffer.
///
/// A slice keeps its whole read buffer (up to 256 KiB) alive for as long as the message is queued in memory. While
/// its neighbours live as long, nothing is wasted; but one small message left over from a burst would hold sixty
/// times its size, unseen by anybody who counts bodies. A copy of 16 KiB costs a microsecond.
pub(super) const COPIED: usize = 16 * 1024;

/// `basic.publish`, to which errors of a message's frames are put down.
pub(super) const PUBLISH: MethodId = MethodId { class: 60, method: 40 };

/// What of a message has arrived on a channel.
#[derive(Debug, Default)]
pub(super) enum Assembly {
    /// No message is under way: the next frame must be a method.
    #[default]
    Idle,
    /// `basic.publish` has arrived. Its payload, checked, of 515 bytes at most.
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
    /// Pieces larger than [`COPIED`], and what came in smaller ones between them.
    parts: Vec<Bytes>,
    /// Small pieces that came after the last of `parts`, put together: a body in frames of one byte each must
    /// not take forty times its size.
    small: BytesMut,
    /// Whether method and properties have been copied out of the read buffer.
    detached: bool,
}

/// A message that has arrived completely.
#[derive(Debug)]
pub(super) struct Published {
    /// To be returned if it cannot be routed.
    pub(super) mandatory: bool,
    /// The message to store.
    pub(super) message: Message,
}

impl Assembly {
    /// Whether a message is under way.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Assembly::Idle)
    }

    /// Bytes that have arrived and are kept.
    pub(super) fn held(&self) -> usize {
        match self {
            Assembly::Idle => 0,
            Assembly::Announced(method) => method.len(),
            Assembly::Body(partial) => {
                partial.method.len() + partial.properties.len() + partial.received
            }
        }
    }

    /// Copies what is small out of the read buffer it came in, which could not be freed before the message is complete:
    /// to be called when there is nothing more in the buffer to look at. Large pieces of a body stay where they are.
    pub(super) fn detach(&mut self) {
        match self {
            Assembly::Idle => {}
            Assembly::Announced(method) => *method = Bytes::copy_from_slice(method),
            Assembly::Body(partial) => partial.detach(),
        }
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
        small: BytesMut::new(),
        detached: false,
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
        self.received += length;
        let whole = self.missing == 0 && length == self.received;
        if whole || length > COPIED {
            self.seal();
            self.parts.push(frame.payload);
        } else {
            self.small.extend_from_slice(&frame.payload);
        }
        Ok(())
    }

    /// Makes one part of the small pieces.
    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.parts.push(self.small.split().freeze());
        }
    }

    fn detach(&mut self) {
        if !self.detached {
            self.method = Bytes::copy_from_slice(&self.method);
            self.properties = Bytes::copy_from_slice(&self.properties);
            self.detached = true;
        }
    }

    fn finish(mut self) -> Published {
        self.seal();
        let Ok(Method::BasicPublish { exchange, routing_key, mandatory, .. }) =
            Method::decode(&self.method)
        else {
            unreachable!("only a basic.publish that has been decoded is announced")
        };
        let properties = RawProperties::from_checked(&self.properties);
        let envelope = Envelope { exchange, routing_key, properties, published_at: None };
        let copied = if self.received <= COPIED { self.received } else { 0 };
        let mut bytes = BytesMut::with_capacity(envelope.encoded_len() + copied);
        envelope.encode(&mut bytes);
        let message = if self.received <= COPIED {
            let header = bytes.len();
            for part in &self.parts {
                bytes.extend_from_slice(part);
            }
            Message::joined(bytes, header)
        } else {
            Message::from_parts(bytes.freeze(), self.parts)
        };
        Published { mandatory, message }
    }
}
