//! A memcached that stores values, and that a test can tell to refuse commands.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use super::rogue::{Answer, Question, Rogue};

pub const GET: u8 = 0x00;
pub const SET: u8 = 0x01;
pub const ADD: u8 = 0x02;
pub const REPLACE: u8 = 0x03;
pub const DELETE: u8 = 0x04;
pub const FLUSH: u8 = 0x08;
pub const GET_QUIET: u8 = 0x09;
pub const NOOP: u8 = 0x0a;
pub const VERSION: u8 = 0x0b;
pub const STAT: u8 = 0x10;
pub const SET_QUIET: u8 = 0x11;
pub const DELETE_QUIET: u8 = 0x14;
pub const TOUCH: u8 = 0x1c;
pub const LOGIN: u8 = 0x21;

/// All that changes what is stored.
pub const WRITES: [u8; 7] = [SET, ADD, REPLACE, DELETE, SET_QUIET, DELETE_QUIET, TOUCH];

pub const UNAUTHENTICATED: u8 = 0x20;

/// The statuses that mean neither that a command was done nor what it looked for.
pub const REFUSALS: [u8; 7] = [UNAUTHENTICATED, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86];

/// A server of one test.
pub struct Fake {
    pub rogue: Rogue,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    values: HashMap<Vec<u8>, (Vec<u8>, Vec<u8>)>,
    refused: BTreeMap<u8, u8>,
    unauthenticated_up_to: usize,
    requests: Vec<(usize, u8, Vec<u8>)>,
}

impl Fake {
    pub async fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        let rogue = Rogue::start(move |question| shared.lock().unwrap().answer(question)).await;
        Self { rogue, state }
    }

    /// What `MEMCACHIER_SERVERS` says.
    pub fn address(&self) -> String {
        self.rogue.address.to_string()
    }

    /// Refuses these commands with this status from now on, and does not carry them out.
    pub fn refuse(&self, opcodes: &[u8], status: u8) {
        self.state().refused = opcodes.iter().map(|opcode| (*opcode, status)).collect();
    }

    pub fn refuse_nothing(&self) {
        self.refuse(&[], 0);
    }

    /// Refuses everything but a login on the connections made so far.
    pub fn forget_logins(&self) {
        self.state().unauthenticated_up_to = self.rogue.connections();
    }

    pub fn has(&self, key: &str) -> bool {
        self.state().values.contains_key(key.as_bytes())
    }

    /// How often a command has come for this key.
    pub fn asked(&self, opcode: u8, key: &str) -> usize {
        let state = self.state();
        state.requests.iter().filter(|(_, asked, of)| *asked == opcode && of == key.as_bytes()).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn answer(&mut self, question: &Question) -> Answer {
        let Question { connection, opcode, key, extras, value, .. } = question;
        self.requests.push((*connection, *opcode, key.clone()));
        let status = match *opcode {
            LOGIN => self.refused.get(&LOGIN).copied(),
            _ if *connection <= self.unauthenticated_up_to => Some(UNAUTHENTICATED),
            opcode => self.refused.get(&opcode).copied(),
        };
        if let Some(status) = status {
            return Answer::Bytes(question.failure(status));
        }
        let stored = self.values.get(key).cloned();
        let store =
            |state: &mut Self| drop(state.values.insert(key.clone(), (extras[..4].to_vec(), value.clone())));
        let done = Answer::Bytes(question.bytes(b"", b"", b""));
        let failed = |status| Answer::Bytes(question.failure(status));
        match (*opcode, stored) {
            (GET | GET_QUIET, Some((flags, value))) => Answer::Bytes(question.bytes(&flags, b"", &value)),
            (GET_QUIET, None) => Answer::Nothing,
            (GET | REPLACE | TOUCH | DELETE | DELETE_QUIET, None) => failed(0x01),
            (ADD, Some(_)) => failed(0x02),
            (SET | ADD | REPLACE, _) => {
                store(self);
                done
            }
            (SET_QUIET, _) => {
                store(self);
                Answer::Nothing
            }
            (DELETE | DELETE_QUIET, Some(_)) => {
                self.values.remove(key);
                if *opcode == DELETE { done } else { Answer::Nothing }
            }
            (FLUSH, _) => {
                self.values.clear();
                done
            }
            (VERSION, _) => Answer::Bytes(question.bytes(b"", b"", b"1.6.0")),
            (STAT | NOOP | TOUCH | LOGIN, _) => done,
            _ => failed(0x81),
        }
    }
}
