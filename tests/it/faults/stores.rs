//! Stores that go away and processes that are killed: no wrong answer, and all heals by itself.

use std::time::{Duration, Instant};

use harness::{
    answers::{assert_accepted, assert_gif},
    browser::Browser,
    eventually,
    health::health,
    recovery::{assert_serves, repaired, takes_visitors},
    vendor_sim::vendor,
    visits::{delivered, denied, granted, synced},
    world::World,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_flush_in_the_middle_changes_no_answer() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    let canonical = world.vendor_ids(browser.aid()).await.canonical_id;

    world.flush_redis().await;
    let callback = browser.sync_to_vendor("pinterest").await;
    world.flush_redis().await;
    assert_eq!(browser.view(&granted()).await.offered(), [""; 0], "it is on its way");
    world.flush_redis().await;
    assert_gif(&browser.get(callback.as_str()).await);
    let before = world.vendor_ids(browser.aid()).await;
    assert_eq!(before.canonical_id, canonical);
    assert_eq!(before.vendor_ids["pin_unauth"].value, vendor("pinterest").id);

    world.flush_redis().await;
    assert_eq!(world.vendor_ids(browser.aid()).await, before);
    world.flush_redis().await;
    assert_eq!(browser.view(&Value::Null).await.offered(), [""; 0], "it is synced");
    world.flush_redis().await;
    assert_gif(&browser.get(callback.as_str()).await);
    assert_eq!(
        world.sync_failures("pinterest", "bad_state").await,
        1.0,
        "the state was used before the flush"
    );
    assert_eq!(world.database.count("canonicals", "true").await, 1);
}

#[tokio::test]
async fn a_core_killed_between_redirect_and_callback() {
    let mut world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    let callback = browser.sync_to_vendor("pinterest").await;
    world.cluster.cores[0].kill9().await;

    assert_gif(&browser.get(callback.as_str()).await);
    let away = browser.view(&granted()).await;
    assert_eq!((away.status, away.code().as_str()), (503, "UNAVAILABLE"), "{}", away.text());
    assert!(away.header("retry-after").is_some(), "{:?}", away.headers);
    assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204, "an image is never an error");

    world.cluster.cores[0].restart().await.unwrap();
    takes_visitors(&world).await;
    assert_eq!(world.vendor_id(browser.aid(), "pin_unauth").await, None, "the callback came to nothing");
    assert_gif(&browser.get(callback.as_str()).await);
    assert!(world.vendor_id(browser.aid(), "pin_unauth").await.is_some(), "its state is still unused");
}

#[tokio::test]
async fn a_core_killed_among_callbacks_leaves_each_before_or_after() {
    let mut world = World::start().await;
    let mut arrivals = Vec::new();
    for _ in 0..40 {
        let mut browser = world.browser();
        browser.view(&granted()).await;
        let callback = browser.sync_to_vendor("pinterest").await;
        arrivals.push((browser, callback));
    }
    let mut calls = JoinSet::new();
    for (mut browser, callback) in arrivals.clone() {
        calls.spawn(async move { browser.get(callback.as_str()).await });
    }
    calls.join_next().await.unwrap().unwrap();
    world.cluster.cores[0].kill9().await;
    calls.join_all().await.iter().for_each(assert_gif);
    // What the core was about to commit may still be under way in PostgreSQL.
    eventually("the killed core's sessions to end", async || {
        let others =
            "datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        match world.database.count("pg_stat_activity", others).await {
            0 => Ok(()),
            others => Err(format!("{others} sessions")),
        }
    })
    .await;
    let stored = world.database.count("vendor_ids", "true").await;
    world.cluster.cores[0].restart().await.unwrap();
    takes_visitors(&world).await;

    let mut delivered = 0;
    for (browser, _) in &arrivals {
        let ids = world.vendor_ids(browser.aid()).await;
        let condition = format!("canonical_id = '{}'", ids.canonical_id);
        let rows = world.database.count("vendor_ids", &condition).await;
        assert_eq!(i64::try_from(ids.vendor_ids.len()), Ok(rows), "{ids:?}");
        delivered += rows;
    }
    assert_eq!(delivered, stored, "of 40");
    for (mut browser, callback) in arrivals {
        eventually("the callback to be taken", async || {
            assert_gif(&browser.get(callback.as_str()).await);
            let value = world.vendor_id(browser.aid(), "pin_unauth").await;
            value.map(drop).ok_or_else(|| "not stored".to_owned())
        })
        .await;
        assert_eq!(browser.view(&granted()).await.offered(), [""; 0]);
    }
    assert_eq!(world.database.count("vendor_ids", "true").await, 40);
}

