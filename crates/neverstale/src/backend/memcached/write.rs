//! A write runs to its end also when its caller is dropped: whether it happened is then still learned.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use super::shared::Shared;

/// A write of keys, as a future. Dropped before its end, it goes on in the background, or, if too many do already, its
/// keys get pending deletes.
pub(super) struct Write<T: Send + 'static> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    shared: Arc<Shared>,
    keys: Vec<String>,
}

impl<T: Send + 'static> Write<T> {
    pub(super) fn new(
        shared: &Arc<Shared>,
        keys: Vec<String>,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        Self { future: Some(Box::pin(future)), shared: Arc::clone(shared), keys }
    }
}

impl<T: Send + 'static> Future for Write<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let result = future.as_mut().poll(context);
        if result.is_ready() {
            self.future = None;
        }
        result
    }
}

impl<T: Send + 'static> Drop for Write<T> {
    fn drop(&mut self) {
        let (Some(future), Ok(runtime)) = (self.future.take(), Handle::try_current()) else { return };
        match Arc::clone(self.shared.background_writes()).try_acquire_owned() {
            Ok(permit) => drop(runtime.spawn(async move {
                future.await;
                drop(permit);
            })),
            Err(_) => self.shared.add_pending(&self.keys),
        }
    }
}
