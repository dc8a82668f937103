//! Ports for servers that must be told theirs, and must find it free again when they restart.

use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use super::process::Process;
use super::wait_until;

/// Below the ports that systems give to connections and to servers that ask for any.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// How many ports a test process reserves at once.
const BLOCK: u16 = 100;

/// How many ports a server may find taken.
const ATTEMPTS: usize = 5;

/// The ports of this process. Other test processes leave a block alone while its first port is listened on.
struct Ports {
    reserved: Vec<TcpListener>,
    next: u16,
}

static PORTS: Mutex<Ports> = Mutex::new(Ports { reserved: vec![], next: 0 });

/// Returns a port on which nobody listens, and that no other test is given while this process runs.
pub fn free_port() -> u16 {
    let mut ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if ports.next.is_multiple_of(BLOCK) {
            ports.reserve();
        }
        let port = ports.next;
        ports.next += 1;
        if listen(port).is_some() {
            return port;
        }
    }
}

impl Ports {
    /// Reserves a block that no test process has.
    fn reserve(&mut self) {
        let mut blocks = (FIRST..LAST).step_by(BLOCK.into());
        let (first, listener) =
            blocks.find_map(|first| Some((first, listen(first)?))).expect("ports are free");
        self.reserved.push(listener);
        self.next = first + 1;
    }
}

fn listen(port: u16) -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).ok()
}

/// Starts a server on a free port, or on another one if it ends before it listens, as it does where somebody else has
/// taken the port meanwhile.
pub fn on_free_port(
    program: &str,
    mut start: impl FnMut(u16) -> Process,
    is_ready: impl Fn(u16) -> bool,
) -> (Process, u16) {
    for _ in 0..ATTEMPTS {
        let port = free_port();
        let mut process = start(port);
        if listens(program, &mut process, || is_ready(port)) {
            return (process, port);
        }
    }
    panic!("{program} does not start: it has ended {ATTEMPTS} times");
}

/// Starts a server that has stopped on the port that it had, again if it is still taken.
pub fn on_same_port(
    program: &str,
    mut start: impl FnMut() -> Process,
    is_ready: impl Fn() -> bool,
) -> Process {
    let mut process = start();
    wait_until(&format!("{program} listens again"), || {
        let is_up = listens(program, &mut process, &is_ready);
        if !is_up {
            process = start();
        }
        is_up
    });
    process
}

/// Waits until a server is ready, and returns false if it ends before it is. `is_ready` must not take another server on
/// the same port for this one.
fn listens(program: &str, process: &mut Process, is_ready: impl Fn() -> bool) -> bool {
    let mut has_ended = false;
    wait_until(&format!("{program} listens"), || {
        has_ended = process.child().try_wait().unwrap().is_some();
        has_ended || is_ready()
    });
    !has_ended
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::process::Command;

    use super::*;
    use crate::process::find;

    fn sleeper() -> Process {
        Process::start(Command::new(find("sleep")).arg("600"), &std::env::temp_dir().join("nothing"))
    }

    fn failure() -> Process {
        Process::start(&mut Command::new(find("false")), &std::env::temp_dir().join("nothing"))
    }

    #[test]
    fn a_port_is_given_once_and_only_if_it_is_free() {
        let first = free_port();
        let taken = listen(first + 1);
        let next = free_port();
        assert!(next > first + 1 || taken.is_none(), "{first}, {next}");
        assert!(listen(next).is_some());
    }

    #[test]
    fn a_server_that_finds_its_port_taken_gets_another() {
        let asked = RefCell::new(vec![]);
        let start = |port| {
            asked.borrow_mut().push(port);
            if asked.borrow().len() < 3 { failure() } else { sleeper() }
        };
        let (_process, port) = on_free_port("a server", start, |_| asked.borrow().len() == 3);
        assert_eq!((asked.borrow().len(), asked.borrow()[2]), (3, port));
    }

    #[test]
    fn a_server_that_finds_its_old_port_taken_tries_it_again() {
        let starts = Cell::new(0);
        let start = || {
            starts.set(starts.get() + 1);
            if starts.get() < 3 { failure() } else { sleeper() }
        };
        on_same_port("a server", start, || starts.get() == 3);
        assert_eq!(starts.get(), 3);
    }
}
