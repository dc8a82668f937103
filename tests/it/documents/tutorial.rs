//! `docs/tutorial.md`, followed to the letter: its code stands in the files that it names, and its commands, typed in
//! order from an empty directory on, show what it says that they show.
//!
//! Terminals, shells, memcached, SQLite, git and curl are real. Not seen are Heroku and DigitalOcean, for whose
//! programs others stand in that know the words and no answers, so the tutorial shows none of theirs. The program is
//! the one that these tests have, for a build takes minutes: a `cargo` of ours looks only whether the sources that were
//! cloned have all that a build needs. With `TUTORIAL_REPLAY=full` the real one builds, in `target/tutorial`.

mod console;
mod laptop;
mod told;
mod transcript;

use self::console::{Keys, Typed};
use self::laptop::{Laptop, Until};
use crate::documents::{excerpts_stand_in_their_files, markdown};
use crate::structure::read;

const TUTORIAL: &str = "docs/tutorial.md";

/// All that is typed, in order.
fn typed() -> Vec<Typed> {
    let blocks = markdown::blocks(&read(TUTORIAL)).unwrap_or_else(|error| panic!("{TUTORIAL}, {error}"));
    let typed = |block| console::parse(block).unwrap_or_else(|error| panic!("{TUTORIAL}, {error}"));
    blocks.iter().flat_map(typed).collect()
}

#[test]
fn the_code_of_the_tutorial_is_that_of_the_program() {
    let count = excerpts_stand_in_their_files(TUTORIAL, &console::INFOS);
    assert!(count > 10, "{count} excerpts");
}

#[test]
fn the_tutorial_leads_from_an_empty_directory_to_its_end() {
    let all = typed();
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
