//! The programs of `tests/consumers`, which use the crates from outside: each builds without a warning, and each crate
//! does what it was taken for. Two processes of the bookshop are one shop.

use std::path::Path;
use std::process::Command;

use reqwest::RequestBuilder;
use tempfile::TempDir;

use crate::documents::excerpts_stand_in_their_files;
use crate::support::example::{Example, built};
use crate::support::session::Session;
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::{eventually, http};

/// Runs one that ends by itself, and returns what it printed.
fn run(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(built(name)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_client_counts_for_all_processes() {
    let memcached = Memcached::start();
    let runs = [1, 2].map(|_| run("consumer-client", &[&memcached.address()]));
    assert_eq!(runs, ["run 1\n", "run 2\n"]);
}

#[test]
fn the_cache_computes_once_for_all_callers_and_processes() {
    let memcached = Memcached::start();
    let address = memcached.address();
    for (arguments, times) in [(&[][..], 1), (&[&*address], 1), (&[&*address], 0)] {
        assert_eq!(run("consumer-cache", arguments), format!("2262 primes, computed {times} times\n"));
    }
}

#[tokio::test]
async fn a_page_without_sessions_is_cached_until_it_changes() {
    let site = Example::start("consumer-pages", &[]);
    let get = async || {
        let page = read(http().get(&site.url).header("host", "pages.example")).await;
        let status = page.header("cache-status").unwrap().split("; ttl").next().unwrap().to_owned();
        (page.body, status)
    };
    let stored = "consumer; fwd=uri-miss; stored".to_owned();
    assert_eq!(get().await, ("number 0".into(), stored.clone()));
    assert_eq!(get().await, ("number 0".into(), "consumer; hit".into()));
    assert_eq!(Page::read(http().post(&site.url)).await.body, "number 1");
    assert_eq!(get().await, ("number 1".into(), stored));
}

#[test]
fn what_the_document_shows_is_what_stands_in_the_programs() {
    assert_eq!(excerpts_stand_in_their_files("docs/reuse.md", &["toml"]), 7);
}

/// Two processes over one memcached and one file.
struct Shop {
    here: Example,
    there: Example,
    memcached: Memcached,
    directory: TempDir,
}

impl Shop {
    fn open() -> Self {
        let (memcached, directory) = (Memcached::start(), tempfile::tempdir().unwrap());
        let [here, there] = [(); 2].map(|()| start(&memcached, directory.path()));
        Self { here, there, memcached, directory }
    }

    /// Another process in the place of the first.
    fn restart(self) -> Self {
        self.here.kill();
        Self { here: start(&self.memcached, self.directory.path()), ..self }
    }

    fn here(&self, path: &str) -> RequestBuilder {
        ask(&self.here, path)
    }

    fn there(&self, path: &str) -> RequestBuilder {
        ask(&self.there, path)
    }
}

/// As a router in front of both would: the host is part of what a page is kept under.
fn ask(process: &Example, path: &str) -> RequestBuilder {
    http().get(format!("{}{path}", process.url)).header("host", "bookshop.example")
}

fn start(memcached: &Memcached, directory: &Path) -> Example {
    let file = directory.join("books.sqlite");
    Example::start("bookshop", &[&memcached.address(), file.to_str().unwrap()])
}

async fn read(request: RequestBuilder) -> Page {
    let page = Page::read(request).await;
    assert_eq!(page.status, 200, "{}", page.body);
    page
}

async fn add(process: &Example, title: &str) {
    let page = Page::read(http().post(&process.url).form(&[("title", title), ("pence", "250")])).await;
    assert_eq!((page.status, page.header("location")), (303, Some("/")), "{}", page.body);
}

fn titles(page: &Page) -> Vec<String> {
    page.texts("li").iter().map(|row| row.split_once(", 250p").unwrap().0.to_owned()).collect()
}

/// What the answer says of what the cache did, without its name and lifetimes.
fn outcome(page: &Page) -> &str {
    page.header("cache-status").unwrap().strip_prefix("bookshop; ").unwrap().split("; ttl").next().unwrap()
}

#[tokio::test]
async fn all_processes_count_visits_and_the_count_goes_on_after_them() {
    let shop = Shop::open();
    assert_eq!(read(shop.here("visits")).await.body, "visit 1");
    assert_eq!(read(shop.there("visits")).await.body, "visit 2");
    let shop = shop.restart();
    assert_eq!(read(shop.here("visits")).await.body, "visit 3");
    let counted = shop.memcached.client().get::<String>("bookshop.visits").unwrap();
    assert_eq!(counted.as_deref(), Some("3"), "under a key of its own, which any other client reads");
}

#[tokio::test]
async fn a_page_is_made_once_for_both_and_may_be_a_minute_old() {
    let shop = Shop::open();
    let made = read(shop.here("prices")).await;
    assert_eq!((outcome(&made), made.texts("p")), ("fwd=uri-miss; stored", vec!["0 books for 0p".into()]));
    add(&shop.here, "Emma").await;
    for request in [shop.here("prices"), shop.there("prices"), shop.there("prices?any=query")] {
        let page = read(request).await;
        assert_eq!((outcome(&page), &page.body), ("hit", &made.body));
    }
    let elsewhere = read(http().get(format!("{}prices", shop.there.url))).await;
    assert_eq!(elsewhere.texts("p"), ["1 books for 250p"], "another host has pages of its own");
}

#[tokio::test]
async fn only_rows_that_are_new_are_rendered() {
    let shop = Shop::open();
    for title in ["Emma", "Persuasion", "Sanditon"] {
        add(&shop.here, title).await;
    }
    assert_eq!(titles(&read(shop.here("")).await), ["Emma", "Persuasion", "Sanditon"]);
    add(&shop.there, "<b>").await;
    assert_eq!(titles(&read(shop.there("")).await), ["Emma", "Persuasion", "Sanditon", "<b>"]);
    let layers = read(shop.there("cache")).await.body;
    assert!(layers.contains("fragments: 3 hits, 1 misses, 1 fills\n"), "{layers}");
    let is_row = |key: &String| key.starts_with("bookshop:~fragment:book~");
    eventually("four rows are kept", async || {
        shop.memcached.keys_now().iter().filter(|key| is_row(key)).count() == 4
    })
    .await;
}

#[tokio::test]
async fn a_change_is_seen_at_once_by_the_other_process_and_then_from_the_cache() {
    let shop = Shop::open();
    let mut expected = vec![];
    for number in 0..10 {
        let title = format!("Volume {number}");
        let (writer, reader) =
            if number % 2 == 0 { (&shop.here, &shop.there) } else { (&shop.there, &shop.here) };
        add(writer, &title).await;
        expected.push(title);
        let page = read(ask(reader, "")).await;
        assert_eq!((outcome(&page), titles(&page)), ("fwd=uri-miss; stored", expected.clone()));
        let page = read(ask(writer, "")).await;
        assert_eq!((outcome(&page), titles(&page)), ("hit", expected.clone()));
    }
    // Also a change that no process knows of.
    let file = shop.directory.path().join("books.sqlite");
    let mut by_hand = Session::open(&format!("sqlite://{}", file.display())).await;
    by_hand.execute("delete from books where title <> 'Volume 7'").await;
    assert_eq!(titles(&read(shop.here("")).await), ["Volume 7"]);
    by_hand.execute("update books set title = 'Volume 8'").await;
    assert_eq!(titles(&read(shop.there("")).await), ["Volume 8"]);
}

async fn buy(shop: &Shop, id: &str, cookie: &str) -> Page {
    let request = http().post(format!("{}basket", shop.here.url)).form(&[("id", id)]);
    Page::read(request.header("cookie", cookie)).await
}

fn cookie(page: &Page) -> String {
    assert_eq!(page.status, 303, "{}", page.body);
    page.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

async fn basket(request: RequestBuilder, cookie: &str) -> String {
    read(request.header("cookie", cookie)).await.body
}

#[tokio::test]
async fn a_basket_outlives_its_process_and_is_nobody_elses() {
    let shop = Shop::open();
    let mine = cookie(&buy(&shop, "1", "").await);
    let other = cookie(&buy(&shop, "7", "").await);
    let mine = cookie(&buy(&shop, "2", &mine).await);
    let shop = shop.restart();
    assert_eq!(basket(shop.here("basket"), &mine).await, "in your basket: [1, 2]");
    assert_eq!(basket(shop.there("basket"), &mine).await, "in your basket: [1, 2]");
    assert_eq!(basket(shop.here("basket"), &other).await, "in your basket: [7]");
    assert_eq!(basket(shop.here("basket"), "").await, "in your basket: []");
}

#[tokio::test]
async fn while_memcached_is_away_every_page_is_there_and_none_is_old() {
    let mut shop = Shop::open();
    add(&shop.here, "Emma").await;
    let mine = cookie(&buy(&shop, "1", "").await);
    for path in ["", "prices", "visits"] {
        read(shop.here(path)).await;
    }
    shop.memcached.kill();
    add(&shop.there, "Persuasion").await;
    for process in [&shop.here, &shop.there] {
        assert_eq!(titles(&read(ask(process, "")).await), ["Emma", "Persuasion"]);
    }
    assert_eq!(read(shop.here("prices")).await.texts("p"), ["2 books for 500p"]);
    assert!(read(shop.here("visits")).await.body.starts_with("visits are not counted at the moment: "));
    let told = basket(shop.here("basket"), &mine).await;
    assert_eq!(told, "your basket is out of reach at the moment");
    for cookie in ["", &mine] {
        assert_eq!(buy(&shop, "2", cookie).await.status, 503, "nothing is said to be kept that is not");
    }

    shop.memcached.restart();
    eventually("visits are counted again", async || read(shop.here("visits")).await.body == "visit 1").await;
    eventually("pages are kept again", async || outcome(&read(shop.here("")).await) == "hit").await;
    assert_eq!(titles(&read(shop.here("")).await), ["Emma", "Persuasion"]);
}
