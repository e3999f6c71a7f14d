//! Requests of the harness to the machine: environment, time, programs, folders, and an account for servers.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command as Blocking,
    sync::LazyLock,
};

use anyhow::{Context, Result, bail, ensure};
use time::OffsetDateTime;
use tokio::{
    net::TcpSocket,
    process::{Child, Command},
};
use uuid::Uuid;

/// An environment variable that is set and not empty.
#[expect(clippy::disallowed_methods, reason = "the harness is told by its caller's environment what to use")]
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The time of the machine's clock.
#[expect(clippy::disallowed_methods, reason = "the harness has no caller who could pass it in")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Folder in which cargo put this build's binaries, `target/debug`.
pub fn build_folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("the executable has no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

/// Binds without listening: the system refuses connections, and gives the port to nobody who asks for any.
pub fn hold(addr: SocketAddr) -> Result<TcpSocket> {
    let held = TcpSocket::new_v4()?;
    held.set_reuseaddr(true)?;
    held.bind(addr)?;
    Ok(held)
}

/// A binary of this workspace, which must have been built, or that of another build by its absolute path.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = build_folder()?.join(name);
    ensure!(
        path.is_file(),
        "{} is missing: run `make test`, which builds the binaries first",
        path.display()
    );
    Ok(path)
}

/// A program of the Python environment that `make test` makes.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = build_folder()?.join("../python/bin").join(name);
    ensure!(path.is_file(), "{} is missing: `make test` installs it", path.display());
    Ok(path)
}

/// A program from PATH, or from where Debian and Homebrew put PostgreSQL, newest version first.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for (parent, inner) in [
        ("/usr/lib/postgresql", "bin"),
        ("/usr/pgsql", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
    ] {
        let mut versions: Vec<PathBuf> =
            fs::read_dir(parent).into_iter().flatten().flatten().map(|e| e.path()).collect();
        versions.sort_by_key(|v| std::cmp::Reverse((v.as_os_str().len(), v.clone())));
        folders.extend(versions.into_iter().map(|version| version.join(inner)));
    }
    folders.extend(["/opt/homebrew/bin", "/usr/local/bin", "/usr/sbin"].map(PathBuf::from));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is not installed; `make demo` and `make test` install it"))
}

/// A TCP port that was free a moment ago. A caller must be ready to try another.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Sends a signal (`INT`, `TERM`, …) to a process, or to a group when `target` begins with `-`.
pub fn signal(name: &str, target: &str) {
    // The shell's own `kill`: a minimal Debian has no other. Whether the process is still there is for the
    // caller to see when it waits.
    let command = format!("kill -s {name} -- {target}");
    let _ = Blocking::new("sh").args(["-c", &command]).stderr(std::process::Stdio::null()).status();
}

/// Ends a process with a signal, and by force when it takes longer than `patience`.
pub async fn end(child: &mut Child, with: &str, patience: std::time::Duration) {
    if let Some(pid) = child.id() {
        signal(with, &pid.to_string());
    }
    if tokio::time::timeout(patience, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// A command that, where the system can, gets this signal when the thread that starts it ends: a test run or
/// a demo that is killed leaves nothing behind. `more` are further arguments of `setpriv`.
pub fn tied(program: &Path, signal: &str, more: impl IntoIterator<Item = String>) -> Command {
    match setpriv().filter(|_| cfg!(target_os = "linux")) {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(more).args(["--pdeathsig", signal]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// The account that servers run under: PostgreSQL refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub struct ServerAccount {
    /// Absent: this process is unprivileged itself, and its own account serves.
    ids: Option<(u32, u32)>,
}

impl ServerAccount {
    /// `postgres`, or else `nobody`, when this process is root.
    pub fn get() -> Result<Self> {
        static FOUND: LazyLock<Result<ServerAccount, String>> =
            LazyLock::new(|| ServerAccount::find().map_err(|e| format!("{e:#}")));
        FOUND.clone().map_err(anyhow::Error::msg)
    }

    fn find() -> Result<Self> {
        if id("-u", None) != Some(0) {
            return Ok(Self { ids: None });
        }
        program("setpriv").context("servers must not run as root, and setpriv is missing to change that")?;
        for name in ["postgres", "nobody"] {
            if let (Some(uid), Some(gid)) = (id("-u", Some(name)), id("-g", Some(name))) {
                return Ok(Self { ids: Some((uid, gid)) });
            }
        }
        bail!("servers must not run as root, and there is neither a user postgres nor nobody")
    }

    /// A command that runs under this account, and ends with us.
    pub fn command(self, program: &Path) -> Command {
        let identity = self.ids.map(|(uid, gid)| [format!("--reuid={uid}"), format!("--regid={gid}")]);
        let clear = self.ids.map(|_| "--clear-groups".to_owned());
        tied(program, "INT", identity.into_iter().flatten().chain(clear))
    }

    /// Writes a file that only this account can read, as servers want their keys.
    pub fn write(self, path: &Path, text: &str) -> Result<()> {
        fs::write(path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        if let Some((uid, gid)) = self.ids {
            chown(path, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// A folder that only this account can read: below `target/stores`, or in the temporary folder where the
    /// account can't reach that.
    pub fn folder(self) -> Result<Folder> {
        let name = format!("{}-{}", std::process::id(), Uuid::new_v4().simple());
        let target = build_folder()?.join("../stores").join(&name);
        let temporary = std::env::temp_dir().join(format!("signal-identity-{name}"));
        for path in [target, temporary] {
            fs::create_dir_all(&path)?;
            let folder = Folder(path.canonicalize()?);
            fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700))?;
            let Some((uid, gid)) = self.ids else { return Ok(folder) };
            chown(&folder.0, Some(uid), Some(gid))?;
            let mut probe = Blocking::new("setpriv");
            probe.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
            if probe.args(["test", "-w"]).arg(&folder.0).status().is_ok_and(|status| status.success()) {
                return Ok(folder);
            }
        }
        bail!("no folder that the servers' account can use")
    }
}

/// A folder that goes with its owner.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A server that was killed may still be writing; what stays is under `target` or the temporary
        // folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn setpriv() -> Option<&'static Path> {
    static FOUND: LazyLock<Option<PathBuf>> = LazyLock::new(|| program("setpriv").ok());
    FOUND.as_deref()
}

/// Number that `id` prints; there is no safe call for it in the standard library.
fn id(flag: &str, name: Option<&str>) -> Option<u32> {
    let output = Blocking::new("id").arg(flag).args(name).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
