//! What sessions, messages and undo once did wrong.

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use tasklist::cache::backend::memcached;
use tasklist::cache::{Cache, CacheOptions, Key, Ttl};
use tasklist::memcached::Options;

use crate::support::app::{App, Settings};
use crate::support::eventually;
use crate::support::memcached::Memcached;
use crate::support::page::Page;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::session::Session;

/// A browser that keeps its cookie.
struct Browser<'a> {
    app: &'a App,
    cookie: Mutex<String>,
}

impl<'a> Browser<'a> {
    fn new(app: &'a App) -> Self {
        Self { app, cookie: Mutex::default() }
    }

    async fn request(&self, method: &str, path: &str, form: &[(&str, &str)]) -> Page {
        let cookie = self.cookie.lock().unwrap().clone();
        let page = Page::read(self.app.request(method, path).header("cookie", cookie).form(form)).await;
        if let Some(given) = page.header("set-cookie") {
            *self.cookie.lock().unwrap() = given.split(';').next().unwrap().to_owned();
        }
        page
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) {
        assert_eq!(self.request("POST", path, form).await.status, 303);
    }

    async fn add(&self, name: &str) {
        self.post("/add", &[("name", name)]).await;
    }

    /// What the list tells this visitor.
    async fn told(&self) -> Vec<String> {
        let page = self.request("GET", "/", &[]).await;
        assert_eq!(page.status, 200, "{}", page.body);
        page.texts(".message p")
    }
}

/// A server over Postgres, by way of a proxy.
async fn over_postgres() -> (App, Proxy, Session) {
    let database = Postgres::shared().database().await;
    let proxy = Proxy::start(database.address()).await;
    let app = Settings::new().with("DATABASE_URL", &database.url_through(proxy.address)).serve();
    (app, proxy, Session::open(&database.url).await)
}

