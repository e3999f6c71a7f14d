//! A private PostgreSQL server: own data folder, own port, loopback only, gone when it is stopped.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use tokio::process::Child;
use uuid::Uuid;

use crate::system::{Folder, ServerAccount, end, free_port, program};

/// A running server.
#[derive(Debug)]
pub struct PostgresServer {
    child: Child,
    _folder: Folder,
    /// How to reach it as its superuser.
    pub url: String,
    /// `PostgreSQL 15.18`.
    pub version: String,
}

impl PostgresServer {
    /// Makes a new, empty one and waits until it answers.
    pub async fn start() -> Result<Self> {
        let account = ServerAccount::get()?;
        let (initdb, postgres) = (program("initdb")?, program("postgres")?);
        let folder = account.folder()?;
        let password = Uuid::new_v4().simple().to_string();
        let password_file = folder.path().join("password");
        fs::write(&password_file, &password)?;
        let mut command = account.command(&initdb);
        command.args([
            "--username=postgres",
            "--auth=password",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        command.arg("--pwfile").arg(&password_file).arg("-D").arg(folder.path().join("data"));
        command.current_dir(folder.path()).process_group(0).kill_on_drop(true);
        let made = command.output().await.context("initdb")?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        fs::remove_file(password_file)?;

        let version = account.command(&postgres).arg("--version").output().await?;
        let version = String::from_utf8_lossy(&version.stdout).replace("postgres (", "").replace(')', "");
        let version = version.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        // Another process may take the port between our look and the server's.
        for attempt in 0..5 {
            let port = free_port()?;
            let mut child = serve(account, &postgres, folder.path(), port)?;
            let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres");
            match ready(&mut child, &url).await {
                Ok(()) => return Ok(Self { child, _folder: folder, url, version }),
                Err(error) if attempt == 4 => {
                    let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                    return Err(error.context(format!("PostgreSQL does not start:\n{log}")));
                }
                Err(_) => end(&mut child, "QUIT", Duration::from_secs(5)).await,
            }
        }
        bail!("unreachable: the last attempt returns")
    }

    /// Stops it at once; its data are not kept anyway.
    pub async fn stop(mut self) {
        end(&mut self.child, "QUIT", Duration::from_secs(5)).await;
    }
}

fn serve(account: ServerAccount, postgres: &Path, folder: &Path, port: u16) -> Result<Child> {
    let log = fs::File::create(folder.join("log"))?;
    let mut command = account.command(postgres);
    command.arg("-D").arg(folder.join("data"));
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        "unix_socket_directories=".to_owned(),
        "max_connections=400".to_owned(),
        // A crash of the machine may lose it all; a crash of a session may not.
        "fsync=off".to_owned(),
        "full_page_writes=off".to_owned(),
        "synchronous_commit=on".to_owned(),
        "shared_buffers=128MB".to_owned(),
        "autovacuum_naptime=10min".to_owned(),
    ] {
        command.arg("-c").arg(setting);
    }
    command.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command.process_group(0).kill_on_drop(true).spawn()?)
}

async fn ready(child: &mut Child, url: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("the server ended with {status}");
        }
        match AsyncPgConnection::establish(url).await {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(Instant::now() < deadline, "not reachable: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
