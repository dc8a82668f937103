//! What the gate is synchronized with, in one place, so that a test can put its own in its stead and try all orders.

pub(super) use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

pub(super) use tokio::spawn;
pub(super) use tokio::task::yield_now;
