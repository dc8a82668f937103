//! A cache that does to its callers whatever a cache can do, and breaks the contract of a backend where that serves it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use fastrand::Rng;
use neverstale::Ttl;
use neverstale::backend::{Backend, Error, ErrorKind, ServerCheck, ServerStats};

/// Values in memory, and dice that say what becomes of each operation.
pub struct Hostile(Mutex<State>);

struct State {
    values: HashMap<String, Bytes>,
    /// All that was ever written.
    past: Vec<(String, Bytes)>,
    /// What is still on its way, though its sender was told that it failed.
    late: Vec<Write>,
    /// Keys to which something has happened that they were not told, or that nobody asked for.
    harmed: HashSet<String>,
    dice: Rng,
    /// How often something goes wrong, of a hundred times.
    malice: u32,
}

#[derive(Clone)]
enum Write {
    Set(String, Bytes, Ttl),
    Add(String, Bytes, Ttl),
    Replace(String, Bytes, Ttl),
    Delete(String),
}

impl Hostile {
    pub fn new(seed: u64, malice: u32) -> Self {
        let dice = Rng::with_seed(seed);
        Self(Mutex::new(State {
            values: HashMap::new(),
            past: vec![],
            late: vec![],
            harmed: HashSet::new(),
            dice,
            malice,
        }))
    }

    /// Lets all that is on its way arrive.
    pub fn settle(&self) {
        let mut state = self.0.lock().unwrap();
        for write in std::mem::take(&mut state.late) {
            state.apply(write);
        }
    }

    /// Whether the cache has done with this key all that it was told, and no more.
    pub fn was_fair_to(&self, key: &str) -> bool {
        !self.0.lock().unwrap().harmed.contains(key)
    }

    /// Lets others go first, now and then.
    async fn dawdle(&self) {
        let turns = self.0.lock().unwrap().dice.u32(0..4);
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }

    async fn write(&self, write: Write) -> Result<bool, Error> {
        self.dawdle().await;
        let outcome = {
            let mut state = self.0.lock().unwrap();
            state.happen(write.key());
            state.suffer(write)
        };
        self.dawdle().await;
        outcome
    }
}

impl State {
    fn goes_wrong(&mut self) -> bool {
        self.dice.u32(0..100) < self.malice
    }

    /// What a cache does by itself.
    fn happen(&mut self, key: &str) {
        if !self.late.is_empty() && self.dice.bool() {
            let write = self.late.swap_remove(self.dice.usize(..self.late.len()));
            self.apply(write);
        }
        if !self.goes_wrong() || self.past.is_empty() {
            return;
        }
        match self.dice.u32(0..6) {
            0 => self.values.clear(),
            1 => {
                let (_, value) = self.past[self.dice.usize(..self.past.len())].clone();
                self.values.insert(key.to_owned(), value);
                self.harmed.insert(key.to_owned());
            }
            _ => {
                let (key, value) = self.past[self.dice.usize(..self.past.len())].clone();
                self.harmed.insert(key.clone());
                self.values.insert(key, value);
            }
        }
    }

    fn suffer(&mut self, write: Write) -> Result<bool, Error> {
        if !self.goes_wrong() {
            return Ok(self.apply(write));
        }
        self.harmed.insert(write.key().to_owned());
        match self.dice.u32(0..3) {
            0 => {}
            1 => drop(self.apply(write)),
            _ => self.late.push(write),
        }
        Err(failure())
    }

    fn apply(&mut self, write: Write) -> bool {
        let is_there = self.values.contains_key(write.key());
        match write {
            Write::Set(key, value, ttl) => self.put(key, value, ttl),
            Write::Add(key, value, ttl) if !is_there => self.put(key, value, ttl),
            Write::Replace(key, value, ttl) if is_there => self.put(key, value, ttl),
            Write::Delete(key) => return self.values.remove(&key).is_some(),
            Write::Add(..) | Write::Replace(..) => return false,
        }
        true
    }

    fn put(&mut self, key: String, value: Bytes, ttl: Ttl) {
        if ttl.is_over() {
            self.values.remove(&key);
            return;
        }
        self.past.push((key.clone(), value.clone()));
        self.values.insert(key, value);
    }
}

impl Write {
    fn key(&self) -> &str {
        let (Self::Set(key, ..) | Self::Add(key, ..) | Self::Replace(key, ..) | Self::Delete(key)) = self;
        key
    }
}

fn failure() -> Error {
    Error { server: "hostile".into(), kind: ErrorKind::Unreachable("as it likes".into()) }
}

#[async_trait]
impl Backend for Hostile {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.dawdle().await;
        let found = {
            let mut state = self.0.lock().unwrap();
            state.happen(key);
            if state.goes_wrong() { Err(failure()) } else { Ok(state.values.get(key).cloned()) }
        };
        self.dawdle().await;
        found
    }

    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        let mut found = vec![];
        for key in keys {
            found.push(self.get(key).await);
        }
        found
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<(), Error> {
        self.write(Write::Set(key.into(), value, ttl)).await.map(drop)
    }

    async fn set_many(&self, values: &[(String, Bytes)], ttl: Ttl) -> Vec<Result<(), Error>> {
        let mut stored = vec![];
        for (key, value) in values {
            stored.push(self.set(key, value.clone(), ttl).await);
        }
        stored
    }

    async fn add(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        self.write(Write::Add(key.into(), value, ttl)).await
    }

    async fn replace(&self, key: &str, value: Bytes, ttl: Ttl) -> Result<bool, Error> {
        self.write(Write::Replace(key.into(), value, ttl)).await
    }

    async fn delete(&self, key: &str) -> Result<bool, Error> {
        self.write(Write::Delete(key.into())).await
    }

    async fn delete_many(&self, keys: &[String]) -> Vec<Result<bool, Error>> {
        let mut deleted = vec![];
        for key in keys {
            deleted.push(self.delete(key).await);
        }
        deleted
    }

    async fn touch(&self, _: &str, _: Ttl) -> Result<bool, Error> {
        Err(failure())
    }

    async fn incr(&self, _: &str, _: u64) -> Result<Option<u64>, Error> {
        Err(failure())
    }

    async fn decr(&self, _: &str, _: u64) -> Result<Option<u64>, Error> {
        Err(failure())
    }

    async fn clear(&self) -> Result<(), Error> {
        Err(failure())
    }

    async fn stats(&self) -> Vec<ServerStats> {
        vec![]
    }

    async fn check(&self) -> Vec<ServerCheck> {
        vec![]
    }

    fn server_of(&self, _: &str) -> String {
        "hostile".into()
    }

    fn describe(&self) -> String {
        "hostile".into()
    }
}
