//! What all connections share.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::intake::{Intake, Reservation};
use super::limits::{Limits, User};
use super::scarcity::{Resource, Scarcity, reason};
use super::thinning::Thinning;
use super::verifier::Verifier;
use crate::broker::Broker;
use crate::broker::access::{Administrator, release_spare_memory};
use crate::message::ShortStr;
use crate::storage::{Store, StoreError};

/// What a publisher that is held back waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// That nothing is short: who begins a message.
    Everywhere,
    /// That there is memory, or [leave](Gateway::leave_to_finish) to go on without: who has begun one.
    OrLeave,
    /// That there is room on the disk: who has all of it. What waits to be stored may be what takes the memory.
    OnDisk,
    /// Its turn to look up for longer than usual where a message goes.
    ToRoute,
    /// That the others of its thread have had their turn: who goes on with a lookup, or waits for a deletion.
    NextTurn,
}

/// Leave to do what one connection does at a time. Dropping it gives it to who has waited for longest.
pub(super) type Leave = OwnedSemaphorePermit;

/// Completes when there is [`Room`], with the leave that was waited for, if that is what made it.
pub(super) type AwaitRoom = Pin<Box<dyn Future<Output = Option<Leave>> + Send>>;

/// What lets a connection read on that waited for memory.
pub(super) enum Admission {
    /// There is memory: what was added to its reservation.
    Reserved(Reservation),
    /// It has leave to go on without.
    Leave(Leave),
}

/// The broker, its store, and the rules for connections.
#[derive(Debug)]
pub struct Gateway {
    pub(super) broker: Broker,
    pub(super) store: Store,
    pub(super) limits: Limits,
    pub(super) verifier: Verifier,
    /// For the log lines that clients cause.
    pub(crate) log: Arc<Thinning>,
    failure: watch::Receiver<Option<StoreError>>,
    scarcity: Arc<Scarcity>,
    /// Changes whenever the store becomes full or has room again, or something else becomes short or is not any more.
    room: Arc<watch::Sender<u64>>,
    /// For the one connection that may finish a message while memory is short.
    finishing: Arc<Semaphore>,
    /// For the memory of what arrives.
    pub(super) intake: Arc<Intake>,
    /// For the one connection that may look up for longer than usual where a message goes. However many others want to, each
    /// thread's connections wait for a piece of one such lookup at most.
    routing: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway to `broker`, which keeps its messages in `store`. `users` may do everything, and are not stored.
    #[must_use]
    pub fn new(broker: Broker, store: Store, users: Vec<User>, limits: Limits) -> Gateway {
        let administrators =
            users.into_iter().filter_map(|User { name, password, loopback_only }| {
                // A longer name cannot be logged in with.
                let name = ShortStr::try_from(name.as_str()).ok()?;
                Some(Administrator { name, password, loopback_only })
            });
        broker.accounts().appoint(administrators.collect());
        let (failing, failure) = watch::channel(None);
        store.on_failure(move |error| {
            failing.send_replace(Some(error));
        });
        let room = Arc::new(watch::channel(0).0);
        let changing = Arc::clone(&room);
        store.on_room_change(move || changing.send_modify(|changes| *changes += 1));
        let (scarcity, finishing) = (Arc::default(), Arc::new(Semaphore::new(1)));
        let (verifier, log) = (Verifier::new(), Arc::new(Thinning::default()));
        let routing = Arc::new(Semaphore::new(1));
        let intake = Intake::new(limits.receive_memory);
        Gateway {
            broker,
            store,
            limits,
            verifier,
            log,
            failure,
            scarcity,
            room,
            finishing,
            intake,
            routing,
        }
    }

    /// Says whether something is short: publishers are held back while it is, and while it is the disk the store gives back what
    /// it can. May remove files. Returns `true` if that is news.
    pub fn set_short(&self, resource: Resource, is_short: bool) -> bool {
        let is_news = self.scarcity.set(resource, is_short);
        if is_news {
            if resource == Resource::Disk {
                self.store.set_low_on_space(is_short);
            }
            self.room.send_modify(|changes| *changes += 1);
        }
        is_news
    }

    /// Gives up memory that is kept to be used again.
    pub fn release_spare_memory(&self) {
        release_spare_memory();
        self.store.release_spare_memory();
    }

    /// Takes messages out of memory that wait to be delivered: they are read back from the log then.
    pub fn evict_messages(&self) {
        if let Err(error) = self.store.evict_messages() {
            // A log that has failed ends the process, and one that was closed is about to.
            tracing::debug!("cannot write messages to the log that are to leave memory: {error}");
        }
    }

