//! `stores run -- <command…>`: runs a command with a PostgreSQL and a Redis of its own.

use std::{ffi::OsString, os::unix::process::ExitStatusExt, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;
use harness::{
    stores::Stores,
    system::{signal as send, tied},
};
use tokio::signal::unix::{SignalKind, signal};

/// Time that the command has to end after it was told to; then it is killed.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

/// Private stores for a command.
#[derive(Parser)]
enum Cli {
    /// Runs a command with DATABASE_URL and REDIS_URL set; stores that are set already are used as they are.
    Run {
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true)]
        command: Vec<OsString>,
    },
}

// One thread: the servers are told to end with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let Cli::Run { command } = Cli::parse();
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let stores = tokio::select! {
        stores = Stores::start() => stores?,
        _ = interrupted.recv() => return Ok(ExitCode::from(130)),
        _ = terminated.recv() => return Ok(ExitCode::from(143)),
    };
    let code = run(&command, &stores, &mut interrupted, &mut terminated).await;
    stores.stop().await;
    code
}

async fn run(
    command: &[OsString],
    stores: &Stores,
    interrupted: &mut tokio::signal::unix::Signal,
    terminated: &mut tokio::signal::unix::Signal,
) -> Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command")?;
    // A group of its own: a Ctrl-C reaches it once, by us, and reaches all that it started.
    let mut child = tied(Path::new(program), "TERM", [])
        .args(arguments)
        .envs(stores.environment())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't run {}", program.display()))?;
    let group = format!("-{}", child.id().context("the command has no ID")?);
    let mut told = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = interrupted.recv() => send("INT", &group),
            _ = terminated.recv() => send("TERM", &group),
            () = tokio::time::sleep(SHUTDOWN_LIMIT), if told => send("KILL", &group),
        }
        told = true;
    };
    // What it left behind in its group would keep connections open.
    send("KILL", &group);
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
