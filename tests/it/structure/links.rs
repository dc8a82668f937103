//! What documents point at is there: pages, headings, files.

use std::path::Path;

use super::{files, read};
use crate::documents::{self, markdown};

/// Files end so.
const ENDINGS: [&str; 10] =
    [".rs", ".md", ".toml", ".yaml", ".yml", ".json", ".sql", ".html", ".conf", ".service"];

fn exists(path: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Where a document's links lead: `[text](target)`, `src="target"`, `srcset="target"`.
fn targets(text: &str) -> Vec<String> {
    let text: String = markdown::prose(text).split('`').step_by(2).collect();
    let mut found = vec![];
    for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')] {
        let parts = text.split(opening).skip(1).filter_map(|part| part.split_once(closing));
        found.extend(parts.map(|(target, _)| target.to_owned()));
    }
    found
}

/// The name by which a heading is linked to: GitHub's.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

fn anchors(text: &str) -> Vec<String> {
    markdown::prose(text).lines().filter(|line| line.starts_with('#')).map(anchor).collect()
}

/// Says what is wrong with a link, if anything.
fn fault(page: &str, target: &str) -> Option<String> {
    if target.contains("://") {
        return None;
    }
    let (path, heading) =
        target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
    let path = if path.is_empty() { page.to_owned() } else { normal(&format!("{}/{path}", folder_of(page))) };
    if !exists(&path) {
        return Some(format!("{page}: {target} leads nowhere"));
    }
    let is_there = heading.is_none_or(|heading| anchors(&read(&path)).iter().any(|anchor| anchor == heading));
    (!is_there).then(|| format!("{page}: {path} has no heading for {target}"))
}

/// A path without `..`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = vec![];
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// Whether a word looks like a file of this tree: it begins with one of its folders, or it has a file's ending and
/// could be nobody else's.
pub fn looks_like_a_file(word: &str) -> bool {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-@".contains(c);
    let is_placeholder = word.contains("NAME") || word.starts_with(['/', '.']);
    if word.is_empty() || is_placeholder || !word.chars().all(is_path) {
        return false;
    }
    let first = word.split('/').next().unwrap();
    let is_ours = word.contains('/') && first != "target" && exists(first);
    let has_ending = ENDINGS.iter().any(|ending| word.ends_with(ending));
    is_ours || has_ending && (!word.contains('/') || word.ends_with(".rs"))
}

/// Whether a word is a file or folder here: from the top, or by the end of its path.
pub fn is_a_file(word: &str) -> bool {
    let end = format!("/{word}");
    exists(word) || files("").iter().any(|path| path.ends_with(&end))
}

/// What stands in back-ticks and looks like a file, the arguments of a script left out.
fn files_named_in(text: &str) -> Vec<String> {
    let words = markdown::quoted(text).filter_map(|code| code.split_whitespace().next());
    words.filter(|word| looks_like_a_file(word)).map(str::to_owned).collect()
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let mut count = 0;
    for page in documents::all() {
        for target in targets(&read(&page)) {
            count += 1;
            assert_eq!(fault(&page, &target), None);
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let mut count = 0;
    for page in documents::all() {
        for word in files_named_in(&markdown::prose(&read(&page))) {
            count += 1;
            assert!(is_a_file(&word), "{page} names {word}");
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn every_file_that_a_comment_names_is_there() {
    let mut count = 0;
    for path in files("").into_iter().filter(|path| path.ends_with(".rs")) {
        let text = read(&path);
        let comments: Vec<_> =
            text.lines().map(str::trim_start).filter(|line| line.starts_with("//")).collect();
        for word in comments.iter().flat_map(|line| files_named_in(line)) {
            count += 1;
            assert!(is_a_file(&word), "{path} names {word}");
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn a_link_that_leads_nowhere_is_found_out() {
    let is_fine = |target: &str| fault("docs/security.md", target).is_none();
    assert!(
        is_fine("ARCHITECTURE.md#limits")
            && is_fine("../README.md")
            && is_fine("https://example.com/nothing")
    );
    assert!(!is_fine("ARCHITECTURE.md#no-such-heading") && !is_fine("nothing.md") && !is_fine("#nothing"));
    assert_eq!(targets("[a](b#c) `[d](e)`\n```\n[f](g)\n```\n<img src=\"h\">"), ["b#c", "h"]);
    assert_eq!(anchor("## What a *request* does: `GET /`"), "what-a-request-does-get-");
    assert!(looks_like_a_file("src/nothing.rs") && !is_a_file("src/nothing.rs"));
    assert!(is_a_file("src/config") && is_a_file("deploy.md"));
    assert!(
        !looks_like_a_file("target/release/tasklist")
            && !looks_like_a_file("mc_tasklist/templates/index.html")
    );
}
