//! Backends, version checks, single flight, files and the handle; and the model of the versioned protocol.

#![expect(unreachable_pub, reason = "nothing of a test binary can be reached from outside")]
#![expect(clippy::unwrap_used, reason = "a test that finds something missing ends there")]

mod backends;
mod files;
mod handle;
mod model;
mod single_flight;
mod version;
