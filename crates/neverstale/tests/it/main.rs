//! Version checks and single flight, in the orders in which their callers can take turns.

#![expect(unreachable_pub, reason = "nothing of a test binary can be reached from outside")]
#![expect(clippy::unwrap_used, reason = "a test that finds something missing ends there")]
#![expect(clippy::disallowed_methods, reason = "tests of files wait in real time")]

mod files;
mod handle;
mod single_flight;
mod version;
