//! Connections to Redis that wait as long as it takes: a machine that is busy with other things is no error here.

use anyhow::Result;
use bb8_redis::redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};

/// Opens a multiplexed connection without a time limit on answers.
pub async fn connect(url: &str) -> Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?)
}
