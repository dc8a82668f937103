//! The cookie of a session, signed: `NAME=ID.SEEN.SIGNATURE`.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use tower_sessions::cookie::{Cookie, SameSite};
use tower_sessions::session::Id;

use super::store::Seen;
use neverstale::Secret;

/// The id of a session, and its latest state that the visitor was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) id: Id,
    pub(super) seen: Seen,
}

/// Signs cookies, and reads those that it has signed.
#[derive(Clone)]
pub(super) struct Cookies {
    key: hmac::Key,
    /// Name and attributes.
    template: Cookie<'static>,
}

/// A cookie whose name or attributes no browser reads back as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session cookie has a name, path or domain that cannot be sent")]
pub struct InvalidCookie;

impl Cookies {
    pub(super) fn new(secret: &Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
        // Django's name.
        let template = Cookie::build("sessionid").path("/").http_only(true).same_site(SameSite::Lax);
        Self { key, template: template.build() }
    }

    pub(super) fn with_template(&self, template: Cookie<'static>) -> Result<Self, InvalidCookie> {
        let text = template.to_string();
        let read = Cookie::parse(text.as_str()).map_err(|_| InvalidCookie)?;
        let parts = |cookie: &Cookie<'_>| {
            [Some(cookie.name()), cookie.path(), cookie.domain()].map(|part| part.map(str::to_owned))
        };
        let is_valid = parts(&read) == parts(&template) && HeaderValue::from_str(&text).is_ok();
        if is_valid { Ok(Self { template, key: self.key.clone() }) } else { Err(InvalidCookie) }
    }

    /// Returns the ticket that a request brings. Other cookies of the same name may come from another path or site.
    pub(super) fn read(&self, headers: &HeaderMap) -> Option<Ticket> {
        // Other sites' cookies may hold any bytes.
        let lists =
            headers.get_all(header::COOKIE).iter().map(|list| String::from_utf8_lossy(list.as_bytes()));
        let mut cookies = lists
            .flat_map(Cookie::split_parse)
            .flatten()
            .filter(|cookie| cookie.name() == self.template.name());
        cookies.find_map(|cookie| self.verify(cookie.value_trimmed()))
    }

    /// Returns the header that gives a browser a ticket for this long.
    pub(super) fn give(&self, ticket: Ticket, max_age: time::Duration, is_https: bool) -> HeaderValue {
        self.to_header(self.sign(ticket), max_age, is_https)
    }

    /// Returns the header that takes a ticket from a browser.
    pub(super) fn take(&self, is_https: bool) -> HeaderValue {
        self.to_header(String::new(), time::Duration::ZERO, is_https)
    }

    fn to_header(&self, value: String, max_age: time::Duration, is_https: bool) -> HeaderValue {
        let mut cookie = self.template.clone();
        cookie.set_value(value);
        cookie.set_max_age(max_age);
        cookie.set_secure(cookie.secure().unwrap_or(is_https));
        HeaderValue::try_from(cookie.to_string())
            .expect("the template was tried, and values are plain letters")
    }

    fn sign(&self, ticket: Ticket) -> String {
        let text = format!("{}.{}", ticket.id, ticket.seen);
        let signature = hmac::sign(&self.key, self.signed(&text).as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn verify(&self, value: &str) -> Option<Ticket> {
        let (text, signature) = value.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.key, self.signed(text).as_bytes(), &signature).ok()?;
        let (id, seen) = text.split_once('.')?;
        Some(Ticket { id: id.parse().ok()?, seen: seen.parse().ok()? })
    }

    /// Returns the text to sign. It holds the name, so that a signature made for anything else is not taken.
    fn signed(&self, text: &str) -> String {
        format!("{}={text}", self.template.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Cookies {
        Cookies::new(&b"a secret of thirty-two bytes or more"[..].try_into().unwrap())
    }

    fn others() -> Cookies {
        Cookies::new(&b"another secret of thirty-two bytes"[..].try_into().unwrap())
    }

    fn ticket() -> Ticket {
        Ticket { id: Id(1 << 90), seen: "00000000000000ff".parse().unwrap() }
    }

    #[track_caller]
    fn check(cookies: &[&str], expected: Option<Ticket>) {
        let cookies = cookies.iter().map(|list| (header::COOKIE, HeaderValue::try_from(*list).unwrap()));
        assert_eq!(ours().read(&cookies.collect()), expected);
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let ours = format!("sessionid={}", ours().sign(ticket()));
        let theirs = format!("sessionid={}", others().sign(ticket()));
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
        let value = ours().sign(ticket());
        let (text, signature) = value.rsplit_once('.').unwrap();
        let (id, seen) = text.split_once('.').unwrap();
        for other in [
            format!("{id}.{seen}"),
            format!("{id}.{seen}."),
            format!("{id}.{seen}.{}", &signature[1..]),
            format!("{id}.0{seen}.{signature}"),
            format!("{}.{seen}.{signature}", Id(2)),
            format!("{id}.{}.{signature}", seen.replace('0', "1")),
            others().sign(ticket()),
            String::new(),
            "..".into(),
        ] {
            check(&[&format!("sessionid={other}")], None);
        }
        check(&[&format!("other={value}")], None);
    }

    #[test]
    fn a_browser_sends_the_cookie_to_this_site_alone_and_shows_it_to_no_script() {
        let (day, value) = (time::Duration::DAY, ours().sign(ticket()));
        assert_eq!(
            ours().give(ticket(), day, false),
            format!("sessionid={value}; HttpOnly; SameSite=Lax; Path=/; Max-Age=86400")
        );
        assert_eq!(
            ours().give(ticket(), day, true),
            format!("sessionid={value}; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=86400")
        );
        assert_eq!(ours().take(false), "sessionid=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    }

    #[test]
    fn name_and_attributes_can_be_chosen() {
        let template = Cookie::build("sid").path("/shop").domain("example.com").secure(true).build();
        let cookies = ours().with_template(template).unwrap();
        let header = cookies.give(ticket(), time::Duration::DAY, false);
        let value = cookies.sign(ticket());
        let expected = format!("sid={value}; Secure; Path=/shop; Domain=example.com; Max-Age=86400");
        assert_eq!(header, expected);
        let cookie =
            |name: &str| HeaderMap::from_iter([(header::COOKIE, format!("{name}={value}").parse().unwrap())]);
        assert_eq!(cookies.read(&cookie("sid")), Some(ticket()));
        assert_eq!(cookies.read(&cookie("sessionid")), None);
        assert_eq!(ours().read(&cookie("sessionid")), None, "a signature is for one name");
    }

    #[test]
    fn a_cookie_that_cannot_be_sent_is_refused() {
        for (name, path) in
            [("", "/"), ("a;b", "/"), ("a=b", "/"), ("a", "/\n"), ("a", "/; Secure"), ("\u{1}", "/")]
        {
            let template = Cookie::build(name.to_owned()).path(path.to_owned()).build();
            assert_eq!(ours().with_template(template).err(), Some(InvalidCookie), "{name:?} {path:?}");
        }
    }
}
