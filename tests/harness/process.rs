//! The built binaries as processes: exact environment, their whole log kept, killed or ended at will.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpSocket,
    process::{Child, Command},
    sync::Notify,
};

use crate::{
    metrics::Metrics,
    system::{binary, end, hold, tied},
};

/// Time that a service may take to listen; a busy machine is slow to load a large binary.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running service. Killed when dropped.
#[derive(Debug)]
pub struct Service {
    name: String,
    descriptors: Option<u32>,
    env: BTreeMap<String, String>,
    child: Child,
    log: Arc<Log>,
    listeners: BTreeMap<String, SocketAddr>,
    /// Ports of the service while it is gone: other processes that start meanwhile must not get them.
    held: Vec<TcpSocket>,
}

#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Notify,
}

impl Service {
    /// Starts a binary with exactly these variables, and waits until it listens with all of `listeners`.
    /// Ports that are not given are free ones.
    pub async fn start(name: &str, env: &[(&str, &str)], listeners: &[&str]) -> Result<Self> {
        Self::start_limited(name, None, env, listeners).await
    }

    /// Starts a binary that may have at most so many open descriptors.
    pub async fn start_with_descriptors(
        name: &str,
        most: u32,
        env: &[(&str, &str)],
        listeners: &[&str],
    ) -> Result<Self> {
        Self::start_limited(name, Some(most), env, listeners).await
    }

    async fn start_limited(
        name: &str,
        descriptors: Option<u32>,
        env: &[(&str, &str)],
        listeners: &[&str],
    ) -> Result<Self> {
        let mut all: BTreeMap<String, String> =
            ["LISTEN_ADDR", "METRICS_ADDR"].map(|name| (name.to_owned(), "127.0.0.1:0".to_owned())).into();
        all.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let log = Arc::new(Log::default());
        let mut child = spawn(name, descriptors, &all, &log)?;
        let mut found = BTreeMap::new();
        for listener in listeners {
            found.insert((*listener).to_owned(), listening(name, &mut child, &log, listener, 0).await?);
        }
        let name = name.to_owned();
        Ok(Self { name, descriptors, env: all, child, log, listeners: found, held: Vec::new() })
    }

    /// Bytes of memory that the service holds now, where the system tells.
    pub fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// CPU time of its threads so far, where the system tells. Unlike the time that passes, it does not
    /// depend on what else the machine does.
    pub fn cpu(&self) -> Option<Duration> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id()?)).ok()?;
        // One that ends just now had nothing to do.
        let stats =
            threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
        let nanos = stats.filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok());
        Some(Duration::from_nanos(nanos.sum()))
    }

    /// Number of descriptors that the service has open now, where the system tells.
    pub fn open_descriptors(&self) -> Option<usize> {
        Some(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()?)).ok()?.count())
    }

    /// Address of the listener with that name.
    pub fn addr(&self, listener: &str) -> SocketAddr {
        *self.listeners.get(listener).unwrap_or_else(|| panic!("{} has no listener {listener}", self.name))
    }

    /// ID of the service's process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// Ends the service without warning.
    pub async fn kill9(&mut self) {
        let _ = self.child.kill().await;
        self.hold();
    }

    fn hold(&mut self) {
        self.held = self.listeners.values().filter_map(|addr| hold(*addr).ok()).collect();
    }

    /// Sends the service a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        if let Some(pid) = self.child.id() {
            crate::system::signal(name, &pid.to_string());
        }
    }

    /// Sends SIGTERM and waits; answers with the exit status and how long it took.
    pub async fn terminate(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        end(&mut self.child, "TERM", Duration::from_secs(30)).await;
        let status = self.child.wait().await.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let took = began.elapsed();
        self.hold();
        (status, took)
    }

    /// Starts the service again with variables added, as another machine would run it.
    pub async fn restart_with(&mut self, env: &[(&str, &str)]) -> Result<()> {
        self.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.restart().await
    }

    /// Starts the service again after its end, on the same ports.
    pub async fn restart(&mut self) -> Result<()> {
        for (listener, addr) in &self.listeners {
            let name = if listener == "metrics" { "METRICS_ADDR" } else { "LISTEN_ADDR" };
            self.env.insert(name.to_owned(), addr.to_string());
        }
        let from = self.log.lines().len();
        self.child = spawn(&self.name, self.descriptors, &self.env, &self.log)?;
        for listener in self.listeners.keys() {
            listening(&self.name, &mut self.child, &self.log, listener, from).await?;
        }
        self.held.clear();
        Ok(())
    }

    /// Lines that the service has written to standard output and error, in all its lives.
    pub fn log(&self) -> Vec<String> {
        self.log.lines().clone()
    }

    /// Metrics that the service exports now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::fetch(self.addr("metrics")).await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let lines = self.log();
        if std::thread::panicking() {
            let shown = lines.iter().filter(|line| !line.contains("\"level\":\"INFO\"")).rev().take(30);
            let shown: Vec<&str> = shown.map(String::as_str).collect();
            eprintln!("--- {}: last lines above INFO, newest first\n{}", self.name, shown.join("\n"));
        } else if let Some(line) = lines.iter().find(|line| is_panic(line)) {
            panic!("{} panicked: {line}", self.name);
        }
    }
}

