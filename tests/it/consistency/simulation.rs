//! The checker, checked: with simulated histories of a list that is right, and with faults put into them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use fastrand::Rng;

use super::checker::{
    Add, Fault, Finding, History, Id, Moment, Name, Outcome, Page, Read, Remove, Row, Span, check,
};

/// Clients of a list without a cache, in which every operation takes effect at one moment between its begin and end;
/// but a write that gets no answer may take effect later, or never.
struct Simulation {
    rng: Rng,
    per_page: usize,
    list: BTreeMap<Id, Name>,
    last_id: Id,
    names: Name,
    /// What each client saw last.
    seen: Vec<Vec<Row>>,
    operations: Vec<Operation>,
    /// By moment, and at one moment in the order in which they were planned.
    events: BinaryHeap<Reverse<(Moment, usize, Event)>>,
    planned: usize,
    history: History,
}

struct Operation {
    client: usize,
    action: Action,
    begin: Moment,
    outcome: Outcome,
    page: Option<Page>,
}

#[derive(Clone, Copy)]
enum Action {
    Add(Name, Id),
    Remove(Id),
    Read,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Begin { client: usize },
    Effect { operation: usize },
    End { operation: usize },
}

impl Simulation {
    const CLIENTS: usize = 5;

    fn run(seed: u64, per_page: usize, operations: usize) -> History {
        let mut simulation = Self {
            rng: Rng::with_seed(seed),
            per_page,
            list: BTreeMap::new(),
            last_id: 0,
            names: 0,
            seen: vec![vec![]; Self::CLIENTS],
            operations: vec![],
            events: BinaryHeap::new(),
            planned: 0,
            history: History::default(),
        };
        (0..Self::CLIENTS).for_each(|client| simulation.plan(0, Event::Begin { client }));
        while let Some(Reverse((now, _, event))) = simulation.events.pop() {
            match event {
                Event::Begin { .. } if simulation.operations.len() >= operations => {}
                Event::Begin { client } => simulation.begin(client, now),
                Event::Effect { operation } => simulation.take_effect(operation),
                Event::End { operation } => simulation.end(operation, now),
            }
        }
        simulation.history
    }

    fn plan(&mut self, at: Moment, event: Event) {
        self.events.push(Reverse((at, self.planned, event)));
        self.planned += 1;
    }

    fn begin(&mut self, client: usize, now: Moment) {
        let action = self.action(client);
        let chance = if matches!(action, Action::Read) { 100 } else { self.rng.u8(..100) };
        let (effect, end, outcome) = match chance {
            0..10 => (None, self.rng.u64(..50), Outcome::Failed),
            10..15 => (None, self.rng.u64(..50), Outcome::Unknown),
            15..30 => (Some(self.rng.u64(..300)), self.rng.u64(..100), Outcome::Unknown),
            _ => {
                let effect = self.rng.u64(..40);
                (Some(effect), effect + self.rng.u64(..40), Outcome::Acknowledged)
            }
        };
        let operation = self.operations.len();
        self.operations.push(Operation { client, action, begin: now, outcome, page: None });
        if let Some(effect) = effect {
            self.plan(now + effect, Event::Effect { operation });
        }
        self.plan(now + end, Event::End { operation });
    }

    fn action(&mut self, client: usize) -> Action {
        let (seen, chance) = (&self.seen[client], self.rng.u8(..10));
        match chance {
            0..2 => {
                // As a sequence numbers them: before they are committed, and so in another order.
                (self.last_id, self.names) = (self.last_id + 1, self.names + 1);
                Action::Add(self.names, self.last_id)
            }
            2..4 if !seen.is_empty() => Action::Remove(seen[self.rng.usize(..seen.len())].id),
            _ => Action::Read,
        }
    }

    fn take_effect(&mut self, operation: usize) {
        match self.operations[operation].action {
            Action::Add(name, id) => drop(self.list.insert(id, name)),
            Action::Remove(id) => drop(self.list.remove(&id)),
            Action::Read => self.operations[operation].page = Some(self.page()),
        }
    }

