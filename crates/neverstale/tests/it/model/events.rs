//! What must happen on some path, lest the model keep its promises by doing nothing.

use std::sync::atomic::{AtomicU32, Ordering};

/// Something that a step may be an example of.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A read is answered with the copy in its process.
    LocalHit,
    /// A read is answered by memcached.
    Hit,
    /// A read joins a build that has read its list already.
    SharedBuild,
    /// A build reads a newer version than the gate gave.
    NewerThanAsked,
    /// The version that the gate gives is old when it arrives.
    OldVersionReceived,
    /// A read begins while a query is under way, and waits for the next.
    WaitedForNextQuery,
    /// The version query fails, and a read ends without a page.
    Refused,
    /// A `set` of an older version lands after a newer one was committed.
    LateSet,
    /// Memcached restarts and loses something.
    RestartWithItems,
    /// A `set` lands after memcached has restarted.
    SetAfterRestart,
    /// A process dies between reading a list and storing it.
    CrashWhileBuilding,
    /// A build begins where the lock of one that died still stands.
    TakenOver,
}

pub const EVENTS: [Event; 12] = [
    Event::LocalHit,
    Event::Hit,
    Event::SharedBuild,
    Event::NewerThanAsked,
    Event::OldVersionReceived,
    Event::WaitedForNextQuery,
    Event::Refused,
    Event::LateSet,
    Event::RestartWithItems,
    Event::SetAfterRestart,
    Event::CrashWhileBuilding,
    Event::TakenOver,
];

/// The events of all paths, a bit for each. They stand beside the states, which would be many more with them.
#[derive(Debug, Default)]
pub struct Seen(AtomicU32);

impl Seen {
    pub fn note(&self, event: Event, happens: bool) {
        self.0.fetch_or(u32::from(happens) << event as u32, Ordering::Relaxed);
    }

    pub fn has(&self, event: Event) -> bool {
        self.0.load(Ordering::Relaxed) & (1 << event as u32) != 0
    }
}
