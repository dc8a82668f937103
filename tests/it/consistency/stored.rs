//! Where the tasks of a run are: in a Postgres, in one behind PgBouncer, or in a SQLite file that all processes share.

use std::net::SocketAddr;

use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

use testkit::pgbouncer::PgBouncer;
use testkit::postgres::{Postgres, TestDatabase};

pub enum Stored {
    Postgres(TestDatabase),
    /// Fewer connections than three processes want, lent for a transaction.
    Pooled(TestDatabase, PgBouncer),
    Sqlite(TempDir),
}

impl Stored {
    /// In a Postgres, unless `scripts/consistency` says otherwise.
    pub async fn from_environment() -> Self {
        match std::env::var("CONSISTENCY_DATABASE").as_deref() {
            Ok("sqlite") => Self::Sqlite(tempfile::tempdir().unwrap()),
            Ok("pgbouncer") => {
                let database = Postgres::shared().database().await;
                let pooler =
                    PgBouncer::start(&database, &["pool_mode = transaction", "default_pool_size = 10"]);
                Self::Pooled(database, pooler)
            }
            Ok("postgres") | Err(_) => Self::Postgres(Postgres::shared().database().await),
            Ok(other) => panic!("there is no database {other}"),
        }
    }

    /// Whether processes reach it by a line.
    pub fn is_server(&self) -> bool {
        !matches!(self, Self::Sqlite(_))
    }

    /// What lines lead to; nothing for a file.
    pub fn address(&self) -> String {
        match self {
            Self::Postgres(database) => database.address(),
            Self::Pooled(_, pooler) => pooler.address().to_string(),
            Self::Sqlite(_) => "127.0.0.1:1".to_owned(),
        }
    }

    /// The URL by way of a line.
    pub fn url_through(&self, line: SocketAddr) -> String {
        match self {
            Self::Postgres(database) | Self::Pooled(database, _) => database.url_through(line),
            Self::Sqlite(directory) => format!("sqlite://{}/db.sqlite3", directory.path().display()),
        }
    }

    /// Reads the tasks, ordered by id.
    pub async fn tasks(&self) -> Vec<(i64, String)> {
        let (Self::Postgres(database) | Self::Pooled(database, _)) = self else {
            let url = self.url_through(([127, 0, 0, 1], 1).into());
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            let sql = "select id, name from tasks order by id";
            return sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
        };
        database.tasks().await
    }
}
