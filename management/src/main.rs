//! The management API: settings, credentials, users and people of an organisation, over HTTP.

use std::{process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use futures_util::FutureExt;
use migrations::{migrate, pool::PgPool};
use serve::{Env, EnvError, Exempt, Lifecycle, Workers, process::CoreConfig};

use crate::{
    auth::{Auth, tokens::Tokens},
    catalog::Catalog,
    config::Config,
    core_client::CoreClient,
    crypto::{
        audience::VendorOrigins,
        health::Health,
        reencrypt::{self, worker::AskOrigins},
    },
    state::Management,
};

mod api;
mod auth;
mod catalog;
mod config;
mod core_client;
mod crypto;
mod free_host;
mod json;
mod owner;
mod postgres_supervisor;
mod provider;
mod routes;
mod state;

/// Management API of Signal Identity. Configured by environment variables; see the README.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Apply pending database migrations and exit.
    #[arg(long)]
    migrate: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Create an organisation and its owner. The password comes from OWNER_PASSWORD or standard input.
    CreateOwner(owner::NewOwner),
    /// Take a collect host from the organisation that has it, so that another can have it, and exit.
    FreeHost(free_host::HostToFree),
    /// Seal everything with the current encryption key, and exit. The previous one can be removed after that.
    ReEncrypt,
    /// Print the API's document, as /openapi.json has it, and exit.
    Openapi,
}

/// PostgreSQL connections of one instance.
const POSTGRES_CONNECTIONS: u32 = 16;

/// Reasons why the program ends, each told in one line.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Env(#[from] EnvError),
    #[error(transparent)]
    Migrate(#[from] migrate::MigrateError),
    #[error(transparent)]
    Owner(#[from] owner::OwnerError),
    #[error(transparent)]
    FreeHost(#[from] free_host::FreeHostError),
    #[error(transparent)]
    Reencrypt(#[from] reencrypt::command::ReencryptError),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = run(Arguments::parse()).await;
    serve::telemetry::flush();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A database's message may have several lines.
            eprintln!("management: {}", error.to_string().replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Some(Command::Openapi) = arguments.command {
        println!("{}", routes::document());
        return Ok(());
    }
    let env = Env::read(config::KNOWN)?;
    if arguments.migrate {
        for line in migrate::run(&config::database(&env)?).await? {
            println!("{line}");
        }
        println!("the schema is up to date");
        return Ok(());
    }
    if let Some(Command::CreateOwner(new)) = arguments.command {
        let database = config::database(&env)?;
        let password = owner::read_password(&env)?;
        migrate::check(&database).await?;
        let org = owner::create(&database, &new, password).await?;
        println!("{org}");
        return Ok(());
    }
    if let Some(Command::FreeHost(host)) = arguments.command {
        let database = config::database(&env)?;
        migrate::check(&database).await?;
        for line in free_host::run(&database, &host).await? {
            println!("{line}");
        }
        return Ok(());
    }
    if let Some(Command::ReEncrypt) = arguments.command {
        let database = config::database(&env)?;
        let keys = config::seal_keys(&env)?;
        migrate::check(&database).await?;
        // With the service's own environment it asks the core for its vendors' hosts; without, it does the rest.
        let vendors = match CoreConfig::read(&env) {
            Ok(core) => {
                let core = CoreClient::new(&core.cores, core.service_token);
                Catalog::new(core).enrichment_origins().await
            }
            Err(_) => VendorOrigins::new(),
        };
        return Ok(reencrypt::command::run(&database, &keys, &vendors).await?);
    }
    serve_api(&env).await
}

async fn serve_api(env: &Env) -> Result<(), Failure> {
    let config = Config::from_env(env)?;
    serve::telemetry::init("management", &config.process.log_level)?;
    migrate::check(&config.database).await?;
    let lifecycle = Lifecycle::new();
    lifecycle.on_signals()?;
    serve::metrics::listen(config.process.metrics_addr, &lifecycle).await?;
    let listener = serve::bind("LISTEN_ADDR", config.process.listen_addr).await?;
    let postgres = PgPool::connect_lazily(&config.database, POSTGRES_CONNECTIONS);
    let core = CoreClient::new(&config.core.cores, config.core.service_token);
    let proxies = Arc::new(config.trusted_proxies);
    let state = Management {
        catalog: Arc::new(Catalog::new(core.clone())),
        core,
        crypto_health: Arc::new(Health::of(&config.keys)),
        keys: config.keys,
        allow_loopback: config.allow_loopback,
        auth: Auth {
            postgres: postgres.clone(),
            tokens: Arc::new(Tokens::new(&config.jwt_secret, config.jwt_secret_previous.as_ref())),
            hashing: Arc::default(),
            proxies: proxies.clone(),
        },
        postgres: postgres.clone(),
    };
    let (pool, keys) = (postgres.clone(), state.keys.clone());
    let catalog = state.catalog.clone();
    let ask: AskOrigins = Arc::new(move || {
        let catalog = catalog.clone();
        async move { catalog.enrichment_origins().await }.boxed()
    });
    lifecycle.spawn_supervised("postgres", move |stop| {
        postgres_supervisor::supervise_until(postgres.clone(), stop)
    });
    lifecycle.spawn_supervised("reencrypt", move |stop| {
        reencrypt::worker::work_until(pool.clone(), keys.clone(), ask.clone(), stop)
    });
    let app = routes::app(state, lifecycle.clone());
    lifecycle.set_started();
    serve::serve(listener, "http", Exempt::Proxies(proxies), Workers::here(app), lifecycle).await;
    Ok(())
}
