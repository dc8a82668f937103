//! The client alone: a counter that all processes share.
//!
//! `consumer-client 127.0.0.1:11211` prints how often it has been run.

use std::error::Error;

use tokio_memcached::{Client, Expiration, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = std::env::args().nth(1).ok_or("usage: consumer-client HOST:PORT")?;
    let client = Client::new(Options::new([server.parse()?])?);
    println!("run {}", count(&client, "runs").await?);
    Ok(())
}

/// Counts one more. A counter is text, and the first caller adds it.
async fn count(client: &Client, key: &str) -> Result<u64, tokio_memcached::Error> {
    loop {
        if let Some(sum) = client.incr(key, 1).await? {
            return Ok(sum);
        }
        if client.add(key, "1", Expiration::Never).await? {
            return Ok(1);
        }
    }
}
