//! The attacks of the benchmark `canary`, made small: what must hold on a machine of any speed. The canaries' messages all arrive in
//! their order, and the attack's operations are all answered.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use haypile::server::control::{self, Outcome as Asked, Request};

use self::attacks::{Attack, Sizes};
use self::support::client::Place;
use crate::common::TestServer;

#[path = "../../benches/canary/attacks.rs"]
mod attacks;
#[path = "../../benches/canary/birds.rs"]
mod birds;
#[path = "../../benches/support/mod.rs"]
mod support;

const SIZES: Sizes = Sizes {
    topics: 20,
    bindings: 500,
    headers: 20,
    consumers: 1,
    passwords: 6,
    silent: 20,
    halves: 3,
    half: 1 << 20,
    flood: 50,
    arguments: 10,
    messages: 3000,
    time: Duration::from_millis(300),
};

#[test]
fn canaries_lose_nothing_while_each_attack_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = TestServer::with(|config| config.data_dir = data.clone());
    let name = "canary".to_owned();
    let all = || ".*".to_owned();
    let requests = [
        Request::AddVhost { name: name.clone(), description: String::new(), tags: Vec::new() },
        Request::Permit {
            user: "guest".to_owned(),
            vhost: name,
            configure: all(),
            write: all(),
            read: all(),
        },
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for request in requests {
        let asked = runtime.block_on(control::ask(&data, &request)).unwrap();
        assert!(matches!(asked, Asked::Done(_)), "{asked:?}");
    }
    let place = Place { address: server.address, virtual_host: "canary" };
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let sing = |queue: &'static str| {
            scope.spawn(move || birds::sing(place, queue, stop).map_err(|error| error.to_string()))
        };
        let birds = [sing("canary.1"), sing("canary.2")];
        let logins = scope.spawn(move || birds::log_in(place, stop));
        let attacked = Attack::All.run(Place { virtual_host: "/", ..place }, SIZES);
        stop.store(true, Relaxed);
        for bird in birds {
            assert!(!bird.join().unwrap().unwrap().is_empty());
        }
        let (logins, refused) = logins.join().unwrap();
        assert!(!logins.is_empty() && refused == 0);
        // Of guesses there are as many as there was time for.
        let answered = attacked.unwrap_or_else(|error| panic!("{}: {error}", Attack::All.name()));
        assert!(answered > 2 * u64::from(SIZES.arguments));
    });
}
