//! PostgreSQL fails over behind one name: a standby takes over while connections to the old primary stand.

use std::time::Duration;

use harness::{
    answers::{assert_accepted, assert_retry},
    eventually,
    health::postgres_is,
    people::{People, visit},
    postgres::PostgresServer,
    recovery::{assert_no_open_transaction, assert_serves},
    visits::granted,
    within,
    world::{Options, World},
    writers::Writers,
};
use uuid::Uuid;

/// Time within which writes are due to succeed after a failover.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

/// Starts a primary with a standby that has each commit before it is acknowledged, and a world over it.
async fn replicated() -> (PostgresServer, PostgresServer, World) {
    let primary = PostgresServer::start().await.unwrap();
    let world = World::over(&primary, Options { cores: 2, ..Options::default() }).await;
    let standby = primary.standby().await.unwrap();
    primary.execute(&["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"]).await;
    eventually("the standby to be synchronous", async || {
        match world.database.count("pg_stat_replication", "sync_state = 'sync'").await {
            1 => Ok(()),
            count => Err(format!("{count} are")),
        }
    })
    .await;
    (primary, standby, world)
}

/// Fails over under load with `demote` done to the old primary, and checks that nothing acknowledged is lost.
async fn fails_over(demote: impl AsyncFnOnce(&mut PostgresServer)) {
    let (mut primary, standby, mut world) = replicated().await;
    let writers = Writers::start(&world, 4);
    writers.take(20, RECOVERY_LIMIT).await;

    standby.execute(&["SELECT pg_promote()"]).await;
    demote(&mut primary).await;
    world.postgres_proxy.repoint(standby.addr);
    world.database.move_to(&standby).unwrap();
    writers.take(20, RECOVERY_LIMIT).await;
    // The writers are content with one core.
    let people = People::of(&world);
    for core in 0..world.cluster.cores.len() {
        within(RECOVERY_LIMIT, "the core to take a visitor", async || {
            let taken = people.resolve(core, vec![visit(Uuid::new_v4().to_string())]).await;
            match taken.map(|mut resolutions| resolutions.remove(0).error) {
                Ok(None) => Ok(()),
                other => Err(format!("core {core}: {other:?}")),
            }
        })
        .await;
    }
    postgres_is(&world, "SERVING").await;

    // The old primary's settings confirm nothing any more.
    let mut browser = world.browser();
    assert_serves(&mut browser).await;
    writers.check(&world).await;
    world.database.execute("UPDATE pipeline_keys SET revoked_at = now() WHERE environment = 'live'").await;
    within(Duration::from_secs(5), "the key to be refused", async || {
        match browser.view(&granted()).await.status {
            401 => Ok(()),
            status => Err(format!("HTTP {status}")),
        }
    })
    .await;
    assert_no_open_transaction(&world).await;
}

#[tokio::test]
async fn a_demoted_primary_that_keeps_its_connections_is_left() {
    let read_only = "ALTER SYSTEM SET default_transaction_read_only = on";
    fails_over(async |primary| primary.execute(&[read_only, "SELECT pg_reload_conf()"]).await).await;
}

#[tokio::test]
async fn a_primary_that_does_not_know_that_it_was_replaced_is_left() {
    fails_over(async |_| {}).await;
}

#[tokio::test]
async fn a_primary_that_crashed_and_returns_as_a_standby_is_left() {
    fails_over(async |primary| {
        primary.crash().await;
        primary.demote().unwrap();
        primary.revive().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_standby_behind_the_name_is_no_primary() {
    let (_primary, standby, mut world) = replicated().await;
    let mut known = world.browser();
    assert_accepted(&known.view(&granted()).await, 1);
    let writers = Writers::start(&world, 2);
    writers.take(5, RECOVERY_LIMIT).await;
    world.postgres_proxy.repoint(standby.addr);
    world.postgres_proxy.cut();

    postgres_is(&world, "NOT_SERVING").await;
    assert_serves(&mut known).await;
    assert_retry(&world.browser().view(&granted()).await);
    for core in &world.cluster.cores {
        let age = async || core.metrics().await.sum("datafly_settings_age_seconds", &[]);
        let before = age().await;
        within(Duration::from_secs(5), "the settings to age", async || match age().await {
            older if older > before + 1.0 => Ok(()),
            older => Err(format!("confirmed by a standby: {before} s, then {older} s")),
        })
        .await;
    }

    standby.execute(&["SELECT pg_promote()"]).await;
    world.database.move_to(&standby).unwrap();
    postgres_is(&world, "SERVING").await;
    writers.take(20, RECOVERY_LIMIT).await;
    writers.check(&world).await;
    assert_no_open_transaction(&world).await;
}

#[tokio::test]
async fn settings_of_another_server_are_read_anew_though_their_version_is_the_same() {
    let primary = PostgresServer::start().await.unwrap();
    let mut world = World::over(&primary, Options::default()).await;
    let other = world.another_customer("explicit").await;
    let copy = primary.copy().await.unwrap();
    let revoke = |org: uuid::Uuid| {
        format!("UPDATE pipeline_keys SET revoked_at = now() WHERE environment = 'live' AND org_id = '{org}'")
    };
    let mut browser = world.browser();
    let mut others = world.browser_of(&other);
    world.database.execute(&revoke(world.customer.org_id)).await;
    within(Duration::from_secs(5), "the key to be refused", async || {
        match browser.view(&granted()).await.status {
            401 => Ok(()),
            status => Err(format!("HTTP {status}")),
        }
    })
    .await;
    assert_accepted(&others.view(&granted()).await, 1);
    let version = world.database.text("SELECT version FROM config_version").await;

    world.database.move_to(&copy).unwrap();
    world.database.execute(&revoke(other.org_id)).await;
    assert_eq!(world.database.text("SELECT version FROM config_version").await, version);
    world.postgres_proxy.repoint(copy.addr);
    eventually("the copy's settings to count", async || {
        match (browser.view(&granted()).await.status, others.view(&granted()).await.status) {
            (200, 401) => Ok(()),
            statuses => Err(format!("HTTP {statuses:?}")),
        }
    })
    .await;
}
