//! Thousands of orders in which visitors' requests meet, in two processes that share a database and a cache that does
//! what it likes. Nobody loses a login or a change that was acknowledged, nobody gets another's session, and no request
//! fails.
//!
//! What is left out are the limits that [`session`](neverstale_sessions) names: what safe requests see with a cookie of
//! before a logout, where the cache was not told or went back to what it had, and with one that came in the wrong
//! order. And a visitor who logs in waits for the answer: a request of before may still take the cookie of after away.
//!
//! A seed decides what visitors do and what the cache does; the database's threads are as quick as they happen to be.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use futures_util::future::join_all;
use neverstale::backend::Backend;
use neverstale::{Cache, CacheOptions};
use neverstale_sessions::{Error, Sessions, Stored};
use tasklist::db::Database;
use tasklist::db::sessions::DatabaseStore;
use tower_sessions::session::Id;

use super::hostile::Hostile;
use super::places::Table;
use super::visitors::{Answer, Cookie, Data, KEYS, Step, Ticket, request};
use super::{key, secret};

const INTERLEAVINGS: u64 = 3_000;

/// Each has a database of its own, so that they do not wait for each other's writes.
const GROUPS: usize = 4;

/// Says which interleaving it was, if it fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("interleaving of seed {}", self.0);
        }
    }
}

#[test]
fn no_request_fails_and_no_login_is_lost_in_any_order_of_visitors_and_faults() {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..GROUPS {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let table = Table::in_directory(directory()).await;
                    let other = table.other();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= INTERLEAVINGS {
                            return;
                        }
                        interleave(seed, &table.db, &other).await;
                    }
                });
            });
        }
    });
}

/// In memory where there is a place for that: what is tested is not the disk.
fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let in_memory = if memory.is_dir() { tempfile::tempdir_in(memory).ok() } else { None };
    in_memory.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

async fn interleave(seed: u64, db: &Database, other: &Database) {
    let _seed = Seed(seed);
    let mut dice = Rng::with_seed(seed);
    let malice = [0, 5, 20, 50][dice.usize(0..4)];
    let cache = std::sync::Arc::new(Hostile::new(dice.u64(..), malice));
    let process = |db| {
        let cache = Cache::new(cache.clone() as std::sync::Arc<dyn Backend>, CacheOptions::default());
        Sessions::write_through(DatabaseStore::new(db), &cache, &secret())
    };
    let site = Site { processes: [process(db), process(other)], db, cache: &cache };
    let mut visitors: Vec<_> = (0..dice.u32(1..3)).map(|number| Visitor::new(number, &mut dice)).collect();
    join_all(visitors.iter_mut().map(|visitor| visitor.visit(&site))).await;
    cache.settle();
    for visitor in &mut visitors {
        visitor.check(&site).await;
        for id in &visitor.deleted {
            assert_eq!(site.stored(*id).await, None, "{}: what was deleted is back", visitor.name);
        }
    }
}

/// What visitors meet.
struct Site<'a> {
    processes: [Sessions; 2],
    db: &'a Database,
    cache: &'a Hostile,
}

impl Site<'_> {
    /// Returns what the database has of a session.
    async fn stored(&self, id: Id) -> Option<Data> {
        let name = Stored::name_of(&id);
        let sql = "select data from sessions where id = $1";
        let row = self.db.fetch_optional(sql, &[tasklist::db::Arg::Text(&name)]).await.unwrap();
        row.map(|(data,): (String,)| serde_json::from_str(&data).unwrap())
    }
}

/// A person, who knows what the site has told them.
struct Visitor {
    name: String,
    dice: Rng,
    ticket: Option<Ticket>,
    /// What is in their session, if they are logged in.
    expected: Option<Data>,
    /// What they had before they logged out.
    thrown_away: Vec<Ticket>,
    /// Of those, whose absence was seen.
    deleted: Vec<Id>,
    written: u32,
}

impl Visitor {
    fn new(number: u32, dice: &mut Rng) -> Self {
        let (name, dice) = (format!("visitor {number}"), dice.fork());
        Self { name, dice, ticket: None, expected: None, thrown_away: vec![], deleted: vec![], written: 0 }
    }

