//! Output that never waits: lines go into a bounded queue, and a thread of its own writes them.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder};
use tracing_subscriber::fmt::MakeWriter;

/// The capacity of a queue, in bytes.
const CAPACITY: usize = 128 * 1024;

/// The fewest bytes that a line counts for, which bounds the number of lines as well.
const SMALLEST: usize = 64;

/// How long [`Output::flush`] waits.
const FLUSH: Duration = Duration::from_secs(1);

/// The pause before another attempt where a stream that does not block is full.
const PAUSE: Duration = Duration::from_millis(10);

static LOST: AtomicU64 = AtomicU64::new(0);

/// A stream that is written by a thread of its own. Cheap to clone.
///
/// A line is lost if the queue is full, since the reader is slow or has stopped reading; if the reader has gone; or if
/// the disk is full. [`lost_lines`] counts these. Lines that come later are written as soon as that is possible again.
#[derive(Clone)]
pub struct Output {
    lines: NonBlocking,
    queued: Arc<Queued>,
}

/// How many bytes are in the queue or being written.
#[derive(Default)]
struct Queued {
    bytes: Mutex<usize>,
    written: Condvar,
}

/// What the thread writes to.
struct Sink<W> {
    stream: W,
    queued: Arc<Queued>,
    /// Whether the last line has been written in part.
    is_torn: bool,
}

/// Returns how many lines were lost since the process started.
#[must_use]
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed)
}

impl Output {
    /// Starts writing to a standard stream, past the buffer and the lock that the standard library has for it.
    ///
    /// # Errors
    ///
    /// If the process has no file descriptor left.
    pub fn new(stream: &impl AsFd) -> io::Result<Self> {
        Ok(Self::to(File::from(stream.as_fd().try_clone_to_owned()?)))
    }

    fn to(stream: impl Write + Send + 'static) -> Self {
        let queued = Arc::<Queued>::default();
        let sink = Sink { stream, queued: Arc::clone(&queued), is_torn: false };
        // Lossy in any case. Since a line counts for so many bytes, our queue is full before this one.
        let queue =
            NonBlockingBuilder::default().buffered_lines_limit(CAPACITY / SMALLEST).thread_name("log");
        let (lines, guard) = queue.finish(sink);
        // The guard prints to standard output when it cannot end the thread, which may block or panic. The thread ends
        // with the process, after `flush`.
        mem::forget(guard);
        Self { lines, queued }
    }

    /// Writes a line.
    pub fn say(&self, line: &str) {
        self.put(format!("{line}\n").as_bytes());
    }

    /// Waits until all lines are written, or for a second.
    pub fn flush(&self) {
        let bytes = lock(&self.queued.bytes);
        let _ = self.queued.written.wait_timeout_while(bytes, FLUSH, |bytes| *bytes > 0);
    }

    fn put(&self, line: &[u8]) {
        if !self.queued.admit(line) {
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // It fails for no line: what does not fit has not been admitted.
        let _ = self.lines.clone().write_all(line);
    }
}

impl Queued {
    fn admit(&self, line: &[u8]) -> bool {
        let mut bytes = lock(&self.bytes);
        let is_admitted = *bytes + size(line) <= CAPACITY;
        if is_admitted {
            *bytes += size(line);
        }
        is_admitted
    }

    fn release(&self, line: &[u8]) {
        *lock(&self.bytes) -= size(line);
        self.written.notify_all();
    }
}

fn size(line: &[u8]) -> usize {
    line.len().max(SMALLEST)
}

fn lock(bytes: &Mutex<usize>) -> MutexGuard<'_, usize> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes whole lines, as `tracing_subscriber` writes them.
impl Write for &Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Takes whole lines, as the thread writes them. A line that cannot be written is lost and no error.
impl<W: Write> Write for Sink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.put(line).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        self.queued.release(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Sink<W> {
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        // The next line does not continue one that was written in part.
        if self.is_torn {
            self.put_part(b"\n")?;
            self.is_torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            rest = &rest[self.put_part(rest)?..];
            self.is_torn = !rest.is_empty();
        }
        Ok(())
    }

    fn put_part(&mut self, part: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(part) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => pause(),
                other => return other,
            }
        }
    }
}

fn pause() {
    #[expect(clippy::disallowed_methods, reason = "this thread is none of the runtime's")]
    thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Hands out what is written, and waits for whoever takes it.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.send(line.to_vec()).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns an output that nobody reads yet.
    fn stalled() -> (Output, Receiver<Vec<u8>>) {
        let (sender, receiver) = sync_channel(0);
        (Output::to(Slow(sender)), receiver)
    }

    #[test]
    fn a_full_queue_drops_what_does_not_fit_and_keeps_the_rest() {
        let (output, reader) = stalled();
        let lines = CAPACITY / 1024;
        for number in 0..lines + 3 {
            output.say(&format!("{number:01023}"));
        }
        output.say("short");
        assert_eq!(*lock(&output.queued.bytes), CAPACITY);
        for number in 0..lines {
            assert_eq!(reader.recv().unwrap(), format!("{number:01023}\n").into_bytes());
        }
        output.say("later");
        assert_eq!(reader.recv().unwrap(), b"later\n");
    }

    #[test]
    fn short_lines_are_bounded_by_number() {
        let (output, _reader) = stalled();
        for _ in 0..2 * CAPACITY / SMALLEST {
            output.say("");
        }
        assert_eq!(*lock(&output.queued.bytes), CAPACITY);
    }

    #[test]
    fn a_flush_waits_for_what_was_said_and_not_for_a_reader_who_does_not_read() {
        let (output, reader) = stalled();
        output.say("one");
        output.flush();
        assert_eq!(*lock(&output.queued.bytes), SMALLEST, "nobody has read it");
        let reading = thread::spawn(move || reader.recv().unwrap());
        output.flush();
        assert_eq!((&reading.join().unwrap()[..], *lock(&output.queued.bytes)), (&b"one\n"[..], 0));
    }

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
    fn a_disk_that_has_room_again_gets_whole_lines() {
        let disk = Disk { free: 9, written: vec![] };
        let mut sink = Sink { stream: disk, queued: Arc::default(), is_torn: false };
        assert!(sink.put(b"first\n").is_ok());
        assert!(sink.put(b"second\n").is_err());
        assert!(sink.put(b"third\n").is_err());
        sink.stream.free = 1;
        assert!(sink.put(b"fourth\n").is_err());
        sink.stream.free = 100;
        assert!(sink.put(b"fifth\n").is_ok());
        assert_eq!(String::from_utf8_lossy(&sink.stream.written), "first\nsec\nfifth\n");
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted() {
        let (output, reader) = stalled();
        drop(reader);
        let before = lost_lines();
        output.say("lost");
        output.flush();
        assert!(lost_lines() > before);
    }
}
