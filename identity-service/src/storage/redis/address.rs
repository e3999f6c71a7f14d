//! Redis' address, and how connections to it are encrypted: `rediss://` is TLS, by the same rustls as PostgreSQL's.

use std::{io::ErrorKind, time::Duration};

use bb8_redis::redis::{
    self, AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisError,
    aio::MultiplexedConnection,
};
use migrations::tls::{Check, ServerName, StoreTls, TlsConnector, TlsStream};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;

const PLAIN: &str = "redis://";
const ENCRYPTED: &str = "rediss://";

/// A Redis, and how it is connected to.
#[derive(Clone)]
pub struct RedisAddress {
    client: Client,
    /// TLS of its connections; none: they are plain.
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl RedisAddress {
    /// The Redis that `url` names. With `rediss://` its certificate has to be of an authority that is believed, and to
    /// name the host.
    pub fn parse(url: &SecretString, tls: &StoreTls) -> Result<Self, RedisError> {
        let url = url.expose_secret();
        let Some(rest) = url.strip_prefix(ENCRYPTED) else {
            return Ok(Self { client: Client::open(url.into_connection_info()?)?, tls: None });
        };
        let invalid = |why| RedisError::from((redis::ErrorKind::InvalidClientConfig, why));
        if rest.contains('#') {
            return Err(invalid("rediss:// takes no #insecure"));
        }
        let info = format!("{PLAIN}{rest}").into_connection_info()?;
        let ConnectionAddr::Tcp(host, port) = info.addr().clone() else {
            return Err(invalid("rediss:// needs a host"));
        };
        let name = ServerName::try_from(host.clone());
        let name = name.map_err(|_| invalid("rediss:// needs a host that a certificate can name"))?;
        let connector = tls.connector(Check::IssuerAndName).map_err(|error| {
            RedisError::from((redis::ErrorKind::InvalidClientConfig, "TLS can't be used", error.to_string()))
        })?;
        Ok(Self { client: Client::open(info)?, tls: Some(Tls { connector, host, port, name }) })
    }

    /// True where connections are encrypted.
    pub fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Opens a connection, within `limit`.
    pub async fn connect(
        &self,
        config: AsyncConnectionConfig,
        limit: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        let Some(tls) = &self.tls else {
            let config = config.set_connection_timeout(Some(limit));
            return self.client.get_multiplexed_async_connection_with_config(&config).await;
        };
        let opened = tokio::time::timeout(limit, async {
            let stream = tls.open().await?;
            let settings = self.client.get_connection_info().redis_settings();
            let (connection, driver) =
                MultiplexedConnection::new_with_config(settings, stream, config).await?;
            // Ends with the last clone of its connection.
            tokio::spawn(driver);
            Ok(connection)
        });
        opened.await.unwrap_or_else(|_| Err((redis::ErrorKind::Io, "no connection in time").into()))
    }
}

impl Tls {
    async fn open(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        self.connector.connect(self.name.clone(), stream).await.inspect_err(|error| {
            // Whoever is told that Redis is away would look for a server that does not run.
            if error.kind() == ErrorKind::InvalidData {
                serve::warn_on_change!(ERROR, %error, "redis: TLS fails");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rediss_is_tls_and_checks_the_certificate() {
        let parse = |url: &str| RedisAddress::parse(&url.into(), &StoreTls::default());
        assert!(!parse("redis://localhost:1/").unwrap().uses_tls());
        assert!(parse("redis://user:pass@localhost:1/2").is_ok());
        for url in ["rediss://localhost/#insecure", "rediss://", "http://localhost"] {
            assert!(parse(url).is_err(), "{url}");
        }
    }
}