/// What a session is without messages.
const EMPTY: &str = "{}";

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_ask_for_a_message_at_once_one_is_told() {
    let (app, proxy, _) = over_postgres().await;
    let visitor = Browser::new(&app);
    visitor.add("milk").await;
    proxy.hold(EMPTY);
    let ((first, second), ()) = tokio::join!(async { tokio::join!(visitor.told(), visitor.told()) }, async {
        eventually("both have taken it", async || proxy.messages_with(EMPTY) == 2).await;
        proxy.release();
    });
    assert_eq!([first, second].concat(), ["Added “milk”."]);
    assert!(visitor.told().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_while_another_is_shown_is_shown_later() {
    let (app, proxy, _) = over_postgres().await;
    let visitor = Browser::new(&app);
    visitor.add("milk").await;
    proxy.hold(EMPTY);
    let (first, ()) = tokio::join!(visitor.told(), async {
        proxy.wait_for_held().await;
        visitor.add("bread").await;
        proxy.release();
    });
    let told = [first, visitor.told().await].concat();
    assert_eq!(told, ["Added “milk”.", "Added “bread”."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_changes_made_at_the_same_time_each_is_told() {
    let (app, proxy, _) = over_postgres().await;
    let visitor = Browser::new(&app);
    visitor.add("milk").await;
    visitor.told().await;
    proxy.hold("update sessions");
    let names = ["bread", "cheese", "wine"];
    let [bread, cheese, wine] = names.map(|name| visitor.add(name));
    tokio::join!(bread, cheese, wine, async {
        eventually("all have loaded the same", async || proxy.messages_with("update sessions") == 3).await;
        proxy.release();
    });
    let mut told = visitor.told().await;
    told.sort();
    assert_eq!(told, names.map(|name| format!("Added “{name}”.")));
}

#[tokio::test]
async fn a_task_that_is_put_back_is_in_nobodys_way_where_ids_are_counted_anew() {
    let database = Postgres::shared().database().await;
    let app = Settings::new().with("DATABASE_URL", &database.url).serve();
    let visitor = Browser::new(&app);
    for name in ["one", "two", "three"] {
        visitor.add(name).await;
    }
    visitor.post("/remove", &[("id", "3")]).await;
    database.execute("truncate tasks restart identity").await;
    visitor.post("/undo", &[]).await;
    for name in ["four", "five", "six"] {
        visitor.add(name).await;
    }
    app.get("/").await.assert_lists(["three", "four", "five", "six"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_still_there_after_a_list_that_could_not_be_read() {
    let (app, _, mut database) = over_postgres().await;
    let visitor = Browser::new(&app);
    visitor.add("milk").await;
    database.execute("alter table tasks rename to away").await;
    assert_eq!(visitor.request("GET", "/", &[]).await.status, 500);
    database.execute("alter table away rename to tasks").await;
    assert_eq!(visitor.told().await, ["Added “milk”."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_took_too_long_to_store_is_shown_once_it_is() {
    let (app, proxy, _) = over_postgres().await;
    let visitor = Browser::new(&app);
    visitor.add("milk").await;
    visitor.told().await;
    proxy.hold("bread\"}");
    visitor.add("bread").await;
    assert!(visitor.told().await.is_empty(), "it is not stored");
    proxy.release();
    eventually("it is shown", async || visitor.told().await == ["Added “bread”."]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_shown_that_was_stored_without_an_answer() {
    let (app, proxy, _) = over_postgres().await;
    let visitor = Browser::new(&app);
    visitor.add("milk").await;
    visitor.told().await;
    proxy.lose_answer_to("bread\"}");
    visitor.add("bread").await;
    proxy.lose_answer_to("nothing any more");
    eventually("it is shown", async || visitor.told().await == ["Added “bread”."]).await;
}

#[tokio::test]
async fn what_another_release_has_stored_is_as_if_it_were_not_there() {
    let settings = Settings::new();
    let app = settings.serve();
    let url = format!("sqlite://{}", settings.directory().join("db.sqlite3").display());
    let visitor = Browser::new(&app);
    visitor.add("milk").await;
    let stored = r#"'{"messages":[{"change":"Renamed","name":"milk"}],"removed":1}'"#;
    Session::open(&url).await.execute(&format!("update sessions set data = {stored}")).await;
    visitor.post("/undo", &[]).await;
    visitor.add("bread").await;
    assert_eq!(visitor.told().await, ["Added “bread”."]);
}

#[tokio::test]
async fn a_session_that_cannot_be_renewed_is_no_reason_to_refuse_the_list() {
    let settings = Settings::new();
    let app = settings.with("SESSION_ENGINE", "db");
    let url = format!("sqlite://{}", app.directory().join("db.sqlite3").display());
    let app = app.serve();
    let visitor = Browser::new(&app);
    visitor.add("milk").await;
    visitor.told().await;
    let mut database = Session::open(&url).await;
    database.execute("update sessions set expires_at = expires_at - 2 * 24 * 60 * 60 * 1000").await;
    database
        .execute("create trigger refuse before update on sessions begin select raise(abort, 'no'); end")
        .await;
    visitor.request("GET", "/", &[]).await.assert_lists(["milk"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_lock_that_nobody_waits_for_any_more_is_let_go() {
    let memcached = Memcached::start();
    let proxy = Proxy::start(memcached.address()).await;
    let options = Options::new(vec![proxy.address.to_string().parse().unwrap()]);
    let cache = Cache::new(memcached::Memcached::new(options), CacheOptions::default());
    proxy.hold(".lock");
    let asking = tokio::spawn(async move {
        let build = async || Ok::<_, Infallible>(0);
        cache.get_or_set(&Key::new("answer").unwrap(), Ttl::After(Duration::from_secs(60)), build).await
    });
    proxy.wait_for_held().await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    proxy.release();
    // The lock is taken, looked at, and removed. It would expire as well, but not by a message.
    eventually("the lock is let go", async || proxy.messages_with(".lock") == 3).await;
    assert!(memcached.keys().is_empty());
}