#[tokio::test]
async fn redis_away_known_and_new_visitors_are_served_from_postgresql() {
    let world = World::start().await;
    let mut known = synced(&world).await;
    let mut waiting = world.browser();
    waiting.view(&granted()).await;
    let callback = waiting.sync_to_vendor("pinterest").await;
    let before = world.vendor_ids(known.aid()).await;
    world.redis_proxy.refuse().await;

    let mut new = world.browser();
    for (who, browser) in [("known", &mut known), ("new", &mut new)] {
        let answer = browser.view(&granted()).await;
        assert_accepted(&answer, 1);
        assert_eq!(answer.json()["pending_syncs"], json!([]), "{who}");
    }
    assert_eq!(world.vendor_ids(known.aid()).await, before, "read from PostgreSQL");
    assert_gif(&waiting.get(callback.as_str()).await);
    assert_eq!(world.sync_failures("pinterest", "store_failed").await, 1.0);
    assert_eq!(world.database.count("vendor_ids", "true").await, 2, "PostgreSQL has it");
    assert!(world.database.count("redis_repairs", "true").await > 0, "no repair was left for Redis");
    assert!(world.vendor_id(waiting.aid(), "pin_unauth").await.is_some(), "read from PostgreSQL");

    world.redis_proxy.heal().await;
    repaired(&world).await;
    assert!(world.vendor_id(waiting.aid(), "pin_unauth").await.is_some(), "read through Redis");
    assert_eq!(world.vendor_ids(known.aid()).await, before);
    eventually("syncs to be offered again", async || match new.view(&granted()).await.offered().len() {
        1 => Ok(()),
        offers => Err(format!("{offers} offers")),
    })
    .await;
}

#[tokio::test]
async fn consent_withdrawn_while_redis_is_away_counts_when_it_is_back() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.view(&granted()).await;
    let callback = browser.sync_to_vendor("pinterest").await;
    world.redis_proxy.refuse().await;
    assert_accepted(&browser.view(&denied()).await, 1);
    world.redis_proxy.heal().await;

    assert_gif(&browser.get(callback.as_str()).await);
    assert_eq!(world.database.count("vendor_ids", "true").await, 0);
    // Redis still has the consent of before. It must not be believed from the first moment on, not only when
    // the repairs are drained.
    eventually("Redis to be used again", async || {
        let stored = world.vendor_ids(browser.aid()).await.consent.and_then(|consent| consent.json);
        assert_eq!(stored, Some(denied().to_string()), "stale consent was delivered");
        let redirect = browser.get(&browser.sync_url("pinterest")).await;
        assert_eq!(redirect.status, 204, "stale consent sent the browser to the vendor");
        let state = health(&world, "dependency.redis").await;
        let repairs = world.database.count("redis_repairs", "true").await;
        if (state.as_str(), repairs) == ("SERVING", 0) {
            Ok(())
        } else {
            Err(format!("{state}, {repairs} repairs"))
        }
    })
    .await;
    assert_eq!(browser.view(&Value::Null).await.offered(), [""; 0]);
}

#[tokio::test]
async fn redis_silent_answers_come_in_time() {
    let world = World::start().await;
    let mut known = synced(&world).await;
    world.redis_proxy.blackhole().await;
    let in_time = async |browser: &mut Browser| {
        let began = Instant::now();
        let answer = browser.view(&granted()).await;
        let took = began.elapsed();
        let late = answer.status != 200 || answer.json()["accepted"] != json!(1);
        if late || took >= Duration::from_millis(900) {
            return Err((took, answer.text()));
        }
        assert_accepted(&answer, 1);
        Ok(())
    };
    assert_eq!(in_time(&mut known).await, Ok(()), "known");
    // One of five is enough: a busy machine is late now and then, a wait for Redis is there each time.
    let mut late = Vec::new();
    while let Err(seen) = in_time(&mut world.browser()).await {
        late.push(seen);
        assert!(late.len() < 5, "new: {late:?}");
    }
    world.redis_proxy.heal().await;
    repaired(&world).await;
    assert!(world.vendor_id(known.aid(), "pin_unauth").await.is_some());
}

