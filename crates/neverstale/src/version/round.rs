//! A round: all who wait for the same answer, told it and woken together.

use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

use super::sync::{Arc, Mutex, OnceLock};

/// Where an answer will be told. If this is dropped before, all in it are told that there is none.
pub(super) struct Round<T>(Arc<Shared<T>>);

/// A seat in a round: a future of its answer. A caller that leaves takes its waker along, so that a round holds no more
/// wakers than callers have waited at the same time, however long its query takes.
pub(super) struct Seat<T> {
    shared: Arc<Shared<T>>,
    /// Where its waker is among all.
    place: Option<usize>,
}

struct Shared<T> {
    /// Set once, before the wakers are taken.
    answer: OnceLock<Option<T>>,
    wakers: Mutex<Wakers>,
}

/// The wakers of those who wait, each at its place.
#[derive(Default)]
struct Wakers {
    places: Vec<Option<Waker>>,
    /// Places whose callers have left.
    free: Vec<usize>,
}

impl Wakers {
    fn add(&mut self, waker: Waker) -> usize {
        if let Some(place) = self.free.pop() {
            self.places[place] = Some(waker);
            return place;
        }
        self.places.push(Some(waker));
        self.places.len() - 1
    }

    /// Returns the waker of a place. None if all of them have been taken.
    fn remove(&mut self, place: usize) -> Option<Waker> {
        let waker = self.places.get_mut(place)?.take();
        self.free.push(place);
        waker
    }
}

impl<T> Round<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { answer: OnceLock::new(), wakers: Mutex::default() }))
    }

    pub(super) fn take_seat(&self) -> Seat<T> {
        Seat { shared: Arc::clone(&self.0), place: None }
    }

    /// Returns how many wait.
    pub(super) fn seats(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    /// Tells all the answer.
    pub(super) fn tell(self, answer: T) {
        self.0.tell(Some(answer));
    }
}

impl<T> Shared<T> {
    fn tell(&self, answer: Option<T>) {
        // Only the first counts.
        if self.answer.set(answer).is_ok() {
            let wakers = std::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner));
            wakers.places.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

impl<T> Drop for Round<T> {
    fn drop(&mut self) {
        self.0.tell(None);
    }
}

impl<T: Clone> Future for Seat<T> {
    /// None if nobody will ever tell.
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let seat = &mut *self;
        if let Some(answer) = seat.shared.answer.get() {
            return Poll::Ready(answer.clone());
        }
        let mut wakers = seat.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, or the wakers may have been taken between this look and the next line.
        if let Some(answer) = seat.shared.answer.get() {
            return Poll::Ready(answer.clone());
        }
        match seat.place {
            Some(place) => wakers.places[place] = Some(context.waker().clone()),
            None => seat.place = Some(wakers.add(context.waker().clone())),
        }
        Poll::Pending
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let waker = self.shared.wakers.lock().unwrap_or_else(PoisonError::into_inner).remove(place);
        // Without the lock: what a waker keeps alive may have a seat as well.
        drop(waker);
    }
}