/// The services' panic hook logs at ERROR from their telemetry; one that panics before that writes plainly.
fn is_panic(line: &str) -> bool {
    let hooked = line.contains("\"level\":\"ERROR\"") && line.contains("\"target\":\"serve::telemetry\"");
    hooked || line.contains("panicked at")
}

impl Log {
    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Status with which a command ended, and the text it wrote.
#[derive(Debug)]
pub struct Ended(Output);

impl std::ops::Deref for Ended {
    type Target = Output;

    fn deref(&self) -> &Output {
        &self.0
    }
}

impl Ended {
    /// Standard output and error as one text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned() + &String::from_utf8_lossy(&self.stderr)
    }
}

/// Runs a binary to its end with exactly these variables, and `input` on standard input.
pub async fn run(name: &str, arguments: &[&str], env: &[(&str, &str)], input: &str) -> Result<Ended> {
    let mut command = Command::new(binary(name)?);
    command.args(arguments).env_clear().envs(env.iter().copied()).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A binary that ends before it reads has its reasons, which its output tells.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (out.context("standard output")?, err.context("standard error")?);
    let ends =
        async { tokio::try_join!(out.read_to_end(&mut stdout), err.read_to_end(&mut stderr), child.wait()) };
    let ended = tokio::time::timeout(START_LIMIT, ends).await;
    let status = match ended {
        Ok(ended) => ended?.2,
        Err(_) => bail!("{name} {arguments:?} does not end:\n{}", String::from_utf8_lossy(&stderr)),
    };
    Ok(Ended(Output { status, stdout, stderr }))
}

fn spawn(
    name: &str,
    descriptors: Option<u32>,
    env: &BTreeMap<String, String>,
    log: &Arc<Log>,
) -> Result<Child> {
    let mut command = match descriptors {
        None => tied(&binary(name)?, "KILL", []),
        Some(most) => {
            let mut shell = tied(Path::new("/bin/sh"), "KILL", []);
            shell.arg("-c").arg(format!("ulimit -n {most} && exec \"$0\"")).arg(binary(name)?);
            shell
        }
    };
    command.env_clear().envs(env).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().with_context(|| format!("can't start {name}"))?;
    keep(child.stdout.take().context("no standard output")?, Arc::clone(log));
    keep(child.stderr.take().context("no standard error")?, Arc::clone(log));
    Ok(child)
}

fn keep(stream: impl AsyncRead + Send + Unpin + 'static, log: Arc<Log>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            log.lines().push(line);
            log.grown.notify_waiters();
        }
    });
}

/// Waits for the log line that says where a listener listens.
async fn listening(
    name: &str,
    child: &mut Child,
    log: &Log,
    listener: &str,
    from: usize,
) -> Result<SocketAddr> {
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    loop {
        let grown = log.grown.notified();
        let lines: Vec<String> = log.lines().iter().skip(from).cloned().collect();
        if let Some(addr) = lines.iter().find_map(|line| listens(line, listener)) {
            return Ok(addr);
        }
        tokio::select! {
            () = grown => {}
            status = child.wait() => bail!("{name} ended with {}:\n{}", status?, lines.join("\n")),
            () = tokio::time::sleep_until(deadline) => bail!("{name} does not listen:\n{}", lines.join("\n")),
        }
    }
}

fn listens(line: &str, listener: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    let is = |field: &str, value: &str| fields.get(field).and_then(Value::as_str) == Some(value);
    let ours = is("message", "listening") && is("listener", listener);
    fields.get("addr").filter(|_| ours)?.as_str()?.parse().ok()
}
