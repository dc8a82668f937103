//! What is said to be seen, beside what is seen.

/// In a line: anything. As a line: any number of lines.
const ANYTHING: &str = "…";

/// Whether all of what is seen is as expected.
pub fn matches(expected: &[String], seen: &[String]) -> bool {
    let Some((first, rest)) = expected.split_first() else { return seen.is_empty() };
    if is_gap(first) {
        return (0..=seen.len()).any(|skipped| matches(rest, &seen[skipped..]));
    }
    seen.split_first().is_some_and(|(line, others)| is_like(first, line) && matches(rest, others))
}

/// Whether what is seen begins as expected.
pub fn begins(expected: &[String], seen: &[String]) -> bool {
    (0..=seen.len()).any(|end| matches(expected, &seen[..end]))
}

/// Returns both, line by line, with a mark where a line of the one is like none of the other.
pub fn difference(expected: &[String], seen: &[String]) -> String {
    let mut text = String::new();
    for line in expected {
        let is_met = is_gap(line) || seen.iter().any(|seen| is_like(line, seen));
        text += &format!("{} {line}\n", if is_met { " " } else { "-" });
    }
    text += "but this was seen:\n";
    for line in seen {
        let is_met = expected.iter().any(|expected| !is_gap(expected) && is_like(expected, line));
        text += &format!("{} {line}\n", if is_met { " " } else { "+" });
    }
    text
}

fn is_gap(expected: &str) -> bool {
    expected.trim() == ANYTHING
}

fn is_like(expected: &str, seen: &str) -> bool {
    let mut parts = expected.split(ANYTHING);
    let Some(mut rest) = seen.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn check(expected: &str, seen: &str, is_match: bool) {
        assert_eq!(matches(&lines(expected), &lines(seen)), is_match, "{expected:?} and {seen:?}");
    }

    #[test]
    fn lines_are_as_expected_or_not() {
        check("a\nb", "a\nb", true);
        check("a\nb", "a\nc", false);
        check("a", "a\nb", false);
        check("a\nb", "a", false);
        check("", "a", false);
        check("", "", true);
    }

    #[test]
    fn anything_in_a_line_is_anything_in_that_line() {
        check("took … ms", "took 12 ms", true);
        check("took … ms", "took  ms", true);
        check("took … ms", "took 12 s", false);
        check("a … b … c", "a 1 b 2 c", true);
        check("a … b … c", "a 1 c 2 c", false);
        check("ab…ab", "ab", false);
        check("…ms", "a\n1 ms", false);
    }

    #[test]
    fn anything_on_a_line_of_its_own_is_any_number_of_lines() {
        check("a\n…\nz", "a\nz", true);
        check("a\n…\nz", "a\nb\nc\nz", true);
        check("a\n…\nz", "a\nb\nc", false);
        check("…", "", true);
    }

    #[test]
    fn what_runs_on_begins_as_expected() {
        assert!(begins(&lines("a\n…\nc"), &lines("a\nb\nc\nd")));
        assert!(!begins(&lines("a\nc"), &lines("a\nb\nc")));
        assert!(begins(&[], &lines("a")));
    }

    #[test]
    fn a_difference_marks_what_is_missing_and_what_is_new() {
        let text = difference(&lines("a\n…\nb"), &lines("a\nc"));
        assert_eq!(text, "  a\n  …\n- b\nbut this was seen:\n  a\n+ c\n");
    }
}
