//! The HTTP edge's process.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// HTTP edge of Signal Identity. Configured by environment variables; see the README.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Print the API's document, as /openapi.json has it, and exit.
    Openapi,
}

// For what runs beside the requests; `serve::Workers` serves.
#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    if let Some(Command::Openapi) = Arguments::parse().command {
        println!("{}", http_edge::document());
        return ExitCode::SUCCESS;
    }
    let ended = http_edge::run().await;
    serve::telemetry::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http-edge: {error}");
            ExitCode::FAILURE
        }
    }
}
