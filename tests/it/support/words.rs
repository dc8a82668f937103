//! Sentences that visitors read. They stand here and nowhere else, so that they can be improved.

pub fn added(name: &str) -> String {
    format!("Added “{name}”.")
}

pub fn removed(name: &str) -> String {
    format!("Removed “{name}”.")
}

pub fn put_back(name: &str) -> String {
    format!("Put “{name}” back.")
}
