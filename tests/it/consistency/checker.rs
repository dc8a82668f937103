//! What a correct list page is, said exactly: the definition of "stale" and "backward" that all figures rest on.
//!
//! A history is what clients saw: operations with the instants at which they began and ended, on one clock. The list
//! changes at one point in time for each write, somewhere between the write's begin and its end. What was before and
//! what was after can be told only from operations that do not overlap, so nothing is held against a read that a list
//! without a cache could not have been blamed for.
//!
//! A task *is there* for sure from [`Task::added_by`]: when its add was acknowledged, or when the first page that shows
//! it had arrived, whichever is earlier. It *may be gone* from [`Task::removal_begins`]: when the first attempt to
//! remove it began, unless that is known to have failed. It *is gone* for sure from [`Task::removed_by`] (an
//! acknowledgement) or [`Task::missed_by`] (the end of a read that began when the task was there for sure and did not
//! show it, though it may have been gone by the read's end). A write without an answer is *unknown*: it may have
//! happened at any time since it began, may still happen, or never; pages tell.
//!
//! Each read is judged by itself, and may have several faults, one [`Fault`] for each:
//!
//! - [`Fault::Lost`]: an add acknowledged before the read began is missing, though nobody had begun to remove it before
//!   the read ended.
//! - [`Fault::Resurrected`]: a remove acknowledged before the read began is shown.
//! - [`Fault::Backward`]: another read, which ended before this one began, showed a newer list: it has a task that is
//!   missing here with no removal begun, or lacks one, removed, that is here again.
//! - [`Fault::Disorder`]: the ids do not ascend, or the rows are not as many as the page says.
//! - [`Fault::Phantom`]: a task that nobody added, or not yet, or twice.
//!
//! A read with any of them is a *stale read*. For every single task this is complete: where no fault is found, there
//! are points in time for its writes and reads that explain all that was seen; `explanations.rs` compares with a search
//! for them.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Nanoseconds since some instant before the history. What happens at one moment is not in order.
pub type Moment = u64;

/// The number in a task's name. No two adds use the same.
pub type Name = u32;

/// The database's number of a task, learned from pages.
pub type Id = i64;

const NEVER: Moment = Moment::MAX;

#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub begin: Moment,
    pub end: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    /// It has not happened and will not.
    Failed,
    /// It may have happened, or may happen yet.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub struct Add {
    pub name: Name,
    pub span: Span,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug)]
pub struct Remove {
    pub id: Id,
    pub span: Span,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub struct Read {
    pub span: Span,
    pub page: Arc<Page>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: Id,
    /// Of a task of ours.
    pub name: Option<Name>,
}

/// What a page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Which ids would be on this page: all, if it is the only one.
    covers: RangeInclusive<Id>,
    /// As many rows as it says.
    is_whole: bool,
    sorted: Vec<Id>,
}

#[derive(Clone, Debug, Default)]
pub struct History {
    pub adds: Vec<Add>,
    pub removes: Vec<Remove>,
    pub reads: Vec<Read>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    Lost,
    Resurrected,
    Backward,
    Disorder,
    Phantom,
}

/// What is wrong with a read, and with which task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its index in the history.
    pub read: usize,
    pub fault: Fault,
    pub name: Option<Name>,
    pub id: Option<Id>,
}

/// What a history tells of one task.
struct Task {
    name: Name,
    id: Option<Id>,
    begin: Moment,
    outcome: Outcome,
    acknowledged_by: Moment,
    shown_by: Moment,
    removal_begins: Moment,
    removed_by: Moment,
    missed_by: Moment,
}

/// A history on its way to a verdict.
struct Checker<'h> {
    history: &'h History,
    tasks: Vec<Task>,
    by_name: HashMap<Name, usize>,
    by_id: HashMap<Id, usize>,
    findings: Vec<Finding>,
}