    fn page(&mut self) -> Page {
        let (total, per_page) = (self.list.len(), self.per_page);
        let number = self.rng.usize(1..=total.div_ceil(per_page).max(1));
        let rows = self.list.iter().map(|(id, name)| Row { id: *id, name: Some(*name) });
        Page::new(rows.skip((number - 1) * per_page).take(per_page).collect(), number, total, per_page)
    }

    fn end(&mut self, operation: usize, now: Moment) {
        let Operation { client, action, begin, outcome, ref mut page } = self.operations[operation];
        let span = Span { begin, end: now };
        match action {
            Action::Add(name, _) => self.history.adds.push(Add { name, span, outcome }),
            Action::Remove(id) => self.history.removes.push(Remove { id, span, outcome }),
            Action::Read => {
                let page = page.take().expect("a read ends after its effect");
                self.seen[client].clone_from(&page.rows);
                self.history.reads.push(Read { span, page: Arc::new(page) });
            }
        }
        let pause = self.rng.u64(..20);
        self.plan(now + pause, Event::Begin { client });
    }
}

#[test]
fn a_list_that_is_right_gives_no_alarm() {
    for seed in 0..2000 {
        let per_page = if seed % 2 == 0 { usize::MAX } else { 3 };
        let findings = check(&Simulation::run(seed, per_page, 150));
        assert_eq!(findings, [], "seed {seed}");
    }
}

#[test]
fn a_long_history_is_checked_as_well() {
    let mut history = Simulation::run(0, usize::MAX, 20_000);
    assert_eq!(check(&history), []);
    let last = history.reads.len() - 1;
    history.reads[last].page = history.reads[0].page.clone();
    assert!(check(&history).iter().any(|finding| finding.read == last), "the first page at the end");
}

/// Puts a fault into the rows of a read, if one of this kind can be.
type Injection = fn(&mut Rng, &History) -> Option<(usize, Fault, Vec<Row>)>;

fn random_read(rng: &mut Rng, history: &History) -> (usize, Span, Vec<Row>) {
    let read = rng.usize(..history.reads.len());
    (read, history.reads[read].span, history.reads[read].page.rows.clone())
}

fn add_of(history: &History, row: Row) -> &Add {
    history.adds.iter().find(|add| Some(add.name) == row.name).expect("a right page shows what was added")
}

/// Nobody has begun to remove it before the moment.
fn is_safe(history: &History, id: Id, until: Moment) -> bool {
    history.removes.iter().all(|remove| remove.id != id || remove.span.begin > until)
}

fn loses_an_add(rng: &mut Rng, history: &History) -> Option<(usize, Fault, Vec<Row>)> {
    let (read, span, mut rows) = random_read(rng, history);
    let is_old = |row: &Row| {
        let Add { span: added, outcome, .. } = add_of(history, *row);
        *outcome == Outcome::Acknowledged && added.end < span.begin && is_safe(history, row.id, span.end)
    };
    let lost = rows.iter().position(is_old)?;
    rows.remove(lost);
    Some((read, Fault::Lost, rows))
}

fn brings_back_a_removed_one(rng: &mut Rng, history: &History) -> Option<(usize, Fault, Vec<Row>)> {
    let (read, span, rows) = random_read(rng, history);
    let mut removes = history.removes.iter();
    let removed = removes
        .find(|remove| remove.outcome == Outcome::Acknowledged && remove.span.end < span.begin)
        .map(|remove| remove.id)?;
    let row = history.reads.iter().flat_map(|read| &read.page.rows).find(|row| row.id == removed)?;
    Some((read, Fault::Resurrected, with(rows, *row)))
}

