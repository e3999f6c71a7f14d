//! The event processor: delivers accepted events to every destination of their sources, each in its own time.

mod config;
mod core_client;
mod destination;
mod health;
mod lane;
mod lease;
mod live;
mod mapping;
mod pacing;
mod prepare;
mod replay;
mod run;
mod sending;
mod shared;
mod storage;
mod watch;
mod window;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// Event processor of Signal Identity. Configured by environment variables; see the README.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Send events of the past once more, and print the ID of the replay.
    Replay {
        /// The destination, by its ID.
        #[arg(long)]
        destination: Uuid,
        /// The time of the first event (RFC 3339).
        #[arg(long, value_parser = time)]
        from: OffsetDateTime,
        /// The time of the last event (RFC 3339).
        #[arg(long, value_parser = time)]
        to: OffsetDateTime,
    },
}

fn time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "must be a time such as 2026-11-30T10:00:00Z".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        None => run::run().await,
        Some(Command::Replay { destination, from, to }) => run::replay(destination, from, to).await,
    };
    serve::telemetry::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("event-processor: {error}");
            ExitCode::FAILURE
        }
    }
}
