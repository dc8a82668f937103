//! A piece of a file, which must stand there as it stands in the tutorial.

/// Stands in an excerpt, as a comment, for lines that are left out.
const LEFT_OUT: &str = "…";

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
