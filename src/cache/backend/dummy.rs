//! No cache at all, behind the same interface: to see what the app costs without one.

use async_trait::async_trait;
use bytes::Bytes;

use super::{Backend, Error, ServerCheck, ServerStats, fitting};
use crate::cache::Ttl;

const NAME: &str = "nowhere";

/// The backend that accepts everything and keeps nothing. A value that is too long it refuses as the others do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dummy;

#[async_trait]
impl Backend for Dummy {
    async fn get(&self, _: &str) -> Result<Option<Bytes>, Error> {
        Ok(None)
    }

    async fn get_many(&self, keys: &[String]) -> Vec<Result<Option<Bytes>, Error>> {
        vec![Ok(None); keys.len()]
    }

    async fn set(&self, _: &str, value: Bytes, _: Ttl) -> Result<(), Error> {
        fitting(value, NAME).map(drop)
    }

    async fn set_many(&self, values: &[(String, Bytes)], _: Ttl) -> Vec<Result<(), Error>> {
        values.iter().map(|(_, value)| fitting(value.clone(), NAME).map(drop)).collect()
    }

    async fn add(&self, _: &str, value: Bytes, _: Ttl) -> Result<bool, Error> {
        fitting(value, NAME).map(|_| true)
    }

    async fn replace(&self, _: &str, value: Bytes, _: Ttl) -> Result<bool, Error> {
        fitting(value, NAME).map(|_| false)
    }

    async fn delete(&self, _: &str) -> Result<bool, Error> {
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
        let stats = ["curr_items", "bytes"].map(|name| (name.to_owned(), "0".to_owned()));
        vec![ServerStats { server: NAME.into(), stats: Ok(stats.into()) }]
    }

    async fn check(&self) -> Vec<ServerCheck> {
        vec![]
    }

    fn server_of(&self, _: &str) -> String {
        NAME.into()
    }

    fn describe(&self) -> String {
        format!("{NAME}: nothing is kept")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::backend::{ErrorKind, LARGEST_VALUE};

    #[tokio::test]
    async fn it_accepts_everything_and_keeps_nothing() {
        let value = Bytes::from_static(b"1");
        Dummy.set("k", value.clone(), Ttl::Never).await.unwrap();
        assert!(Dummy.add("k", value.clone(), Ttl::Never).await.unwrap());
        assert!(!Dummy.replace("k", value.clone(), Ttl::Never).await.unwrap());
        assert!(!Dummy.touch("k", Ttl::Never).await.unwrap());
        assert_eq!(Dummy.get("k").await.unwrap(), None);
        assert_eq!(Dummy.incr("k", 1).await.unwrap(), None);
        assert_eq!(Dummy.decr("k", 1).await.unwrap(), None);
        assert!(!Dummy.delete("k").await.unwrap());
        let keys = ["a".to_owned(), "b".to_owned()];
        assert_eq!(
            Dummy.get_many(&keys).await.into_iter().map(Result::unwrap).collect::<Vec<_>>(),
            [None, None]
        );
        assert_eq!(Dummy.delete_many(&keys).await.len(), 2);
        assert_eq!(Dummy.set_many(&[("a".into(), value)], Ttl::Never).await.len(), 1);
        assert_eq!(Dummy.describe(), "nowhere: nothing is kept");
    }

    #[tokio::test]
    async fn a_value_that_is_too_long_is_told() {
        let long = Bytes::from(vec![0; LARGEST_VALUE + 1]);
        let expected = ErrorKind::TooLarge(LARGEST_VALUE + 1);
        for error in [
            Dummy.set("k", long.clone(), Ttl::Never).await.unwrap_err(),
            Dummy.add("k", long.clone(), Ttl::Never).await.unwrap_err(),
            Dummy.replace("k", long, Ttl::Never).await.unwrap_err(),
        ] {
            assert_eq!(error.kind, expected);
        }
    }
}
