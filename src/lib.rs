//! A task list that shows how to cache a web application well.
//!
//! This crate is an application to run and a text to read. In reading order: what is configured, how the parts are
//! put together, what a request passes, what the tasks are, and how they are cached.
//!
//! ```text
//!              cli ── config ── app                      start
//!                                │
//!   request ── middleware ── router ── views ── listing ── templates
//!                  │                     │       │   │
//!               session ── visitor ──────┘       │   └── cache ── cache::backend ── memcached
//!                                  tasks ── db ──┘
//! ```
//!
//! The borders between them are what is absent: [`cache`] knows no tasks, and only [`cache::view`] in it knows HTTP;
//! [`session`] knows no tasks; [`tasks`] and [`db`] do not know that there is a cache; [`memcached`] knows nothing of ours;
//! only [`config::env`] reads the environment, and only [`app`] names a concrete backend.

pub mod cli;
pub mod config;
pub mod telemetry;

pub mod app;
pub mod router;
pub mod server;

pub mod error;
mod middleware;
pub mod no_store;

pub mod admin;
pub mod assets;
pub mod templates;
pub mod views;

pub mod db;
pub mod listing;
pub mod monitor;
pub mod tasks;
pub mod upstream;
pub mod visitor;

pub mod session;

pub mod cache;
pub mod memcached;

mod mistake;
