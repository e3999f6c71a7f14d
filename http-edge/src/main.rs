//! The HTTP edge: translates what browsers, customers' servers and vendors send into one gRPC call each, and
//! the answer back. It has no store, no customer's secret and no domain rule.

use std::{process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use serve::{Env, EnvError, Exempt, Lifecycle, Workers};

use crate::{
    body::Bodies, config::Config, core_client::CoreClient, routes::Edge, vendor_cookies::VendorCookies,
};

mod body;
mod caller;
mod config;
mod cookies;
mod core_client;
mod error;
mod event;
mod finish_on_drop;
mod gzip;
mod memory;
mod query;
mod routes;
mod subjects;
mod throttle;
mod vendor_cookies;

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
        println!("{}", routes::document());
        return ExitCode::SUCCESS;
    }
    let ended = run().await;
    serve::telemetry::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http-edge: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), EnvError> {
    let config = Config::from_env(&Env::read(config::KNOWN)?)?;
    serve::telemetry::init("http-edge", &config.process.log_level)?;
    let lifecycle = Lifecycle::new();
    lifecycle.on_signals()?;
    serve::metrics::listen(config.process.metrics_addr, &lifecycle).await?;
    let listener = serve::bind("LISTEN_ADDR", config.process.listen_addr).await?;
    let (proxies, bodies) = (Arc::new(config.trusted_proxies), Bodies::default());
    let throttle = Arc::default();
    let vendor_cookies = VendorCookies::default();
    let workers = Workers::per_core(|| {
        let core = CoreClient::new(&config.core.cores, config.core.service_token.clone());
        let patient_core = CoreClient::patient(&config.core.cores, config.core.service_token.clone());
        let edge = Edge {
            core,
            patient_core,
            proxies: Arc::clone(&proxies),
            bodies: bodies.clone(),
            throttle: Arc::clone(&throttle),
            vendor_cookies: vendor_cookies.clone(),
        };
        routes::app(edge).merge(serve::metrics::health(lifecycle.clone()))
    })?;
    lifecycle.set_started();
    let core = CoreClient::new(&config.core.cores, config.core.service_token.clone());
    lifecycle.spawn_supervised("vendor_cookies", move |stop| {
        vendor_cookies.clone().refresh_until(core.clone(), stop)
    });
    serve::serve(listener, "http", Exempt::Proxies(proxies), workers, lifecycle).await;
    Ok(())
}

#[cfg(test)]
mod tests;
