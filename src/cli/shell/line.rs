//! A line that is typed.

use clap::{Parser, Subcommand};

use crate::cli::cache::Verb;

/// What can be typed:
#[derive(Debug, Parser)]
#[command(multicall = true, subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
pub(super) struct Line {
    #[command(subcommand)]
    pub(super) order: Order,
}

/// What it orders.
#[derive(Debug, Subcommand)]
pub(super) enum Order {
    #[command(flatten)]
    Do(Verb),
    /// Leave; so does Ctrl-D.
    #[command(visible_alias = "exit")]
    Quit,
}