    async fn visit(&mut self, site: &Site<'_>) {
        for _ in 0..self.dice.u32(2..5) {
            if self.expected.is_none() {
                self.log_in(site).await;
                continue;
            }
            match self.dice.u32(0..10) {
                0 => self.log_in(site).await,
                1 => self.log_out(site).await,
                2..5 => self.read(site, Step::Read).await,
                5 => self.read(site, Step::Look).await,
                6 | 7 => self.write(site).await,
                _ => self.do_several_at_once(site).await,
            }
        }
    }

    fn process<'a>(&mut self, site: &'a Site<'_>) -> &'a Sessions {
        &site.processes[self.dice.usize(0..2)]
    }

    /// One request, which nobody else's of this visitor's meets.
    async fn ask(&mut self, site: &Site<'_>, step: Step) -> Answer {
        let process = self.process(site);
        let answer = request(process, self.ticket, &step).await;
        assert!(answer.error.is_none(), "{} {step:?}: {:?}", self.name, answer.error);
        assert_eq!(answer.found, self.expected.clone().unwrap_or_default(), "{} {step:?}", self.name);
        self.accept(answer.cookie);
        answer
    }

    fn accept(&mut self, cookie: Cookie) {
        match cookie {
            Cookie::Keep => {}
            Cookie::Give(ticket) => self.ticket = Some(ticket),
            Cookie::Take => self.ticket = None,
        }
    }

    async fn log_in(&mut self, site: &Site<'_>) {
        let old = self.ticket;
        self.ask(site, Step::LogIn(self.name.clone())).await;
        self.thrown_away.extend(old);
        let new = self.ticket.expect("who logs in gets a cookie");
        assert_ne!(Some(new.id), old.map(|ticket| ticket.id), "{}", self.name);
        self.expected.get_or_insert_default().insert("user".into(), self.name.clone());
    }

    async fn read(&mut self, site: &Site<'_>, step: Step) {
        self.ask(site, step).await;
        assert!(self.ticket.is_some(), "{}", self.name);
    }

    async fn write(&mut self, site: &Site<'_>) {
        let (key, value) = self.something();
        self.ask(site, Step::Write(key, value.clone())).await;
        self.expected.as_mut().unwrap().insert(key.into(), value);
    }

    /// A value that was never there.
    fn something(&mut self) -> (&'static str, String) {
        self.written += 1;
        (KEYS[self.dice.usize(1..KEYS.len())], format!("{} of {}", self.written, self.name))
    }

    async fn log_out(&mut self, site: &Site<'_>) {
        self.thrown_away.extend(self.ticket);
        self.ask(site, Step::LogOut).await;
        assert_eq!(self.ticket, None, "{}", self.name);
        self.expected = None;
        self.check(site).await;
    }

    /// Two or three requests, each from what the browser has at the beginning, perhaps a logout among them.
    async fn do_several_at_once(&mut self, site: &Site<'_>) {
        let ticket = self.ticket;
        let mut steps = vec![];
        for _ in 0..self.dice.u32(2..4) {
            let (key, value) = self.something();
            steps.push(if self.dice.u32(0..3) == 0 { Step::Read } else { Step::Write(key, value) });
        }
        if self.dice.u32(0..4) == 0 {
            let place = self.dice.usize(..steps.len());
            steps[place] = Step::LogOut;
        }
        let requests: Vec<_> = steps.iter().map(|step| request(self.process(site), ticket, step)).collect();
        let mut answers = join_all(requests).await;
        for (step, answer) in steps.iter().zip(&answers) {
            self.check_one_of_several(&steps, step, answer);
        }
        self.dice.shuffle(&mut answers);
        if steps.iter().any(|step| matches!(step, Step::LogOut)) {
            self.thrown_away.extend(ticket);
            self.expected = None;
            for answer in answers {
                self.thrown_away.extend(match answer.cookie {
                    Cookie::Give(ticket) => Some(ticket),
                    Cookie::Keep | Cookie::Take => None,
                });
            }
            self.ticket = None;
            self.check(site).await;
        } else {
            self.check_changes(site, ticket.unwrap(), &steps).await;
            self.accept_all(site, answers).await;
        }
    }

