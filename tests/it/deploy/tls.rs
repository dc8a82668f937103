//! Postgres behind TLS, as Heroku and DigitalOcean have it.

use crate::support::app::Settings;
use testkit::authority::Authority;
use testkit::postgres::Postgres;

const REMEDY: &str = "is DATABASE_CA_CERT the authority that signed this server's certificate";

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Heroku's certificates are signed by nobody and name another host.
#[tokio::test]
async fn a_postgres_that_demands_tls_gets_it_whoever_signed_its_certificate() {
    let own = rcgen::generate_simple_self_signed(["ip-10-0-0-1.ec2.internal".into()]).unwrap();
    let postgres = Postgres::start_with_tls(&own.cert.pem(), &own.signing_key.serialize_pem());
    let database = postgres.database().await;
    let settings = |options: &str| {
        let url = database.url_with("localhost", options);
        Settings::new().in_production().with("DATABASE_URL", &url)
    };
    let plain = settings("?sslmode=disable").run(&["migrate"]);
    assert!(!plain.status.success() && said(&plain).contains("no encryption"), "{}", said(&plain));
    for options in ["", "?sslmode=require"] {
        let migrated = settings(options).run(&["migrate"]);
        assert!(migrated.status.success(), "{options}: {}", said(&migrated));
        let app = settings(options).serve();
        app.add("Encrypted").await;
        assert_eq!(app.get("/readyz").await.status, 200);
    }
    assert_eq!(database.tasks().await.len(), 2);
}

/// DigitalOcean gives each team an authority, whose certificate apps are told.
#[tokio::test]
async fn with_an_authority_no_other_postgres_is_trusted() {
    let [authority, other] = ["ours", "another"].map(Authority::new);
    let (certificate, key) = authority.certify("localhost");
    let postgres = Postgres::start_with_tls(&certificate, &key);
    let database = postgres.database().await;
    let settings = |host: &str, options: &str, authority: &Authority| {
        Settings::new()
            .in_production()
            .with("DATABASE_URL", &database.url_with(host, options))
            .with("DATABASE_CA_CERT", &authority.pem)
    };
    let trusting = settings("localhost", "?sslmode=require", &authority);
    let migrated = trusting.run(&["migrate"]);
    assert!(migrated.status.success(), "{}", said(&migrated));
    trusting.serve().add("Trusted").await.assert_lists(["Trusted"]);

    let by_ca = settings("127.0.0.1", "?sslmode=verify-ca", &authority).run(&["check"]);
    assert!(by_ca.status.success(), "its name is not asked: {}", said(&by_ca));
    let forged = settings("127.0.0.1", "?sslmode=verify-ca", &other).run(&["check"]);
    assert!(!forged.status.success(), "but its authority is: {}", said(&forged));

    for (settings, cause) in [
        (settings("localhost", "?sslmode=require", &other), "invalid peer certificate: UnknownIssuer"),
        (settings("127.0.0.1", "", &authority), "not valid for name \"127.0.0.1\""),
    ] {
        for command in ["check", "migrate", "serve"] {
            let refused = settings.run(&[command]);
            let said = said(&refused);
            assert_eq!(refused.status.code(), Some(1), "{command}: {said}");
            assert!(said.contains(cause) && said.contains(REMEDY), "{command}: {said}");
        }
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_else_has_signed_may_be_named_itself() {
    let own = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let postgres = Postgres::start_with_tls(&own.cert.pem(), &own.signing_key.serialize_pem());
    let database = postgres.database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url_with("localhost", ""));
    let app = settings.with("DATABASE_CA_CERT", &own.cert.pem()).serve();
    app.add("Trusted").await.assert_lists(["Trusted"]);
}

/// As `openssl req -x509` makes it.
#[tokio::test]
async fn a_ca_that_is_its_own_server_is_refused_with_what_to_do() {
    let (certificate, key) = Authority::ca_of_server("localhost");
    let postgres = Postgres::start_with_tls(&certificate, &key);
    let database = postgres.database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url_with("localhost", ""));
    for command in ["check", "migrate", "serve"] {
        let refused = settings.clone().with("DATABASE_CA_CERT", &certificate).run(&[command]);
        let said = said(&refused);
        assert!(!refused.status.success() && said.contains("basicConstraints=critical,CA:FALSE"), "{said}");
    }
}

#[tokio::test]
async fn a_postgres_without_tls_is_not_spoken_to_where_an_authority_is_named() {
    let database = Postgres::shared().database().await;
    let settings = Settings::new().with("DATABASE_URL", &database.url);
    let refused = settings.with("DATABASE_CA_CERT", &Authority::new("ours").pem).run(&["check"]);
    assert!(said(&refused).contains("server does not support TLS"), "{}", said(&refused));
}

#[test]
fn what_is_no_certificate_is_said_at_the_start() {
    for value in ["${db.CA_CERT}", "/nowhere/ca.pem"] {
        let refused = Settings::new().with("DATABASE_CA_CERT", value).run(&["serve"]);
        let said = said(&refused);
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            said.contains("<DATABASE_CA_CERT>") && said.contains("expected a certificate in PEM"),
            "{said}"
        );
    }
}
