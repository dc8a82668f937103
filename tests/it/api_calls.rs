//! The page that shows what an external service says: rarely asked, and never waited for too long.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tasklist::config::Config;
use tasklist::upstream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::RootCertStore;

use crate::support::app::{App, Settings};
use crate::support::clock::Clock;
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::upstream::{Reply, Upstream, response};
use testkit::{eventually, wait_until, within_reason};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

const SECOND: Duration = Duration::from_secs(1);

/// What the page's layer has looked for in vain.
const MISSES: &str = r#"tasklist_cache_misses_total{layer="views"}"#;

fn visit(app: &App, times: usize) -> Vec<JoinHandle<Page>> {
    (0..times).map(|_| tokio::spawn(Page::read(app.request("GET", "/apicalls")))).collect()
}

/// Waits until all visitors have an answer. A process that sleeps sees only when it is asked that its clock has jumped.
async fn wait_for_all(apps: &[App], visitors: &[JoinHandle<Page>]) {
    eventually("all have an answer", async || {
        join_all(apps.iter().map(|app| app.get("/healthz"))).await;
        visitors.iter().all(JoinHandle::is_finished)
    })
    .await;
}

fn app(upstream: &Upstream) -> App {
    Settings::new().with("API_URL", &upstream.url()).serve()
}

fn with_memcached(upstream: &Upstream, memcached: &Memcached) -> Settings {
    Settings::new().with("API_URL", &upstream.url()).with_memcached(memcached)
}

fn config(url: &str) -> Config {
    Config::from_variables([("API_URL", url)]).unwrap()
}

#[track_caller]
fn assert_shows(page: &Page, answer: &str) {
    assert_eq!((page.status, page.texts("h1")), (200, vec!["Results received!".to_owned()]), "{}", page.body);
    assert_eq!(page.texts("pre"), [answer]);
    assert_eq!(page.texts("[role=alert]"), [""; 0]);
    assert_eq!(page.header("cache-control"), Some("no-cache"));
}

#[track_caller]
fn assert_shows_old(page: &Page, answer: &str) {
    assert_eq!((page.status, page.texts("pre")), (200, vec![answer.to_owned()]), "{}", page.body);
    let notice = "The service does not answer as it should. This is its last answer.";
    assert_eq!(page.texts("[role=alert]"), [notice]);
    assert_eq!(page.header("cache-control"), Some("no-store"));
}

fn fetched_at(page: &Page) -> String {
    page.attributes("time", "datetime").remove(0)
}