    /// A request that meets others of the same visitor.
    fn check_one_of_several(&self, steps: &[Step], step: &Step, answer: &Answer) {
        let is_logged_out = steps.iter().any(|step| matches!(step, Step::LogOut));
        match (&answer.error, step) {
            (None, _) => {}
            (Some(Error::Gone), Step::Write(..)) if is_logged_out => {}
            (Some(error), _) => panic!("{} {step:?}: {error}", self.name),
        }
        if is_logged_out && answer.found.is_empty() {
            return;
        }
        let before = self.expected.as_ref().unwrap();
        for key in KEYS {
            let found = answer.found.get(key);
            assert!(
                found == before.get(key) || found.is_some_and(|found| is_written(steps, key, found)),
                "{} {step:?}: {key} is {found:?}",
                self.name
            );
        }
    }

    /// All changes are there; of those of one key, one is.
    async fn check_changes(&mut self, site: &Site<'_>, ticket: Ticket, steps: &[Step]) {
        let stored = site.stored(ticket.id).await.expect("nobody has logged out");
        let before = self.expected.replace(stored.clone()).unwrap();
        for key in KEYS {
            let value = stored.get(key);
            let is_changed =
                steps.iter().any(|step| matches!(step, Step::Write(changed, _) if *changed == key));
            if is_changed {
                assert!(
                    value.is_some_and(|value| is_written(steps, key, value)),
                    "{}: {key} {value:?}",
                    self.name
                );
            } else {
                assert_eq!(value, before.get(key), "{}: {key}", self.name);
            }
        }
    }

    /// In the right order: what is in the database comes last. Or in another, and then asks what that is.
    async fn accept_all(&mut self, site: &Site<'_>, answers: Vec<Answer>) {
        let asked = request(&site.processes[0], self.ticket, &Step::Look).await;
        let last =
            if asked.cookie == Cookie::Keep { self.ticket.map(Cookie::Give) } else { Some(asked.cookie) };
        let cookies: Vec<_> = answers.into_iter().map(|answer| answer.cookie).collect();
        let is_told = cookies.iter().any(|cookie| Some(*cookie) == last) || asked.cookie == Cookie::Keep;
        assert!(is_told, "{}: nobody is told what was stored last", self.name);
        let gives = cookies.iter().filter(|cookie| **cookie != Cookie::Keep).count();
        let is_in_order = gives < 2 || self.dice.bool();
        cookies.iter().for_each(|cookie| self.accept(*cookie));
        if is_in_order {
            last.into_iter().for_each(|cookie| self.accept(cookie));
            self.read(site, Step::Read).await;
        } else {
            self.read(site, Step::Look).await;
        }
    }

    /// What was acknowledged is so, whoever asks, and what was thrown away is of no use.
    async fn check(&mut self, site: &Site<'_>) {
        let steps = if self.expected.is_some() { [Step::Read, Step::Look] } else { [Step::Look, Step::Read] };
        for step in steps {
            self.ask(site, step).await;
        }
        for ticket in std::mem::take(&mut self.thrown_away) {
            assert_eq!(site.stored(ticket.id).await, None, "{}: what was deleted is back", self.name);
            for step in [Step::Read, Step::Look] {
                let found = request(self.process(site), Some(ticket), &step).await.found;
                // What the cache was not told, safe requests do not know.
                let is_limit =
                    matches!(step, Step::Read) && !site.cache.was_fair_to(&key(&ticket.id).to_string());
                let is_own = is_limit && found.get("user") == Some(&self.name);
                assert!(found.is_empty() || is_own, "{} finds what they threw away: {found:?}", self.name);
            }
            self.deleted.push(ticket.id);
        }
    }
}

fn is_written(steps: &[Step], key: &str, value: &str) -> bool {
    steps.iter().any(|step| matches!(step, Step::Write(changed, new) if *changed == key && new == value))
}
