//! A disk that is full: a small one of the test's own.

mod cache;
mod database;
