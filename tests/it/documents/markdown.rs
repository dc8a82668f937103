//! The parts of a text: blocks and the prose around them, sections, and what stands in back-ticks.

/// A fenced block.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// Of what it holds, in the text, from 1.
    pub line: usize,
    /// What stands behind its fence.
    pub info: String,
    /// What it holds, without the indentation that all lines have.
    pub lines: Vec<String>,
}

impl Block {
    /// What it holds, as a file would.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Finds the blocks of a text.
///
/// # Errors
///
/// One has no end; in which line it begins.
pub fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let lines: Vec<_> = text.lines().collect();
    let mut blocks = vec![];
    let mut at = 0;
    while at < lines.len() {
        let Some(info) = fence(lines[at]) else {
            at += 1;
            continue;
        };
        let begin = at + 1;
        let length = lines[begin..].iter().position(|line| fence(line).is_some());
        let end = begin + length.ok_or_else(|| format!("line {begin}: the block has no end"))?;
        blocks.push(Block { line: begin + 1, info: info.to_owned(), lines: dedent(&lines[begin..end]) });
        at = end + 1;
    }
    Ok(blocks)
}

/// The lines outside blocks.
pub fn prose(text: &str) -> String {
    let mut is_fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if fence(line).is_some() {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            prose += line;
            prose.push('\n');
        }
    }
    prose
}

/// What stands below a heading, which is given with its marks, up to the next of the same rank or a higher one.
#[track_caller]
pub fn section(text: &str, heading: &str) -> String {
    let rank = |line: &str| line.find(|c: char| c != '#').filter(|rank| line[*rank..].starts_with(' '));
    let highest = rank(heading).expect("a heading has marks");
    let mut lines = text.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "there is no {heading:?}");
    let mut is_fenced = false;
    let is_inside = |line: &&str| {
        is_fenced ^= fence(line).is_some();
        is_fenced || !rank(line).is_some_and(|rank| (1..=highest).contains(&rank))
    };
    lines.take_while(is_inside).map(|line| format!("{line}\n")).collect()
}

/// What stands in back-ticks.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What stands behind the fence, if a line is one.
pub fn fence(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("```").map(str::trim)
}

fn dedent(lines: &[&str]) -> Vec<String> {
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let common = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    lines.iter().map(|line| line.get(common..).unwrap_or_default().trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_what_stands_between_its_fences() {
        let text = "One\n\n  ```sh \n  a\n\n    b\n  ```\nand `two`.\n```\n```\n";
        let lines = vec!["a".into(), String::new(), "  b".into()];
        let first = Block { line: 4, info: "sh".into(), lines };
        assert_eq!(first.text(), "a\n\n  b\n");
        assert_eq!(blocks(text), Ok(vec![first, Block { line: 10, info: String::new(), lines: vec![] }]));
        assert_eq!(prose(text), "One\n\nand `two`.\n");
    }

    #[test]
    fn a_section_ends_with_the_next_of_its_rank() {
        let text = "# A\na\n## B\n```sh\n# b\n```\n### C\n#c\n## D\nd\n# E\ne";
        assert_eq!(section(text, "## B"), "```sh\n# b\n```\n### C\n#c\n");
        assert_eq!(section(text, "### C"), "#c\n");
        assert_eq!(section(text, "## D"), "d\n");
        assert_eq!(section(text, "# E"), "e\n");
    }

    #[test]
    fn what_is_quoted_stands_in_back_ticks() {
        assert_eq!(quoted("a `b` c `d e`").collect::<Vec<_>>(), ["b", "d e"]);
    }

    #[test]
    fn a_block_without_an_end_is_an_error() {
        assert_eq!(blocks("a\n```sh\nb\n"), Err("line 2: the block has no end".into()));
    }
}
