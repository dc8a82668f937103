//! What the tutorial is made of, for those who check it: pieces of files, and what is typed at terminals.

/// One fenced block.
#[derive(Debug, PartialEq, Eq)]
pub enum Block {
    /// What stands in a file.
    Excerpt(Excerpt),
    /// What is typed at terminals, in order.
    Console(Vec<Typed>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Of its first line, from 1.
    pub line: usize,
    /// The file that is linked above it, from the package's directory.
    pub path: String,
    pub lines: Vec<String>,
}

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

/// Languages of excerpts.
const LANGUAGES: [&str; 7] = ["rust", "sql", "toml", "html", "yaml", "json", "text"];

/// Finds the blocks of a text.
///
/// # Errors
///
/// What is wrong with it, and in which line.
pub fn parse(text: &str) -> Result<Vec<Block>, String> {
    let lines: Vec<_> = text.lines().collect();
    let mut blocks = vec![];
    let mut at = 0;
    while at < lines.len() {
        let Some(info) = lines[at].trim_start().strip_prefix("```") else {
            at += 1;
            continue;
        };
        let begin = at + 1;
        let length = lines[begin..].iter().position(|line| line.trim_start().starts_with("```"));
        let end = begin + length.ok_or_else(|| format!("line {begin}: the block has no end"))?;
        let body = dedent(&lines[begin..end]);
        let block = match info.split_whitespace().collect::<Vec<_>>()[..] {
            ["console"] => Block::Console(console(begin, body)?),
            ["console", "platform"] => Block::Console(at_platform(console(begin, body)?)?),
            [language] if LANGUAGES.contains(&language) => {
                let path = linked(&lines[..at]);
                let path = path.ok_or_else(|| format!("line {begin}: no file is linked above the block"))?;
                Block::Excerpt(Excerpt { line: begin + 1, path, lines: body })
            }
            _ => return Err(format!("line {begin}: what is a block of {info:?}?")),
        };
        blocks.push(block);
        at = end + 1;
    }
    Ok(blocks)
}

/// The targets of all links to files, each with its line.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let targets = |line: &str| -> Vec<_> {
        let rests = line.split("](").skip(1);
        rests.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
    };
    let all = (1..).zip(text.lines()).flat_map(|(number, line)| {
        targets(line).into_iter().map(move |target| (number, target)).collect::<Vec<_>>()
    });
    all.filter(|(_, target)| !target.contains("://") && !target.starts_with('#')).collect()
}

/// Takes away the indentation that all lines have.
fn dedent(lines: &[&str]) -> Vec<String> {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let common = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    lines.iter().map(|line| line.get(common..).unwrap_or_default().trim_end().to_owned()).collect()
}

/// The file whose link ends the paragraph above a block, before a colon.
fn linked(before: &[&str]) -> Option<String> {
    let last = before.iter().rev().find(|line| !line.trim().is_empty())?;
    let target = last.trim_end().strip_suffix("):")?.rsplit_once("](../")?.1;
    Some(target.to_owned())
}

fn console(begin: usize, lines: Vec<String>) -> Result<Vec<Typed>, String> {
    let mut all: Vec<Typed> = vec![];
    let mut goes_on = false;
    for (number, line) in (begin + 1..).zip(lines) {
        let begun = all.last_mut();
        let (place, keys) = match (typed(&line), begun) {
            (_, Some(Typed { keys: Keys::Command(command), .. })) if goes_on => {
                *command += "\n";
                *command += &line;
                goes_on = line.ends_with('\\');
                continue;
            }
            (Some(typed), _) => typed,
            (None, Some(begun)) => {
                begun.expected.push(line);
                continue;
            }
            (None, None) => return Err(format!("line {number}: nothing is typed before this is seen")),
        };
        goes_on = line.ends_with('\\');
        all.push(Typed { line: number, place, keys, expected: vec![] });
    }
    match all.last() {
        None => Err(format!("line {begin}: nothing is typed")),
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

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        assert_eq!(parse(text), Err(expected.to_owned()));
    }

    #[test]
    fn an_excerpt_belongs_to_the_file_linked_above_it() {
        let text =
            "Two files, [a](../a.rs) and\n[`b`](../src/b.rs):\n\n  ```rust\n  fn b() {\n    c\n  ```\n";
        let lines = vec!["fn b() {".into(), "  c".into()];
        assert_eq!(
            parse(text),
            Ok(vec![Block::Excerpt(Excerpt { line: 5, path: "src/b.rs".into(), lines })])
        );
        check_error("```rust\nfn b()\n```", "line 1: no file is linked above the block");
        check_error(
            "[`b`](../src/b.rs): as follows.\n```sql\n```",
            "line 2: no file is linked above the block",
        );
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
        assert_eq!(parse(text), Ok(vec![Block::Console(all)]));
        let platform = typed(2, Place::Platform, Keys::Command("a".into()), &[]);
        assert_eq!(parse("```console platform\n$ a\n```"), Ok(vec![Block::Console(vec![platform])]));
    }

    #[test]
    fn what_cannot_be_followed_is_an_error() {
        check_error("a\n```console\n$ a\n", "line 2: the block has no end");
        check_error("```bash\n$ a\n```", "line 1: what is a block of \"bash\"?");
        check_error("```\n$ a\n```", "line 1: what is a block of \"\"?");
        check_error("```console third\n$ a\n```", "line 1: what is a block of \"console third\"?");
        check_error("```console\nseen\n```", "line 2: nothing is typed before this is seen");
        check_error("```console\n```", "line 1: nothing is typed");
        check_error("```console\n$ a \\\n```", "line 2: the command does not end");
        check_error(
            "```console platform\n$ a\n$ b\nc\n```",
            "line 3: nobody has seen what the platform answers",
        );
    }

    #[test]
    fn links_to_files_are_found_in_their_lines() {
        let text = "[a](../a.md) [b](https://b.example/)\n[c](#c) and [d](d.md)";
        assert_eq!(links(text), [(1, "../a.md".into()), (2, "d.md".into())]);
    }
}
