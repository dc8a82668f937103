//! Logins and TLS: who is let in, and what nobody gets to see.

use std::fs;
use std::sync::Arc;

use tempfile::TempDir;
use tokio_memcached::{Client, Credentials, ErrorKind, Options};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::{MINUTE, assert_kind, data, options, stats};
use testkit::memcached::{Memcached, PASSWORD, USER};

fn with_login(server: &Memcached, password: &str) -> Options {
    let credentials = Credentials { username: USER.into(), password: password.to_owned().into() };
    options(&[server.address()]).credentials(credentials)
}

fn is_authentication(kind: ErrorKind) -> bool {
    kind == ErrorKind::Authentication
}

#[tokio::test]
async fn the_right_login_is_let_in() {
    let memcached = Memcached::start_with_sasl();
    let client = Client::new(with_login(&memcached, PASSWORD));
    client.set("k", "v", MINUTE).await.unwrap();
    assert_eq!(data(client.get("k").await), Some(b"v".to_vec()));
    assert!(stats(&client).is_authenticated);
}

#[tokio::test]
async fn a_wrong_login_and_none_are_told_from_an_outage() {
    let memcached = Memcached::start_with_sasl();
    for options in [with_login(&memcached, "wrong-horse"), options(&[memcached.address()])] {
        assert_kind(Client::new(options.clone()).get("k").await, is_authentication);
        assert_kind(Client::new(options.clone()).set("k", "v", MINUTE).await, is_authentication);
        assert_kind(Client::new(options.clone()).get_many(&["k"]).await.remove(0), is_authentication);
        let client = Client::new(options);
        assert_kind(client.version().await.remove(0).1, is_authentication);
        assert!(stats(&client).is_down && !stats(&client).is_authenticated);
    }
}

#[tokio::test]
async fn a_password_is_in_no_message() {
    let memcached = Memcached::start_with_sasl();
    let options = with_login(&memcached, "wrong-horse");
    assert!(!format!("{options:?} {options:#?}").contains("wrong-horse"));
    let client = Client::new(options);
    for error in [client.get("k").await.unwrap_err(), client.get("k").await.unwrap_err()] {
        assert!(!format!("{error} {error:?} {error:#?}").contains("wrong-horse"));
    }
}

#[tokio::test]
async fn a_server_that_knows_no_logins_is_used_without() {
    let memcached = Memcached::start();
    let client = Client::new(with_login(&memcached, PASSWORD));
    client.set("k", "v", MINUTE).await.unwrap();
    assert_eq!(data(client.get("k").await), Some(b"v".to_vec()));
    assert!(!stats(&client).is_authenticated);
}

/// A memcached that speaks only TLS, and the certificate to trust it by.
fn start_with_tls() -> (Memcached, CertificateDer<'static>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("certificate.pem"), directory.path().join("key.pem"));
    let own = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]).unwrap();
    fs::write(&certificate, own.cert.pem()).unwrap();
    fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let files = format!("ssl_chain_cert={},ssl_key={}", certificate.display(), key.display());
    let memcached = Memcached::start_with(&["-Z", "-o", &files]);
    (memcached, CertificateDer::from_pem_file(&certificate).unwrap(), directory)
}

fn trusting(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    let config = ClientConfig::builder_with_provider(ring::default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap();
    config.with_root_certificates(roots).with_no_client_auth().into()
}

#[tokio::test]
async fn tls_is_spoken_with_a_server_that_is_trusted() {
    let (memcached, certificate, _directory) = start_with_tls();
    for host in ["localhost", "127.0.0.1"] {
        let options = options(&[format!("{host}:{}", memcached.port)]);
        let client = Client::new(options.tls(trusting([certificate.clone()])));
        // Long enough for many records, and for a socket that is full now and then.
        let value = vec![b'v'; 900_000];
        let stored = (0..20).map(|number| client.set(format!("key-{number}"), value.clone(), MINUTE));
        for stored in futures_util::future::join_all(stored).await {
            stored.unwrap();
        }
        assert!(data(client.get("key-19").await) == Some(value));
        assert_eq!(stats(&client).connections, 1);
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_or_speaks_no_tls_is_not_spoken_to() {
    let (memcached, certificate, _directory) = start_with_tls();
    let plain = Memcached::start();
    for (server, trusted) in [(memcached, None), (plain, Some(certificate))] {
        let client = Client::new(options(&[server.address()]).tls(trusting(trusted)));
        assert_kind(client.get("k").await, |kind| kind == ErrorKind::Connect);
    }
}