#[tokio::test]
async fn redis_restarted_empty_is_filled_again() {
    let mut world = World::start().await;
    let mut browser = synced(&world).await;
    let before = world.vendor_ids(browser.aid()).await;
    world.redis.kill9().await;
    assert_accepted(&browser.view(&granted()).await, 1);
    world.redis.revive().await.unwrap();
    assert_eq!(world.vendor_ids(browser.aid()).await, before);
    eventually("Redis to hold the visitor again", async || {
        assert_accepted(&browser.view(&granted()).await, 1);
        let keys: Vec<String> = world.redis(&["KEYS", "canonical:*"]).await;
        if keys.len() == 1 { Ok(()) } else { Err(format!("{keys:?}")) }
    })
    .await;
}

#[tokio::test]
async fn postgresql_away_known_visitors_are_served_and_new_ones_told_to_retry() {
    let world = World::start().await;
    let mut known = synced(&world).await;
    let mut waiting = world.browser();
    waiting.view(&granted()).await;
    let callback = waiting.sync_to_vendor("pinterest").await;
    let before = world.vendor_ids(known.aid()).await;
    world.postgres_proxy.refuse().await;

    assert_serves(&mut known).await;
    assert_eq!(delivered(&world, known.aid()).await, before, "read from Redis");
    let mut new = world.browser();
    let events = [known.page_view(&granted()), new.page_view(&granted()), waiting.page_view(&denied())];
    // A machine that runs other tests as well may read too late from Redis, and has nothing else to ask.
    let body = eventually("the known visitor's event to be taken", async || {
        known.jar.clear();
        let mixed = known.batch(&json!(events)).await;
        if mixed.status == 200 && mixed.json()["accepted"] == json!(1) {
            Ok(mixed.json())
        } else {
            Err(mixed.text())
        }
    })
    .await;
    let failed: Vec<(i64, &str, bool)> = body["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|e| {
            (e["index"].as_i64().unwrap_or(-1), e["code"].as_str().unwrap_or(""), e["retry"] == json!(true))
        })
        .collect();
    assert_eq!(failed, [(1, "UNAVAILABLE", true), (2, "UNAVAILABLE", true)], "{body}");

    assert_gif(&waiting.get(callback.as_str()).await);
    assert_eq!(world.sync_failures("pinterest", "store_failed").await, 1.0);
    let ids = delivered(&world, waiting.aid()).await.vendor_ids;
    assert!(!ids.contains_key("pin_unauth"), "Redis is not written alone: {ids:?}");
    known.key = "dk_live_unknown".to_owned();
    assert_eq!(known.view(&granted()).await.status, 401, "an unknown key is refused from memory");

    world.postgres_proxy.heal().await;
    eventually(
        "new visitors to be taken again",
        async || match new.view(&granted()).await.json()["accepted"].as_i64() {
            Some(1) => Ok(()),
            other => Err(format!("accepted {other:?}")),
        },
    )
    .await;
    assert_gif(&waiting.get(callback.as_str()).await);
    assert!(world.vendor_id(waiting.aid(), "pin_unauth").await.is_some(), "the state was not used up");
}

#[tokio::test]
async fn connections_that_break_are_replaced() {
    let world = World::start().await;
    let mut browser = synced(&world).await;
    let before = world.vendor_ids(browser.aid()).await;
    for _ in 0..3 {
        world.redis_proxy.cut();
        world.postgres_proxy.cut();
        eventually("a whole answer", async || {
            let answer = browser.view(&Value::Null).await;
            let new = world.browser().view(&granted()).await;
            let whole = answer.status == 200 && new.status == 200 && new.json()["accepted"] == json!(1);
            if whole { Ok(()) } else { Err(format!("{} {}", answer.text(), new.text())) }
        })
        .await;
        assert_eq!(world.vendor_ids(browser.aid()).await, before);
    }
}

#[tokio::test]
async fn health_tells_each_store_s_state_and_readiness_needs_one() {
    let world = World::start().await;
    let is = async |name: &str, expected: &str| {
        eventually(&format!("{name:?} to be {expected}"), async || match health(&world, name).await {
            state if state == expected => Ok(()),
            state => Err(state),
        })
        .await;
    };
    let (up, down) = ("SERVING", "NOT_SERVING");
    is("", up).await;
    is("dependency.redis", up).await;
    is("dependency.postgres", up).await;
    world.redis_proxy.refuse().await;
    is("dependency.redis", down).await;
    is("", up).await;
    world.postgres_proxy.refuse().await;
    is("dependency.postgres", down).await;
    is("", down).await;
    world.redis_proxy.heal().await;
    world.postgres_proxy.heal().await;
    is("dependency.redis", up).await;
    is("", up).await;
    let ready = world.browser().request(Method::GET, "/readyz");
    assert_eq!(world.browser().send(ready).await.status, 200);
}
