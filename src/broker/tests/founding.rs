//! The first users of a store: stored once, and users like any other.

use super::*;
use crate::broker::access::{Permissions, User, UserLimits};

fn user(text: &str) -> User {
    User { name: name(text), password: None, tags: Vec::new(), limits: UserLimits::default() }
}

impl Rig {
    fn found(&self, users: &[&str]) {
        let users = users.iter().map(|text| user(text)).collect();
        // As a server does, which has no users that are not stored.
        self.broker.accounts().appoint(Vec::new());
        let everything = Permissions::new(".*", ".*", ".*").unwrap();
        self.broker.administer().add_first_users(users, &everything).unwrap();
    }

    /// Users, and the virtual hosts that they have permissions in.
    fn users(&self) -> Vec<(String, Vec<String>)> {
        let accounts = self.broker.accounts();
        let permissions = accounts.permissions();
        let hosts = |of: &ShortStr| {
            let own = permissions.iter().filter(|(user, ..)| user == of);
            own.map(|(_, host, _)| host.to_string()).collect()
        };
        accounts.users().iter().map(|user| (user.name.to_string(), hosts(&user.name))).collect()
    }
}

fn everywhere(text: &str, hosts: &[&str]) -> (String, Vec<String>) {
    (text.to_owned(), hosts.iter().map(ToString::to_string).collect())
}

#[test]
fn first_users_are_stored_once_and_stay_deleted() {
    let rig = Rig::new();
    rig.found(&["guest"]);
    assert_eq!(rig.users(), [everywhere("guest", &["/"])]);
    let rig = rig.restart();
    rig.found(&["another"]);
    assert_eq!(rig.users(), [everywhere("guest", &["/"])]);
    rig.broker.administer().delete_user(&name("guest")).unwrap();
    let rig = rig.restart();
    rig.found(&["guest"]);
    assert_eq!(rig.users(), []);
}

#[test]
fn users_that_are_put_into_an_empty_store_are_its_first() {
    let rig = Rig::new();
    rig.broker.administer().add_user(user("shop")).unwrap();
    let rig = rig.restart();
    rig.found(&["guest"]);
    assert_eq!(rig.users(), [everywhere("shop", &[])]);
}

/// The user of the settings was not stored, and may be the only one that anybody can log in as.
#[test]
fn a_store_of_the_version_before_gets_first_users_once() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.channel.declare_queue(&durable("q")).unwrap();
    rig.broker.administer().add_virtual_host(&name("orders"), Default::default()).unwrap();
    drop(client);
    let rig = rig.restart();
    // No note of first users is made for a store that is not empty.
    rig.broker.administer().add_user(user("shop")).unwrap();
    let rig = rig.restart();
    rig.found(&["guest"]);
    let both = [everywhere("guest", &["/", "orders"]), everywhere("shop", &[])];
    assert_eq!(rig.users(), both);
    let rig = rig.restart();
    rig.found(&["another"]);
    assert_eq!(rig.users(), both);
}
