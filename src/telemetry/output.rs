//! Output that never waits: lines go into a bounded queue, and a thread of its own writes them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// How many lines wait to be written at most.
const CAPACITY: usize = 1024;

/// How long the end of an output waits for its last lines.
const FLUSH: Duration = Duration::from_secs(1);

/// Lines that could not be written.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// Lines that found the queue of the log full.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// A standard stream that a thread of its own writes to.
///
/// A line is lost if the queue is full, since the reader is slow or has stopped reading; if the reader has gone; or if
/// the disk is full. [`lost_lines`] counts these. Lines that come later are written as soon as that is possible again.
///
/// Dropping it waits until all lines are written, or for a second.
pub struct Output {
    lines: NonBlocking,
    /// Some until it is dropped.
    worker: Option<WorkerGuard>,
}

/// What the thread writes to. A line that cannot be written is lost and no error.
struct Counted<W> {
    stream: W,
    /// Whether the last line may have been written in part.
    is_torn: bool,
}

/// Returns how many lines were lost since the process started.
#[must_use]
pub fn lost_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    UNWRITTEN.load(Ordering::Relaxed) + dropped as u64
}

impl Output {
    /// Starts writing to a standard stream, past the buffer and the lock that the standard library has for it.
    ///
    /// # Errors
    ///
    /// If the process has no file descriptor left.
    pub fn new(stream: &impl AsFd) -> io::Result<Self> {
        let stream = File::from(stream.as_fd().try_clone_to_owned()?);
        let queue = NonBlockingBuilder::default().buffered_lines_limit(CAPACITY).thread_name("log");
        let (lines, worker) = queue.finish(Counted { stream, is_torn: false });
        // A process has one log. What a command says at its end is no part of it.
        DROPPED.get_or_init(|| lines.error_counter());
        Ok(Self { lines, worker: Some(worker) })
    }

    /// Returns what the log writes to.
    #[must_use]
    pub fn writer(&self) -> NonBlocking {
        self.lines.clone()
    }

    /// Writes a line.
    pub fn say(&self, line: &str) {
        // What does not fit is counted, and no error.
        let _ = self.writer().write_all(format!("{line}\n").as_bytes());
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let worker = self.worker.take();
        let (done, flushed) = channel();
        // Where the queue stays full, the worker's guard prints to standard output, which may panic or never return.
        thread::spawn(move || {
            drop(worker);
            done.send(())
        });
        let _ = flushed.recv_timeout(FLUSH);
    }
}

/// Takes whole lines, as the worker writes them.
impl<W: Write> Write for Counted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The next line does not continue one that was written in part.
        let end: &[u8] = if self.is_torn { b"\n" } else { b"" };
        self.is_torn = self.stream.write_all(&[end, line].concat()).is_err();
        UNWRITTEN.fetch_add(self.is_torn.into(), Ordering::Relaxed);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// A disk: so many bytes are free, and then there is no room.
    struct Disk {
        free: usize,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if self.free == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let count = line.len().min(self.free);
            self.free -= count;
            self.written.extend(&line[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_has_room_again_gets_whole_lines_and_the_others_are_counted() {
        let mut log = Counted { stream: Disk { free: 9, written: vec![] }, is_torn: false };
        let before = lost_lines();
        for (free, line) in
            [(9, "first\n"), (3, "second\n"), (0, "third\n"), (1, "fourth\n"), (100, "fifth\n")]
        {
            log.stream.free = free;
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(String::from_utf8_lossy(&log.stream.written), "first\nsec\n\nfifth\n");
        assert_eq!(lost_lines() - before, 3);
    }
}
