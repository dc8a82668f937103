//! Synchronization of what must hold in every order of steps. A test puts shuttle's types in the place of these.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

pub(super) use tokio::spawn;
pub(super) use tokio::task::yield_now;
