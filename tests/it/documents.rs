//! What documents are made of, and that what they show of the code is what the code is.

mod excerpt;
pub mod markdown;
mod tutorial;

use crate::structure::{files, read};

/// All documents, by their path in the package.
pub fn all() -> Vec<String> {
    files("").into_iter().filter(|path| path.ends_with(".md")).collect()
}

/// Holds each excerpt of a document against the file that it is from, and returns how many there are. Every block is
/// one but those with this behind their fence.
#[track_caller]
pub fn excerpts_stand_in_their_files(document: &str, others: &[&str]) -> usize {
    let excerpts =
        excerpt::find(&read(document), others).unwrap_or_else(|error| panic!("{document}, {error}"));
    for excerpt in &excerpts {
        let is_there = excerpt::stands_in(&read(&excerpt.path), &excerpt.lines);
        assert!(is_there, "{document}:{}: this is not in {}", excerpt.line, excerpt.path);
    }
    excerpts.len()
}
