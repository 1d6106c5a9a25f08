//! The users of the settings: stored once in the life of a data directory, and users like any other from then on.

use tracing::{info, warn};

use crate::amqp::User;
use crate::broker::access::{self, Password, PasswordError, PatternError, Permissions, UserLimits};
use crate::broker::{AdministrationError, Broker};
use crate::message::ShortStr;

/// RabbitMQ's tag of a user who may do everything.
const ADMINISTRATOR: ShortStr = ShortStr::from_static("administrator");

/// The user whose password everybody knows.
const GUEST: ShortStr = ShortStr::from_static("guest");

/// Why the users of the settings could not be stored.
#[derive(Debug, thiserror::Error)]
enum FoundingError {
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error(transparent)]
    Broker(#[from] AdministrationError),
}

/// Stores the users of the settings if the store has had no users yet, and says where stored users may connect from.
///
/// Returns those that could not be stored, on a full disk for example: they may do everything until the server ends, and the next
/// start tries again.
pub(super) fn found(broker: &Broker, settings: Vec<User>) -> Vec<User> {
    let mut local: Vec<_> =
        settings.iter().filter(|user| user.loopback_only).filter_map(name_of).collect();
    if !settings.iter().any(|user| user.name.as_bytes() == GUEST.as_bytes()) {
        local.push(GUEST);
    }
    broker.accounts().confine(local);
    match store(broker, &settings) {
        Ok(()) => Vec::new(),
        Err(error) => {
            warn!(%error, "the user of the settings cannot be stored, and is there until the server ends");
            settings
        }
    }
}

/// The name of a user; `None` if it is too long to log in with.
fn name_of(user: &User) -> Option<ShortStr> {
    ShortStr::try_from(user.name.as_str()).ok()
}

fn store(broker: &Broker, settings: &[User]) -> Result<(), FoundingError> {
    // Users that were not stored before are none of this broker's.
    broker.accounts().appoint(Vec::new());
    let administration = broker.administer();
    if !administration.awaits_first_users() {
        return Ok(());
    }
    let mut first = Vec::new();
    for user in settings {
        let Some(name) = name_of(user) else { continue };
        info!(user = %name, "the user of the settings is stored, with all permissions");
        first.push(access::User {
            name,
            password: Some(Password::new(user.password.as_bytes())?),
            tags: vec![ADMINISTRATOR],
            limits: UserLimits::default(),
        });
    }
    let everything = Permissions::new(".*", ".*", ".*")?;
    administration.add_first_users(first, &everything)?;
    Ok(())
}
