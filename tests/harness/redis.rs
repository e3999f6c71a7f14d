//! A private Redis server: own port, loopback only, nothing on disk unless it is told to.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bb8_redis::redis::{self, FromRedisValue, aio::MultiplexedConnection};
use tokio::process::Child;

use crate::{
    certificates::{Authority, Identity},
    system::{Folder, ServerAccount, end, free_port, program},
};

/// A running server; about 80 ms to start, so that each test can have its own.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    /// Address at which the server listens.
    pub addr: SocketAddr,
    /// Folder in which `SAVE` puts its dump, from which the server comes back.
    folder: Folder,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    pub async fn start() -> Result<Self> {
        // Another process may take the port between our look and the server's.
        for _ in 0..5 {
            let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
            let folder = ServerAccount::get()?.folder()?;
            if let Ok(child) = serve(addr, folder.path(), &[]).await {
                return Ok(Self { child, addr, folder });
            }
        }
        let folder = ServerAccount::get()?.folder()?;
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        Ok(Self { child: serve(addr, folder.path(), &[]).await?, addr, folder })
    }

    /// Starts another that follows this one, and waits until it has everything.
    pub async fn replica(&self) -> Result<Self> {
        let replica = Self::start().await?;
        replica.follow(Some(self)).await?;
        crate::eventually("the replica to be in step", async || {
            match replica.ask::<String>(&["INFO", "replication"]).await {
                Ok(info) if info.contains("master_link_status:up") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        Ok(replica)
    }

    /// Makes the server a replica of another, or a primary. Its clients' connections stand.
    pub async fn follow(&self, primary: Option<&Self>) -> Result<()> {
        match primary {
            Some(primary) => self.ask(&["REPLICAOF", "127.0.0.1", &primary.addr.port().to_string()]).await,
            None => self.ask(&["REPLICAOF", "NO", "ONE"]).await,
        }
    }

    /// Sends one command, past any proxy.
    pub async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> Result<T> {
        let mut request = redis::cmd(command[0]);
        request.arg(&command[1..]);
        Ok(request.query_async(&mut self.connection().await?).await?)
    }

    /// Sends the server a signal.
    pub fn signal(&self, name: &str) {
        if let Some(pid) = self.child.id() {
            crate::system::signal(name, &pid.to_string());
        }
    }

    /// URL at which clients reach the server.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.addr)
    }

    /// Connects to the server, past any proxy.
    pub async fn connection(&self) -> Result<MultiplexedConnection> {
        connect(&self.url()).await
    }

    /// Ends the server without warning; data that it did not save are lost.
    pub async fn kill9(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Starts the server again on the same port, with the data that it saved.
    pub async fn revive(&mut self) -> Result<()> {
        self.revive_with(&[]).await
    }

    /// Starts the server again with further settings, `--name value`.
    pub async fn revive_with(&mut self, settings: &[&str]) -> Result<()> {
        self.child = serve(self.addr, self.folder.path(), settings).await?;
        Ok(())
    }

    /// Starts the server again, empty, so that it takes TLS at `port`, with this certificate. Where an authority is
    /// named clients have to show a certificate of its.
    pub async fn encrypt(
        &mut self,
        port: u16,
        identity: &Identity,
        clients: Option<&Authority>,
    ) -> Result<()> {
        let account = ServerAccount::get()?;
        let file = |name: &str, text: &str| -> Result<String> {
            let path = self.folder.path().join(name);
            account.write(&path, text)?;
            Ok(path.display().to_string())
        };
        let (cert, key) = (file("tls.crt", &identity.cert)?, file("tls.key", &identity.key)?);
        let port = port.to_string();
        let mut settings = vec!["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key];
        let authority = file("tls.ca", clients.map_or("", |authority| &authority.pem))?;
        match clients {
            None => settings.extend(["--tls-auth-clients", "no"]),
            Some(_) => settings.extend(["--tls-ca-cert-file", &authority, "--tls-auth-clients", "yes"]),
        }
        self.kill9().await;
        self.revive_with(&settings).await
    }

    /// Takes the right to write into its folder away, or gives it back: no dump can be saved without.
    pub fn let_save(&self, may: bool) -> Result<()> {
        let mode = if may { 0o700 } else { 0o500 };
        Ok(fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(mode))?)
    }

    /// Stops the server and waits for its end.
    pub async fn stop(mut self) {
        end(&mut self.child, "TERM", Duration::from_secs(5)).await;
    }
}

/// A connection to a Redis server.
pub async fn connect(url: &str) -> Result<MultiplexedConnection> {
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection().await?)
}

async fn serve(addr: SocketAddr, folder: &Path, settings: &[&str]) -> Result<Child> {
    let mut child = ServerAccount::get()?
        .command(&program("redis-server")?)
        .args(["--bind", "127.0.0.1", "--port", &addr.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(["--repl-diskless-sync-delay", "0", "--dir"])
        .arg(folder)
        .args(settings)
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

/// True where the server that answers at `addr` is this child, not one that took the port first.
async fn ours(addr: SocketAddr, child: &Child) -> bool {
    let Ok(mut connection) = connect(&format!("redis://{addr}/")).await else { return false };
    let Ok(info) = redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await else {
        return false;
    };
    info.lines().any(|line| line.strip_prefix("process_id:").map(str::parse) == child.id().map(Ok))
}
