//! The last half hour of each layer.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use neverstale::LayerStats;

/// The time between two samples.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// How many samples are kept.
const SAMPLES: usize = 180;

/// The totals of all layers at each sample.
#[derive(Default)]
pub(super) struct History(VecDeque<Vec<(&'static str, Point)>>);

/// What a layer did in ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Keys asked for that had a value.
    pub hits: u64,
    /// Keys asked for that had none.
    pub misses: u64,
}

impl History {
    /// Adds a sample.
    pub(super) fn sample(&mut self, layers: &[LayerStats]) {
        self.push(layers.iter().map(|stats| (stats.layer, stats.into())).collect());
    }

    fn push(&mut self, totals: Vec<(&'static str, Point)>) {
        if self.0.len() >= SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(totals);
    }

    /// Returns what a layer did between two samples each, up to its totals `now`.
    pub(super) fn of(&self, layer: &str, now: Point) -> Vec<Point> {
        let of_layer = |totals: &Vec<(&str, Point)>| {
            totals.iter().find(|(name, _)| *name == layer).map_or(Point::default(), |(_, point)| *point)
        };
        let totals: Vec<_> = self.0.iter().map(of_layer).chain([now]).collect();
        let since = |before: Point, after: Point| Point {
            hits: after.hits.saturating_sub(before.hits),
            misses: after.misses.saturating_sub(before.misses),
        };
        totals.windows(2).map(|pair| since(pair[0], pair[1])).collect()
    }
}

impl Point {
    /// Returns the share of hits, if any key was asked for.
    #[must_use]
    pub fn hit_rate(&self) -> Option<f64> {
        let all = self.hits + self.misses;
        (all > 0).then(|| self.hits as f64 / all as f64)
    }
}

impl From<&LayerStats> for Point {
    fn from(stats: &LayerStats) -> Self {
        Self { hits: stats.hits, misses: stats.misses }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_what_came_since_the_one_before() {
        let mut history = History::default();
        history.push(vec![]);
        history.push(vec![("views", Point { hits: 3, misses: 1 }), ("query", Point { hits: 9, misses: 9 })]);
        let points = history.of("views", Point { hits: 10, misses: 1 });
        assert_eq!(points, [Point { hits: 3, misses: 1 }, Point { hits: 7, misses: 0 }]);
        assert_eq!(points.iter().map(Point::hit_rate).collect::<Vec<_>>(), [Some(0.75), Some(1.0)]);
        assert_eq!(Point::default().hit_rate(), None);
    }

    #[test]
    fn it_goes_back_half_an_hour_and_no_further() {
        let mut history = History::default();
        for hits in 0..1000 {
            history.push(vec![("views", Point { hits, misses: 0 })]);
        }
        let points = history.of("views", Point { hits: 1000, misses: 0 });
        assert_eq!(points.len(), SAMPLES);
        assert!(points.iter().all(|point| *point == Point { hits: 1, misses: 0 }));
    }
}
