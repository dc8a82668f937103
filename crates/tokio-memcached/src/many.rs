//! The verbs for many keys: quiet commands in one round trip per server, all servers in parallel.

use bytes::Bytes;
use futures_util::future::join_all;

use super::client::{Client, found, to_wire};
use super::error::Error;
use super::protocol::{Expiration, Opcode, Request, Response, Status};
use super::server::Server;
use super::value::{Item, Value};

/// Keys sent to one server in one operation; more go in several.
const LONGEST_BATCH: usize = 1000;

/// Every result stands where its key stood. A server that fails costs its own keys and no others.
impl Client {
    /// Returns the values of keys, one result for each, in their order. One round trip per server, all in parallel.
    pub async fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Result<Option<Value>, Error>> {
        let requests = keys.iter().map(|key| (key.as_ref(), |key| Request::of(Opcode::GetQuiet, key)));
        let also = &[Status::NOT_FOUND];
        self.many(requests, also, |server, response| match response {
            Some(response) => found(server, response),
            None => {
                server.counters().count_look_up(false);
                Ok(None)
            }
        })
        .await
    }

    /// Stores values, one result for each, in their order. One round trip per server, all in parallel.
    pub async fn set_many<K: AsRef<[u8]>, V: Into<Item> + Clone>(
        &self,
        values: &[(K, V)],
        expires: Expiration,
    ) -> Vec<Result<(), Error>> {
        let expires = to_wire(expires);
        let requests = values.iter().map(|(key, value)| {
            let store = move |key| {
                let Item { data, flags } = value.clone().into();
                Request::store(Opcode::SetQuiet, key, data, flags, expires, 0)
            };
            (key.as_ref(), store)
        });
        self.many(requests, &[], |_, _| Ok(())).await
    }

    /// Removes keys, one result for each, in their order. One round trip per server, all in parallel.
    pub async fn delete_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Result<bool, Error>> {
        let requests = keys.iter().map(|key| (key.as_ref(), |key| Request::of(Opcode::DeleteQuiet, key)));
        self.many(requests, &[Status::NOT_FOUND], |_, response| {
            Ok(response.is_none_or(|response| response.status == Status::OK))
        })
        .await
    }

    /// Sends quiet commands, each to its server, and makes a result of each response; there is none, mostly. Its status
    /// is OK or one of `also`.
    async fn many<'a, F: FnOnce(Bytes) -> Request, T>(
        &self,
        requests: impl Iterator<Item = (&'a [u8], F)>,
        also: &[Status],
        result: impl Fn(&Server, Option<Response>) -> Result<T, Error>,
    ) -> Vec<Result<T, Error>> {
        let mut results = vec![];
        let mut batches: Vec<Vec<Batch>> = self.servers.iter().map(|_| vec![]).collect();
        for (key, request) in requests {
            let prepared = self.prepare(key, request).map(|(server, request)| {
                let batches = &mut batches[server];
                if batches.last().is_none_or(|batch| batch.is_full(self.options.batch_bytes)) {
                    batches.push(Batch::default());
                }
                let batch = batches.last_mut().expect("there is one with room");
                batch.bytes += request.value().len();
                batch.places.push(results.len());
                batch.requests.push(request);
                (server, None)
            });
            results.push(prepared);
        }
        let sent = batches.into_iter().zip(self.servers.iter()).flat_map(|(batches, server)| {
            batches.into_iter().map(async |batch| (batch.places, server.quiet(batch.requests).await))
        });
        for (places, responses) in join_all(sent).await {
            match responses {
                Ok(responses) => {
                    for response in responses {
                        // The last response is to the command behind all others.
                        let place = places.get(response.opaque as usize);
                        if let Some(Ok((_, slot))) = place.map(|place| &mut results[*place]) {
                            *slot = Some(response);
                        }
                    }
                }
                Err(error) => places.iter().for_each(|place| results[*place] = Err(error.clone())),
            }
        }
        let to_result = |(server, response): (usize, Option<Response>)| {
            let server = &self.servers[server];
            result(server, response.map(|response| server.accept(response, also)).transpose()?)
        };
        results.into_iter().map(|response| response.and_then(to_result)).collect()
    }
}

/// Commands for one server, and where their results belong.
#[derive(Default)]
struct Batch {
    requests: Vec<Request>,
    places: Vec<usize>,
    /// Bytes of their values.
    bytes: usize,
}

impl Batch {
    /// Returns whether no more is put into this: a long batch would keep others waiting.
    fn is_full(&self, longest: usize) -> bool {
        self.places.len() == LONGEST_BATCH || self.bytes >= longest
    }
}
