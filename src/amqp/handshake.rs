//! Negotiation: from the protocol header to `connection.open` (AMQP 0-9-1, section 2.2.4). No sockets.

use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::codec::{Dialect, FRAME_MIN_SIZE, Method, PROTOCOL_HEADER, ReplyCode};
use super::fault::Fault;
use super::limits::Limits;
use super::output::Output;
use super::sasl::{self, SaslError};
use crate::broker::access::{Accounts, Login, LoginRefused, Verification};
use crate::message::{FieldTable, RawTable, ShortStr, Value};

/// The version of RabbitMQ that this server takes the place of. Clients choose by it what they use, and refuse what is older than they
/// know.
const RABBITMQ: &str = "3.13.7";

/// How far the negotiation is: what the client has to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Header,
    StartOk,
    /// Nothing: the password is being verified.
    Verified,
    TuneOk,
    Open,
}

/// A negotiation under way.
#[derive(Debug)]
pub(super) struct Handshake {
    step: Step,
    terms: Terms,
    /// How the client authenticates.
    mechanism: String,
}

/// How far the client's method has brought the negotiation.
#[derive(Debug)]
pub(super) enum Progress {
    /// On to the next method.
    Next,
    /// No further method before this has been run, and the outcome been [told](Handshake::verified).
    Verify(Verification),
    /// `connection.open` has come: the virtual host is to be opened, and the method to be answered.
    Open(Terms),
}

/// What was agreed on, as far as it was.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    /// Who logged in.
    pub(super) user: ShortStr,
    pub(super) channel_max: u16,
    /// The largest frame in bytes.
    pub(super) frame_max: u32,
    /// Heartbeat interval in seconds; 0 for none.
    pub(super) heartbeat: u16,
    /// Where to: the virtual host of `connection.open`.
    pub(super) virtual_host: ShortStr,
    /// The client understands `basic.cancel` from the server.
    pub(super) consumer_cancel_notify: bool,
    /// The client understands `connection.blocked`.
    pub(super) connection_blocked: bool,
    /// The client wants to be told why it may not log in.
    authentication_failure_close: bool,
}

/// What came of the protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// More bytes are needed.
    Incomplete,
    /// It is ours; `connection.start` has been put out.
    Accepted,
    /// It is something else; our own header has been put out, and the socket is to be closed.
    Refused,
}

/// Why the negotiation ends.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the peer is told with `connection.close`; nothing, and the socket is closed without a word, where
    /// clients expect that: a failed login without the capability `authentication_failure_close`.
    pub(super) told: Option<Fault>,
    /// What the log is told.
    pub(super) reason: String,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure { reason: fault.text.clone(), told: Some(fault) }
    }
}

impl Handshake {
    pub(super) fn new() -> Handshake {
        // Until something else is agreed on, frames are small.
        let terms = Terms { frame_max: FRAME_MIN_SIZE, ..Terms::default() };
        Handshake { step: Step::Header, terms, mechanism: String::new() }
    }

    /// Whether the protocol header is still to come, before any frame.
    pub(super) fn expects_header(&self) -> bool {
        self.step == Step::Header
    }

    /// The largest frame that the peer may send now.
    pub(super) fn frame_max(&self) -> u32 {
        self.terms.frame_max
    }

    /// Looks at the first bytes of the connection, and takes the protocol header off them.
    pub(super) fn header(&mut self, input: &mut BytesMut, output: &mut Output) -> Header {
        let length = input.len().min(PROTOCOL_HEADER.len());
        let mut headers = Dialect::HEADERS.into_iter();
        let begun = headers.find(|(header, _)| header[..length] == input[..length]);
        let Some((_, dialect)) = begun else {
            output.protocol_header();
            return Header::Refused;
        };
        if length < PROTOCOL_HEADER.len() {
            return Header::Incomplete;
        }
        input.advance(length);
        self.step = Step::StartOk;
        output.speak(dialect);
        let (version_major, version_minor) = dialect.version();
        let properties = server_properties(dialect).to_bytes();
        output.method(
            0,
            &Method::ConnectionStart {
                version_major,
                version_minor,
                server_properties: RawTable::parse(&properties).expect("encoded from a table"),
                mechanisms: sasl::MECHANISMS,
                locales: b"en_US",
            },
        );
        Header::Accepted
    }

