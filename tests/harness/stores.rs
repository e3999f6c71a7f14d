//! PostgreSQL and Redis for one command: private ones, or those that the environment names.

use std::time::Instant;

use anyhow::{Context, Result};
use bb8_redis::redis::Client;
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::{postgres::PostgresServer, redis::RedisServer, system::env};

/// PostgreSQL and Redis, as far as they are this process' own.
#[derive(Debug, Default)]
pub struct Stores {
    postgres: Option<PostgresServer>,
    redis: Option<RedisServer>,
}

impl Stores {
    /// Starts what `DATABASE_URL` and `REDIS_URL` don't name already, and says so on standard error.
    pub async fn start() -> Result<Self> {
        let mut stores = Self::default();
        if let Some(url) = env("DATABASE_URL") {
            // Mostly left over in a shell from a demo that has ended.
            AsyncPgConnection::establish(&url).await.context(
                "DATABASE_URL is set, but can't be connected to; unset it to have a private PostgreSQL",
            )?;
            eprintln!("PostgreSQL: the one in DATABASE_URL");
        } else {
            eprintln!("PostgreSQL: making a private one …");
            let began = Instant::now();
            let server = PostgresServer::start().await?;
            eprintln!("{} ready in {:.1} s", server.version, began.elapsed().as_secs_f32());
            stores.postgres = Some(server);
        }
        if let Some(url) = env("REDIS_URL") {
            let client = Client::open(url).context("REDIS_URL")?;
            client
                .get_multiplexed_async_connection()
                .await
                .context("REDIS_URL is set, but can't be connected to; unset it to have a private Redis")?;
            eprintln!("Redis: the one in REDIS_URL");
        } else {
            let began = Instant::now();
            stores.redis = Some(RedisServer::start().await?);
            eprintln!("Redis ready in {:.1} s", began.elapsed().as_secs_f32());
        }
        Ok(stores)
    }

    /// The variables to add to a command's environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let postgres = self.postgres.as_ref().map(|server| ("DATABASE_URL", server.url.clone()));
        let redis = self.redis.as_ref().map(|server| ("REDIS_URL", server.url()));
        postgres.into_iter().chain(redis).collect()
    }

    /// Stops what was started.
    pub async fn stop(self) {
        if let Some(server) = self.redis {
            server.stop().await;
        }
        if let Some(server) = self.postgres {
            server.stop().await;
        }
    }
}
