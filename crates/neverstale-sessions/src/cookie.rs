//! What a visitor's browser keeps of a session, signed.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use tower_sessions::cookie::{Cookie, SameSite};
use tower_sessions::session::Id;

use super::LIFETIME;
use super::store::Seen;
use neverstale::Secret;

/// Django's name.
const NAME: &str = "sessionid";

/// Which session a request belongs to, and what its visitor has seen of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) id: Id,
    pub(super) seen: Seen,
}

/// Signs cookies, and reads those that it has signed. All processes of a site need the same key.
#[derive(Clone)]
pub struct Signer {
    key: hmac::Key,
}

/// Returns whether a session may be in this list of cookies: where it is false there is none.
#[must_use]
pub fn may_be_in(list: &HeaderValue) -> bool {
    list.as_bytes().windows(NAME.len()).any(|bytes| bytes == NAME.as_bytes())
}

impl Signer {
    /// Creates a signer from a secret.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()) }
    }

    /// Returns the ticket that comes with a request, if this signer has signed it. There may be other cookies of the
    /// same name, for other paths or from other sites of the same domain.
    pub(super) fn read(&self, headers: &HeaderMap) -> Option<Ticket> {
        // Others' may have any bytes in them.
        let lists =
            headers.get_all(header::COOKIE).iter().map(|list| String::from_utf8_lossy(list.as_bytes()));
        let mut cookies = lists.flat_map(Cookie::split_parse).flatten();
        cookies
            .find_map(|cookie| if cookie.name() == NAME { self.verify(cookie.value_trimmed()) } else { None })
    }

    /// Returns the header that gives a browser a ticket.
    pub(super) fn give(&self, ticket: Ticket, is_https: bool) -> HeaderValue {
        let lifetime = LIFETIME.try_into().expect("two weeks are not too long");
        let cookie = Cookie::build((NAME, self.sign(ticket))).max_age(lifetime);
        to_header(cookie, is_https)
    }

    fn sign(&self, ticket: Ticket) -> String {
        let text = format!("{}.{}", ticket.id, ticket.seen);
        let signature = hmac::sign(&self.key, signed(&text).as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn verify(&self, value: &str) -> Option<Ticket> {
        let (text, signature) = value.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.key, signed(text).as_bytes(), &signature).ok()?;
        let (id, seen) = text.split_once('.')?;
        Some(Ticket { id: id.parse().ok()?, seen: seen.parse().ok()? })
    }
}

/// Returns the header that takes a ticket from a browser.
pub(super) fn take(is_https: bool) -> HeaderValue {
    to_header(Cookie::build((NAME, "")).max_age(time::Duration::ZERO), is_https)
}

fn to_header(cookie: tower_sessions::cookie::CookieBuilder<'_>, is_https: bool) -> HeaderValue {
    let mut cookie = cookie.path("/").http_only(true).same_site(SameSite::Lax);
    if is_https {
        cookie = cookie.secure(true);
    }
    HeaderValue::try_from(cookie.build().to_string()).expect("letters, digits and dots")
}

/// What is signed: the name is in it, so that no signature for anything else will do.
fn signed(text: &str) -> String {
    format!("{NAME}={text}")
}

/// Never shows the key.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::new(&b"a secret of thirty-two bytes or more"[..].try_into().unwrap())
    }

    fn other_signer() -> Signer {
        Signer::new(&b"another secret of thirty-two bytes"[..].try_into().unwrap())
    }

    fn ticket() -> Ticket {
        Ticket { id: Id(1 << 90), seen: "00000000000000ff".parse().unwrap() }
    }

    #[track_caller]
    fn check(cookies: &[&str], expected: Option<Ticket>) {
        let cookies = cookies.iter().map(|list| (header::COOKIE, HeaderValue::try_from(*list).unwrap()));
        let found = signer().read(&cookies.collect());
        let pair = |ticket: Ticket| (ticket.id, ticket.seen);
        assert_eq!(found.map(pair), expected.map(pair));
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let ours = format!("sessionid={}", signer().sign(ticket()));
        let theirs = format!("sessionid={}", other_signer().sign(ticket()));
        check(&[&ours], Some(ticket()));
        check(&[&format!("a=b; {ours}; c=d")], Some(ticket()));
        check(&[&format!("a=\u{e9}; {ours}")], Some(ticket()));
        check(&["a=b", &theirs, &ours], Some(ticket()));
        check(&[&format!("a=b;{}", ours.replace("sessionid=", "  sessionid = "))], Some(ticket()));
        check(&[&format!("{}\"", ours.replace('=', "=\""))], Some(ticket()));
        check(&[&format!("junk; =; sessionid=; sessionid=x; {theirs}; {ours}")], Some(ticket()));
    }

    #[test]
    fn a_cookie_that_was_not_signed_by_us_is_none() {
        let value = signer().sign(ticket());
        let (text, signature) = value.rsplit_once('.').unwrap();
        let (id, seen) = text.split_once('.').unwrap();
        for other in [
            format!("{id}.{seen}"),
            format!("{id}.{seen}."),
            format!("{id}.{seen}.{}", &signature[1..]),
            format!("{id}.0{seen}.{signature}"),
            format!("{}.{seen}.{signature}", Id(2)),
            format!("{id}.{}.{signature}", seen.replace('0', "1")),
            other_signer().sign(ticket()),
            String::new(),
            "..".into(),
        ] {
            check(&[&format!("sessionid={other}")], None);
        }
        check(&[&format!("other={value}")], None);
    }

    #[test]
    fn a_browser_gives_a_cookie_to_this_site_alone_and_to_no_script() {
        let header = signer().give(ticket(), false);
        let value = signer().sign(ticket());
        let attributes = "HttpOnly; SameSite=Lax; Path=/; Max-Age=1209600";
        assert_eq!(header, format!("sessionid={value}; {attributes}"));
        assert_eq!(
            signer().give(ticket(), true),
            format!("sessionid={value}; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=1209600")
        );
        assert_eq!(take(false), "sessionid=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    }
}
