//! A private PostgreSQL server: own data folder, own port, loopback only, gone when it is stopped.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{Integer, Text},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio::process::Child;
use url::Url;
use uuid::Uuid;

use crate::{
    certificates::{Authority, Identity},
    system::{Folder, ServerAccount, end, free_port, program},
};

/// Settings of a new server, which `ALTER SYSTEM` may change.
const SETTINGS: &str = "
unix_socket_directories = ''
max_connections = 400
# A crash of the machine may lose it all; a crash of a session may not.
fsync = off
full_page_writes = off
synchronous_commit = on
shared_buffers = 128MB
autovacuum_naptime = 10min
";

#[derive(QueryableByName)]
struct Process {
    #[diesel(sql_type = Integer)]
    pid: i32,
}

/// A running server, stopped when dropped.
#[derive(Debug)]
pub struct PostgresServer {
    child: Child,
    folder: Folder,
    env: Vec<(String, String)>,
    /// Address at which the server listens.
    pub addr: SocketAddr,
    /// URL at which clients reach the server as its superuser.
    pub url: String,
    /// Name and version, such as `PostgreSQL 15.18`.
    pub version: String,
}

impl PostgresServer {
    /// Makes a new, empty server and waits until it answers.
    pub async fn start() -> Result<Self> {
        Self::made_with(&[], &[]).await
    }

    /// Makes a new server that runs with these environment variables.
    pub async fn with_env(env: &[(&str, &str)]) -> Result<Self> {
        Self::made_with(&[], env).await
    }

    /// Makes a new server with a write-ahead log in files of 1 MiB, so that tables can be larger than those.
    pub async fn with_small_log_files() -> Result<Self> {
        Self::made_with(&["--wal-segsize=1"], &[]).await
    }

