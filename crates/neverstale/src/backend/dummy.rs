//! No cache at all, behind the same interface: to see what the app costs without one.

use async_trait::async_trait;
use bytes::Bytes;

use super::{Backend, Error, ServerCheck, ServerStats, size_stats};
use crate::Ttl;

const NAME: &str = "nowhere";

/// The backend that accepts everything and keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dummy;

#[async_trait]
impl Backend for Dummy {
    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        vec![Ok(None); keys.len()]
    }

    async fn set_many(&self, values: &[(String, Bytes)], _: Ttl) -> Vec<Result<(), Error>> {
        vec![Ok(()); values.len()]
    }

    async fn add(&self, _: &str, _: Bytes, _: Ttl) -> Result<bool, Error> {
        Ok(true)
    }

    async fn replace(&self, _: &str, _: Bytes, _: Ttl) -> Result<bool, Error> {
        Ok(false)
    }

    async fn delete_many(&self, keys: &[String]) -> Vec<Result<bool, Error>> {
        vec![Ok(false); keys.len()]
    }

    async fn touch(&self, _: &str, _: Ttl) -> Result<bool, Error> {
        Ok(false)
    }

    async fn incr(&self, _: &str, _: u64) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    async fn decr(&self, _: &str, _: u64) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    async fn clear(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn stats(&self) -> Vec<ServerStats> {
        vec![ServerStats { server: NAME.into(), stats: Ok(size_stats(0, 0)), link: None }]
    }

    async fn check(&self) -> Vec<ServerCheck> {
        vec![]
    }

    fn keeps_nothing(&self) -> bool {
        true
    }

    fn server_of(&self, _: &str) -> String {
        NAME.into()
    }

    fn describe(&self) -> String {
        format!("{NAME}: nothing is kept")
    }
}
