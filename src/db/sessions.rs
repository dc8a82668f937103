//! Sessions in a table of the app's database.

use async_trait::async_trait;
use tower_sessions::session::Id;

use crate::db::{self, Arg, Database};
use neverstale::backend::unix_millis;
use neverstale_sessions::{Error, Replaced, Store, Stored};

/// Keeps sessions in the table `sessions`.
#[derive(Clone, Debug)]
pub struct DatabaseStore {
    db: Database,
}

impl DatabaseStore {
    /// Keeps sessions in this database, which must be migrated before.
    #[must_use]
    pub fn new(db: &Database) -> Self {
        Self { db: db.clone() }
    }

    /// Checks that sessions can be written: stores one of a hundred kilobytes that expired long ago, and removes it.
    ///
    /// # Errors
    ///
    /// The database's.
    pub async fn try_writing(&self) -> Result<(), Error> {
        let name = Stored::name_of(&Id(i128::from(fastrand::i64(..))));
        self.add(&Stored { name: name.clone(), data: " ".repeat(100_000), expires_at: 0 }).await?;
        self.delete(&name).await
    }
}

#[async_trait]
impl Store for DatabaseStore {
    async fn add(&self, session: &Stored) -> Result<bool, Error> {
        let sql = "insert into sessions (id, data, expires_at) values ($1, $2, $3) \
                   on conflict (id) do nothing returning expires_at";
        let Stored { name, data, expires_at } = session;
        let args = [Arg::Text(name), Arg::Text(data), Arg::Int(*expires_at)];
        let added: Option<(i64,)> = self.db.fetch_optional(sql, &args).await?;
        Ok(added.is_some())
    }

    /// A row that is no session counts as absent.
    async fn get(&self, name: &str) -> Result<Option<Stored>, Error> {
        let sql = "select data, expires_at from sessions where id = $1 and expires_at > $2";
        let row = match self.db.fetch_optional(sql, &[Arg::Text(name), now()]).await {
            Err(error) if error.is_odd_row() => {
                tracing::error!("a session that cannot be read is taken for none: {error}");
                None
            }
            row => row?,
        };
        Ok(row.map(|(data, expires_at)| Stored { name: name.to_owned(), data, expires_at }))
    }

    async fn replace(&self, old: Option<&Stored>, new: &Stored) -> Result<Replaced, Error> {
        let replace = "update sessions set data = $2, expires_at = $3 where id = $1 and expires_at > $4 \
                       returning expires_at";
        let replace_old = "update sessions set data = $2, expires_at = $3 where id = $1 and expires_at > $4 \
                           and data = $5 and expires_at = $6 returning expires_at";
        let Stored { name, data, expires_at } = new;
        let mut args = vec![Arg::Text(name), Arg::Text(data), Arg::Int(*expires_at), now()];
        let mut sql = replace;
        if let Some(old) = old {
            args.extend([Arg::Text(&old.data), Arg::Int(old.expires_at)]);
            sql = replace_old;
        }
        let replaced: Option<(i64,)> = self.db.fetch_optional(sql, &args).await?;
        if replaced.is_some() {
            return Ok(Replaced::Done);
        }
        Ok(self.get(name).await?.map_or(Replaced::Gone, Replaced::Changed))
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        let sql = "delete from sessions where id = $1 returning expires_at";
        let _: Option<(i64,)> = self.db.fetch_optional(sql, &[Arg::Text(name)]).await?;
        Ok(())
    }

    async fn clear_expired(&self, most: usize) -> Result<usize, Error> {
        let sql = "delete from sessions where id in \
                   (select id from sessions where expires_at <= $1 order by expires_at limit $2) \
                   and expires_at <= $1 returning expires_at";
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let cleared: Vec<(i64,)> = self.db.fetch_all(sql, &[now(), Arg::Int(most)]).await?;
        Ok(cleared.len())
    }
}

fn now() -> Arg<'static> {
    Arg::Int(i64::try_from(unix_millis()).unwrap_or(i64::MAX))
}

impl From<db::Error> for Error {
    fn from(error: db::Error) -> Self {
        Self::Store(error.into())
    }
}