/// One whose add got no answer: only the earlier read knows of it.
fn forgets_what_was_seen(rng: &mut Rng, history: &History) -> Option<(usize, Fault, Vec<Row>)> {
    let (read, span, mut rows) = random_read(rng, history);
    let is_seen = |row: &Row| {
        let is_earlier = |read: &&Read| read.span.end < span.begin && read.page.rows.contains(row);
        add_of(history, *row).outcome == Outcome::Unknown
            && history.reads.iter().any(|read| is_earlier(&read))
    };
    let lost = rows.iter().position(|row| is_seen(row) && is_safe(history, row.id, span.end))?;
    rows.remove(lost);
    Some((read, Fault::Backward, rows))
}

/// One whose remove got no answer: only the earlier read knows that it happened.
fn recalls_what_was_missed(rng: &mut Rng, history: &History) -> Option<(usize, Fault, Vec<Row>)> {
    let (read, span, rows) = random_read(rng, history);
    let is_unanswered = |remove: &&Remove| {
        let mut attempts = history.removes.iter().filter(|other| other.id == remove.id);
        attempts.all(|attempt| attempt.outcome == Outcome::Unknown)
    };
    let remove = history.removes.iter().filter(is_unanswered).find(|remove| {
        let shows = |read: &Read| read.page.rows.iter().any(|row| row.id == remove.id);
        let shown = history.reads.iter().find(|read| shows(read)).map(|read| read.span.end);
        let is_missed = |read: &Read| Some(read.span.begin) > shown && read.span.end >= remove.span.begin;
        history.reads.iter().any(|read| read.span.end < span.begin && is_missed(read) && !shows(read))
    })?;
    let row = history.reads.iter().flat_map(|read| &read.page.rows).find(|row| row.id == remove.id)?;
    Some((read, Fault::Backward, with(rows, *row)))
}

fn shows_a_row_twice(rng: &mut Rng, history: &History) -> Option<(usize, Fault, Vec<Row>)> {
    let (read, _, mut rows) = random_read(rng, history);
    rows.push(*rows.first()?);
    Some((read, Fault::Disorder, rows))
}

fn swaps_rows(rng: &mut Rng, history: &History) -> Option<(usize, Fault, Vec<Row>)> {
    let (read, _, mut rows) = random_read(rng, history);
    rows.reverse();
    (rows.len() > 1).then_some((read, Fault::Disorder, rows))
}

fn shows_what_nobody_added(rng: &mut Rng, history: &History) -> Option<(usize, Fault, Vec<Row>)> {
    let (read, _, rows) = random_read(rng, history);
    let failed = history.adds.iter().find(|add| add.outcome == Outcome::Failed).map(|add| add.name);
    let name = [None, Some(Name::MAX), failed][rng.usize(..3)];
    Some((read, Fault::Phantom, with(rows, Row { id: Id::MAX - 1, name })))
}

fn with(mut rows: Vec<Row>, row: Row) -> Vec<Row> {
    rows.retain(|other| other.id != row.id);
    rows.push(row);
    rows.sort_by_key(|row| row.id);
    rows
}

#[test]
fn every_fault_that_is_put_in_is_found() {
    let injections: [(&str, Injection); 7] = [
        ("loses an add", loses_an_add),
        ("brings back a removed one", brings_back_a_removed_one),
        ("forgets what was seen", forgets_what_was_seen),
        ("recalls what was missed", recalls_what_was_missed),
        ("shows a row twice", shows_a_row_twice),
        ("swaps rows", swaps_rows),
        ("shows what nobody added", shows_what_nobody_added),
    ];
    for (what, inject) in injections {
        let mut found = 0;
        for seed in 0..200 {
            let mut history = Simulation::run(seed, usize::MAX, 300);
            let mut rng = Rng::with_seed(seed);
            let injected = (0..20).find_map(|_| inject(&mut rng, &history));
            let Some((read, fault, rows)) = injected else { continue };
            history.reads[read].page = Arc::new(Page::only(rows));
            let is_it = |finding: &Finding| finding.read == read && finding.fault == fault;
            assert!(check(&history).iter().any(is_it), "{what}, seed {seed}");
            found += 1;
        }
        assert!(found >= 50, "{what}: only {found} histories have room for it");
    }
}
