//! The edge's process: what it is started with, and what runs in it.

use std::sync::Arc;

use serve::{Env, EnvError, Exempt, Lifecycle, Workers};

use crate::{
    body::Bodies,
    config::{self, Config},
    core_client::CoreClient,
    routes::{self, Edge},
    vendor_cookies::VendorCookies,
    without_delivery::WithoutDelivery,
};

/// Serves as the environment says, until it is told to stop.
pub async fn run() -> Result<(), EnvError> {
    let config = Config::from_env(&Env::read(config::KNOWN)?)?;
    serve::telemetry::init("http-edge", &config.process.log_level)?;
    let lifecycle = Lifecycle::new();
    lifecycle.on_signals()?;
    serve::metrics::listen(config.process.metrics_addr, &lifecycle).await?;
    let listener = serve::bind("LISTEN_ADDR", config.process.listen_addr).await?;
    let (proxies, bodies) = (Arc::new(config.trusted_proxies), Bodies::default());
    let throttle = Arc::default();
    let vendor_cookies = VendorCookies::default();
    let without_delivery = WithoutDelivery::default();
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
            without_delivery: without_delivery.clone(),
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
