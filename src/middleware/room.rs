//! Room for so many, without a queue.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for so many requests, or for so many bytes. Nobody waits for a place: there is one, or there is none. That
/// makes it two additions to a number, where a semaphore has a queue and a lock to look after.
#[derive(Debug)]
pub(super) struct Room {
    size: usize,
    taken: AtomicUsize,
}

/// So much of a room, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    room: &'a Room,
    size: usize,
}

impl Room {
    pub(super) fn new(size: usize) -> Self {
        Self { size, taken: AtomicUsize::new(0) }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Returns a place of this size, if there is one.
    pub(super) fn take(&self, size: usize) -> Option<Place<'_>> {
        let mut place = self.corner();
        place.grow_to(size).then_some(place)
    }

    /// Returns a place of no size, to grow.
    pub(super) fn corner(&self) -> Place<'_> {
        Place { room: self, size: 0 }
    }
}

impl Place<'_> {
    /// Makes a place this large, and returns whether there was room for that; if not, it stays as it is.
    pub(super) fn grow_to(&mut self, size: usize) -> bool {
        let more = size.saturating_sub(self.size);
        // Whoever comes between the two is refused in a room that is as good as full.
        let taken = self.room.taken.fetch_add(more, Ordering::Relaxed);
        let fits = taken + more <= self.room.size;
        if fits {
            self.size += more;
        } else {
            self.room.taken.fetch_sub(more, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_and_for_others_when_they_are_gone() {
        let room = Room::new(2);
        let places = [room.take(1).unwrap(), room.take(1).unwrap()];
        assert!(room.take(1).is_none());
        drop(places);
        assert!(room.take(2).is_some());
        assert!(room.take(3).is_none());
        assert!(room.take(2).is_some(), "who finds none takes none");
    }

    #[test]
    fn a_place_grows_while_there_is_room() {
        let room = Room::new(10);
        let (mut place, other) = (room.corner(), room.take(4).unwrap());
        assert!(place.grow_to(6) && place.grow_to(6) && place.grow_to(2));
        assert!(!place.grow_to(7));
        drop(other);
        assert!(place.grow_to(10));
        drop(place);
        assert!(room.take(10).is_some());
    }
}