/// Returns all faults, ordered by read. Takes as long as sorting the history and looking at every row a few times.
pub fn check(history: &History) -> Vec<Finding> {
    let mut checker = Checker::new(history);
    checker.learn_from_rows();
    checker.learn_from_removes();
    checker.learn_from_absences();
    checker.judge_absences();
    checker.judge_rows();
    checker.findings.sort_by_key(|finding| (finding.read, finding.fault));
    checker.findings
}

impl Page {
    /// Makes a page, the `number`th of those that show `total` tasks, `per_page` on each.
    pub fn new(rows: Vec<Row>, number: usize, total: usize, per_page: usize) -> Self {
        let pages = total.div_ceil(per_page).max(1);
        let expected = if number < pages { per_page } else { total.saturating_sub(per_page * (number - 1)) };
        let first = rows.first().map_or(Id::MAX, |row| row.id);
        let last = rows.last().map_or(Id::MIN, |row| row.id);
        let covers = if number == 1 { Id::MIN } else { first }..=if number == pages { Id::MAX } else { last };
        let mut sorted: Vec<_> = rows.iter().map(|row| row.id).collect();
        sorted.sort_unstable();
        Self { is_whole: rows.len() == expected, rows, covers, sorted }
    }

    /// Makes the page of a list that fits on it.
    pub fn only(rows: Vec<Row>) -> Self {
        let total = rows.len();
        Self::new(rows, 1, total, usize::MAX)
    }

    /// Leaves out the tasks that are not ours.
    pub fn of_ours(mut self) -> Self {
        self.rows.retain(|row| row.name.is_some());
        self
    }

    fn is_in_order(&self) -> bool {
        self.is_whole && self.rows.windows(2).all(|pair| pair[0].id < pair[1].id)
    }

    fn shows(&self, id: Option<Id>) -> bool {
        id.is_some_and(|id| self.sorted.binary_search(&id).is_ok())
    }

    /// Whether a task would be on it if it were in the list. One whose id nobody knows is on some page.
    fn covers(&self, id: Option<Id>) -> bool {
        id.map_or(self.covers == (Id::MIN..=Id::MAX), |id| self.covers.contains(&id))
    }

    fn lacks(&self, task: &Task) -> bool {
        self.covers(task.id) && !self.shows(task.id)
    }
}

impl Task {
    fn new(add: &Add) -> Self {
        let acknowledged = if add.outcome == Outcome::Acknowledged { add.span.end } else { NEVER };
        Self {
            name: add.name,
            id: None,
            begin: add.span.begin,
            outcome: add.outcome,
            acknowledged_by: acknowledged,
            shown_by: NEVER,
            removal_begins: NEVER,
            removed_by: NEVER,
            missed_by: NEVER,
        }
    }

    fn added_by(&self) -> Moment {
        self.acknowledged_by.min(self.shown_by)
    }
}

impl<'h> Checker<'h> {
    fn new(history: &'h History) -> Self {
        let tasks: Vec<_> = history.adds.iter().map(Task::new).collect();
        let by_name = tasks.iter().enumerate().map(|(index, task)| (task.name, index)).collect();
        Self { history, tasks, by_name, by_id: HashMap::new(), findings: vec![] }
    }

    /// Ids, and since when a task is there for sure because somebody has seen it.
    fn learn_from_rows(&mut self) {
        for (index, read) in self.history.reads.iter().enumerate() {
            if !read.page.is_in_order() {
                self.findings.push(Finding { read: index, fault: Fault::Disorder, name: None, id: None });
            }
            for row in &read.page.rows {
                match self.known(*row, read.span) {
                    Some(task) => task.shown_by = task.shown_by.min(read.span.end),
                    None => self.findings.push(Finding {
                        read: index,
                        fault: Fault::Phantom,
                        name: row.name,
                        id: Some(row.id),
                    }),
                }
            }
        }
    }

    /// The task of a row, unless it cannot be there.
    fn known(&mut self, row: Row, span: Span) -> Option<&mut Task> {
        let index = *self.by_name.get(&row.name?)?;
        let task = &mut self.tasks[index];
        let can_be = task.outcome != Outcome::Failed && task.begin <= span.end;
        let owner = *self.by_id.entry(row.id).or_insert(index);
        let is_the_same = owner == index && *task.id.get_or_insert(row.id) == row.id;
        (can_be && is_the_same).then_some(task)
    }

