//! `docs/tutorial.md`, followed to the letter: its code stands in the files that it names, and its commands, typed in
//! order from an empty directory on, show what it says that they show.
//!
//! Terminals, shells, memcached, SQLite, git and curl are real. Not seen are Heroku and DigitalOcean, for whose programs
//! others stand in that know the words and no answers, so the tutorial shows none of theirs. The program is the one that
//! these tests have, for a build takes minutes: a `cargo` of ours looks only whether the sources that were cloned have
//! all that a build needs. With `TUTORIAL_REPLAY=full` the real one builds, in `target/tutorial`.

mod excerpt;
mod laptop;
mod markdown;
mod told;
mod transcript;

use std::path::Path;

use self::laptop::{Laptop, Until};
use self::markdown::{Block, Keys};
use crate::structure::read;

const TUTORIAL: &str = "docs/tutorial.md";

fn blocks() -> Vec<Block> {
    markdown::parse(&read(TUTORIAL)).unwrap_or_else(|error| panic!("{TUTORIAL}, {error}"))
}

#[test]
fn the_code_of_the_tutorial_is_that_of_the_program() {
    let mut count = 0;
    for block in blocks() {
        let Block::Excerpt(excerpt) = block else { continue };
        let is_there = excerpt::stands_in(&read(&excerpt.path), &excerpt.lines);
        assert!(is_there, "{TUTORIAL}:{}: this is not in {}", excerpt.line, excerpt.path);
        count += 1;
    }
    assert!(count > 10, "{count} excerpts");
}

#[test]
fn the_links_of_the_tutorial_lead_somewhere() {
    for (line, target) in markdown::links(&read(TUTORIAL)) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(target.split('#').next().unwrap());
        assert!(path.exists(), "{TUTORIAL}:{line}: there is no {target}");
    }
}

#[test]
fn the_tutorial_leads_from_an_empty_directory_to_its_end() {
    let all = blocks().into_iter().flat_map(|block| match block {
        Block::Console(typed) => typed,
        Block::Excerpt(_) => vec![],
    });
    let all: Vec<_> = all.collect();
    let is_full = std::env::var("TUTORIAL_REPLAY").is_ok_and(|how| how == "full");
    let mut laptop = Laptop::new(is_full);
    for (index, typed) in all.iter().enumerate() {
        // A command is over when the next line can be typed; one that is interrupted then, when it does what it is for.
        let mut later = all[index + 1..].iter().filter(|later| later.place == typed.place);
        let until = match later.next().map(|next| &next.keys) {
            Some(Keys::Interrupt) => Until::Begun(&typed.expected),
            Some(Keys::Line(_)) => Until::ProgramPrompt,
            Some(Keys::Command(_)) | None => Until::Prompt,
        };
        laptop.type_in(typed, &until);
    }
}
