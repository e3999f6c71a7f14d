//! Calls over HTTP: bounded in time and size, to the address that was checked, and nowhere else from there.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::time::timeout;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use url::Url;

use crate::{
    openings::Openings,
    resolver::{GuardedResolver, NoSuchHost, NotAllowed},
    target,
};

/// Name that we call by.
const USER_AGENT: &str = "Datafly-Signal";
/// Time for which a connection that nothing is asked on is kept.
const IDLE: Duration = Duration::from_mins(1);
/// Connections to one host that are kept for later.
const IDLE_PER_HOST: usize = 16;
/// Longest time that a connection may take; within the whole call's.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The client of everything that is called for customers; clones share its connections.
#[derive(Clone)]
pub struct Egress {
    client: reqwest::Client,
    openings: Arc<Openings>,
}

/// A call to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// The URL, which is checked once more.
    pub url: Url,
    /// The headers beside those of the connection. Sensitive ones are marked so.
    pub headers: HeaderMap,
    /// The body; none for a GET.
    pub body: Option<Bytes>,
}

/// The bounds of one call.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time for all of it, the body included.
    pub timeout: Duration,
    /// Most bytes of the answer's body, unpacked.
    pub max_bytes: usize,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, unpacked.
    pub body: Vec<u8>,
}

/// The reason why there is no answer. None of them names a URL, which may hold what is a person's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The URL, or what its host resolves to, may not be called.
    #[error("the host may not be called")]
    NotAllowed,
    /// It took too long.
    #[error("it took too long")]
    Timeout,
    /// The host has no address.
    #[error("the host is not known")]
    NoSuchHost,
    /// There was no connection, or it broke.
    #[error("the connection failed")]
    Network,
    /// The answer is larger than the bound.
    #[error("the answer is too large")]
    TooLarge,
}

/// The reason why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The text is no list of certificates in PEM.
    #[error("must be PEM certificates")]
    Authorities,
    /// The TLS library refuses the configuration.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// The HTTP library refuses the configuration.
    #[error("the HTTP client can't be set up: {0}")]
    Client(#[from] reqwest::Error),
}

impl Egress {
    /// Makes the client. `authorities` are PEM certificates that count beside the system's.
    pub fn new(openings: Openings, authorities: Option<&str>) -> Result<Self, StartError> {
        let openings = Arc::new(openings);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(authorities)?)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(GuardedResolver { openings: openings.clone() })
            // A redirect leads where nobody has looked, and the environment's proxies know nothing of our checks.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // A request may have been taken though its answer was lost.
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .build()?;
        Ok(Self { client, openings })
    }

    /// The openings that the operator has made.
    pub fn openings(&self) -> &Openings {
        &self.openings
    }

    /// Makes one call. Whatever it is given, it ends within `limits`.
    pub async fn call(&self, request: Request, limits: Limits) -> Result<Answer, CallError> {
        // Literal addresses never reach the resolver.
        target::check(&request.url, &self.openings).map_err(|_| CallError::NotAllowed)?;
        let exchange = self.exchange(request, limits.max_bytes);
        timeout(limits.timeout, exchange).await.unwrap_or(Err(CallError::Timeout))
    }

    async fn exchange(&self, request: Request, max_bytes: usize) -> Result<Answer, CallError> {
        let Request { method, url, headers, body } = request;
        let mut builder = self.client.request(method, url).headers(headers);
        if let Some(body) = body {
            builder = builder.body(body);
        }
        let mut response = builder.send().await.map_err(|error| failure(&error))?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        if response
            .content_length()
            .is_some_and(|length| length > u64::try_from(max_bytes).unwrap_or(u64::MAX))
        {
            return Err(CallError::TooLarge);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if body.len().saturating_add(chunk.len()) > max_bytes {
                return Err(CallError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body })
    }
}

/// Judges an error of the HTTP library, whose text would name the URL.
fn failure(error: &reqwest::Error) -> CallError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<NotAllowed>() {
            return CallError::NotAllowed;
        }
        if error.is::<NoSuchHost>() {
            return CallError::NoSuchHost;
        }
        cause = error.source();
    }
    if error.is_timeout() { CallError::Timeout } else { CallError::Network }
}

/// The authorities whose certificates are believed: the system's and those of the operator.
fn roots(authorities: Option<&str>) -> Result<RootCertStore, StartError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = authorities {
        let own: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let own = own.ok().filter(|own| !own.is_empty()).ok_or(StartError::Authorities)?;
        for certificate in own {
            roots.add(certificate).map_err(|_| StartError::Authorities)?;
        }
    }
    if roots.is_empty() {
        tracing::warn!("there are no certificate authorities: no provider can be called over https");
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
