//! Single functions on the way of a page, by themselves, for whoever changes one of them.
//!
//! As the library offers them: an envelope is opened and closed by a `Cache` over a store in this process (`encode`
//! over one that keeps nothing), and the key of a page is built by a hit of its layer, of which it is a part.

use std::hint::black_box;

use axum::body::Body;
use axum::http::Request;
use axum::response::Html;
use axum::{Router, routing::get};
use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use neverstale::backend::dummy::Dummy;
use neverstale::backend::locmem::Locmem;
use neverstale::fragment::Fragments;
use neverstale::{Cache, CacheOptions, Integrity, Key, KeyPrefix, Ttl};
use neverstale_axum::PageCache;
use tokio::runtime::Runtime;
use tokio_memcached::protocol::{HEADER, Opcode, Request as Command, decode};
use tokio_memcached::{Ring, ServerAddress};
use tower::ServiceExt;

const KEY: &str = "view.page:GET:/#27-3f0c8a55d1e64b7d9a0b1c2d3e4f5a6b";

/// Bytes of a page.
const PAGE: usize = 13_000;

/// Rows of a page, and the bytes of one.
const ROWS: u64 = 100;
const ROW: usize = 250;

fn protocol(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("protocol");
    let mut out = BytesMut::with_capacity(1024);
    let command = Command::of(Opcode::Get, Bytes::from_static(KEY.as_bytes()));
    group.bench_function("encode get", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&command).put(7, &mut out);
        });
    });
    let answer = answer();
    let mut arrived = BytesMut::with_capacity(64 * 1024);
    group.bench_function("decode its answer of a page", |bencher| {
        bencher.iter(|| {
            arrived.clear();
            arrived.extend_from_slice(&answer);
            decode(black_box(&mut arrived), usize::MAX).is_ok_and(|response| response.is_some())
        });
    });
}

/// What memcached answers to a get, in section 4.2 of its protocol's text.
fn answer() -> Vec<u8> {
    let body = 4 + PAGE;
    let mut answer = vec![0; HEADER + body];
    (answer[0], answer[1], answer[4]) = (0x81, 0x00, 4);
    let length = u32::try_from(body).expect("a page is short");
    answer[8..12].copy_from_slice(&length.to_be_bytes());
    answer
}

fn ring(criterion: &mut Criterion) {
    let address = |number| ServerAddress { host: format!("mc{number}.example.com"), port: 11211 };
    let ring = Ring::new(&(1..=3).map(address).collect::<Vec<_>>());
    criterion.bench_function("ring of three servers", |bencher| {
        bencher.iter(|| ring.server_of(black_box(KEY.as_bytes())));
    });
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keys");
    let (prefix, key) = ("tasks".parse::<KeyPrefix>(), Key::new(KEY).expect("a clean key"));
    let prefix = prefix.expect("a clean prefix");
    group.bench_function("check", |bencher| bencher.iter(|| Key::new(black_box(KEY))));
    group.bench_function("name under a prefix", |bencher| bencher.iter(|| prefix.apply(black_box(&key))));
    let fragments = fragments(&cache(Integrity::default()));
    let row = row_of(&17);
    group.bench_function("of a fragment", |bencher| bencher.iter(|| fragments.key(black_box(&row))));
}

fn cache(seal: Integrity) -> Cache {
    Cache::new(Locmem::new(), CacheOptions::default().integrity(seal))
}

fn envelopes(criterion: &mut Criterion) {
    let runtime = runtime();
    for (name, signed) in [("envelope", false), ("signed envelope", true)] {
        let seal = || {
            if signed {
                Integrity::signed(
                    &b"a secret of the benchmark's, long enough"[..].try_into().expect("it is long"),
                )
            } else {
                Integrity::default()
            }
        };
        envelope(&mut criterion.benchmark_group(name), &runtime, seal);
    }
}

fn envelope(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, seal: impl Fn() -> Integrity) {
    let (key, value) = (Key::new(KEY).expect("a clean key"), "x".repeat(ROW));
    let nowhere = Cache::new(Dummy, CacheOptions::default().integrity(seal()));
    group.bench_function("encode", |bencher| {
        bencher.to_async(runtime).iter(|| nowhere.set(&key, black_box(&value), Ttl::Never));
    });
    let cache = cache(seal());
    runtime.block_on(cache.set(&key, &value, Ttl::Never));
    group.bench_function("find and decode", |bencher| {
        bencher.to_async(runtime).iter(|| cache.get::<String>(black_box(&key)));
    });
}

fn fragments(cache: &Cache) -> Fragments {
    Fragments::new(cache, "task-fragment", "0123456789abcdef", Ttl::Never)
}

fn row_of(id: &u64) -> [String; 2] {
    [id.to_string(), format!("Water the plants on the balcony, no. {id}")]
}

fn rows(criterion: &mut Criterion) {
    let (runtime, fragments) = (runtime(), fragments(&cache(Integrity::default())));
    let (ids, render) = ((1..=ROWS).collect::<Vec<_>>(), |_: &u64| "x".repeat(ROW));
    runtime.block_on(fragments.get_or_render(&ids, row_of, render));
    criterion.bench_function("a hundred cached fragments", |bencher| {
        bencher.to_async(&runtime).iter(|| fragments.get_or_render(black_box(&ids), row_of, render));
    });
}

fn pages(criterion: &mut Criterion) {
    let runtime = runtime();
    let layer = PageCache::new(&cache(Integrity::default())).cache_page(Ttl::Never).vary_on_query(["page"]);
    let view = get(|| async { Html("x".repeat(PAGE)) });
    let site: Router = Router::new().route("/", view.layer(layer));
    let ask = || {
        let request = Request::get("/?page=2").body(Body::empty()).expect("a request");
        site.clone().oneshot(request)
    };
    let Ok(_) = runtime.block_on(ask());
    criterion.bench_function("hit of a page's layer", |bencher| bencher.to_async(&runtime).iter(ask));
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime can be made")
}

criterion_group!(micro, protocol, ring, keys, envelopes, rows, pages);
criterion_main!(micro);
