//! The address of a client, as far as it can be believed.
//!
//! Each reverse proxy appends to `X-Forwarded-For` the address that its request came from. With one trusted proxy the
//! last entry is the client's, with two the one before it, and a client may have sent whatever stands further to the
//! left itself. So the entry is counted from the right, over all lines of the header, and only as far as proxies are
//! trusted.
//!
//! Without such an entry, the request counts for the address of its connection, which no client can choose. Behind a
//! proxy that is the proxy's, and many clients share its count, so a warning says so. Neither can other entries be
//! used, since a client that reaches the process around the proxies could write them, nor can the number of proxies
//! be detected: one that is too high lets a client choose its address. Hence it is 0 by default.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const UNTRUSTED: &str = "X-Forwarded-For is not believed while TRUSTED_HOPS is 0";
const TOO_FEW: &str = "X-Forwarded-For has fewer entries than TRUSTED_HOPS";
const NO_ADDRESS: &str = "the entry of X-Forwarded-For at TRUSTED_HOPS is no address";

/// Returns the address of a client behind so many trusted proxies, or why it is unknown.
pub(super) fn find(headers: &HeaderMap, peer: IpAddr, hops: usize) -> Result<IpAddr, &'static str> {
    let Some(skipped) = hops.checked_sub(1) else {
        return if headers.contains_key(FORWARDED_FOR) { Err(UNTRUSTED) } else { Ok(peer) };
    };
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    address(entries.nth(skipped).ok_or(TOO_FEW)?).ok_or(NO_ADDRESS)
}

/// Parses an entry. Some proxies add the port, which is another for each connection, and brackets with it.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = str::from_utf8(entry).ok()?.trim();
    let with_port = || entry.parse().map(|address: SocketAddr| address.ip()).ok();
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().map(IpAddr::V6).ok();
    entry.parse().ok().or_else(with_port).or_else(in_brackets)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "10.0.0.1";

    #[track_caller]
    fn check(hops: usize, lines: &[&str], expected: Result<&str, &'static str>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let expected = expected.map(|address| address.parse().unwrap());
        assert_eq!(find(&headers, PEER.parse().unwrap(), hops), expected, "{hops} {lines:?}");
    }

    #[test]
    fn the_entry_is_counted_from_the_right_over_all_lines() {
        for (hops, lines, address) in [
            (1, &["203.0.113.9"][..], "203.0.113.9"),
            (1, &["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
            (1, &["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
            (2, &["6.6.6.6,203.0.113.9 ,\t10.0.0.2"], "203.0.113.9"),
            (2, &["6.6.6.6, 203.0.113.9", "10.0.0.2"], "203.0.113.9"),
            (3, &["6.6.6.6", "2001:db8::7, 10.0.0.3", "10.0.0.2"], "2001:db8::7"),
            // A port and brackets are no part of an address.
            (1, &["203.0.113.9:51234"], "203.0.113.9"),
            (1, &["[2001:db8::7]:51234"], "2001:db8::7"),
            (1, &["[2001:db8::7]"], "2001:db8::7"),
        ] {
            check(hops, lines, Ok(address));
        }
    }

    #[test]
    fn without_an_entry_that_can_be_believed_the_address_is_unknown() {
        check(0, &[], Ok(PEER));
        check(0, &["203.0.113.9"], Err(UNTRUSTED));
        check(1, &[], Err(TOO_FEW));
        check(3, &["6.6.6.6, 203.0.113.9"], Err(TOO_FEW));
        for odd in
            ["unknown", "_hidden", "", " ", "203.0.113", "203.0.113.9:", "[203.0.113.9]", "[::1", "é", "a b"]
        {
            check(1, &[odd], Err(NO_ADDRESS));
            check(1, &["6.6.6.6, ", odd], Err(NO_ADDRESS));
        }
    }

    proptest! {
        #[test]
        fn nothing_a_client_sends_changes_what_the_proxies_say(
            sent in proptest::collection::vec("[ -~]{0,30}", 0..4),
            hops in 1_usize..4,
        ) {
            let proxies = ["203.0.113.9", "10.0.0.3", "10.0.0.2"];
            let appended = proxies[..hops].join(", ");
            let mut lines: Vec<_> = sent.iter().map(String::as_str).collect();
            lines.push(&appended);
            check(hops, &lines, Ok("203.0.113.9"));
            let joined = [&sent[..], std::slice::from_ref(&appended)].concat().join(",");
            check(hops, &[&joined], Ok("203.0.113.9"));
        }
    }
}
