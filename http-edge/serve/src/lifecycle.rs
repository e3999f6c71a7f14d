//! The life of a process: started, ready, draining, gone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::EnvError;

/// Time from the first signal to the end of the process, whatever still runs then.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// State of the process. Clones share it.
#[derive(Debug, Clone)]
pub struct Lifecycle(Arc<State>);

#[derive(Debug)]
struct State {
    started: AtomicBool,
    dependencies: AtomicBool,
    draining: CancellationToken,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// A process that has not started and is not draining, with good dependencies.
    pub fn new() -> Self {
        Self(Arc::new(State {
            started: AtomicBool::new(false),
            dependencies: AtomicBool::new(true),
            draining: CancellationToken::new(),
        }))
    }

    /// Marks the process as started, once all that is needed to answer is there.
    pub fn set_started(&self) {
        self.0.started.store(true, Ordering::Relaxed);
    }

    /// Records if enough of what this process depends on is there to answer anything at all.
    pub fn set_dependencies(&self, ok: bool) {
        self.0.dependencies.store(ok, Ordering::Relaxed);
    }

    /// True where the process has started, is not draining, and has good dependencies.
    pub fn is_ready(&self) -> bool {
        self.0.started.load(Ordering::Relaxed)
            && self.0.dependencies.load(Ordering::Relaxed)
            && !self.0.draining.is_cancelled()
    }

    /// Token that is cancelled when draining begins.
    pub fn draining(&self) -> CancellationToken {
        self.0.draining.clone()
    }

    /// Begins draining; it can't be taken back.
    pub fn drain(&self) {
        self.0.draining.cancel();
    }

    /// Drains on SIGTERM or SIGINT. A second signal, or 10 s, ends the process with status 1. Must be called
    /// within a Tokio runtime.
    pub fn on_signals(&self) -> Result<(), EnvError> {
        let listen = |kind| signal(kind).map_err(|error| EnvError::malformed("SIGNALS", error.kind()));
        let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let lifecycle = self.clone();
        tokio::spawn(async move {
            either(&mut term, &mut int).await;
            info!("draining");
            lifecycle.drain();
            let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, either(&mut term, &mut int)).await;
            error!("ended before everything was drained");
            crate::telemetry::flush();
            std::process::exit(1);
        });
        Ok(())
    }
}

async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_started_not_draining_and_dependencies_good() {
        let life = Lifecycle::new();
        assert!(!life.is_ready());
        life.set_started();
        assert!(life.clone().is_ready());
        life.set_dependencies(false);
        assert!(!life.is_ready());
        life.set_dependencies(true);
        life.drain();
        assert!(!life.is_ready() && life.draining().is_cancelled());
    }
}
