//! What a change costs the next reader: the page is built again, of rows that are cached.

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::Instant;

use super::Effort;
use super::contest::median;
use super::http::Client;
use super::process::wait_for;
use super::report::{Goal, goal};
use super::stand::{App, NAME, Stand};

/// Rebuilds in a round.
const TURNS: usize = 20;

/// A program over tasks of its own, a reader of one page, and somebody who writes by hand.
pub struct Bench<'a> {
    stand: &'a Stand,
    app: App,
    database: String,
    reader: Client,
    writer: PgConnection,
}

/// A statement of the program's, and what it is given.
struct Statement {
    sql: String,
    parameters: Vec<i64>,
}

/// Seconds, in the middle of many.
#[derive(Clone, Copy)]
pub struct Cost {
    pub page: f64,
    pub statement: f64,
}

pub fn measure(stand: &Stand, effort: Effort) -> Result<()> {
    let mut short = Bench::new(stand, "rebuild", 100)?;
    let rounds = short.costs("/", &[], effort.rounds)?;
    let over_sql = median(rounds.iter().map(|cost| cost.page / cost.statement));
    let at_most = |must, aim| Goal::AtMost { must, aim };
    goal(
        "rebuild of a page of 100 tasks after a write, over its SQL statement alone",
        over_sql,
        "",
        at_most(4.0, 3.0),
    );

    let mut long = Bench::new(stand, "rebuild_long", 100_000)?;
    let mut worst: f64 = 0.0;
    for path in ["/", "/?page=500", "/?page=1000"] {
        let mut ratios = vec![];
        for _ in 0..effort.rounds {
            ratios.push(long.round(path)? / short.round("/")?);
        }
        worst = worst.max(median(ratios));
    }
    goal(
        "page of 100 out of 100,000 tasks (the first, middle or last), over 100 out of 100",
        worst,
        "",
        at_most(2.0, 1.2),
    );
    Ok(())
}

impl<'a> Bench<'a> {
    pub fn new(stand: &'a Stand, database: &str, tasks: usize) -> Result<Self> {
        let database = stand.database(database, tasks)?;
        let app = App::start(&stand.variables(&database))?;
        let reader = Client::connect(&app.url)?;
        let writer = stand.runtime.block_on(PgConnection::connect(&database))?;
        Ok(Self { stand, app, database, reader, writer })
    }

    /// Has another number of tasks from now on.
    pub fn fill(&self, tasks: usize) -> Result<()> {
        self.stand.fill(&self.database, tasks, NAME)
    }

    /// Measures a page, asked for with these headers, and the statement that it is built by, in turns.
    pub fn costs(&mut self, path: &str, headers: &[String], rounds: usize) -> Result<Vec<Cost>> {
        let statement = self.learn(path)?;
        let mut connection = self.stand.runtime.block_on(PgConnection::connect(&self.database))?;
        let mut costs = vec![];
        for round in 0..=rounds {
            let (mut pages, mut statements) = (vec![], vec![]);
            for _ in 0..TURNS {
                pages.push(self.turn(path, headers)?);
                statements.push(self.stand.runtime.block_on(statement.time(&mut connection))?);
            }
            // The first warms up: the rows are stored then.
            if round > 0 {
                costs.push(Cost { page: median(pages), statement: median(statements) });
            }
        }
        Ok(costs)
    }

    fn round(&mut self, path: &str) -> Result<f64> {
        let times = (0..TURNS).map(|_| self.turn(path, &[])).collect::<Result<Vec<_>>>()?;
        Ok(median(times))
    }

    /// Writes by hand, so that nothing that is shown changes, and returns how long the page then takes.
    fn turn(&mut self, path: &str, headers: &[String]) -> Result<f64> {
        let sql = "update tasks set name = name where id = (select min(id) from tasks)";
        self.stand.runtime.block_on(sqlx::query(sql).execute(&mut self.writer))?;
        let started = Instant::now();
        let answer = self.reader.get(path, headers)?;
        let took = started.elapsed().as_secs_f64();
        ensure!(answer.status == 200 && !answer.is_hit(), "{} was not built: {}", self.app.url, answer.head);
        Ok(took)
    }

    /// Looks which statement on tasks the program builds a page by, last of all.
    fn learn(&mut self, path: &str) -> Result<Statement> {
        self.log_statements("set log_min_duration_statement = 0")?;
        let known = self.stand.postgres.statements().unwrap_or_default().len();
        let found = wait_for("the log has the page's statement", || {
            self.turn(path, &[]).ok()?;
            let mut statements = self.stand.postgres.statements().ok()?.into_iter().skip(known);
            statements.rfind(|(sql, _)| sql.contains("from tasks"))
        })?;
        self.log_statements("reset log_min_duration_statement")?;
        Ok(Statement { sql: found.0, parameters: found.1 })
    }

    fn log_statements(&self, change: &str) -> Result<()> {
        let database = self.stand.postgres.url("postgres");
        self.stand.execute(&database, &format!("alter system {change}"))?;
        self.stand.execute(&database, "select pg_reload_conf()")
    }
}

impl Statement {
    async fn time(&self, connection: &mut PgConnection) -> Result<f64> {
        let mut query = sqlx::query(AssertSqlSafe(self.sql.clone()));
        for parameter in &self.parameters {
            query = query.bind(parameter);
        }
        let started = Instant::now();
        let rows = query.fetch_all(connection).await.with_context(|| self.sql.clone())?;
        let took = started.elapsed().as_secs_f64();
        ensure!(!rows.is_empty(), "{} finds nothing", self.sql);
        Ok(took)
    }
}
