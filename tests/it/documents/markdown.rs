//! The blocks of a text, and the prose around them.

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
    fn a_block_without_an_end_is_an_error() {
        assert_eq!(blocks("a\n```sh\nb\n"), Err("line 2: the block has no end".into()));
    }
}
