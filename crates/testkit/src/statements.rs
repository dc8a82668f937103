//! What a client asks of Postgres, told from the bytes that pass (PostgreSQL, "Message Formats").

use std::collections::HashSet;

/// One connection, from its first byte.
#[derive(Default)]
pub struct Statements {
    unread: Vec<u8>,
    has_started: bool,
    /// The prepared statements that read the list.
    list_queries: HashSet<Vec<u8>>,
}

impl Statements {
    /// Reads what a client sends next and returns how often the list is asked for in it.
    pub fn list_queries_in(&mut self, bytes: &[u8]) -> usize {
        self.unread.extend_from_slice(bytes);
        let mut count = 0;
        while let Some((kind, body)) = self.next_message() {
            let mut texts = body.split(|byte| *byte == 0);
            let (first, second) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
            match kind {
                // Parse: the statement's name, and its text.
                b'P' if reads_list(second) => drop(self.list_queries.insert(first.to_owned())),
                b'P' => drop(self.list_queries.remove(first)),
                // Bind: the portal's name, and the statement's.
                b'B' if self.list_queries.contains(second) => count += 1,
                // Query: the text.
                b'Q' if reads_list(first) => count += 1,
                _ => {}
            }
        }
        count
    }

    /// A message has a letter and a length; the ones before the first letter, which open a connection, have only that.
    fn next_message(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let letters = usize::from(self.has_started);
            let length = self.unread.get(letters..letters + 4)?;
            let length = u32::from_be_bytes(length.try_into().ok()?) as usize + letters;
            if self.unread.len() < length {
                return None;
            }
            let message: Vec<_> = self.unread.drain(..length).collect();
            if self.has_started {
                return Some((message[0], message[5..].to_vec()));
            }
            // All ways to ask for encryption are 1234 and something; none is what is asked for in the end.
            self.has_started = message[4..6] != [4, 210];
        }
    }
}

/// Whether a statement reads names of tasks, which is what makes a query heavy.
fn reads_list(sql: &[u8]) -> bool {
    let sql = String::from_utf8_lossy(sql).to_lowercase();
    let is_read = sql.starts_with("select") || sql.starts_with("with");
    is_read && sql.contains("name") && sql.contains("from tasks")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &[u8], parts: &[&str]) -> Vec<u8> {
        let body: Vec<_> = parts.iter().flat_map(|part| [part.as_bytes(), b"\0"].concat()).collect();
        [kind, &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), &body].concat()
    }

    #[test]
    fn a_prepared_list_query_is_counted_each_time_it_is_bound() {
        let list = "select id, name from tasks order by id limit $1";
        let bytes = [
            vec![0, 0, 0, 8, 4, 210, 22, 47],
            vec![0, 0, 0, 9, 0, 3, 0, 0, 0],
            message(b"P", &["s1", list]),
            message(b"B", &["", "s1"]),
            message(b"P", &["s2", "insert into tasks (name) values ($1) returning id, name"]),
            message(b"B", &["", "s2"]),
            message(b"B", &["", "s1"]),
            message(b"Q", &[list]),
            message(b"P", &["s1", "select count(*) from tasks"]),
            message(b"B", &["", "s1"]),
        ]
        .concat();
        assert_eq!(Statements::default().list_queries_in(&bytes), 3);
        let mut in_pieces = Statements::default();
        assert_eq!(bytes.iter().map(|byte| in_pieces.list_queries_in(&[*byte])).sum::<usize>(), 3);
    }
}
