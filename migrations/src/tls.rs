//! TLS to the stores, of rustls with aws-lc-rs: `TLS_STORES_CA`, `TLS_STORES_CERT` and `TLS_STORES_KEY`, all PEM. The
//! authorities count beside the system's; the certificate is shown to a server that asks for one.

use std::{fmt, sync::Arc};

use secrecy::{ExposeSecret, SecretString};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
};
pub use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

const CA: &str = "TLS_STORES_CA";
const CERT: &str = "TLS_STORES_CERT";
const KEY: &str = "TLS_STORES_KEY";

/// The parts of a server's certificate that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// None: the connection is encrypted, and whoever is on the way may be its other end.
    Nothing,
    /// Who issued it, and that it is valid now.
    Issuer,
    /// The same, and that it is the server's that was asked for.
    IssuerAndName,
}

/// Reason for which TLS can't be used as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {why}")]
pub struct TlsError {
    /// Name of the variable at fault.
    pub variable: &'static str,
    /// Text that follows the name and says what is expected.
    pub why: &'static str,
}

type Chain = Vec<CertificateDer<'static>>;

/// The values of the three variables, read and checked.
#[derive(Default)]
pub struct StoreTls {
    authorities: Chain,
    identity: Option<(Chain, PrivateKeyDer<'static>)>,
    /// Name of the first variable that is set.
    first: Option<&'static str>,
}

impl StoreTls {
    /// The variables that [`StoreTls::parse`] takes the values of.
    pub const VARIABLES: [&'static str; 3] = [CA, CERT, KEY];

    /// Reads the values of [`StoreTls::VARIABLES`].
    pub fn parse([ca, cert, key]: [Option<SecretString>; 3]) -> Result<Self, TlsError> {
        let set = [(CA, ca.is_some()), (CERT, cert.is_some()), (KEY, key.is_some())];
        let first = set.into_iter().find_map(|(name, is_set)| is_set.then_some(name));
        let authorities = ca.map(|pem| certificates(CA, &pem)).transpose()?.unwrap_or_default();
        let identity = match (cert, key) {
            (None, None) => None,
            (Some(_), None) => return Err(TlsError { variable: KEY, why: "is not set" }),
            (None, Some(_)) => return Err(TlsError { variable: CERT, why: "is not set" }),
            (Some(cert), Some(key)) => {
                let no_key = TlsError { variable: KEY, why: "must be a private key in PEM" };
                let key =
                    PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes()).map_err(|_| no_key)?;
                Some((certificates(CERT, &cert)?, key))
            }
        };
        let own = Self { authorities, identity, first };
        own.add_authorities(&mut RootCertStore::empty())?;
        // Whether they fit is not to be found out when a store is needed first.
        own.connector(Check::Nothing)?;
        Ok(own)
    }

    /// Refuses variables that no store is connected to with.
    pub fn refuse_unused(&self, is_used: bool) -> Result<(), TlsError> {
        let why = "is for TLS, and neither sslmode in DATABASE_URL nor rediss:// asks for that";
        match self.first {
            Some(variable) if !is_used => Err(TlsError { variable, why }),
            _ => Ok(()),
        }
    }

    /// A connector that checks servers' certificates so far.
    pub fn connector(&self, check: Check) -> Result<TlsConnector, TlsError> {
        let unusable = |variable| TlsError { variable, why: "can't be used" };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = match check {
            Check::Nothing => Verifier::nothing(&provider),
            Check::Issuer | Check::IssuerAndName => {
                let inner = WebPkiServerVerifier::builder_with_provider(self.roots()?, provider.clone());
                Verifier {
                    inner: Some(inner.build().map_err(|_| unusable(CA))?),
                    check,
                    provider: provider.clone(),
                }
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| unusable(CA))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let why =
                    "does not fit the certificate in TLS_STORES_CERT, or is of a kind that can't be used";
                let fitted = builder.with_client_auth_cert(chain.clone(), key.clone_key());
                fitted.map_err(|_| TlsError { variable: KEY, why })?
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// The system's authorities and the configured ones.
    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        // One of the system's that can't be used is not believed, which is all there is to it.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        self.add_authorities(&mut roots)?;
        if roots.is_empty() {
            return Err(TlsError { variable: CA, why: "is not set, and the system has no authorities" });
        }
        Ok(Arc::new(roots))
    }

    fn add_authorities(&self, roots: &mut RootCertStore) -> Result<(), TlsError> {
        for authority in &self.authorities {
            let why = "has a certificate that can't be used";
            roots.add(authority.clone()).map_err(|_| TlsError { variable: CA, why })?;
        }
        Ok(())
    }
}

impl fmt::Debug for StoreTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreTls").finish_non_exhaustive()
    }
}

fn certificates(variable: &'static str, pem: &SecretString) -> Result<Chain, TlsError> {
    let parsed: Result<Chain, _> = CertificateDer::pem_slice_iter(pem.expose_secret().as_bytes()).collect();
    let found = parsed.ok().filter(|found| !found.is_empty());
    found.ok_or(TlsError { variable, why: "must be one or more certificates in PEM" })
}

/// A verifier that does without what [`Check`] leaves out.
#[derive(Debug)]
struct Verifier {
    /// The verifier of issuers; none where nothing is checked.
    inner: Option<Arc<WebPkiServerVerifier>>,
    check: Check,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn nothing(provider: &Arc<CryptoProvider>) -> Self {
        Self { inner: None, check: Check::Nothing, provider: provider.clone() }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name comes last: all else is as it should be.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.check == Check::Issuer => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.inner {
            Some(inner) => inner.verify_tls12_signature(message, cert, dss),
            // Whose key that would be is not known either.
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.inner {
            Some(inner) => inner.verify_tls13_signature(message, cert, dss),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