    async fn made_with(options: &[&str], env: &[(&str, &str)]) -> Result<Self> {
        let account = ServerAccount::get()?;
        let folder = account.folder()?;
        let password = Uuid::new_v4().simple().to_string();
        let password_file = folder.path().join("password");
        fs::write(&password_file, &password)?;
        let mut command = account.command(&program("initdb")?);
        command.args([
            "--username=postgres",
            "--auth=password",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        command.args(options);
        command.arg("--pwfile").arg(&password_file).arg("-D").arg(folder.path().join("data"));
        command.current_dir(folder.path()).process_group(0).kill_on_drop(true);
        let made = command.output().await.context("initdb")?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        fs::remove_file(password_file)?;
        let file = folder.path().join("data/postgresql.conf");
        let settings = fs::read_to_string(&file)? + SETTINGS;
        fs::write(&file, settings)?;
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::over(folder, &password, env).await
    }

    /// Starts a server over a data folder and waits until it answers.
    async fn over(folder: Folder, password: &str, env: Vec<(String, String)>) -> Result<Self> {
        let version = ServerAccount::get()?.command(&program("postgres")?).arg("--version").output().await?;
        let version = String::from_utf8_lossy(&version.stdout).replace("postgres (", "").replace(')', "");
        let version = version.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        // Another process may take the port between our look and the server's.
        for attempt in 0..5 {
            let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
            let url = format!("postgres://postgres:{password}@{addr}/postgres");
            let mut child = serve(folder.path(), addr, &env)?;
            match ready(&mut child, &url).await {
                Ok(()) => return Ok(Self { child, folder, env, addr, url, version }),
                Err(error) if attempt == 4 => {
                    let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                    return Err(error.context(format!("PostgreSQL does not start:\n{log}")));
                }
                Err(_) => end(&mut child, "QUIT", Duration::from_secs(5)).await,
            }
        }
        bail!("unreachable: the last attempt returns")
    }

    /// Makes a hot standby that follows this server.
    pub async fn standby(&self) -> Result<Self> {
        self.backup(&["--write-recovery-conf"]).await
    }

    /// Makes a server of its own out of what this one holds now, as when a backup is restored.
    pub async fn copy(&self) -> Result<Self> {
        self.backup(&[]).await
    }

    async fn backup(&self, options: &[&str]) -> Result<Self> {
        let account = ServerAccount::get()?;
        let folder = account.folder()?;
        let mut command = account.command(&program("pg_basebackup")?);
        command.args(["--checkpoint=fast", "--no-sync", "--dbname", &self.url]).args(options);
        command.arg("-D").arg(folder.path().join("data"));
        command.current_dir(folder.path()).process_group(0).kill_on_drop(true);
        let made = command.output().await.context("pg_basebackup")?;
        ensure!(made.status.success(), "pg_basebackup failed: {}", String::from_utf8_lossy(&made.stderr));
        let url = Url::parse(&self.url)?;
        Self::over(folder, url.password().unwrap_or_default(), self.env.clone()).await
    }

    /// Stops the server at once, as a crash does; its connections end.
    pub async fn crash(&mut self) {
        end(&mut self.child, "QUIT", Duration::from_secs(5)).await;
    }

    /// Makes the server a standby when it starts again: the way in which a primary that has crashed must come
    /// back.
    pub fn demote(&self) -> Result<()> {
        Ok(fs::write(self.folder.path().join("data/standby.signal"), "")?)
    }

    /// Has the server encrypt connections of those who ask, with this certificate. Where an authority is named they
    /// have to show a certificate of its, and others have to ask; its superuser comes in all the same.
    pub async fn encrypt(&self, identity: &Identity, clients: Option<&Authority>) -> Result<()> {
        let (account, data) = (ServerAccount::get()?, self.folder.path().join("data"));
        account.write(&data.join("server.crt"), &identity.cert)?;
        account.write(&data.join("server.key"), &identity.key)?;
        account.write(&data.join("root.crt"), clients.map_or("", |authority| &authority.pem))?;
        let access = match clients {
            None => "host all all 127.0.0.1/32 password\n",
            Some(_) => {
                "hostssl all all 127.0.0.1/32 password clientcert=verify-ca\n\
                 hostnossl all postgres 127.0.0.1/32 password\n"
            }
        };
        account.write(&data.join("pg_hba.conf"), access)?;
        let authorities = if clients.is_some() { "root.crt" } else { "" };
        let authorities = format!("ALTER SYSTEM SET ssl_ca_file = '{authorities}'");
        self.execute(&[&authorities, "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"]).await;
        // Told to the postmaster last, and read by it with the rest.
        let wanted = Uuid::new_v4().simple().to_string();
        self.execute(&[
            &format!("ALTER SYSTEM SET log_line_prefix = '{wanted} '"),
            "SELECT pg_reload_conf()",
        ])
        .await;
        crate::eventually("the server to have read its settings", async || {
            let mut connection =
                AsyncPgConnection::establish(&self.url).await.map_err(|error| error.to_string())?;
            let shown = "SELECT count(*)::integer AS pid FROM pg_settings \
                WHERE name = 'log_line_prefix' AND btrim(setting) = $1";
            let found =
                sql_query(shown).bind::<Text, _>(&wanted).get_result::<Process>(&mut connection).await;
            match found {
                Ok(Process { pid: 1 }) => Ok(()),
                other => Err(format!("{:?}", other.map(|found| found.pid))),
            }
        })
        .await;
        Ok(())
    }

    /// Text that the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Starts the server again after a crash, on the same port, and waits until it answers.
    pub async fn revive(&mut self) -> Result<()> {
        self.child = serve(self.folder.path(), self.addr, &self.env)?;
        ready(&mut self.child, &self.url).await
    }

    /// Forbids the postmaster and its sessions, present and future, to write beyond so many bytes of any file
    /// (`RLIMIT_FSIZE`), or lets them again. The server's own account may do so, without a privilege.
    #[cfg(target_os = "linux")]
    pub async fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        // The postmaster comes first, so that no session starts with the limit of before.
        for pid in self.sessions().await {
            let mut command = ServerAccount::get()?.command(&program("prlimit")?);
            command.args(["--pid", &pid.to_string(), &format!("--fsize={limit}:")]);
            let set = command.output().await.context("prlimit")?;
            let error = String::from_utf8_lossy(&set.stderr);
            // A session may have ended meanwhile.
            ensure!(set.status.success() || error.contains("No such process"), "prlimit: {error}");
        }
        Ok(())
    }

    /// Runs statements as its superuser, each in a transaction of its own.
    pub async fn execute(&self, statements: &[&str]) {
        let mut connection = AsyncPgConnection::establish(&self.url).await.unwrap();
        for sql in statements {
            connection.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    /// The processes of the server, the postmaster first.
    pub async fn processes(&self) -> Vec<u32> {
        self.list("true").await
    }

    /// The postmaster and the sessions of clients.
    #[cfg(target_os = "linux")]
    async fn sessions(&self) -> Vec<u32> {
        self.list("backend_type = 'client backend'").await
    }

    async fn list(&self, which: &str) -> Vec<u32> {
        let mut connection = AsyncPgConnection::establish(&self.url).await.unwrap();
        let backends: Vec<Process> =
            sql_query(format!("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {which}"))
                .load(&mut connection)
                .await
                .unwrap();
        let backends = backends.into_iter().filter_map(|process| u32::try_from(process.pid).ok());
        self.child.id().into_iter().chain(backends).collect()
    }

    /// Stops the server at once; its data are not kept anyway.
    pub async fn stop(mut self) {
        self.crash().await;
    }
}

fn serve(folder: &Path, addr: SocketAddr, env: &[(String, String)]) -> Result<Child> {
    let log = fs::File::options().create(true).append(true).open(folder.join("log"))?;
    // Set once the account has been changed to: libfaketime's are of the account that it is loaded by.
    let mut command = ServerAccount::get()?.command(&program("env")?);
    command.args(env.iter().map(|(name, value)| format!("{name}={value}"))).arg(program("postgres")?);
    command.arg("-D").arg(folder.join("data"));
    command.args(["-c", "listen_addresses=127.0.0.1", "-c"]).arg(format!("port={}", addr.port()));
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