    /// Whether publishers are held back.
    pub(super) fn holds_publishers_back(&self) -> bool {
        self.store.is_full() || self.scarcity.is_any()
    }

    /// Whether there is too little space on the disk for what is new.
    pub(super) fn is_low_on_disk(&self) -> bool {
        self.store.is_full() || self.scarcity.is_of(Resource::Disk)
    }

    /// Whether there is too little memory for what is new.
    pub(super) fn is_low_on_memory(&self) -> bool {
        self.scarcity.is_of(Resource::Memory)
    }

    /// Why they are held back, for `connection.blocked`.
    pub(super) fn reason(&self) -> &'static [u8] {
        reason(self.is_low_on_disk(), self.is_low_on_memory())
    }

    /// Leave to go on with a message that has begun, although memory is short: messages that have arrived by half, and take all of
    /// it, would otherwise wait for each other. One connection has it at a time.
    pub(super) fn leave_to_finish(&self) -> Option<Leave> {
        Arc::clone(&self.finishing).try_acquire_owned().ok()
    }

    /// Completes when there is room: at once, if there is.
    ///
    /// Leave that was waited for is handed over. Whoever asked for it again would find that it has gone on to the next who waits,
    /// who would do the same: two that wait would give it to each other for ever.
    pub(super) fn await_room(&self, room: Room) -> AwaitRoom {
        match room {
            Room::Everywhere => Box::pin(self.until(|scarcity| !scarcity.is_any())),
            Room::OnDisk => Box::pin(self.until(|scarcity| !scarcity.is_of(Resource::Disk))),
            Room::ToRoute => {
                let turn = Arc::clone(&self.routing).acquire_owned();
                Box::pin(async move {
                    let leave = turn.await.ok();
                    // Nobody else may have wanted it, and what comes is a piece.
                    tokio::task::yield_now().await;
                    leave
                })
            }
            Room::NextTurn => Box::pin(async {
                tokio::task::yield_now().await;
                None
            }),
            Room::OrLeave => {
                let enough = self.until(|scarcity| !scarcity.is_any());
                let leave = Arc::clone(&self.finishing).acquire_owned();
                Box::pin(async move {
                    tokio::select! {
                        none = enough => none,
                        leave = leave => leave.ok(),
                    }
                })
            }
        }
    }

    /// Returns `true` if a connection waits for memory to read into.
    pub(super) fn is_short_of_receive_memory(&self) -> bool {
        self.intake.is_short()
    }

    /// Completes when a connection that has reserved `own` bytes may hold `bytes`, or has leave to finish its message. Leave is
    /// given while the log is not congested: messages finished one after the other would else pile up there.
    pub(super) fn await_memory(
        &self,
        own: usize,
        bytes: usize,
    ) -> Pin<Box<dyn Future<Output = Admission> + Send>> {
        let reserved = Arc::clone(&self.intake).add(own, bytes);
        let (leave, store) = (Arc::clone(&self.finishing).acquire_owned(), self.store.clone());
        let leave = async move {
            // The semaphore is never closed.
            let Ok(leave) = leave.await else { return pending().await };
            while let Some(lsn) = store.congested() {
                // A log that has failed takes nothing: whoever publishes is told.
                if store.durable(lsn).await.is_err() {
                    break;
                }
            }
            leave
        };
        Box::pin(async move {
            tokio::select! {
                biased;
                reservation = reserved => Admission::Reserved(reservation),
                leave = leave => Admission::Leave(leave),
            }
        })
    }

    /// Completes when the store is not full, and `enough` is there of all else.
    fn until(
        &self,
        enough: fn(&Scarcity) -> bool,
    ) -> impl Future<Output = Option<Leave>> + Send + use<> {
        let (store, scarcity) = (self.store.clone(), Arc::clone(&self.scarcity));
        let mut changes = self.room.subscribe();
        async move {
            // An error means that the store is gone: nobody waits for it then.
            while (store.is_full() || !enough(&scarcity)) && changes.changed().await.is_ok() {}
            None
        }
    }

    /// Waits until the log has failed, be it that nobody waits for it; usually for ever. Nothing may be confirmed after
    /// that, and the process has to end.
    pub async fn failed(&self) -> StoreError {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(error)) => error.clone(),
            // The store was closed, and with it gone nothing can fail any more.
            _ => pending().await,
        }
    }
}
