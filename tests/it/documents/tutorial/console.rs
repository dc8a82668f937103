//! What is typed at terminals, and what is to be seen then.

use crate::documents::markdown::Block;

/// Where commands are typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The terminal that one begins with: `$`.
    First,
    /// The one where the app runs: `app$`.
    App,
    /// The one of a second process: `second$`.
    Second,
    /// The first as well, for programs that ask a platform, whose answers nobody has seen.
    Platform,
}

/// A line that is typed, and what is to be seen then.
#[derive(Debug, PartialEq, Eq)]
pub struct Typed {
    /// In the text, from 1.
    pub line: usize,
    pub place: Place,
    pub keys: Keys,
    pub expected: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Keys {
    /// A command, at the shell's prompt.
    Command(String),
    /// A line, at the prompt of `tasklist shell`.
    Line(String),
    /// Ctrl-C.
    Interrupt,
}

/// The prompts, as the text has them.
const PROMPTS: [(&str, Place); 3] =
    [("$ ", Place::First), ("app$ ", Place::App), ("second$ ", Place::Second)];

/// The prompt of `tasklist shell`, which is opened in the first terminal.
pub const PROGRAM_PROMPT: &str = "tasklist> ";

/// What stands behind the fence of a block that is typed, and behind that of one that is typed for a platform.
pub const INFOS: [&str; 2] = ["console", "console platform"];

/// Reads what is typed in a block, in order; nothing in a block that is something else.
///
/// # Errors
///
/// What is wrong with it, and in which line.
pub fn parse(block: &Block) -> Result<Vec<Typed>, String> {
    let [console, platform] = INFOS;
    match &*block.info {
        info if info == console => lines(block),
        info if info == platform => at_platform(lines(block)?),
        _ => Ok(vec![]),
    }
}

fn lines(block: &Block) -> Result<Vec<Typed>, String> {
    let mut all: Vec<Typed> = vec![];
    let mut goes_on = false;
    for (number, line) in (block.line..).zip(&block.lines) {
        let begun = all.last_mut();
        let (place, keys) = match (typed(line), begun) {
            (_, Some(Typed { keys: Keys::Command(command), .. })) if goes_on => {
                *command += "\n";
                *command += line;
                goes_on = line.ends_with('\\');
                continue;
            }
            (Some(typed), _) => typed,
            (None, Some(begun)) => {
                begun.expected.push(line.clone());
                continue;
            }
            (None, None) => return Err(format!("line {number}: nothing is typed before this is seen")),
        };
        goes_on = line.ends_with('\\');
        all.push(Typed { line: number, place, keys, expected: vec![] });
    }
    match all.last() {
        None => Err(format!("line {}: nothing is typed", block.line)),
        Some(last) if goes_on => Err(format!("line {}: the command does not end", last.line)),
        Some(_) => Ok(all),
    }
}

/// What a line says that is typed, and where.
fn typed(line: &str) -> Option<(Place, Keys)> {
    if let Some(line) = line.strip_prefix(PROGRAM_PROMPT) {
        return Some((Place::First, Keys::Line(line.to_owned())));
    }
    PROMPTS.into_iter().find_map(|(prompt, place)| match line.strip_prefix(prompt)? {
        "^C" => Some((place, Keys::Interrupt)),
        command => Some((place, Keys::Command(command.to_owned()))),
    })
}

fn at_platform(typed: Vec<Typed>) -> Result<Vec<Typed>, String> {
    match typed.iter().find(|typed| !typed.expected.is_empty()) {
        Some(told) => Err(format!("line {}: nobody has seen what the platform answers", told.line)),
        None => Ok(typed.into_iter().map(|typed| Typed { place: Place::Platform, ..typed }).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::markdown::blocks;

    /// What is typed in the one block of a text.
    fn parse_text(text: &str) -> Result<Vec<Typed>, String> {
        let [block] = &blocks(text).unwrap()[..] else { panic!("one block: {text}") };
        parse(block)
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse_text(text), Err(expected.to_owned()));
    }

    #[test]
    fn what_is_typed_is_followed_by_what_is_seen() {
        let text = "```console\n$ a \\\n    b\nseen\n\nmore\napp$ ^C\nsecond$ c\ntasklist> get foo\nbar\n```";
        let typed = |line, place, keys, expected: &[&str]| {
            let expected = expected.iter().map(ToString::to_string).collect();
            Typed { line, place, keys, expected }
        };
        let all = vec![
            typed(2, Place::First, Keys::Command("a \\\n    b".into()), &["seen", "", "more"]),
            typed(7, Place::App, Keys::Interrupt, &[]),
            typed(8, Place::Second, Keys::Command("c".into()), &[]),
            typed(9, Place::First, Keys::Line("get foo".into()), &["bar"]),
        ];
        assert_eq!(parse_text(text), Ok(all));
        let platform = typed(2, Place::Platform, Keys::Command("a".into()), &[]);
        assert_eq!(parse_text("```console platform\n$ a\n```"), Ok(vec![platform]));
        assert_eq!(parse_text("```rust\n$ a\n```"), Ok(vec![]));
    }

    #[test]
    fn what_cannot_be_followed_is_an_error() {
        check_error("```console\nseen\n```", "line 2: nothing is typed before this is seen");
        check_error("```console\n```", "line 2: nothing is typed");
        check_error("```console\n$ a \\\n```", "line 2: the command does not end");
        check_error(
            "```console platform\n$ a\n$ b\nc\n```",
            "line 3: nobody has seen what the platform answers",
        );
    }
}
