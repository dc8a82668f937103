//! Whether pages are as fresh as each strategy promises. `checker.rs` says what a wrong page is.

mod checker;
mod explanations;
mod simulation;
