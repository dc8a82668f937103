//! The program as its users meet it: the real binary, real databases, real memcached, a real browser.

#![expect(unreachable_pub, reason = "nothing of a test binary can be reached from outside")]
#![expect(clippy::unwrap_used, reason = "a test that finds something missing ends there")]
#![expect(clippy::disallowed_methods, reason = "tests look around and wait for processes in real time")]

mod support;

mod adder;
mod alone;
mod api_calls;
mod backends;
mod builds;
mod cache;
mod cache_database;
mod clients;
mod commands;
mod conditional;
mod consistency;
mod consumers;
mod database;
mod deploy;
mod documents;
mod equivalent;
mod examples;
mod fragments;
mod heads;
mod messages;
mod monitor;
mod odd_rows;
mod outages;
mod output;
mod pages;
mod pgbouncer;
mod replay;
mod safety;
mod security;
mod sessions;
mod stamps;
mod structure;
