//! Synchronization of what must hold in every order of steps. A test puts shuttle's types in the place of these.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::sync::{Arc, Mutex, MutexGuard};

use tokio::runtime::Handle;
pub(super) use tokio::task::yield_now;

/// Spawns a task. Outside a runtime it is dropped.
pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(task);
    }
}
