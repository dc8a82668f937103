//! Statements as both databases have them: arguments and rows.

use sqlx::postgres::PgRow;
use sqlx::query::QueryAs;
use sqlx::sqlite::SqliteRow;
use sqlx::{Encode, FromRow, Type};

/// An argument of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// A number.
    Int(i64),
    /// A number or null.
    OptionalInt(Option<i64>),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// A type that a row of either database can be read into.
pub trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}
impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// Returns a statement with its arguments.
pub(super) fn with_args<DB, T>(sql: &'static str, args: &[Arg<'_>]) -> QueryAs<'static, DB, T, DB::Arguments>
where
    DB: sqlx::Database,
    T: for<'r> FromRow<'r, DB::Row>,
    i64: Encode<'static, DB> + Type<DB>,
    Option<i64>: Encode<'static, DB> + Type<DB>,
    String: Encode<'static, DB> + Type<DB>,
    Vec<u8>: Encode<'static, DB> + Type<DB>,
{
    let mut query = sqlx::query_as(sql);
    for arg in args {
        query = match *arg {
            Arg::Int(number) => query.bind(number),
            Arg::OptionalInt(number) => query.bind(number),
            Arg::Text(text) => query.bind(text.to_owned()),
            Arg::Bytes(bytes) => query.bind(bytes.to_vec()),
        };
    }
    query
}

/// Returns whether a statement changes nothing, so that it may run twice.
pub(super) fn only_reads(sql: &str) -> bool {
    let changes = ["insert ", "update ", "delete ", "for update"];
    (sql.starts_with("select ") || sql.starts_with("with ")) && !changes.iter().any(|word| sql.contains(word))
}
