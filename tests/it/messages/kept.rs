//! What was told to be shown is shown: through changes at the same time, pages that fail, and stores that are slow,
//! silent or older.

use super::settings;
use crate::support::app::App;
use crate::support::session::Session;
use crate::support::visitor::Visitor;
use crate::support::words;
use testkit::eventually;
use testkit::postgres::Postgres;
use testkit::proxy::Proxy;

/// A server over Postgres, by way of a proxy, and a visitor with a session that holds no message.
async fn over_postgres() -> (App, Proxy, Session, Visitor) {
    let database = Postgres::shared().database().await;
    let proxy = Proxy::start(database.address()).await;
    let app = settings().with("DATABASE_URL", &database.url_through(proxy.address)).serve();
    let visitor = Visitor::new();
    visitor.add(&app, "milk").await.assert_tells([words::added("milk")]);
    (app, proxy, Session::open(&database.url).await, visitor)
}

/// A server over a file, and what is needed to write to that.
async fn over_a_file() -> (App, Session, Visitor) {
    let settings = settings().with("SESSION_ENGINE", "db");
    let app = settings.serve();
    let url = format!("sqlite://{}", settings.directory().join("db.sqlite3").display());
    let visitor = Visitor::new();
    visitor.add(&app, "milk").await;
    (app, Session::open(&url).await, visitor)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_changes_made_at_the_same_time_each_is_told() {
    let (app, proxy, _, visitor) = over_postgres().await;
    // A statement that a connection knows already is sent without its text, and so told by what it stores.
    let earlier = proxy.messages_with("Added");
    proxy.hold("Added");
    let names = ["bread", "cheese", "wine"];
    let form = names.map(|name| [("name", name)]);
    let [bread, cheese, wine] = form.each_ref().map(|form| visitor.post(&app, "/add", form));
    tokio::join!(bread, cheese, wine, async {
        eventually("all have loaded the same", async || proxy.messages_with("Added") == earlier + 3).await;
        proxy.release();
    });
    let mut told = visitor.get(&app, "/").await.messages();
    told.sort();
    assert_eq!(told, names.map(words::added));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_still_there_after_a_list_that_could_not_be_read() {
    let (app, _, mut database, visitor) = over_postgres().await;
    visitor.post(&app, "/add", &[("name", "bread")]).await;
    database.execute("alter table tasks rename to away").await;
    assert_eq!(visitor.get(&app, "/").await.status, 500);
    database.execute("alter table away rename to tasks").await;
    visitor.get(&app, "/").await.assert_tells([words::added("bread")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_may_have_been_taken_is_shown() {
    let (app, proxy, _, visitor) = over_postgres().await;
    visitor.post(&app, "/add", &[("name", "bread")]).await;
    // Which is in what the session is compared with.
    proxy.lose_answer_to("bread\"}");
    visitor.get(&app, "/").await.assert_tells([words::added("bread")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_took_too_long_to_store_is_shown_once_it_is_and_a_page_looks() {
    let (app, proxy, _, visitor) = over_postgres().await;
    proxy.hold("bread\"}");
    visitor.post(&app, "/add", &[("name", "bread")]).await;
    visitor.get(&app, "/").await.assert_tells([]);
    proxy.release();
    let is_shown = async || {
        visitor.expect_message();
        visitor.get(&app, "/").await.messages() == [words::added("bread")]
    };
    eventually("it is shown", is_shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_shown_that_was_stored_without_an_answer() {
    let (app, proxy, _, visitor) = over_postgres().await;
    proxy.lose_answer_to("bread\"}");
    visitor.post(&app, "/add", &[("name", "bread")]).await;
    proxy.lose_answer_to("nothing any more");
    let is_shown = async || visitor.get(&app, "/").await.messages() == [words::added("bread")];
    eventually("it is shown", is_shown).await;
}

#[tokio::test]
async fn what_another_release_has_stored_is_as_if_it_were_not_there() {
    let (app, mut database, visitor) = over_a_file().await;
    let stored = r#"'{"messages":[{"change":"Renamed","name":"milk"}],"removed":1}'"#;
    database.execute(&format!("update sessions set data = {stored}")).await;
    visitor.expect_message();
    visitor.undo(&app).await.assert_tells([]);
    visitor.add(&app, "bread").await.assert_tells([words::added("bread")]);
}

#[tokio::test]
async fn a_session_that_cannot_be_renewed_is_no_reason_to_refuse_the_list() {
    let (app, mut database, visitor) = over_a_file().await;
    database.execute("update sessions set expires_at = expires_at - 2 * 24 * 60 * 60 * 1000").await;
    let refuse = "create trigger refuse before update on sessions begin select raise(abort, 'no'); end";
    database.execute(refuse).await;
    visitor.expect_message();
    visitor.get(&app, "/").await.assert_lists(["milk"]);
}
