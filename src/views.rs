//! The views: what a request is answered with.

pub mod health;
pub mod tasks;
