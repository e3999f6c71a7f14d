//! Structured logs on standard output. A reader that has stopped costs lines, never a request: they are
//! written by a thread of their own, and dropped when too many wait for it.

use std::{
    panic::PanicHookInfo,
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tracing::error;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::EnvError;

/// Crates of this workspace; they log at the level asked for, all others at `warn`.
const OWN_CRATES: [&str; 10] = [
    "blueprint",
    "egress",
    "event_log",
    "event_processor",
    "http_edge",
    "identity_service",
    "management",
    "migrations",
    "proto",
    "serve",
];
/// Values that `LOG_LEVEL` may have.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Lines that may wait to be written, a few megabytes of them.
const MAX_WAITING_LINES: usize = 8192;
/// Time in which the last lines are to be written when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Starts JSON logging at `level` (the value of `LOG_LEVEL`: error, warn, info, debug or trace) and turns
/// panics into log lines. Only the first call of a process has an effect.
pub fn init(service: &'static str, level: &str) -> Result<(), EnvError> {
    let filter = directives(level)?;
    let filter = EnvFilter::try_new(filter).map_err(|_| EnvError::malformed("LOG_LEVEL", "is malformed"))?;
    let (output, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(MAX_WAITING_LINES)
        .thread_name("log")
        .finish(std::io::stdout());
    let dropped = output.error_counter();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter);
    // An error means that a subscriber is there already, as in tests.
    if subscriber.with_writer(output).try_init().is_ok() {
        let _ = DROPPED.set(dropped);
        *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
    }
    std::panic::set_hook(Box::new(move |info| panicked(service, info)));
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
    Ok(())
}

/// Lines that were dropped so far because nobody read them.
pub(crate) fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |counter| u64::try_from(counter.dropped_lines()).unwrap_or(u64::MAX))
}

/// Writes what still waits, for at most 1 s. To be called at the end of the process.
pub fn flush() {
    let writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (done, wait) = mpsc::channel::<()>();
    // Dropping it flushes, but does not return while standard output is blocked.
    thread::spawn(move || {
        drop(writer);
        drop(done);
    });
    let _ = wait.recv_timeout(FLUSH_TIMEOUT);
}

fn panicked(service: &str, info: &PanicHookInfo<'_>) {
    let at = info.location().map(ToString::to_string).unwrap_or_default();
    error!(service, at, payload = info.payload_as_str().unwrap_or_default(), "panicked");
}

fn directives(level: &str) -> Result<String, EnvError> {
    if !LEVELS.contains(&level) {
        return Err(EnvError::malformed("LOG_LEVEL", "must be error, warn, info, debug or trace"));
    }
    let third_party = if level == "error" { "error" } else { "warn" };
    Ok(OWN_CRATES.iter().fold(third_party.to_owned(), |all, own| all + "," + own + "=" + level))
}

#[cfg(test)]
mod tests {
    use std::panic;

    use super::*;

    /// Pins the text that the tests of other crates look for in the services' logs.
    #[test]
    fn a_panic_is_called_so() {
        let (sender, lines) = mpsc::channel::<Vec<u8>>();
        let sender = Mutex::new(sender);
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true);
        let writer = move || Lines(sender.lock().unwrap().clone());
        tracing::subscriber::with_default(subscriber.with_writer(writer).finish(), || {
            panic::set_hook(Box::new(|info| panicked("test", info)));
            panic::catch_unwind(|| panic!("as asked for")).unwrap_err();
            drop(panic::take_hook());
        });
        let line = String::from_utf8(lines.recv().unwrap()).unwrap();
        assert!(line.contains(r#""message":"panicked""#) && line.contains("as asked for"), "{line}");
    }

    struct Lines(mpsc::Sender<Vec<u8>>);

    impl std::io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.send(line.to_vec()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_the_five_levels_are_taken() {
        let debug = directives("debug").unwrap();
        assert!(debug.starts_with("warn,"), "{debug}");
        assert!(OWN_CRATES.iter().all(|own| debug.contains(&format!(",{own}=debug"))), "{debug}");
        assert!(directives("error").unwrap().starts_with("error,"));
        for bad in ["", "INFO", "off", "info,hyper=trace"] {
            assert_eq!(directives(bad).unwrap_err().to_string().split(' ').next(), Some("LOG_LEVEL"));
        }
    }
}
