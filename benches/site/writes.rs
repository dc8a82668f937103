//! Adding tasks by the site's form, beside adding them by hand.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sqlx::{Connection, PgConnection};

use super::Effort;
use super::contest::median;
use super::http::{Client, FORM, SAME_ORIGIN};
use super::load::{Load, Target, run};
use super::process::find;
use super::report::{Goal, goal};
use super::servers::Postgres;
use super::stand::{App, Stand};

const CLIENTS: usize = 16;

const INSERT: &str = "insert into tasks (name) values ('Water the plants');\n";

/// Makes requests of clients in turn, each of whom has a cookie. What stands before it names them.
const SCRIPT: &str = r#"
local requests, next = {}, 0
init = function()
    for index, cookie in ipairs(cookies) do
        wrk.headers["cookie"] = cookie
        requests[index] = wrk.format("POST", "/add", nil, "name=Water+the+plants")
    end
end
request = function()
    next = next % #requests + 1
    return requests[next]
end
"#;

pub fn measure(stand: &Stand, effort: Effort) -> Result<()> {
    let (ours, theirs) = (stand.database("adding", 0)?, stand.database("pgbench", 0)?);
    let app = App::start(&stand.variables(&ours))?;
    let form = form_of(&app)?;
    let load = Load { connections: CLIENTS, seconds: effort.seconds };
    let mut ratios = vec![];
    for _ in 0..effort.rounds {
        stand.execute(&ours, "truncate tasks")?;
        let done = run(std::slice::from_ref(&form), load)?;
        let added = count(stand, &ours)?;
        ensure!(added >= done.requests, "{added} tasks after {} requests", done.requests);
        add(&app, &[])?;
        stand.execute(&theirs, "truncate tasks")?;
        ratios.push(done.per_second / pgbench(&stand.postgres, "pgbench", load)?);
    }
    let aims = Goal::AtLeast { must: 0.8, aim: 1.5 };
    goal("POST /add, 16 clients, Postgres, of pgbench's inserts", median(ratios), "", aims);

    let file = stand.file("adding.sqlite3", 0)?;
    let app = App::start(&[("DATABASE_URL", file.clone())])?;
    let form = form_of(&app)?;
    let mut tails = vec![];
    for _ in 0..effort.rounds {
        stand.execute(&file, "delete from tasks")?;
        tails.push(run(std::slice::from_ref(&form), load)?.tail);
    }
    let aims = Goal::AtMost { must: 10.0, aim: 5.0 };
    goal("POST /add, 16 clients, SQLite, 99th percentile over the median", median(tails), "", aims);
    Ok(())
}

/// What clients send who all have a session, each its own.
fn form_of(app: &App) -> Result<Target> {
    let cookies = (0..CLIENTS).map(|_| add(app, &[]).map(|cookie| format!("\"{cookie}\"")));
    let cookies = cookies.collect::<Result<Vec<_>>>()?.join(", ");
    let script = format!("local cookies = {{ {cookies} }}\n{SCRIPT}");
    Ok(Target { script, ..Target::page(&app.url).with(FORM).with(SAME_ORIGIN) })
}

/// Adds a task, and returns the cookie of the session that was made for it, if one was.
pub fn add(app: &App, headers: &[String]) -> Result<String> {
    let answer = Client::connect(&app.url)?.post("/add", headers, "name=Water+the+plants")?;
    ensure!(answer.status == 303, "{}", answer.head);
    let mut cookies =
        answer.head.lines().filter_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next());
    let session = cookies.find(|cookie| cookie.starts_with("sessionid="));
    Ok(session.context("no session was made")?.to_owned())
}

fn count(stand: &Stand, database: &str) -> Result<f64> {
    stand.runtime.block_on(async {
        let mut connection = PgConnection::connect(database).await?;
        let count: i64 = sqlx::query_scalar("select count(*) from tasks").fetch_one(&mut connection).await?;
        Ok(count as f64)
    })
}

/// Returns how many it adds in a second, one by one.
fn pgbench(postgres: &Postgres, database: &str, load: Load) -> Result<f64> {
    let script = tempfile::NamedTempFile::new()?;
    fs::write(script.path(), INSERT)?;
    let mut command = Command::new(find("pgbench")?);
    command.args(["-h", "127.0.0.1", "-U", "tasks", "-n", "-p", &postgres.port.to_string()]);
    command.args(["-c", &load.connections.to_string(), "-T", &load.seconds.to_string()]);
    let output = command.arg("-f").arg(script.path()).arg(database).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
    rate.with_context(|| text.clone())?.parse().context("pgbench says how many")
}
