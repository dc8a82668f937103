//! What a document shows of the code is what the code is.
//!
//! A piece is a line with a link to a file, "[`examples/bookshop.rs`](../examples/bookshop.rs):", and a block
//! behind it, of Rust or of what is in a text of Rust, which stands in that file line by line and in this order. A line
//! `// …` stands for lines left out.

use crate::structure::read;

/// What stands for lines left out.
const LEFT_OUT: &str = "// …";

/// Compares all pieces of a document with the files that they name, and returns how many there are.
#[track_caller]
pub fn pieces_stand_in_their_files(path: &str) -> usize {
    let document = read(path);
    let pieces = pieces(path, &document);
    for Piece { file, parts } in &pieces {
        let source = read(file);
        let mut rest: Vec<_> = source.lines().filter(|line| !line.is_empty()).collect();
        for part in parts {
            let found = rest.windows(part.len()).position(|lines| is_same(lines, part));
            let place = found
                .unwrap_or_else(|| panic!("{path} shows of {file} what is not there:\n{}", part.join("\n")));
            rest.drain(..place + part.len());
        }
    }
    pieces.len()
}

struct Piece<'a> {
    file: String,
    /// What stands together.
    parts: Vec<Vec<&'a str>>,
}

fn pieces<'a>(path: &str, document: &'a str) -> Vec<Piece<'a>> {
    let mut pieces = vec![];
    let mut lines = document.lines().filter(|line| !line.is_empty()).peekable();
    while let Some(line) = lines.next() {
        let Some(file) = linked(line) else { continue };
        let is_block = lines.next_if(|line| ["```rust", "```sql"].contains(line)).is_some();
        assert!(is_block, "{path} has no block behind {line}");
        let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let parts = block.split(|line| line.trim() == LEFT_OUT).filter(|part| !part.is_empty());
        pieces.push(Piece { file: file.to_owned(), parts: parts.map(<[_]>::to_vec).collect() });
    }
    pieces
}

/// The file that a line names with nothing else, from the root of the package.
fn linked(line: &str) -> Option<&str> {
    let (name, link) = line.strip_prefix("[`")?.strip_suffix("):")?.split_once("`](../")?;
    (name == link).then_some(name)
}

/// Whether lines are those of a part, but for the indentation that all of them have in common, and for empty lines.
fn is_same(lines: &[&str], part: &[&str]) -> bool {
    let depth = |lines: &[&str]| lines.iter().map(|line| line.len() - line.trim_start().len()).min();
    let (Some(ours), Some(theirs)) = (depth(part), depth(lines)) else { return false };
    part.iter().zip(lines).all(|(ours_line, line)| ours_line[ours..] == line[theirs..])
}
