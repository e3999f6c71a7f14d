//! CPU time of server processes, from the system's own accounting. It says what a request costs also where other
//! work shares the machine, which requests per second do not.

use std::fs;

use anyhow::{Context, Result};

/// Nanoseconds of one tick in `/proc/…/stat`: 100 a second on every Linux this runs on.
const TICK_NANOS: u64 = 10_000_000;

/// A server whose CPU time is read.
#[derive(Debug, Clone, Copy)]
pub enum Meter {
    /// A single process with all its threads.
    Process(u32),
    /// A process and its children, also those that have ended: PostgreSQL.
    Tree(u32),
}

impl Meter {
    /// User and system time so far, in microseconds.
    pub fn micros(self) -> Result<f64> {
        let nanos = match self {
            Self::Process(pid) => running(pid)?,
            Self::Tree(pid) => {
                let children = children(pid)?.into_iter().filter_map(|child| running(child).ok());
                running(pid)? + ended(pid)? + children.sum::<u64>()
            }
        };
        Ok(nanos as f64 / 1000.0)
    }
}

/// The process that started `pid`.
pub fn parent(pid: u32) -> Result<u32> {
    Ok(u32::try_from(stat(pid, 1)?)?)
}

/// Time of a process' threads, in nanoseconds: the ticks of `stat` are too coarse for a round.
fn running(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/task");
    let mut sum = 0;
    for thread in fs::read_dir(&path).with_context(|| format!("{path}: the benchmark needs Linux"))? {
        // One that ends just now had nothing to do.
        let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next().context("schedstat")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// Time of children that have ended, in nanoseconds.
fn ended(pid: u32) -> Result<u64> {
    Ok((stat(pid, 13)? + stat(pid, 14)?) * TICK_NANOS)
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let processes = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(processes.filter(|one| parent(*one).is_ok_and(|parent| parent == pid)).collect())
}

/// A field of `/proc/…/stat`, counted from behind the name in brackets, which may hold anything: state, parent, …
fn stat(pid: u32, field: usize) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit_once(')').context("stat")?.1;
    Ok(fields.split_whitespace().nth(field).context("stat")?.parse()?)
}
