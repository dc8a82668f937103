//! A piece of a file that a document shows, which must stand there as it is shown.

use super::markdown::{blocks, fence};

/// Stands in an excerpt, as a comment, for lines that are left out.
const LEFT_OUT: &str = "…";

#[derive(Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Of its first line in the document, from 1.
    pub line: usize,
    /// The file that is linked above it, from the package's directory.
    pub path: String,
    pub lines: Vec<String>,
}

/// Finds the excerpts of a document: every block but those with one of `others` behind their fence.
///
/// # Errors
///
/// A block is below no link to a file, or such a link is above no block; in which line.
pub fn find(document: &str, others: &[&str]) -> Result<Vec<Excerpt>, String> {
    let lines: Vec<_> = document.lines().collect();
    let mut excerpts = vec![];
    for block in blocks(document)? {
        if others.contains(&block.info.as_str()) {
            continue;
        }
        let opening = block.line - 1;
        let above = lines[..opening - 1].iter().rev().find(|line| !line.trim().is_empty());
        let path = above.and_then(|line| linked(line));
        let path = path.ok_or_else(|| format!("line {opening}: no file is linked above the block"))?;
        excerpts.push(Excerpt { line: block.line, path: path.to_owned(), lines: block.lines });
    }
    for (place, _) in lines.iter().enumerate().filter(|(_, line)| linked(line).is_some()) {
        let below = lines[place + 1..].iter().find(|line| !line.trim().is_empty());
        if below.and_then(|line| fence(line)).is_none_or(|info| others.contains(&info)) {
            return Err(format!("line {}: nothing of the file stands below its link", place + 1));
        }
    }
    Ok(excerpts)
}

/// The file whose link ends a paragraph, before a colon: "[`src/tasks.rs`](../src/tasks.rs):".
fn linked(line: &str) -> Option<&str> {
    let (name, path) = line.trim_end().strip_suffix("):")?.rsplit_once("[`")?.1.split_once("`](../")?;
    (name == path).then_some(path)
}

/// Whether the lines stand in a file in this order, all moved to the right by as much as the first one, one below the
/// other but where some are said to be left out.
pub fn stands_in(file: &str, excerpt: &[String]) -> bool {
    let lines: Vec<_> = file.lines().map(str::trim_end).collect();
    let chunks: Vec<_> = excerpt.split(|line| is_left_out(line)).filter(|chunk| !chunk.is_empty()).collect();
    let Some(first) = chunks.first().map(|chunk| &chunk[0]) else { return false };
    let mut indents: Vec<_> = lines.iter().filter_map(|line| line.strip_suffix(first.as_str())).collect();
    indents.retain(|indent| indent.trim().is_empty());
    indents.sort_unstable();
    indents.dedup();
    indents.into_iter().any(|indent| {
        let mut rest = &lines[..];
        chunks.iter().all(|chunk| {
            let place = rest.windows(chunk.len()).position(|window| is_same(window, chunk, indent));
            rest = place.map_or(&[], |place| &rest[place + chunk.len()..]);
            place.is_some()
        })
    })
}

fn is_same(window: &[&str], chunk: &[String], indent: &str) -> bool {
    let is_same_line = |line: &str, expected: &String| match line.strip_prefix(indent) {
        Some(rest) => rest == expected,
        None => line.is_empty() && expected.is_empty(),
    };
    window.iter().zip(chunk).all(|(line, expected)| is_same_line(line, expected))
}

/// `// …`, `# …`, `-- …`, `<!-- … -->` and `…` alone.
fn is_left_out(line: &str) -> bool {
    line.contains(LEFT_OUT) && line.chars().all(|c| "…/#-<!> ".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "mod a {\n    fn b() {\n        c();\n\n        d();\n    }\n}\n";

    #[track_caller]
    fn check(excerpt: &str, is_there: bool) {
        let lines: Vec<_> = excerpt.lines().map(str::to_owned).collect();
        assert_eq!(stands_in(FILE, &lines), is_there, "{excerpt}");
    }

    #[track_caller]
    fn check_error(document: &str, expected: &str) {
        assert_eq!(find(document, &["sh"]), Err(expected.to_owned()));
    }

    #[test]
    fn an_excerpt_belongs_to_the_file_linked_above_it() {
        let document = "Two files, [a](../a) and\n[`b`](../b):\n\n  ```rust\n  fn b() {\n    c\n  ```\n";
        let lines = vec!["fn b() {".into(), "  c".into()];
        assert_eq!(find(document, &[]), Ok(vec![Excerpt { line: 5, path: "b".into(), lines }]));
        assert_eq!(find("```sh\na\n```", &["sh"]), Ok(vec![]));
        check_error("```rust\nfn b()\n```", "line 1: no file is linked above the block");
        check_error("[`b`](../b): as follows.\n```sql\n```", "line 2: no file is linked above the block");
        check_error("[`b`](../src/b.rs):\n```rust\n```", "line 2: no file is linked above the block");
    }

    #[test]
    fn a_link_announces_an_excerpt() {
        check_error("[`b`](../b):\n\nNo more.\n", "line 1: nothing of the file stands below its link");
        check_error("[`b`](../b):\n```sh\n```", "line 1: nothing of the file stands below its link");
        check_error("a\n[`b`](../b):\n", "line 2: nothing of the file stands below its link");
    }

    #[test]
    fn lines_stand_there_whatever_is_before_all_of_them() {
        check("fn b() {\n    c();\n\n    d();\n}", true);
        check("mod a {\n    fn b() {", true);
        check("fn b() {\nc();", false);
        check("fn b() {\n    e();", false);
        check("fn b() {\n    d();", false);
        check("b() {", false);
        check("", false);
    }

    #[test]
    fn lines_that_are_left_out_are_marked() {
        check("fn b() {\n    // …\n    d();\n}", true);
        check("mod a {\n    # …\n}", true);
        check("fn b() {\n    // …\n    e();", false);
        check("d();\n// …\nc();", false);
        check("// …", false);
    }
}
