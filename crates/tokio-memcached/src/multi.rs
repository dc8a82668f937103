//! The multi-key verbs: one quiet pipeline per server, all servers in parallel.

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;

use super::client::{Client, LONGEST_VALUE, Value, expect, found, is_valid_key, unix_time, well};
use super::error::{Error, ErrorKind};
use super::protocol::{Expiration, Opcode, Request, Response, Status};
use super::server::Server;

/// Keys sent to one server in one pipeline; more go in several.
const LONGEST_BATCH: usize = 1000;

/// Bytes of values above which a pipeline takes no more: a long one would keep others waiting.
const LARGEST_BATCH: usize = 1024 * 1024;

/// Bytes that a key is expected to have.
const TYPICAL_KEY: usize = 32;

/// Every result stands where its key stood. A server that fails costs its own keys and no others.
impl Client {
    /// Returns the values of keys, one result for each, in their order. One round trip per server, all in parallel.
    pub async fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Result<Option<Value>, Error>> {
        let requests = keys.iter().map(|key| (key.as_ref(), |key| Request::of(Opcode::GetQuiet, key)));
        let answers = self.many(requests).await.into_iter();
        let to_value = |(server, response): (&Server, Option<Response>)| {
            let value = response.map_or(Ok(None), |response| found(server, response))?;
            server.counters().count_look_up(value.is_some());
            Ok(value)
        };
        answers.map(|answer| answer.and_then(to_value)).collect()
    }

    /// Stores values, one result for each, in their order. One round trip per server, all in parallel.
    pub async fn set_many<K: AsRef<[u8]>>(
        &self,
        values: &[(K, Bytes)],
        expires: Expiration,
    ) -> Vec<Result<(), Error>> {
        let expires = expires.to_wire(unix_time());
        let requests = values.iter().map(|(key, value)| {
            let store = move |key| Request::store(Opcode::SetQuiet, key, value.clone(), 0, expires, 0);
            (key.as_ref(), store)
        });
        let answers = self.many(requests).await.into_iter();
        answers.map(|answer| answer.and_then(|(server, failure)| all_well(server, failure))).collect()
    }

    /// Removes keys, one result for each, in their order. One round trip per server, all in parallel.
    pub async fn delete_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Result<bool, Error>> {
        let requests = keys.iter().map(|key| (key.as_ref(), |key| Request::of(Opcode::DeleteQuiet, key)));
        let answers = self.many(requests).await.into_iter();
        let to_bool = |(server, response): (&Server, Option<Response>)| {
            let status = response.map_or(Status::OK, |response| response.status);
            expect(server, status, &[Status::NOT_FOUND]).map(|status| status == Status::OK)
        };
        answers.map(|answer| answer.and_then(to_bool)).collect()
    }

    /// Sends quiet commands, each to its server, and returns what was answered to each: nothing, mostly.
    async fn many<'a, F: FnOnce(Bytes) -> Request>(
        &self,
        requests: impl ExactSizeIterator<Item = (&'a [u8], F)>,
    ) -> Vec<Result<(&Server, Option<Response>), Error>> {
        let count = requests.len();
        let mut results = Vec::with_capacity(count);
        // One allocation for all keys, which share it.
        let mut keys = BytesMut::with_capacity(count * TYPICAL_KEY);
        let mut batches: Vec<Batch> = vec![];
        let mut open: Vec<Option<usize>> = vec![None; self.servers.len()];
        for (index, (key, request)) in requests.enumerate() {
            if !is_valid_key(key) {
                results.push(Err(Error::local(ErrorKind::InvalidKey)));
                continue;
            }
            let number = self.ring.server_of(key);
            let server = &self.servers[number];
            keys.extend_from_slice(key);
            let request = request(keys.split().freeze());
            let length = request.value().len();
            if length > LONGEST_VALUE {
                results.push(Err(server.unwritten(ErrorKind::TooLarge(length))));
                continue;
            }
            results.push(Ok((server, None)));
            let batch = *open[number].get_or_insert_with(|| {
                // Room for all: with one server it is just right, and it is not kept for long.
                let room = (count - index).min(LONGEST_BATCH);
                let (places, requests) = (Vec::with_capacity(room), Vec::with_capacity(room + 1));
                batches.push(Batch { server: number, bytes: 0, places, requests });
                batches.len() - 1
            });
            let batch = &mut batches[batch];
            batch.bytes += length;
            batch.places.push(index);
            batch.requests.push(request);
            if batch.places.len() == LONGEST_BATCH || batch.bytes >= LARGEST_BATCH {
                open[number] = None;
            }
        }
        let sent = batches.into_iter().map(|Batch { server, places, mut requests, .. }| async move {
            requests.push(Request::of(Opcode::Noop, Bytes::new()));
            (places, self.servers[server].quiet(requests).await)
        });
        for (places, answers) in join_all(sent).await {
            match answers {
                Ok(answers) => {
                    for (index, response) in answers {
                        if let Some(Ok((_, slot))) = places.get(index).map(|place| &mut results[*place]) {
                            *slot = Some(response);
                        }
                    }
                }
                Err(error) => places.iter().for_each(|place| results[*place] = Err(error.clone())),
            }
        }
        results
    }
}

/// Keys of one server, and where their results belong.
struct Batch {
    server: usize,
    /// Bytes of its values.
    bytes: usize,
    places: Vec<usize>,
    requests: Vec<Request>,
}

fn all_well(server: &Server, failure: Option<Response>) -> Result<(), Error> {
    failure.map_or(Ok(()), |response| well(server, &response))
}
