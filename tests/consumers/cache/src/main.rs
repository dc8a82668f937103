//! The cache without HTTP: a value that is computed once, however many callers ask for it.
//!
//! `consumer-cache 127.0.0.1:11211` computes it if memcached does not have it; without an argument it computes it.

use std::convert::Infallible;
use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use neverstale::backend::locmem::Locmem;
use neverstale::backend::memcached::Memcached;
use neverstale::{Cache, CacheOptions, Key, Ttl};
use tokio_memcached::Options;

const HOUR: Ttl = Ttl::After(Duration::from_secs(60 * 60));

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cache = match std::env::args().nth(1) {
        Some(server) => {
            let options = Options::new([server.parse()?])?;
            Cache::new(Memcached::new(options), CacheOptions::default())
        }
        None => Cache::new(Locmem::new(), CacheOptions::default()),
    };
    let (key, computations) = (Key::new("primes.below.20000")?, AtomicU32::new(0));
    let primes = async || {
        computations.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(primes_below(20_000))
    };
    let answers = join_all((0..100).map(|_| cache.get_or_set(&key, HOUR, primes))).await;
    let counts: Result<Vec<usize>, _> = answers.into_iter().collect();
    println!("{} primes, computed {} times", counts?[0], computations.into_inner());
    Ok(())
}

fn primes_below(end: usize) -> usize {
    (2..end)
        .filter(|number| {
            (2..*number).take_while(|part| part * part <= *number).all(|part| number % part != 0)
        })
        .count()
}
