//! The URL of a Postgres.
//!
//! A URL is refused if a part of it could also be part of a password that is not encoded. So nothing of a password is
//! ever taken for a host or a name, and printed.

use std::fmt;

use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// A Postgres, and how it is reached.
#[derive(Clone)]
pub struct PostgresServer {
    /// Host, credentials, database and encryption.
    pub options: PgConnectOptions,
    /// `pgbouncer=true` in the URL: statements go through a pooler. Without it a pooler is detected.
    pub has_pooler: bool,
}

/// Parameters that sqlx understands as libpq does.
const KNOWN: &str = "host hostaddr port dbname user password sslmode sslrootcert sslcert sslkey application_name \
    options statement-cache-capacity";

/// Parameters that change nothing here: time limits are the program's own, and the rest is how it is anyway.
const HARMLESS: &str = "connect_timeout fallback_application_name keepalives keepalives_count keepalives_idle \
    keepalives_interval sslcompression sslsni tcp_user_timeout uselibpqcompat";

/// Parameters with the one value that asks for nothing special.
const DEFAULTS: [(&str, &[&str]); 6] = [
    ("channel_binding", &["prefer", "disable"]),
    ("client_encoding", &["utf8", "UTF8", "auto"]),
    ("gssencmode", &["prefer", "disable"]),
    ("load_balance_hosts", &["disable"]),
    ("sslnegotiation", &["postgres"]),
    ("target_session_attrs", &["any"]),
];

/// Further parameters that other programs know. Their names can be printed, since they are no part of a password.
const UNSUPPORTED: &str = "connection_limit gssdelegation gsslib krbsrvname max_protocol_version passfile pool \
    pool_timeout prepared_statements replication require_auth requirepeer schema service sslaccept \
    sslcrl sslcrldir sslpassword ssl_min_protocol_version";

/// A URL that cannot be used: what is accepted instead, without any part of the URL's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("accepted: {0}")]
pub struct InvalidUrl(pub String);

pub(super) const SHAPE: &str = "postgres://user:password@host:5432/name, with special characters in user, password and name \
                     percent-encoded (@ is %40, / is %2F, : is %3A, ? is %3F, # is %23, % is %25), \
                     or sqlite://path/to/file";

impl PostgresServer {
    pub(super) fn parse(url: &str) -> Result<Self, InvalidUrl> {
        let mut url = parse_clearly(url).ok_or_else(wrong_shape)?;
        let mut parameters = Parameters::default();
        for (name, value) in url.query_pairs() {
            parameters.read(&name, value.into_owned())?;
        }
        match url.host_str() {
            Some(host) if host.contains(',') => return Err(several_hosts()),
            // sqlx would look for a name with brackets.
            Some(host) if host.starts_with('[') => {
                parameters.known.insert(0, ("host".into(), host.trim_matches(['[', ']']).into()));
            }
            _ => {}
        }
        url.query_pairs_mut().clear().extend_pairs(parameters.known);
        let options = url.as_str().parse().map_err(|_| wrong_shape())?;
        Ok(Self { options, has_pooler: parameters.has_pooler })
    }

    /// Accepts only a server with a certificate of this CA, or one of these. That it is for the host of the URL is not
    /// checked where the URL says `sslmode=verify-ca`.
    pub(super) fn trusting(self, certificates: Vec<u8>) -> Self {
        let mode = match self.options.get_ssl_mode() {
            PgSslMode::VerifyCa => PgSslMode::VerifyCa,
            _ => PgSslMode::VerifyFull,
        };
        Self { options: self.options.ssl_mode(mode).ssl_root_cert_from_pem(certificates), ..self }
    }
}

/// Names the server and the database.
impl fmt::Display for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (options, port) = (&self.options, self.options.get_port());
        let database = options.get_database();
        if let Some(directory) = options.get_socket() {
            let database = database.map(|name| format!("{name} at ")).unwrap_or_default();
            return write!(f, "Postgres, {database}{}/.s.PGSQL.{port}", directory.display());
        }
        let host = options.get_host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let database = database.map(|name| format!("/{name}")).unwrap_or_default();
        write!(f, "Postgres, {host}:{port}{database}")
    }
}

