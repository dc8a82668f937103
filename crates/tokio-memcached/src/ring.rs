//! Which server has which key: the consistent ring of libmemcached, so that other clients look in the same place.
//!
//! This is what pylibmc does with the tutorial's `ketama: True`: a hundred points a server, and Bob Jenkins's
//! one-at-a-time hash for points and keys alike (libmemcached `hosts.cc`, `update_continuum`).

use super::options::{DEFAULT_PORT, ServerAddress};

const POINTS_PER_SERVER: usize = 100;

/// Points on a circle, each belonging to a server. A key belongs to the next point.
///
/// ```
/// use tokio_memcached::Ring;
///
/// let three = ["mc1", "mc2", "mc3"].map(|name| name.parse().expect("a host name"));
/// let (all, two) = (Ring::new(&three), Ring::new(&three[..2]));
/// // Without the third server, the keys of the others stay where they are.
/// for key in ["tasks.all", "apicalls.last", "a", "b", "c"].map(str::as_bytes) {
///     let server = all.server_of(key);
///     assert!(server == 2 || two.server_of(key) == server);
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Ring {
    points: Vec<(u32, usize)>,
}

impl Ring {
    /// Places the servers. Their order only matters where two points coincide.
    #[must_use]
    pub fn new(servers: &[ServerAddress]) -> Self {
        let places =
            |(index, server)| (0..POINTS_PER_SERVER).map(move |number| (point(server, number), index));
        let mut points: Vec<_> = servers.iter().enumerate().flat_map(places).collect();
        points.sort_by_key(|(place, _)| *place);
        Self { points }
    }

    /// Returns the index of the server that has a key; 0 if there are no servers.
    #[must_use]
    pub fn server_of(&self, key: &[u8]) -> usize {
        let place = hash(key);
        let next = self.points.partition_point(|(point, _)| *point < place);
        self.points.get(next).or(self.points.first()).map_or(0, |(_, server)| *server)
    }
}

fn point(server: &ServerAddress, number: usize) -> u32 {
    let ServerAddress { host, port } = server;
    let name =
        if *port == DEFAULT_PORT { format!("{host}-{number}") } else { format!("{host}:{port}-{number}") };
    hash(name.as_bytes())
}

/// One-at-a-time, with bytes as libmemcached has them: signed.
fn hash(bytes: &[u8]) -> u32 {
    let mixed = bytes.iter().fold(0_u32, |mut hash, byte| {
        hash = hash.wrapping_add_signed(byte.cast_signed().into());
        hash = hash.wrapping_add(hash << 10);
        hash ^ (hash >> 6)
    });
    let mixed = mixed.wrapping_add(mixed << 3);
    let mixed = mixed ^ (mixed >> 11);
    mixed.wrapping_add(mixed << 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where libmemcached 1.0.16 put these keys, by way of pylibmc 1.6.3 with `ketama: True`, on three memcached and on
    /// two: found by asking the servers.
    #[track_caller]
    fn check(servers: &[&str], placements: &str) {
        let servers: Vec<_> = servers.iter().map(|server| server.parse().unwrap()).collect();
        let ring = Ring::new(&servers);
        let named =
            ["tasks.all", "foo", "bar", "a", "task-fragment:1", "é", "key_with_nothing"].map(String::from);
        let keys = named.into_iter().chain((0..57).map(|number| format!("key-{number}")));
        let placed: String = keys.map(|key| ring.server_of(key.as_bytes()).to_string()).collect();
        assert_eq!(placed, placements);
    }

    #[test]
    fn keys_are_placed_as_libmemcached_places_them() {
        check(
            &["127.0.0.1:11211", "127.0.0.1:11311", "127.0.0.1:11312"],
            "2100111212112101120120020102202212101011212110011112112202221010",
        );
        check(
            &["127.0.0.1:11311", "127.0.0.1:11312"],
            "1010000101001000011010111001111101000100101001100001001101110101",
        );
    }

    #[test]
    fn a_server_more_moves_keys_only_to_itself() {
        let servers: Vec<ServerAddress> = (0..5).map(|n| format!("mc{n}").parse().unwrap()).collect();
        let (four, five) = (Ring::new(&servers[..4]), Ring::new(&servers));
        let keys = (0..2000).map(|number| format!("key-{number}"));
        let moved: Vec<_> = keys
            .map(|key| (four.server_of(key.as_bytes()), five.server_of(key.as_bytes())))
            .filter(|(before, after)| before != after)
            .collect();
        assert!(!moved.is_empty() && moved.len() < 800, "{} of 2000 moved", moved.len());
        assert!(moved.iter().all(|(_, after)| *after == 4));
    }
}
