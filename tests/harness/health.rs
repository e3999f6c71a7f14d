//! The states of the cores and of what they depend on, as `grpc.health.v1` tells them.

use std::time::Duration;

use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{within, world::World};

/// State of a service at the first core, as `grpc.health.v1` tells it.
pub async fn health(world: &World, service: &str) -> String {
    health_at(world, 0, service).await
}

/// State of a service at one of the cores, or the error in its place.
pub async fn health_at(world: &World, core: usize, service: &str) -> String {
    let api = world.cluster.api(core, &world.cluster.secrets.internal_token).unwrap();
    let request = HealthCheckRequest { service: service.to_owned() };
    match HealthClient::new(api.channel).check(request).await {
        Ok(answer) => answer.get_ref().status().as_str_name().to_owned(),
        Err(status) => status.to_string(),
    }
}

/// Waits until `dependency.postgres` has that state at every core. By design a loss and a return show after
/// 1.9 s at worst; the rest is for a busy machine.
pub async fn postgres_is(world: &World, state: &str) {
    within(Duration::from_secs(5), state, async || {
        for core in 0..world.cluster.cores.len() {
            let now = health_at(world, core, "dependency.postgres").await;
            if now != state {
                return Err(format!("core {core}: {now}"));
            }
        }
        Ok(())
    })
    .await;
}

/// Waits until `dependency.redis` has that state at the first core. A loss and a return are each due to show
/// within 2 s, and on a machine that runs other tests as well within three times that.
pub async fn redis_is(world: &World, state: &str) {
    within(Duration::from_secs(6), state, async || match health(world, "dependency.redis").await {
        now if now == state => Ok(()),
        now => Err(now),
    })
    .await;
}
