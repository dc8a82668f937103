//! A task list that shows how to cache a web application well.
//!
//! This crate is an application to run and a text to read. In reading order: what is configured, how the parts are
//! put together, what a request passes, and what the tasks are.

pub mod cli;
pub mod config;
pub mod telemetry;

pub mod app;
pub mod router;

pub mod error;
mod middleware;

pub mod assets;
pub mod templates;
pub mod views;

pub mod db;
pub mod tasks;

pub mod cache;