/// Asserts what becomes of an answer, and that the next visitor's request asks anew.
async fn assert_fails(reply: Reply, status: u16, cause: &str) {
    let heals = move |number, _: &str| if number == 1 { reply.clone() } else { Reply::ok("well again") };
    let upstream = Upstream::start(heals).await;
    let app = app(&upstream);
    let page = within_reason("the visitor gets an answer", app.get("/apicalls")).await;
    page.assert_error(status);
    assert!(page.texts("pre")[0].contains(cause), "{}", page.body);
    wait_until("the cause is in the log", || app.output().contains(cause));
    assert_eq!(app.output().matches(cause).count(), 1, "it is logged once");
    assert_shows(&app.get("/apicalls").await, "well again");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn an_answer_is_fetched_once_and_then_cached_with_its_time() {
    let slow = Duration::from_millis(100);
    let upstream =
        Upstream::start(move |number, _| Reply::Late(slow, response("200 OK", format!("number {number}"))))
            .await;
    let app = app(&upstream);
    let before = SystemTime::now();
    let first = app.get("/apicalls").await;
    let after = SystemTime::now();
    assert_shows(&first, "number 1");
    let facts = first.texts("p.facts").remove(0);
    let seconds: f64 = facts.split_once(" in ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    assert!(seconds >= slow.as_secs_f64(), "{facts}");
    let time = humantime::parse_rfc3339(&fetched_at(&first)).unwrap();
    // Shown without its fraction.
    assert!(before < time + SECOND && time <= after, "it is UTC: {}", fetched_at(&first));
    // Of a call at this time, the page would show another.
    eventually("it is another second", async || SystemTime::now() >= time + SECOND).await;
    let second = app.get("/apicalls").await;
    assert_eq!(second.body, first.body, "its time too");
    assert_eq!(upstream.calls(), 1);

    assert_eq!(first.texts("time"), [fetched_at(&first).replace('T', " ").replace('Z', " UTC")]);
}

#[tokio::test]
async fn the_list_leads_to_the_answer_and_the_answer_to_itself_and_back() {
    let upstream = Upstream::start(|_, _| Reply::ok("hello")).await;
    let app = app(&upstream);
    assert_eq!(app.get("/").await.attributes("header a", "href"), ["/", "/apicalls"]);
    let page = app.get("/apicalls").await;
    assert_eq!(page.texts("main a[href='/apicalls']"), ["Get new data"]);
    assert_eq!(page.texts("main a[href='/']"), ["Back to the list"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_first_visitors_of_two_processes_make_one_call() {
    // How long it waits is the subject: longer than a process waits for what another reads from the database.
    let slow = Duration::from_secs(4);
    let upstream = Upstream::start(move |_, _| Reply::Late(slow, response("200 OK", "hello"))).await;
    let memcached = Memcached::start();
    let settings = with_memcached(&upstream, &memcached);
    let apps = [settings.serve(), settings.serve()];
    // Behind one router, and so under one name: another host's page is another page.
    let pages = join_all((0..50).map(|number| apps[number % 2].get_from("localhost", "/apicalls"))).await;
    pages.iter().for_each(|page| assert_shows(page, "hello"));
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cache_visitors_at_the_same_time_share_a_call_and_later_ones_do_not() {
    let (end, is_over) = watch::channel(false);
    let held = move |_, _: &str| Reply::Held(is_over.clone(), response("200 OK", "hello"));
    let upstream = Upstream::start(held).await;
    let app = Settings::new().with("API_URL", &upstream.url()).with("CACHE_URL", "dummy://").serve();
    let mut visitors = visit(&app, 1);
    eventually("the call is made", async || upstream.calls() == 1).await;
    let misses = app.metric(MISSES).await;
    visitors.extend(visit(&app, 19));
    // The page and its generation are missing, each time.
    eventually("all are there", async || app.metric(MISSES).await == misses + 2 * 19).await;
    end.send_replace(true);
    for visitor in visitors {
        assert_shows(&within_reason("all have an answer", visitor).await.unwrap(), "hello");
    }
    assert_eq!(upstream.calls(), 1);
    app.get("/apicalls").await;
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_visitors_wait_for_a_service_that_hangs_and_not_one_after_the_other() {
    let upstream = Upstream::start(|_, _| Reply::Nothing).await;
    let memcached = Memcached::start();
    let settings = with_memcached(&upstream, &memcached);
    let clock = Clock::start();
    let settings = clock.with_measures(settings);
    let apps = [settings.serve(), settings.serve()];
    let mut visitors = vec![];
    for (number, app) in (1..).zip(&apps) {
        visitors.extend(visit(app, 1));
        eventually("a call is made", async || upstream.calls() == number).await;
        let misses = app.metric(MISSES).await;
        visitors.extend(visit(app, 24));
        // Each has missed the page, and waits.
        eventually("all are there", async || app.metric(MISSES).await >= misses + 24).await;
    }
    clock.set("+10s");
    wait_for_all(&apps, &visitors).await;
    for visitor in visitors {
        visitor.await.unwrap().assert_error(504);
    }
    assert!(upstream.calls() <= 2, "{} calls by two processes", upstream.calls());
}

#[tokio::test]
async fn a_failure_is_an_error_page_that_is_not_cached() {
    for status in ["500 Internal Server Error", "404 Not Found", "304 Not Modified", "429 Too Many Requests"]
    {
        assert_fails(Reply::status(status), 502, &format!("answered with status {status}")).await;
    }
    assert_fails(Reply::ok(b"caf\xe9"), 502, "is not UTF-8").await;
    assert_fails(Reply::Bytes(b"nonsense\r\n\r\n".into()), 502, "failed to ask the service").await;
    assert_fails(Reply::Bytes(vec![]), 502, "failed to ask the service").await;
    let cut = Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut".into());
    assert_fails(cut, 502, "failed to ask the service").await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_never_ends_is_not_read_to_its_end() {
    let too_long = "longer than 1024 KiB";
    let ten_megabytes = Reply::ok("x".repeat(10_000_000));
    let endless = Reply::Endless(HEAD.into(), vec![b'x'; 16 * 1024]);
    let chunks = Reply::Endless(CHUNKED.into(), [b"1000\r\n", &[b'x'; 4096][..], b"\r\n"].concat());
    for reply in [ten_megabytes, endless, chunks] {
        assert_fails(reply, 502, too_long).await;
    }
    let endless_head = Reply::Endless(b"HTTP/1.1 200 OK\r\n".into(), b"X-More: and more\r\n".repeat(100));
    assert_fails(endless_head, 502, "failed to ask the service").await;
}

// That it is ten seconds is tested where the clock can be turned, in `src/upstream.rs`.
#[tokio::test]
async fn an_answer_that_dribbles_in_or_does_not_come_is_given_up_after_ten_seconds() {
    for late in [Reply::Nothing, Reply::Dribbled(HEAD.into(), b"x".into())] {
        let heals = move |number, _: &str| if number == 1 { late.clone() } else { Reply::ok("well again") };
        let (upstream, clock) = (Upstream::start(heals).await, Clock::start());
        let settings = clock.with_measures(Settings::new().with("API_URL", &upstream.url()));
        let apps = [settings.serve()];
        let mut visitors = visit(&apps[0], 1);
        eventually("the service is called", async || upstream.calls() == 1).await;
        clock.set("+10s");
        wait_for_all(&apps, &visitors).await;
        let page = visitors.remove(0).await.unwrap();
        page.assert_error(504);
        assert!(page.texts("pre")[0].contains("did not answer in time"), "{}", page.body);
        assert_shows(&apps[0].get("/apicalls").await, "well again");
    }
}

#[tokio::test]
async fn whoever_has_waited_long_enough_for_others_begins_no_call() {
    let service = Upstream::start(|_, _| Reply::ok("hello")).await;
    let client = upstream::Upstream::new(&config(&service.url()).api);
    let long_ago = tokio::time::Instant::now() - Duration::from_secs(10);
    assert!(matches!(client.ask(long_ago).await, Err(upstream::Error::Timeout)));
    assert_eq!(service.calls(), 0);
    assert_eq!(client.ask(tokio::time::Instant::now()).await.unwrap().text, "hello");
    assert_eq!(client.ask(long_ago).await.unwrap().text, "hello", "another's call is as good");
    assert_eq!(service.calls(), 1);
}

#[tokio::test]
async fn nobody_there_is_an_error_page() {
    let app = Settings::new().with("API_URL", "http://me:hunter2@127.0.0.1:1/?key=hunter2").serve();
    let page = app.get("/apicalls").await;
    page.assert_error(502);
    assert!(page.body.contains("onnection refused") && !page.body.contains("hunter2"), "{}", page.body);
    wait_until("the cause is in the log", || app.output().contains("onnection refused"));
    assert!(!app.output().contains("hunter2"), "{}", app.output());
}

#[tokio::test]
async fn the_last_answer_is_shown_while_there_is_no_other_and_is_marked_old() {
    let upstream = Upstream::start(|number, _| match number {
        2 => Reply::status("503 Service Unavailable"),
        _ => Reply::ok(format!("number {number}")),
    })
    .await;
    let memcached = Memcached::start();
    let app = with_memcached(&upstream, &memcached).serve();
    let first = app.get("/apicalls").await;
    assert_shows(&first, "number 1");
    assert_eq!(memcached.evict("view."), 2, "the page and its generation");
    let old = app.get("/apicalls").await;
    assert_shows_old(&old, "number 1");
    assert_eq!(fetched_at(&old), fetched_at(&first));
    wait_until("the cause is in the log", || app.output().contains("status 503"));
    assert_shows(&app.get("/apicalls").await, "number 3");
    assert_shows(&app.get("/apicalls").await, "number 3");
}

#[tokio::test]
async fn what_the_service_says_is_text_and_a_long_answer_is_cut() {
    let hostile = "</pre><script>alert(1)</script> \"&amp;' <img src=x onerror=alert(1)>";
    let upstream = Upstream::start(move |_, _| Reply::ok(hostile)).await;
    let page = app(&upstream).get("/apicalls").await;
    assert_shows(&page, hostile);
    assert!(!page.body.contains("<script>") && !page.body.contains("<img src=x"), "{}", page.body);

    let upstream = Upstream::start(|_, _| Reply::ok("é".repeat(500_000))).await;
    let page = app(&upstream).get("/apicalls").await;
    assert_shows(&page, &"é".repeat(4096));
    assert_eq!(page.texts("p.facts")[1], "There was more; this is its beginning.");

    let upstream = Upstream::start(|_, _| Reply::ok("")).await;
    assert_eq!(app(&upstream).get("/apicalls").await.texts("p.empty"), ["The answer is empty."]);
}

#[tokio::test]
async fn a_few_redirects_are_followed_and_to_the_same_service_only() {
    let upstream = Upstream::start(|number, head| match number {
        1..=3 => Reply::redirect(&format!("/step/{number}")),
        _ => Reply::ok(head.lines().next().unwrap()),
    })
    .await;
    assert_shows(&app(&upstream).get("/apicalls").await, "GET /step/3 HTTP/1.1");

    let upstream = Upstream::start(|_, _| Reply::redirect("/again")).await;
    app(&upstream).get("/apicalls").await.assert_error(502);
    assert_eq!(upstream.calls(), 4);

    let other = Upstream::start(|_, _| Reply::ok("what only the site can reach")).await;
    let others = [other.url(), other.url().replace("127.0.0.1", "localhost")];
    let no_http = ["ftp://127.0.0.1/", "file:///etc/passwd", "javascript:alert(1)"].map(String::from);
    for elsewhere in others.into_iter().chain(no_http) {
        let upstream = Upstream::start(move |_, _| Reply::redirect(&elsewhere)).await;
        app(&upstream).get("/apicalls").await.assert_error(502);
    }
    assert_eq!(other.calls(), 0);
}

#[tokio::test]
async fn a_login_in_the_address_is_sent_and_no_proxy_is_asked() {
    let proxy = Upstream::start(|_, _| Reply::ok("from the proxy")).await;
    let upstream = Upstream::start(|_, head| Reply::ok(head)).await;
    let url = upstream.url().replace("http://", "http://me:s%20same@");
    let settings = Settings::new().with("API_URL", &url).with("CACHE_URL", "dummy://");
    let app = settings.with("HTTP_PROXY", &proxy.url()).with("http_proxy", &proxy.url()).serve();
    let head = app.get("/apicalls").await.texts("pre").remove(0).to_lowercase();
    // me:s same
    assert!(head.contains("authorization: basic bwu6cybzyw1l"), "{head}");
    assert!(head.contains(&format!("user-agent: tasklist/{}", env!("CARGO_PKG_VERSION"))), "{head}");
    assert_eq!(proxy.calls(), 0);
}

#[tokio::test]
async fn over_tls_a_service_is_asked_only_if_it_is_trusted() {
    let (service, certificate) = Upstream::start_with_tls(|_, _| Reply::ok("hello")).await;
    let url = service.url().replace("http://", "https://");
    let mut authorities = RootCertStore::empty();
    authorities.add(certificate).unwrap();
    let answer =
        upstream::Upstream::trusting(&config(&url).api, authorities).ask(tokio::time::Instant::now()).await;
    assert_eq!(answer.unwrap().text, "hello");

    let app = Settings::new().with("API_URL", &url).serve();
    let page = app.get("/apicalls").await;
    page.assert_error(502);
    assert!(page.texts("pre")[0].contains("certificate"), "{}", page.body);
    assert_eq!(service.calls(), 1);
}

#[tokio::test]
async fn a_cache_that_is_gone_makes_more_calls_and_no_errors() {
    let upstream = Upstream::start(|_, _| Reply::ok("hello")).await;
    let mut memcached = Memcached::start();
    let app = with_memcached(&upstream, &memcached).serve();
    memcached.kill();
    for _ in 0..2 {
        assert_shows(&app.get("/apicalls").await, "hello");
    }
    assert_eq!(upstream.calls(), 2);
}
