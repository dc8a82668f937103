//! The views: what a request is answered with.

pub mod api_calls;
pub mod cache_stats;
pub mod health;
pub mod tasks;

mod form;