    fn learn_from_removes(&mut self) {
        for remove in self.history.removes.iter().filter(|remove| remove.outcome != Outcome::Failed) {
            let Some(index) = self.by_id.get(&remove.id) else { continue };
            let task = &mut self.tasks[*index];
            task.removal_begins = task.removal_begins.min(remove.span.begin);
            if remove.outcome == Outcome::Acknowledged {
                task.removed_by = task.removed_by.min(remove.span.end);
            }
        }
    }

    /// Since when a task is gone for sure because somebody has missed it: in the order in which reads ended, among the
    /// tasks that may be gone and have not been missed yet.
    fn learn_from_absences(&mut self) {
        let mut removals = self.in_order_of(|task| task.removal_begins).into_iter().peekable();
        let mut unmissed = BTreeSet::new();
        for index in self.reads_in_order_of(|span| span.end) {
            let Read { span, page } = &self.history.reads[index];
            while let Some((_, task)) = removals.next_if(|(begins, _)| *begins <= span.end) {
                unmissed.insert(task);
            }
            let tasks = &mut self.tasks;
            unmissed.retain(|index: &usize| {
                let task = &mut tasks[*index];
                let is_missed = task.added_by() < span.begin && page.lacks(task);
                if is_missed {
                    task.missed_by = span.end;
                }
                !is_missed
            });
        }
    }

    /// What is missing: in the order in which reads began, among the tasks that are there for sure.
    fn judge_absences(&mut self) {
        let mut additions = self.in_order_of(Task::added_by).into_iter().peekable();
        let mut present = BTreeSet::new();
        for read in self.reads_in_order_of(|span| span.begin) {
            let Read { span, page } = &self.history.reads[read];
            while let Some((_, task)) = additions.next_if(|(added, _)| *added < span.begin) {
                present.insert(task);
            }
            present.retain(|index| self.tasks[*index].removal_begins > span.begin);
            let tasks = present.iter().map(|index| &self.tasks[*index]);
            for task in tasks.filter(|task| task.removal_begins > span.end && page.lacks(task)) {
                let faults = [
                    (task.acknowledged_by < span.begin, Fault::Lost),
                    (task.shown_by < span.begin, Fault::Backward),
                ];
                self.findings.extend(found(read, task, faults));
            }
        }
    }

    /// What should not be there any more.
    fn judge_rows(&mut self) {
        for (index, Read { span, page }) in self.history.reads.iter().enumerate() {
            for task in page.rows.iter().filter_map(|row| self.by_id.get(&row.id)) {
                let task = &self.tasks[*task];
                let faults = [
                    (task.removed_by < span.begin, Fault::Resurrected),
                    (task.missed_by < span.begin, Fault::Backward),
                ];
                self.findings.extend(found(index, task, faults));
            }
        }
    }

    /// The tasks to which something happens, each with the moment of it.
    fn in_order_of(&self, moment: impl Fn(&Task) -> Moment) -> Vec<(Moment, usize)> {
        let moments = self.tasks.iter().map(moment).enumerate();
        let mut order: Vec<_> =
            moments.filter(|(_, at)| *at != NEVER).map(|(index, at)| (at, index)).collect();
        order.sort_unstable();
        order
    }

    fn reads_in_order_of(&self, moment: impl Fn(&Span) -> Moment) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.history.reads.len()).collect();
        order.sort_by_key(|index| moment(&self.history.reads[*index].span));
        order
    }
}

fn found(read: usize, task: &Task, faults: [(bool, Fault); 2]) -> impl Iterator<Item = Finding> {
    let (name, id) = (Some(task.name), task.id);
    let found = faults.into_iter().filter(|(is_found, _)| *is_found);
    found.map(move |(_, fault)| Finding { read, fault, name, id })
}
