//! A private Redis server: own port, loopback only, nothing on disk.

use std::{
    net::SocketAddr,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bb8_redis::redis::{self, aio::MultiplexedConnection};
use tokio::process::Child;

use crate::system::{ServerAccount, end, free_port, program};

/// A running server; about 80 ms to start, so that each test can have its own.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    pub async fn start() -> Result<Self> {
        // Another process may take the port between our look and the server's.
        for _ in 0..5 {
            let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
            if let Ok(child) = serve(addr).await {
                return Ok(Self { child, addr });
            }
        }
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        Ok(Self { child: serve(addr).await?, addr })
    }

    /// How to reach it.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.addr)
    }

    /// A connection to it, past any proxy.
    pub async fn connection(&self) -> Result<MultiplexedConnection> {
        connect(&self.url()).await
    }

    /// Ends it without warning; what it held is lost.
    pub async fn kill9(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Starts it again, empty, on the same port.
    pub async fn revive(&mut self) -> Result<()> {
        self.child = serve(self.addr).await?;
        Ok(())
    }

    /// Stops it.
    pub async fn stop(mut self) {
        end(&mut self.child, "TERM", Duration::from_secs(5)).await;
    }
}

/// A connection to a Redis server.
pub async fn connect(url: &str) -> Result<MultiplexedConnection> {
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection().await?)
}

async fn serve(addr: SocketAddr) -> Result<Child> {
    let mut child = ServerAccount::get()?
        .command(&program("redis-server")?)
        .args(["--bind", "127.0.0.1", "--port", &addr.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", "/"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .process_group(0)
        .spawn()
        .context("redis-server")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("redis-server on {addr} ended with {status}");
        }
        if ours(addr, &child).await {
            return Ok(child);
        }
        ensure!(Instant::now() < deadline, "redis-server on {addr} does not answer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether the server that answers there is this child, not one that took the port first.
async fn ours(addr: SocketAddr, child: &Child) -> bool {
    let Ok(mut connection) = connect(&format!("redis://{addr}/")).await else { return false };
    let Ok(info) = redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await else {
        return false;
    };
    info.lines().any(|line| line.strip_prefix("process_id:").map(str::parse) == child.id().map(Ok))
}
