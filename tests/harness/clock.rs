//! Clocks that a test sets: of one process, or of a PostgreSQL, whose clock the cores follow.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use uuid::Uuid;

use crate::{
    eventually,
    postgres::PostgresServer,
    world::{Options, World},
};

/// A file that says how far a process' clock is off, and can be changed while it runs.
#[derive(Debug)]
pub struct Clock(PathBuf);

impl Clock {
    /// A clock that shows the machine's own time.
    pub fn new() -> Self {
        let clock =
            Self(std::env::temp_dir().join(format!("signal-identity-clock-{}", Uuid::new_v4().simple())));
        clock.set("+0s");
        clock
    }

    /// Sets the clock off by `+300s` or the like; `+0s` is the machine's own time.
    pub fn set(&self, offset: &str) {
        // Whole or not at all: a process may read it at any moment.
        let new = self.0.with_extension("new");
        fs::write(&new, offset).unwrap();
        fs::rename(&new, &self.0).unwrap();
    }

    /// The environment of a process that has this clock.
    pub fn env<'a>(&'a self, libfaketime: &'a Path) -> [(&'static str, &'a str); 4] {
        [
            ("LD_PRELOAD", libfaketime.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            // What is set on a machine is its time of day.
            ("DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// libfaketime beside the machine's other libraries; `make test` installs it.
pub fn libfaketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let mut found = folders.map(|folder| folder.join("faketime/libfaketime.so.1"));
    found.find(|file| file.is_file()).expect("libfaketime is not installed; `make test` installs it")
}

/// Waits until a core knows how far its clock is ahead of the database's, in seconds.
pub async fn follows(world: &World, core: usize, ahead: f64) {
    eventually("the core to follow the database's clock", async || {
        let behind = world.cluster.cores[core].metrics().await.sum("datafly_clock_behind_seconds", &[]);
        if (behind + ahead).abs() < 2.0 { Ok(()) } else { Err(format!("behind by {behind} s")) }
    })
    .await;
}

/// A world whose time a test sets forward: its PostgreSQL has a clock of its own, which its cores follow.
#[derive(Debug)]
pub struct TimedWorld {
    /// The world.
    pub world: World,
    clock: Clock,
    ahead_seconds: u32,
    _server: PostgresServer,
}

impl TimedWorld {
    /// Starts a world at the machine's time.
    pub async fn start(options: Options) -> Result<Self> {
        let clock = Clock::new();
        let server = PostgresServer::with_env(&clock.env(&libfaketime())).await?;
        let world = World::over(&server, options).await;
        Ok(Self { world, clock, ahead_seconds: 0, _server: server })
    }

    /// Sets the world's time forward, and waits until every core has it.
    pub async fn advance(&mut self, seconds: u32) {
        self.ahead_seconds += seconds;
        self.clock.set(&format!("+{}s", self.ahead_seconds));
        for core in 0..self.world.cluster.cores.len() {
            follows(&self.world, core, -f64::from(self.ahead_seconds)).await;
        }
    }
}