    /// Takes the client's next method.
    pub(super) fn method(
        &mut self,
        method: &Method<'_>,
        access: &Access<'_>,
        output: &mut Output,
    ) -> Result<Progress, Failure> {
        let limits = access.limits;
        match (self.step, *method) {
            (
                Step::StartOk,
                Method::ConnectionStartOk { client_properties, mechanism, response, .. },
            ) => {
                self.note_capabilities(client_properties);
                self.mechanism = String::from_utf8_lossy(mechanism).into_owned();
                match self.authenticate(mechanism, response, access)? {
                    Login::Accepted(user) => self.verified(Ok(user), limits, output)?,
                    Login::Refused(why) => self.verified(Err(why), limits, output)?,
                    Login::Pending(verification) => {
                        self.step = Step::Verified;
                        return Ok(Progress::Verify(verification));
                    }
                }
            }
            (Step::TuneOk, Method::ConnectionTuneOk { channel_max, frame_max, heartbeat }) => {
                negotiated("frame_max", frame_max, FRAME_MIN_SIZE, limits.frame_max)
                    .and_then(|()| {
                        negotiated("channel_max", channel_max.into(), 1, limits.channel_max.into())
                    })
                    .map_err(|fault| fault.during(method.id()))?;
                self.terms.frame_max = frame_max;
                self.terms.channel_max = channel_max;
                self.terms.heartbeat = heartbeat;
                self.step = Step::Open;
            }
            (Step::Open, Method::ConnectionOpen { virtual_host, .. }) => {
                self.terms.virtual_host = ShortStr::copy_of(virtual_host);
                return Ok(Progress::Open(self.terms.clone()));
            }
            _ => {
                return Err(Fault::connection(
                    ReplyCode::CommandInvalid,
                    format_args!("unexpected method {} during the handshake", method.name()),
                )
                .during(method.id())
                .into());
            }
        }
        Ok(Progress::Next)
    }

    /// Takes note of who it is, or that it is nobody who may log in.
    pub(super) fn verified(
        &mut self,
        login: Result<ShortStr, LoginRefused>,
        limits: &Limits,
        output: &mut Output,
    ) -> Result<(), Failure> {
        self.terms.user = login.map_err(|why| self.refuse(&why))?;
        self.step = Step::TuneOk;
        let Limits { channel_max, frame_max, heartbeat, .. } = *limits;
        output.method(0, &Method::ConnectionTune { channel_max, frame_max, heartbeat });
        Ok(())
    }

    fn note_capabilities(&mut self, properties: RawTable<'_>) {
        let Some(Value::Table(capabilities)) =
            properties.get(b"capabilities").map(|value| value.to_value())
        else {
            return;
        };
        let has = |name: &[u8]| capabilities.get(name) == Some(&Value::Bool(true));
        self.terms.consumer_cancel_notify = has(b"consumer_cancel_notify");
        self.terms.connection_blocked = has(b"connection.blocked");
        self.terms.authentication_failure_close = has(b"authentication_failure_close");
    }

    fn authenticate(
        &self,
        mechanism: &[u8],
        response: &[u8],
        access: &Access<'_>,
    ) -> Result<Login, Failure> {
        match sasl::credentials(mechanism, response) {
            Ok(credentials) => {
                let (user, password) = (credentials.user, credentials.password);
                Ok(access.accounts.login(user, password, access.loopback))
            }
            Err(SaslError::UnknownMechanism) => Err(Fault::connection(
                ReplyCode::CommandInvalid,
                format_args!("unknown authentication mechanism '{}'", self.mechanism),
            )
            .into()),
            Err(SaslError::Malformed) => {
                Err(self.refuse(&"the response is not what the mechanism prescribes"))
            }
            Err(SaslError::AnotherIdentity) => {
                Err(self.refuse(&"the authorization identity is that of another user"))
            }
        }
    }

    /// The log is told why; the peer, who may be guessing, is not.
    fn refuse(&self, why: &dyn std::fmt::Display) -> Failure {
        let mechanism = &self.mechanism;
        let fault = Fault::connection(
            ReplyCode::AccessRefused,
            format_args!(
                "Login was refused using authentication mechanism {mechanism}. \
                 For details see the broker logfile."
            ),
        );
        Failure {
            told: self.terms.authentication_failure_close.then_some(fault),
            reason: format!("{mechanism} login refused: {why}"),
        }
    }
}

/// What the decision to let a peer in depends on.
#[derive(Debug)]
pub(super) struct Access<'a> {
    pub(super) limits: &'a Limits,
    pub(super) accounts: &'a Arc<Accounts>,
    /// Whether the peer is on this machine.
    pub(super) loopback: bool,
}

/// Checks a value of `connection.tune-ok`, for which 0 means "no limit".
fn negotiated(name: &str, value: u32, least: u32, most: u32) -> Result<(), Fault> {
    let (relation, bound, limit) = if value != 0 && value < least {
        ("lower", "minimum", least)
    } else if value == 0 || value > most {
        ("higher", "maximum", most)
    } else {
        return Ok(());
    };
    let meaning = if value == 0 { " (no limit)" } else { "" };
    Err(Fault::connection(
        ReplyCode::NotAllowed,
        format_args!(
            "negotiated {name} = {value}{meaning} is {relation} than the {bound} allowed value ({limit})"
        ),
    ))
}

/// The capabilities that `connection.start` announces. Each of them works.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// The description of this server in `connection.start`.
fn server_properties(dialect: Dialect) -> FieldTable {
    let capabilities: FieldTable = CAPABILITIES
        .into_iter()
        .filter(|_| dialect.has_capabilities())
        .map(|name| (ShortStr::from_static(name), Value::Bool(true)))
        .collect();
    [
        ("capabilities", Value::Table(capabilities)),
        ("product", Value::text("Haypile")),
        ("version", Value::text(RABBITMQ)),
        ("haypile_version", Value::text(env!("CARGO_PKG_VERSION"))),
        ("platform", Value::text("Rust")),
    ]
    .into_iter()
    .map(|(name, value)| (ShortStr::from_static(name), value))
    .collect()
}
