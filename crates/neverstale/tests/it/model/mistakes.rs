//! Mistakes to find: a sentence for each, what it breaks, a way there, and what it takes.

use super::protocol::Action::{self, *};
use super::protocol::{ACKNOWLEDGED, FORWARD, LABELLED};
use super::state::{Bounds, Command, PLAIN, Page, Stamp};

/// One wrong turn in a protocol that is right without it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mistake {
    /// The list is read, then in another statement its label: an old list gets the label of a newer one.
    LabelReadSecond,
    /// The label is read, then in another statement the list: a label stands for more than one list.
    LabelReadFirst,
    /// What is read in one statement is kept under the stamp that the gate gave: so does a stamp.
    StoresUnderGateStamp,
    /// A read joins a version query that was sent before it began.
    JoinsSentQuery,
    /// When the database fails, a read goes on with the last version that its process has seen.
    FallsBack,
    /// A read joins the build of its path that is under way, whatever the stamp that is for.
    FlightByPath,
    /// A write is acknowledged before its commit is answered.
    AcknowledgesEarly,
    /// Versions are counted and no more: after a dump is restored, a count comes again for another list.
    VersionWithoutTok,
    /// The token comes from the dump as well: then a read has the stamp of a build that began before the restore.
    TokFromDump,
    /// One key without a stamp, deleted before a write is acknowledged: a late `set` lands after that.
    Deletes,
    /// The same, and who builds `add`s a placeholder, which only a `cas` with its id replaces: memcached counts ids
    /// from 1 when it has restarted, so a late `cas` has the id of another's placeholder.
    LeaseByCas,
    /// One key without a stamp, and a lock around each build and each write: the lock expires while its holder pauses.
    LockExpires,
    /// One key without a stamp, and a write is acknowledged when all that was stored before it has expired: a
    /// memcached that was paused gives it out once more.
    TrustsExpiry,
}

impl Mistake {
    /// Whether this is one of those protocols that have neither stamps nor a gate.
    pub fn has_no_stamps(self) -> bool {
        matches!(self, Self::Deletes | Self::LeaseByCas | Self::LockExpires | Self::TrustsExpiry)
    }
}

/// Three reads and a write while nothing fails.
pub const QUIET: Bounds = Bounds {
    reads: 3,
    writes: 1,
    crashes: 0,
    restarts: 0,
    pauses: 0,
    restores: 0,
    evictions: false,
    failures: false,
};

/// The same while keys and locks vanish.
const EVICTIONS: Bounds = Bounds { evictions: true, ..QUIET };

/// Two reads, two writes, and a dump restored.
pub const RESTORED: Bounds = Bounds { reads: 2, writes: 2, restores: 1, ..QUIET };

/// A mistake, and all that it breaks at some bounds.
pub struct Case {
    pub mistake: Mistake,
    pub bounds: Bounds,
    pub breaks: &'static [&'static str],
    /// A way to break the first of them.
    pub story: Vec<Action>,
}

fn case(mistake: Mistake, bounds: Bounds, breaks: &'static [&'static str], story: &[&[Action]]) -> Case {
    Case { mistake, bounds, breaks, story: story.concat() }
}

/// A write that nothing comes between.
const WRITE: &[Action] = &[Write, Acknowledge];

/// A read of the first process, through the gate.
const READ: &[Action] = &[Begin(0), AskVersion(0), ReceiveVersion(0)];

const LOOK: &[Action] = &[Look(0, 0)];
const BUILD: &[Action] = &[Build(0, 0)];
const FINISH: &[Action] = &[Finish(0, 0)];

/// A read of each process by a protocol without a gate.
const PLAIN_READ: &[Action] = &[Begin(0), Look(0, 0)];
const OTHER_PLAIN_READ: &[Action] = &[Begin(1), Look(1, 0)];

/// The first list.
const FIRST: Page = Page { label: Stamp { v: 0, tok: 0 }, list: 0 };

/// Mistakes in the protocol.
pub fn wrong_turns() -> Vec<Case> {
    use Mistake::*;
    let failures = Bounds { failures: true, ..QUIET };
    let all = &[ACKNOWLEDGED, FORWARD, LABELLED];
    let both = &[ACKNOWLEDGED, FORWARD];
    let copied: &[Action] = &[READ, LOOK, BUILD, FINISH].concat();
    vec![
        case(LabelReadSecond, QUIET, all, &[READ, LOOK, BUILD, WRITE, BUILD, FINISH, READ]),
        case(LabelReadFirst, QUIET, &[LABELLED], &[READ, LOOK, BUILD, WRITE, BUILD, FINISH]),
        case(StoresUnderGateStamp, QUIET, &[LABELLED], &[READ, LOOK, WRITE, BUILD, FINISH]),
        case(
            JoinsSentQuery,
            QUIET,
            &[ACKNOWLEDGED],
            &[copied, &[Begin(0), AskVersion(0)], WRITE, &[Begin(0), ReceiveVersion(0)]],
        ),
        case(FallsBack, failures, both, &[copied, WRITE, &[Begin(0), AskVersion(0), FailVersion(0)]]),
        case(FlightByPath, QUIET, both, &[READ, LOOK, BUILD, WRITE, READ, FINISH]),
        case(AcknowledgesEarly, QUIET, &[ACKNOWLEDGED], &[&[Acknowledge], READ, LOOK, BUILD, FINISH]),
        case(VersionWithoutTok, RESTORED, &[ACKNOWLEDGED], &[&[Write], copied, &[Restore(0)], WRITE, READ]),
        case(
            TokFromDump,
            RESTORED,
            &[ACKNOWLEDGED],
            &[READ, LOOK, &[Write], BUILD, &[Restore(0), Acknowledge], READ, FINISH],
        ),
    ]
}

/// Other protocols in its place.
pub fn other_protocols() -> Vec<Case> {
    use Mistake::*;
    let both = &[ACKNOWLEDGED, FORWARD];
    let late_set: &[Action] = &[Deliver(Command::Set(PLAIN, FIRST))];
    let late_cas: &[Action] = &[Deliver(Command::Cas(PLAIN, FIRST, 1))];
    vec![
        case(Deletes, QUIET, both, &[PLAIN_READ, BUILD, WRITE, FINISH, late_set, OTHER_PLAIN_READ]),
        case(
            LeaseByCas,
            Bounds { restarts: 1, ..EVICTIONS },
            both,
            &[PLAIN_READ, BUILD, WRITE, &[Restart], OTHER_PLAIN_READ, FINISH, late_cas, OTHER_PLAIN_READ],
        ),
        case(
            LockExpires,
            EVICTIONS,
            both,
            &[PLAIN_READ, BUILD, &[EvictLock(PLAIN)], WRITE, FINISH, OTHER_PLAIN_READ],
        ),
        case(
            TrustsExpiry,
            Bounds { pauses: 1, ..EVICTIONS },
            both,
            &[PLAIN_READ, BUILD, FINISH, late_set, WRITE, &[Pause], OTHER_PLAIN_READ],
        ),
    ]
}

/// What is left of a mistake while that does not happen which it takes: what it breaks then.
pub fn lucky() -> Vec<(Mistake, Bounds, &'static [&'static str])> {
    use Mistake::*;
    vec![
        (FallsBack, QUIET, &[]),
        (VersionWithoutTok, Bounds { restores: 0, ..RESTORED }, &[]),
        (TokFromDump, Bounds { restores: 0, ..RESTORED }, &[]),
        (LeaseByCas, EVICTIONS, &[FORWARD]),
        (LockExpires, QUIET, &[]),
        (TrustsExpiry, EVICTIONS, &[FORWARD]),
    ]
}