/// Parses a URL, if no part of it can be taken for another.
fn parse_clearly(text: &str) -> Option<Url> {
    let is_encoded =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    let is_clean = !text.contains(char::is_control)
        && !decoded.contains('\0')
        && text.split('%').skip(1).all(is_encoded);
    let url = Url::parse(text).ok()?;
    let host = percent_decode_str(url.host_str().unwrap_or_default()).decode_utf8().ok()?;
    let is_host =
        host.starts_with('/') || !host.contains(|c: char| c.is_whitespace() || r"@%/?#\".contains(c));
    let name = url.path().strip_prefix('/').unwrap_or(url.path());
    // A password with an unencoded slash or question mark ends the authority early, and its `@` comes after that.
    let is_clear = !name.contains(['/', '@']) && !url.query().is_some_and(|query| query.contains('@'));
    (is_clean && is_host && is_clear && url.fragment().is_none() && url.port() != Some(0)).then_some(url)
}

/// The parameters of a URL, as sqlx knows them.
#[derive(Default)]
struct Parameters {
    known: Vec<(String, String)>,
    has_pooler: bool,
}

impl Parameters {
    fn read(&mut self, name: &str, value: String) -> Result<(), InvalidUrl> {
        match name {
            "host" if value.contains(',') => return Err(several_hosts()),
            "sslmode" | "ssl-mode" => self.known.push(("sslmode".into(), ssl_mode(&value)?.into())),
            "ssl" => self.default_ssl_mode(if read_flag("ssl", &value)? { "require" } else { "disable" }),
            // The usual CAs are what sqlx trusts where no file is named.
            "sslrootcert" if value == "system" => self.default_ssl_mode("verify-full"),
            "pgbouncer" => self.has_pooler = read_flag("pgbouncer", &value)?,
            _ if is_among(HARMLESS, name) => {}
            _ if is_among(KNOWN, name) || is_setting(name) => {
                if !value.is_empty() {
                    self.known.push((name.into(), value));
                }
            }
            _ => check_default(name, &value)?,
        }
        Ok(())
    }

    /// Sets a mode that any `sslmode` comes before.
    fn default_ssl_mode(&mut self, mode: &str) {
        self.known.insert(0, ("sslmode".into(), mode.into()));
    }
}

fn ssl_mode(value: &str) -> Result<&'static str, InvalidUrl> {
    match value.to_ascii_lowercase().as_str() {
        "disable" => Ok("disable"),
        // sqlx would never encrypt with `allow`.
        "allow" | "prefer" => Ok("prefer"),
        // node-postgres and Heroku: encrypt, and verify nothing. That is what `require` means.
        "no-verify" | "require" => Ok("require"),
        "verify-ca" => Ok("verify-ca"),
        "verify-full" => Ok("verify-full"),
        _ => Err(InvalidUrl(
            "its parameter sslmode with disable, allow, prefer, require, no-verify, verify-ca or verify-full"
                .into(),
        )),
    }
}

/// `options[search_path]=…` sets one of the server's settings.
fn is_setting(name: &str) -> bool {
    name.starts_with("options[") && name.ends_with(']')
}

fn read_flag(name: &str, value: &str) -> Result<bool, InvalidUrl> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err(InvalidUrl(format!("its parameter {name} with true or false"))),
    }
}

fn check_default(name: &str, value: &str) -> Result<(), InvalidUrl> {
    if let Some((name, values)) = DEFAULTS.iter().find(|(known, _)| *known == name) {
        let is_default = values.contains(&value);
        let values = values.join(" or ");
        return if is_default {
            Ok(())
        } else {
            Err(InvalidUrl(format!(
                "its parameter {name} with {values}, or without it: no other is supported"
            )))
        };
    }
    let named = match is_among(UNSUPPORTED, name) {
        true => format!("its parameter {name}, which is not supported"),
        false => "a parameter that is unknown here".to_owned(),
    };
    Err(InvalidUrl(format!("the same without {named}")))
}

fn is_among(names: &str, name: &str) -> bool {
    names.split(' ').any(|known| known == name)
}

fn several_hosts() -> InvalidUrl {
    InvalidUrl("one host: several, as libpq knows them, are not supported".into())
}

