//! PostgreSQL's address, and how connections to it are encrypted: `sslmode` as libpq has it, by rustls.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::AsyncPgConnection;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Config, NoTls, Socket,
    config::SslMode,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};

use crate::tls::{self, Check, ServerName, StoreTls, TlsConnector};

/// Reason for which an address can't be used, without what is secret in it.
#[derive(Debug, thiserror::Error)]
#[error("can't be used: {0}")]
pub struct AddressError(String);

/// A database, and how it is connected to.
#[derive(Clone)]
pub struct Database {
    pub(crate) config: Config,
    /// TLS of its connections; none: they are plain.
    tls: Option<TlsConnector>,
}

impl Database {
    /// The database that `url` names, a URL or pairs of names and values. Without `sslmode` connections are plain.
    pub fn parse(url: &SecretString, tls: &StoreTls) -> Result<Self, AddressError> {
        let refused = |why: String| Err(AddressError(why));
        // tokio-postgres knows neither verify-ca nor verify-full.
        let (rest, mode) = without_ssl_mode(url.expose_secret());
        let mut config: Config = match rest.parse() {
            Ok(config) => config,
            Err(error) => return refused(text(&error)),
        };
        if config.get_ssl_mode() != SslMode::Prefer {
            return refused("sslmode can't be read".to_owned());
        }
        let (ssl_mode, check) = match mode.as_deref() {
            None | Some("disable") => (SslMode::Disable, None),
            Some("prefer") => (SslMode::Prefer, Some(Check::Nothing)),
            Some("require") => (SslMode::Require, Some(Check::Nothing)),
            Some("verify-ca") => (SslMode::Require, Some(Check::Issuer)),
            Some("verify-full") => (SslMode::Require, Some(Check::IssuerAndName)),
            Some(_) => {
                return refused(
                    "sslmode must be disable, prefer, require, verify-ca or verify-full".to_owned(),
                );
            }
        };
        config.ssl_mode(ssl_mode);
        let tls = check.map(|check| tls.connector(check)).transpose();
        let tls = tls.map_err(|error| AddressError(error.to_string()))?;
        Ok(Self { config, tls })
    }

    /// True where connections may be encrypted.
    pub fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Opens a connection.
    pub async fn connect(&self) -> ConnectionResult<AsyncPgConnection> {
        let failed = |error: tokio_postgres::Error| ConnectionError::BadConnection(text(&error));
        match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(failed)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
            Some(tls) => {
                let (client, connection) = self.config.connect(Rustls(tls.clone())).await.map_err(failed)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

/// Takes `sslmode` out of an address, the last where there are several.
fn without_ssl_mode(url: &str) -> (String, Option<String>) {
    let mut mode = None;
    let mut is_other = |pair: &&str| match pair.trim().strip_prefix("sslmode=") {
        None => true,
        Some(value) => {
            mode = Some(value.trim_matches('\'').to_owned());
            false
        }
    };
    let rest = if let Some((address, parameters)) = url.split_once('?').filter(|_| url.contains("://")) {
        let others: Vec<&str> = parameters.split('&').filter(&mut is_other).collect();
        if others.is_empty() { address.to_owned() } else { format!("{address}?{}", others.join("&")) }
    } else if url.contains("://") {
        url.to_owned()
    } else {
        url.split(' ').filter(&mut is_other).collect::<Vec<_>>().join(" ")
    };
    (rest, mode)
}

/// An error with its cause: tokio-postgres says only "db error" or "error connecting to server" itself.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The handshake, as tokio-postgres calls it.
#[derive(Clone)]
struct Rustls(TlsConnector);

impl MakeTlsConnect<Socket> for Rustls {
    type Stream = Encrypted;
    type TlsConnect = ToServer;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<ToServer> {
        let name = ServerName::try_from(domain.to_owned()).map_err(io::Error::other)?;
        Ok(ToServer { connector: self.0.clone(), name })
    }
}

struct ToServer {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for ToServer {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move { Ok(Encrypted(self.connector.connect(self.name, socket).await?)) })
    }
}

/// An encrypted connection.
struct Encrypted(tls::TlsStream<Socket>);

impl TlsStream for Encrypted {
    /// None: the login's own proof of who the server is (SCRAM with channel binding) is not asked for.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sslmode_is_taken_out_of_either_form() {
        for (url, rest, mode) in [
            ("postgres://a:b@c/d", "postgres://a:b@c/d", None),
            ("postgres://c/d?sslmode=require", "postgres://c/d", Some("require")),
            ("postgres://c/d?a=b&sslmode=verify-full&e=f", "postgres://c/d?a=b&e=f", Some("verify-full")),
            ("postgres://c/d?sslmode=disable&sslmode=verify-ca", "postgres://c/d", Some("verify-ca")),
            ("host=c sslmode='verify-ca' user=a", "host=c user=a", Some("verify-ca")),
            ("host=c user=a", "host=c user=a", None),
        ] {
            assert_eq!(without_ssl_mode(url), (rest.to_owned(), mode.map(str::to_owned)), "{url}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused_without_the_address() {
        let url = |mode: &str| format!("postgres://me:hush@c/d?sslmode={mode}");
        let modes = ["allow", "verify", "", "REQUIRE"].map(url);
        for url in modes.into_iter().chain(["host=c password=hush sslmode = require".to_owned()]) {
            let refused = Database::parse(&url.clone().into(), &StoreTls::default()).unwrap_err();
            let text = refused.to_string();
            assert!(
                text.contains("sslmode") && !text.contains("hush") && !text.contains('\n'),
                "{url}: {text}"
            );
        }
        for (mode, uses_tls) in [("disable", false), ("prefer", true), ("require", true)] {
            let url = format!("postgres://c/d?sslmode={mode}");
            let database = Database::parse(&url.into(), &StoreTls::default()).unwrap();
            assert_eq!(database.uses_tls(), uses_tls, "{mode}");
        }
    }
}
