//! Certificates for services that talk over TLS, of an authority of the test's own.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::system::now;

/// An authority that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Certificate of the authority as PEM, for `TLS_CA`.
    pub pem: String,
}

/// A certificate with its key, both PEM: `TLS_CERT` and `TLS_KEY`.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate as PEM.
    pub cert: String,
    /// The private key as PEM.
    pub key: String,
}

impl Authority {
    /// Makes a new authority, which nobody trusts yet.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        // Not the name that certificates have by default: OpenSSL takes one that is its own issuer's for self-signed.
        params.distinguished_name.push(DnType::CommonName, "An authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Issues a certificate for a name or an address.
    pub fn issue(&self, name: &str) -> Result<Identity> {
        self.sign(CertificateParams::new(vec![name.to_owned()])?)
    }

    /// Issues a certificate that was good until yesterday.
    pub fn issue_expired(&self, name: &str) -> Result<Identity> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.not_after = now() - time::Duration::days(1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { cert, key: key.serialize_pem() })
    }
}
