//! A limit on log lines that would all say the same.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Allows so many lines in each period.
#[derive(Debug)]
pub(super) struct LogLimit {
    lines: u64,
    period: Duration,
    /// When the current period began, and the events in it.
    current: Mutex<(Instant, u64)>,
}

impl LogLimit {
    pub(super) fn new(lines: u64, period: Duration) -> Self {
        Self { lines, period, current: Mutex::new((Instant::now(), 0)) }
    }

    /// Counts an event. If it may have a line, returns how many events of the period that ended just now had none.
    pub(super) fn count(&self, now: Instant) -> Option<u64> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, events) = *current;
        // An event that is late counts for the current period.
        if now.saturating_duration_since(began) < self.period {
            current.1 += 1;
            return (events < self.lines).then_some(0);
        }
        *current = (now, 1);
        Some(events.saturating_sub(self.lines))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lines(limit: &LogLimit, now: Instant, events: u64) -> usize {
        (0..events).filter(|_| limit.count(now).is_some()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_lines_are_written_in_a_period_and_then_how_many_were_not() {
        let (limit, start) = (LogLimit::new(100, SECOND), Instant::now());
        assert_eq!(lines(&limit, start, 107), 100);
        advance(3 * SECOND).await;
        assert_eq!(limit.count(Instant::now()), Some(7));
        assert_eq!(lines(&limit, Instant::now(), 100), 99);
        assert_eq!(lines(&limit, start, 8), 0, "an event that is late opens no period");
        advance(SECOND).await;
        assert_eq!(limit.count(Instant::now()), Some(9));
        advance(SECOND).await;
        assert_eq!(limit.count(Instant::now()), Some(0), "all had one");
    }
}
