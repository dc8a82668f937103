//! Texts of rows that were written by hand.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef, Postgres};
use sqlx::sqlite::{Sqlite, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Decode, Type};

/// A text that can be shown, whatever its column holds.
///
/// SQLite stores any bytes in a column of texts, and blobs and numbers as well. An odd value is read as far as
/// possible, so that the page still shows all other rows.
#[derive(Debug)]
pub(super) struct Text(String);

impl Text {
    /// Puts the replacement character for bytes that are not UTF-8, and for NUL.
    fn of(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}"))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl Type<Sqlite> for Text {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }

    fn compatible(_: &SqliteTypeInfo) -> bool {
        true
    }
}

impl<'r> Decode<'r, Sqlite> for Text {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        <&[u8] as Decode<Sqlite>>::decode(value).map(Self::of)
    }
}

impl Type<Postgres> for Text {
    fn type_info() -> PgTypeInfo {
        <String as Type<Postgres>>::type_info()
    }

    fn compatible(found: &PgTypeInfo) -> bool {
        <String as Type<Postgres>>::compatible(found)
    }
}

impl<'r> Decode<'r, Postgres> for Text {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self::of(value.as_bytes()?))
    }
}
