//! Whatever a server sends: no panic, no memory without measure, and nothing read that has not arrived.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tokio_memcached::protocol::{HEADER, decode};

const LONGEST: usize = 64 * 1024 * 1024;

fuzz_target!(|data: &[u8]| {
    let mut arrived = BytesMut::from(data);
    let mut left = data.len();
    while let Ok(Some(response)) = decode(&mut arrived, LONGEST) {
        let body = response.extras.len() + response.key.len() + response.value.len();
        left -= HEADER + body;
        assert_eq!(arrived.len(), left, "each answer takes its own bytes and no others");
    }
    assert!(arrived.capacity() <= HEADER + LONGEST);
});
