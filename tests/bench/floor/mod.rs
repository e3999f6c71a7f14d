//! The floors: the least that could do the same work, each as a process of its own so that its CPU time can be told
//! apart. They are this binary once more, under another name.

pub mod core;
pub mod deliver;
pub mod edge;
mod runtime;

use std::{net::SocketAddr, process::Stdio};

use anyhow::{Context, Result};
use clap::ValueEnum;
use harness::system::tied;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

/// Spread of a floor over the machine's cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Single-threaded runtimes, one a core; connections are handed out in turn.
    PerCore,
    /// Single runtime whose threads steal from each other.
    WorkStealing,
}

/// The shape of the floors that the product is compared with: the better one.
pub const SHAPE: Shape = Shape::PerCore;

/// A running floor. Killed when dropped.
pub struct Floor {
    _child: Child,
    /// ID of the floor's process.
    pub pid: u32,
    /// Address that it listens on.
    pub addr: SocketAddr,
}

impl Floor {
    /// Starts this binary with these arguments and waits until it says where it listens.
    pub async fn start(shape: Shape, arguments: &[&str]) -> Result<Self> {
        let shape = shape.to_possible_value().context("shape")?;
        let mut command = tied(&std::env::current_exe()?, "KILL", []);
        command.args(arguments).args(["--shape", shape.get_name()]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let pid = child.id().context("the floor has ended")?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let line = lines.next_line().await?.with_context(|| format!("{arguments:?} does not listen"))?;
        Ok(Self { _child: child, pid, addr: line.parse()? })
    }
}
