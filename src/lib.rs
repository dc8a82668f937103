//! A task list that shows how to cache a web application well.

pub mod cli;
pub mod config;
pub mod telemetry;

pub mod db;
pub mod tasks;
