//! TLS between our own services, of rustls with aws-lc-rs: `TLS_CERT`, `TLS_KEY` and `TLS_CA`, all PEM. A
//! certificate says who may connect; what a caller may do is still said by its service token.

use std::{sync::Arc, time::Duration};

use http::{Uri, uri::Scheme};
use secrecy::{ExposeSecret, SecretString};
pub use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier},
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::{Env, EnvError};

/// Variables that are read here.
const CERT: &str = "TLS_CERT";
const KEY: &str = "TLS_KEY";
const CA: &str = "TLS_CA";

/// Protocols that are offered, most wanted first: gRPC is HTTP/2.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Time for a client's TCP connection, and for its handshake, which the other does not cover: each leaves
/// room in the edge's deadline for a second try elsewhere.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(400);
const HANDSHAKE_TIMEOUT: Duration = CONNECT_TIMEOUT;
/// Silence after which a connection is asked for a sign of life, and given up after as long again.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Acceptor of connections with `TLS_CERT` and `TLS_KEY`; with `TLS_CA` it takes only those whose certificate
/// that authority has issued. None where no variable is set: the listener is plain.
pub fn acceptor(env: &Env) -> Result<Option<TlsAcceptor>, EnvError> {
    let files = Files::read(env)?;
    let Some((chain, key)) = files.identity()? else {
        return match files.ca {
            None => Ok(None),
            Some(_) => Err(EnvError::malformed(CA, "needs TLS_CERT and TLS_KEY beside it")),
        };
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|_| EnvError::malformed(CERT, "can't be used"))?;
    let builder = match files.roots()? {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|_| EnvError::malformed(CA, "can't be used"))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|_| unfit())?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    // A client that resumes a session is not asked for a certificate, and would get in with one that has
    // expired meanwhile.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Endpoints of the addresses in `name`, `http://host:port` or `https://host:port`, separated by commas,
/// ready to be connected to. With https the server's certificate has to be issued by `TLS_CA`, and `TLS_CERT`
/// and `TLS_KEY` are shown to it.
pub fn endpoints(env: &Env, name: &'static str) -> Result<Vec<Endpoint>, EnvError> {
    let addresses = env.addresses(name)?;
    let files = Files::read(env)?;
    if !addresses.iter().any(is_tls) {
        return match files.first() {
            None => Ok(addresses.into_iter().map(endpoint).collect()),
            Some(set) => Err(EnvError::malformed(set, format_args!("is for https; {name} is http"))),
        };
    }
    if !addresses.iter().all(is_tls) {
        return Err(EnvError::malformed(name, "must be all https or all http"));
    }
    let config = files.client()?;
    addresses
        .into_iter()
        .map(|uri| endpoint(uri).tls_config(config.clone()))
        .collect::<Result<_, _>>()
        .map_err(|_| EnvError::malformed(name, "can't be connected to with TLS"))
}

fn is_tls(address: &Uri) -> bool {
    address.scheme() == Some(&Scheme::HTTPS)
}

fn endpoint(address: Uri) -> Endpoint {
    Endpoint::from(address)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_INTERVAL)
        .keep_alive_while_idle(true)
}

/// Values of the three variables as they were set.
struct Files {
    cert: Option<String>,
    key: Option<SecretString>,
    ca: Option<String>,
}

impl Files {
    fn read(env: &Env) -> Result<Self, EnvError> {
        let text = |name| Ok(env.secret(name)?.map(|text| text.expose_secret().to_owned()));
        Ok(Self { cert: text(CERT)?, key: env.secret(KEY)?, ca: text(CA)? })
    }