fn wrong_shape() -> InvalidUrl {
    InvalidUrl(SHAPE.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(rest: &str) -> PostgresServer {
        PostgresServer::parse(&format!("postgres://{rest}"))
            .unwrap_or_else(|error| panic!("{rest}: {error:?}"))
    }

    #[track_caller]
    fn refused(rest: &str) -> String {
        match PostgresServer::parse(&format!("postgres://{rest}")) {
            Ok(server) => panic!("{rest} is {server}"),
            Err(InvalidUrl(accepted)) => accepted,
        }
    }

    #[test]
    fn hosts_are_names_literals_and_directories() {
        for (rest, shown) in [
            ("u:pw@[::1]:5433/d", "Postgres, [::1]:5433/d"),
            ("[2001:db8::7]/d", "Postgres, [2001:db8::7]:5432/d"),
            ("/d?host=::1", "Postgres, [::1]:5432/d"),
            ("/d?host=fe80::1%25eth0", "Postgres, [fe80::1%eth0]:5432/d"),
            ("u@10.0.0.1/d", "Postgres, 10.0.0.1:5432/d"),
            ("u@db.example.com./d", "Postgres, db.example.com.:5432/d"),
            ("u@db.example.com:/d", "Postgres, db.example.com:5432/d"),
            ("u@db.example.com", "Postgres, db.example.com:5432"),
            ("u@%2Fvar%2Frun%2Fpostgresql/d", "Postgres, d at /var/run/postgresql/.s.PGSQL.5432"),
            ("/d?host=/tmp&port=5433", "Postgres, d at /tmp/.s.PGSQL.5433"),
        ] {
            assert_eq!(parse(rest).to_string(), shown, "{rest}");
        }
        for rest in
            ["u@::1/d", "u@[::1/d", "u@::1]/d", "u@[::1]x:1/d", "u@[host]/d", "u@h:0/d", "u@h:65536/d"]
        {
            assert_eq!(refused(rest), SHAPE, "{rest}");
        }
        for several in ["u@h1,h2/d", "u@h1:1,h2:2/d", "/d?host=h1,h2"] {
            assert!(["one host", "postgres://"].iter().any(|word| refused(several).starts_with(word)));
        }
    }

    #[test]
    fn names_and_passwords_are_decoded_and_need_no_more_encoding_than_is_clear() {
        let options = parse("u%40x:p%3Aw%2F@h/my%20tasks").options;
        assert_eq!((options.get_username(), options.get_database()), ("u@x", Some("my tasks")));
        // An address knows no `@`, so the last one ends the password.
        assert_eq!(parse("u:p@s:s@h/d").to_string(), "Postgres, h:5432/d");
        for unclear in
            ["u:p/w@h/d", "u:p?w@h/d", "u:p#w@h/d", "u:p%w@h/d", "u:12/34@h/d", "h/a/b", "u:p%00@h/d"]
        {
            assert_eq!(refused(unclear), SHAPE, "{unclear}");
        }
    }

    #[test]
    fn encryption_has_the_names_that_others_have_for_it() {
        for (query, expected) in [
            ("ssl=true", PgSslMode::Require),
            ("ssl=1", PgSslMode::Require),
            ("ssl=false", PgSslMode::Disable),
            ("ssl=true&sslmode=verify-full", PgSslMode::VerifyFull),
            ("sslmode=no-verify", PgSslMode::Require),
            ("sslmode=REQUIRE", PgSslMode::Require),
            ("sslmode=allow", PgSslMode::Prefer),
            ("sslrootcert=system", PgSslMode::VerifyFull),
            ("channel_binding=prefer&target_session_attrs=any&connect_timeout=10", PgSslMode::Prefer),
        ] {
            let mode = parse(&format!("u@h/d?{query}")).options.get_ssl_mode();
            assert_eq!(mode as u8, expected as u8, "{query}");
        }
    }

    #[test]
    fn a_ca_certificate_is_verified_whatever_the_mode() {
        for (query, expected) in [
            ("", PgSslMode::VerifyFull),
            ("?sslmode=require", PgSslMode::VerifyFull),
            ("?sslmode=disable", PgSslMode::VerifyFull),
            ("?sslmode=verify-ca", PgSslMode::VerifyCa),
        ] {
            let server = parse(&format!("u@h/d{query}")).trusting(vec![]);
            assert_eq!(server.options.get_ssl_mode() as u8, expected as u8, "{query}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_its_name() {
        for (query, name) in [
            ("sslmode=always", "parameter sslmode with disable, allow"),
            ("ssl=maybe", "parameter ssl with true or false"),
            ("channel_binding=require", "parameter channel_binding with prefer or disable"),
            ("target_session_attrs=read-write", "parameter target_session_attrs with any"),
            ("sslpassword=hunter2", "without its parameter sslpassword"),
            ("schema=hunter2", "without its parameter schema"),
            ("pgbouncer=hunter2", "parameter pgbouncer with true or false"),
            ("hunter2=x", "without a parameter that is unknown here"),
        ] {
            let accepted = refused(&format!("u@h/d?{query}"));
            assert!(accepted.contains(name) && !accepted.contains("hunter2"), "{query}: {accepted}");
        }
    }

    #[test]
    fn a_pooler_may_be_named() {
        assert!(parse("u@h/d?pgbouncer=true").has_pooler);
        assert!(!parse("u@h/d?pgbouncer=false").has_pooler && !parse("u@h/d").has_pooler);
    }
}
