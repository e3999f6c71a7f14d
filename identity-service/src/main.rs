//! The identity core's process.

use std::process::ExitCode;

use clap::Parser;

/// Identity core of Signal Identity. Configured by environment variables; see the README.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Apply pending database migrations and exit.
    #[arg(long)]
    migrate: bool,
    /// Compare all that Redis holds with PostgreSQL, list what differs, and exit: 0 if nothing does.
    #[arg(long, conflicts_with = "migrate")]
    compare: bool,
    /// Start without SERVICE_TOKENS and let everyone call everything. Never where others can reach the port.
    #[arg(long)]
    development: bool,
}

// For what runs beside the requests: pollers and grouped writes. `serve::Workers` has the rest.
#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.compare {
        return match identity_service::compare().await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("identity-service: {error}");
                ExitCode::from(2)
            }
        };
    }
    let done = if arguments.migrate {
        identity_service::migrate().await.map(|done| {
            for line in &done {
                println!("{line}");
            }
            println!("the schema is up to date");
        })
    } else {
        identity_service::run(arguments.development).await
    };
    serve::telemetry::flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("identity-service: {error}");
            ExitCode::FAILURE
        }
    }
}
