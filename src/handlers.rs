//! The handlers: one function per route.

pub mod api_calls;
pub mod cache_stats;
pub mod health;
pub mod tasks;

mod form;
mod writer;
