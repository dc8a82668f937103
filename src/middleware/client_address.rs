//! Whose request it is, as far as that can be believed.
//!
//! Each router on the way appends to `X-Forwarded-For` the address it got the request from. With one trusted router the
//! last entry is the client; with two the last is the first router, and the one before it the client; what stands
//! further to the left a client may have sent itself. So the entry is counted from the right, over all lines of the
//! header, and only as far as there are routers that are trusted.
//!
//! Where there is no such entry, or it is no address, the request counts for the address of its connection: that is the
//! one thing no client can choose. Behind a router it is the router's, and many clients share its count, so that is
//! said in the log. The header's other entries are no way out: a client that reaches the process around the routers
//! could write them. (Nor can the number be found out: one that is too high lets a client choose its address. Hence it
//! is 0 by default.)

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Why the address of the connection may not be the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// There is a router, and none is trusted.
    Untrusted,
    /// Fewer routers than trusted have left an entry.
    TooFew,
    /// The entry is no address.
    NoAddress,
}

impl Doubt {
    pub(super) const COUNT: usize = 3;
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Untrusted => "X-Forwarded-For is not believed while TRUSTED_HOPS is 0",
            Self::TooFew => "X-Forwarded-For has fewer entries than TRUSTED_HOPS",
            Self::NoAddress => "the entry of X-Forwarded-For at TRUSTED_HOPS is no address",
        })
    }
}

/// Returns the address that a request counts for.
pub(super) fn find(headers: &HeaderMap, peer: IpAddr, hops: usize) -> (IpAddr, Option<Doubt>) {
    let Some(skipped) = hops.checked_sub(1) else {
        return (peer, headers.contains_key(FORWARDED_FOR).then_some(Doubt::Untrusted));
    };
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    match entries.nth(skipped).map(address) {
        Some(Some(address)) => (address, None),
        Some(None) => (peer, Some(Doubt::NoAddress)),
        None => (peer, Some(Doubt::TooFew)),
    }
}

/// Reads an entry. Some routers add the port, which is another for each connection, and brackets with it.
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
    fn check(hops: usize, lines: &[&str], address: &str, doubt: Option<Doubt>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let expected = (address.parse().unwrap(), doubt);
        assert_eq!(find(&headers, PEER.parse().unwrap(), hops), expected, "{hops} {lines:?}");
    }

    #[test]
    fn the_entry_is_counted_from_the_right_over_all_lines() {
        check(1, &["203.0.113.9"], "203.0.113.9", None);
        check(1, &["6.6.6.6, 203.0.113.9"], "203.0.113.9", None);
        check(1, &["6.6.6.6", "203.0.113.9"], "203.0.113.9", None);
        check(2, &["6.6.6.6,203.0.113.9 ,\t10.0.0.2"], "203.0.113.9", None);
        check(2, &["6.6.6.6, 203.0.113.9", "10.0.0.2"], "203.0.113.9", None);
        check(3, &["6.6.6.6", "2001:db8::7, 10.0.0.3", "10.0.0.2"], "2001:db8::7", None);
    }

    #[test]
    fn without_trusted_routers_the_header_is_not_believed() {
        check(0, &[], PEER, None);
        check(0, &["203.0.113.9"], PEER, Some(Doubt::Untrusted));
    }

    #[test]
    fn where_routers_left_no_entry_the_connection_counts() {
        check(1, &[], PEER, Some(Doubt::TooFew));
        check(3, &["6.6.6.6, 203.0.113.9"], PEER, Some(Doubt::TooFew));
    }

    #[test]
    fn a_port_and_brackets_are_no_part_of_an_address() {
        check(1, &["203.0.113.9:51234"], "203.0.113.9", None);
        check(1, &["[2001:db8::7]:51234"], "2001:db8::7", None);
        check(1, &["[2001:db8::7]"], "2001:db8::7", None);
    }

    #[test]
    fn what_is_no_address_is_nobodys() {
        for odd in
            ["unknown", "_hidden", "", " ", "203.0.113", "203.0.113.9:", "[203.0.113.9]", "[::1", "é", "a b"]
        {
            check(1, &[odd], PEER, Some(Doubt::NoAddress));
            check(1, &["6.6.6.6, ", odd], PEER, Some(Doubt::NoAddress));
        }
    }

    proptest! {
        #[test]
        fn nothing_a_client_sends_changes_what_the_routers_say(
            sent in proptest::collection::vec("[ -~]{0,30}", 0..4),
            hops in 1_usize..4,
        ) {
            let routers = ["203.0.113.9", "10.0.0.3", "10.0.0.2"];
            let appended = routers[..hops].join(", ");
            let mut lines: Vec<_> = sent.iter().map(String::as_str).collect();
            lines.push(&appended);
            check(hops, &lines, "203.0.113.9", None);
            let joined = [&sent[..], std::slice::from_ref(&appended)].concat().join(",");
            check(hops, &[&joined], "203.0.113.9", None);
        }
    }
}
