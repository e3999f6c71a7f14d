//! Checks during a fault and after it: that visitors are served, and that all is well again.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    answers::assert_accepted,
    browser::Browser,
    eventually,
    process::{Ended, run},
    visits::{denied, granted},
    within,
    world::World,
};

/// Time within which a visitor is answered, whatever state PostgreSQL is in: the deadline of 1 s, and some
/// for a machine that runs other tests as well. Outages last longer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Checks that a batch of a known visitor is answered in time, and taken. On a machine that runs other tests
/// as well Redis may miss its own bound of 50 ms, and PostgreSQL is not there to ask; one of the next tries
/// must do.
pub async fn assert_serves(known: &mut Browser) {
    within(Duration::from_secs(5), "a known visitor to be served", async || {
        let began = Instant::now();
        let answer = known.view(&granted()).await;
        assert!(began.elapsed() < ANSWER_LIMIT, "{:?}", began.elapsed());
        if answer.status == 200 && answer.json()["accepted"] == json!(1) {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await;
}

/// Waits until PostgreSQL holds no repair and Redis serves again.
pub async fn repaired(world: &World) {
    eventually("the repairs to be drained", async || {
        match world.database.count("redis_repairs", "true").await {
            0 => Ok(()),
            rows => Err(format!("{rows} rows")),
        }
    })
    .await;
}

/// Waits until the edge reaches a core that takes visitors and stores what they bring.
pub async fn takes_visitors(world: &World) {
    eventually("a visitor to be taken", async || match world.browser().view(&granted()).await {
        answer if answer.status == 200 && answer.json()["accepted"] == json!(1) => Ok(()),
        answer => Err(answer.text()),
    })
    .await;
}

/// Waits until a change reaches Redis without a repair.
pub async fn writes_reach_redis(world: &World, limit: Duration) {
    within(limit, "a change to reach Redis", async || {
        let before = world.metric("datafly_redis_repairs_added_total", &[]).await;
        let mut browser = world.browser();
        assert_accepted(&browser.view(&granted()).await, 1);
        assert_accepted(&browser.view(&denied()).await, 1);
        let after = world.metric("datafly_redis_repairs_added_total", &[]).await;
        if after > before { Err(format!("consent of {} needs a repair", browser.aid())) } else { Ok(()) }
    })
    .await;
}

/// Runs `identity-service --compare` over the world's stores.
pub async fn compare(world: &World) -> Ended {
    let env = [("DATABASE_URL", world.database.url.as_str()), ("REDIS_URL", &world.redis.url())];
    run("identity-service", &["--compare"], &env, "").await.unwrap()
}

/// Checks the end of every fault: repairs are made, Redis says nothing that PostgreSQL doesn't, and no
/// service panicked.
pub async fn assert_healed(world: &World) {
    within(Duration::from_secs(10), "the repairs to be made", async || {
        match world.database.count("redis_repairs", "tries < 5").await {
            0 => Ok(()),
            rows => Err(format!("{rows} rows")),
        }
    })
    .await;
    let compared = compare(world).await;
    assert!(compared.status.success(), "{}", compared.text());
    for service in world.cluster.cores.iter().chain([&world.cluster.edge]) {
        let panics: Vec<String> =
            service.log().into_iter().filter(|line| line.contains("panicked")).collect();
        assert_eq!(panics, [""; 0]);
    }
}

/// Waits until no session holds on to a transaction any more.
pub async fn assert_no_open_transaction(world: &World) {
    within(Duration::from_secs(5), "transactions to end", async || {
        let open = "datname = current_database() AND state LIKE 'idle in transaction%'";
        match world.database.count("pg_stat_activity", open).await {
            0 => Ok(()),
            open => Err(format!("{open} sessions are idle in transaction")),
        }
    })
    .await;
}