    /// Name of the first variable that is set.
    fn first(&self) -> Option<&'static str> {
        let set = [(CERT, self.cert.is_some()), (KEY, self.key.is_some()), (CA, self.ca.is_some())];
        set.into_iter().find_map(|(name, is_set)| is_set.then_some(name))
    }

    /// Certificate chain and key in PEM. An error where only one of them is set.
    fn identity_pem(&self) -> Result<Option<(&str, &str)>, EnvError> {
        match (&self.cert, &self.key) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(EnvError::Missing(KEY)),
            (None, Some(_)) => Err(EnvError::Missing(CERT)),
            (Some(cert), Some(key)) => Ok(Some((cert, key.expose_secret()))),
        }
    }

    /// Certificate chain and key, parsed.
    fn identity(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, EnvError> {
        self.identity_pem()?.map(|(cert, key)| parse_identity(cert, key)).transpose()
    }

    fn roots(&self) -> Result<Option<RootCertStore>, EnvError> {
        self.ca.as_deref().map(parse_roots).transpose()
    }

    /// Configuration of a client, checked here first, because the library does not say which variable is
    /// wrong.
    fn client(&self) -> Result<ClientTlsConfig, EnvError> {
        let ca = self.ca.as_deref().ok_or(EnvError::Missing(CA))?;
        let roots = parse_roots(ca)?;
        let config =
            ClientTlsConfig::new().timeout(HANDSHAKE_TIMEOUT).ca_certificate(Certificate::from_pem(ca));
        let Some((cert_pem, key_pem)) = self.identity_pem()? else { return Ok(config) };
        let (chain, key) = parse_identity(cert_pem, key_pem)?;
        let fits = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_root_certificates(roots).with_client_auth_cert(chain, key));
        if !matches!(fits, Ok(Ok(_))) {
            return Err(unfit());
        }
        Ok(config.identity(Identity::from_pem(cert_pem, key_pem)))
    }
}

fn parse_identity(
    cert: &str,
    key: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), EnvError> {
    let chain = certificates(CERT, cert)?;
    if chain.iter().any(|certificate| ParsedCertificate::try_from(certificate).is_err()) {
        return Err(EnvError::malformed(CERT, "has a certificate that can't be used"));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    Ok((chain, key.map_err(|_| EnvError::malformed(KEY, "must be a private key in PEM"))?))
}

fn parse_roots(ca: &str) -> Result<RootCertStore, EnvError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CA, ca)? {
        roots
            .add(certificate)
            .map_err(|_| EnvError::malformed(CA, "has a certificate that can't be used"))?;
    }
    Ok(roots)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(name: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, EnvError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = parsed.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| EnvError::malformed(name, "must be one or more certificates in PEM"))
}

fn unfit() -> EnvError {
    EnvError::malformed(KEY, "does not fit the certificate in TLS_CERT, or is of a kind that can't be used")
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::{
        TlsConnector,
        rustls::{HandshakeKind, pki_types::ServerName},
    };

    use super::*;

    const KNOWN: &[&str] = &[CERT, KEY, CA];

    /// PEM of an authority, and of a certificate it issued for `localhost` with its key.
    fn issued() -> (String, String, String) {
        let own = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = authority.self_signed(&own).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &Issuer::new(authority, own)).unwrap().pem();
        (ca, cert, key.serialize_pem())
    }

    fn env(pairs: &[(&str, &str)]) -> Env {
        Env::from_pairs(KNOWN, pairs.iter().copied()).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_comes_again_shows_its_certificate_again() {
        let (ca, cert, key) = issued();
        let env = env(&[(CERT, &cert), (KEY, &key), (CA, &ca)]);
        let acceptor = acceptor(&env).unwrap().unwrap();
        let files = Files::read(&env).unwrap();
        let (chain, own) = files.identity().unwrap().unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(files.roots().unwrap().unwrap())
            .with_client_auth_cert(chain, own)
            .unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        for visit in ["first", "second"] {
            let (near, far) = duplex(64 * 1024);
            let name = ServerName::try_from("localhost").unwrap();
            let (client, server) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
            let (mut client, mut server) = (client.unwrap(), server.unwrap());
            // Tickets come with the first bytes.
            server.write_all(b"x").await.unwrap();
            server.flush().await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
            assert_ne!(server.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed), "{visit}");
        }
    }

    #[test]
    fn what_is_no_certificate_within_its_pem_is_named() {
        let (ca, cert, key) = issued();
        let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (name, pairs) in [
            (CERT, [(CERT, hollow), (KEY, &key), (CA, &ca)]),
            (CERT, [(CERT, &format!("{cert}{hollow}")), (KEY, &key), (CA, &ca)]),
            (CA, [(CERT, &cert), (KEY, &key), (CA, hollow)]),
        ] {
            let error = acceptor(&env(&pairs)).err().unwrap().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
