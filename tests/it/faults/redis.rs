//! Redis that is killed, stalls, fails over, fills up, forgets, or comes back with old data.

use std::time::{Duration, Instant};

use bb8_redis::redis;
use harness::{
    answers::{assert_accepted, assert_gif},
    browser::Browser,
    health::{health, redis_is},
    recovery::{assert_healed, writes_reach_redis},
    visits::{denied, granted, synced},
    within,
    world::World,
    writers::Writers,
};
use serde_json::json;

/// Checks that a page view is taken. A 503 after all the time that the edge has may be a busy machine's
/// doing, once.
async fn assert_served(browser: &mut Browser) {
    let asked = Instant::now();
    let mut answer = browser.view(&granted()).await;
    if answer.status == 503 && asked.elapsed() >= Duration::from_millis(900) {
        answer = browser.view(&granted()).await;
    }
    assert_accepted(&answer, 1);
}

#[tokio::test]
async fn killed_under_load_it_loses_nothing_and_is_used_again() {
    let mut world = World::start().await;
    let writers = Writers::start(&world, 4);
    writers.take(20, Duration::from_secs(10)).await;
    world.redis.kill9().await;
    redis_is(&world, "NOT_SERVING").await;
    writers.take(100, Duration::from_secs(10)).await;
    // It is said that Redis is away, and not of each change that it was not told of.
    let log = world.cluster.cores[0].log();
    let said: Vec<&String> =
        log.iter().filter(|line| line.contains("redis") && !line.contains("\"INFO\"")).collect();
    assert!((2..10).contains(&said.len()), "{said:#?}");
    assert!(world.metric("datafly_redis_repairs_added_total", &[]).await > 20.0);
    world.redis.revive().await.unwrap();
    redis_is(&world, "SERVING").await;
    writes_reach_redis(&world, Duration::from_secs(2)).await;
    writers.check(&world).await;
    assert_healed(&world).await;
}

#[tokio::test]
async fn stopped_for_ten_seconds_costs_each_visitor_little() {
    let world = World::start().await;
    let mut known = synced(&world).await;
    let writers = Writers::start(&world, 4);
    writers.take(20, Duration::from_secs(10)).await;
    world.redis.signal("STOP");
    redis_is(&world, "NOT_SERVING").await;
    let ends = Instant::now() + Duration::from_secs(10);
    let mut took = Vec::new();
    while Instant::now() < ends {
        let began = Instant::now();
        assert_served(&mut known).await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    // The supervisor alone knocks; no visitor waits for a server that is known to be away.
    assert!(took[took.len() / 2] < Duration::from_millis(100), "{took:?}");
    world.redis.signal("CONT");
    redis_is(&world, "SERVING").await;
    writes_reach_redis(&world, Duration::from_secs(2)).await;
    writers.check(&world).await;
    assert_healed(&world).await;
}

#[tokio::test]
async fn slow_by_more_than_a_request_waits() {
    let world = World::start().await;
    let mut known = synced(&world).await;
    let mut connection = world.redis.connection().await.unwrap();
    let pauses = tokio::spawn(async move {
        for _ in 0..20 {
            let _: redis::RedisResult<()> =
                redis::cmd("CLIENT").arg("PAUSE").arg(200).arg("ALL").query_async(&mut connection).await;
        }
    });
    let mut took = Vec::new();
    while !pauses.is_finished() {
        let began = Instant::now();
        assert_served(&mut known).await;
        took.push(began.elapsed());
    }
    // Two may have waited for something else.
    let slow = took.iter().filter(|took| **took >= Duration::from_millis(900)).count();
    assert!(slow <= 2, "{took:?}");
    redis_is(&world, "SERVING").await;
    writes_reach_redis(&world, Duration::from_secs(2)).await;
    assert_healed(&world).await;
}

#[tokio::test]
async fn flushed_under_load_it_changes_no_answer() {
    let world = World::start().await;
    let known = synced(&world).await;
    let before = world.vendor_ids(known.aid()).await;
    let writers = Writers::start(&world, 4);
    for _ in 0..10 {
        writers.take(5, Duration::from_secs(10)).await;
        world.flush_redis().await;
        assert_eq!(world.vendor_ids(known.aid()).await, before);
    }
    writers.check(&world).await;
    assert_healed(&world).await;
}

#[tokio::test]
async fn failed_over_behind_one_name_it_is_written_to_though_sockets_stay_open() {
    let world = World::start().await;
    let known = synced(&world).await;
    let before = world.vendor_ids(known.aid()).await;
    let replica = world.redis.replica().await.unwrap();
    let writers = Writers::start(&world, 4);
    writers.take(20, Duration::from_secs(10)).await;
    replica.follow(None).await.unwrap();
    world.redis_proxy.repoint(replica.addr);
    world.redis.follow(Some(&replica)).await.unwrap();
    // The name leads to the new primary, and nobody closes the connections to the old one.
    writes_reach_redis(&world, Duration::from_secs(5)).await;
    writers.take(20, Duration::from_secs(10)).await;
    assert_eq!(world.vendor_ids(known.aid()).await, before);
    redis_is(&world, "SERVING").await;
    let keys: i64 = replica.ask(&["DBSIZE"]).await.unwrap();
    assert!(keys > 20, "{keys} keys in the new primary");
    writers.check(&world).await;
    // The old one follows again, so it has the same.
    assert_healed(&world).await;
}

#[tokio::test]
async fn a_name_that_moves_is_followed_though_the_old_primary_stays_one() {
    let world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let replica = world.redis.replica().await.unwrap();
    replica.follow(None).await.unwrap();
    world.redis_proxy.repoint(replica.addr);
    // Nothing fails: the old one still takes writes over the connections that it has.
    within(Duration::from_secs(5), "the new primary to be written to", async || {
        assert_accepted(&browser.view(&granted()).await, 1);
        assert_accepted(&browser.view(&denied()).await, 1);
        let key = format!("consent:{}:{}", world.customer.org_id, browser.aid());
        let stored: Option<String> = replica.ask(&["GET", &key]).await.unwrap();
        if stored.as_ref().is_some_and(|text| text.contains(r#""marketing":false"#)) {
            Ok(())
        } else {
            Err(format!("{stored:?}"))
        }
    })
    .await;
    redis_is(&world, "SERVING").await;
}

#[tokio::test]
async fn a_purge_that_may_not_scan_is_tried_over_few_connections_and_shows() {
    let world = World::start().await;
    redis_is(&world, "SERVING").await;
    let mut admin = world.redis.connection().await.unwrap();
    let acl = |rule: &'static str| {
        let mut command = redis::cmd("ACL");
        command.arg(&["SETUSER", "default", rule]);
        command
    };
    let () = acl("-scan").query_async(&mut admin).await.unwrap();
    let () = redis::cmd("SET").arg(&["datafly:server", "another"]).query_async(&mut admin).await.unwrap();
    redis_is(&world, "NOT_SERVING").await;
    // Some ten tries long, each of which opens a connection.
    let connected = async |admin: &mut redis::aio::MultiplexedConnection| -> usize {
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(admin).await.unwrap();
        list.lines().count()
    };
    let before = connected(&mut admin).await;
    let ends = Instant::now() + Duration::from_secs(3);
    while Instant::now() < ends {
        let now = connected(&mut admin).await;
        assert!(now <= before + 4, "{before} connections became {now}");
    }
    let () = acl("+@all").query_async(&mut admin).await.unwrap();
    redis_is(&world, "SERVING").await;
    assert_healed(&world).await;
}

#[tokio::test]
async fn a_demoted_primary_shows_while_nobody_writes() {
    let world = World::start().await;
    redis_is(&world, "SERVING").await;
    world.redis.follow(Some(&world.redis)).await.unwrap();
    redis_is(&world, "NOT_SERVING").await;
    world.redis.follow(None).await.unwrap();
    redis_is(&world, "SERVING").await;
    assert_healed(&world).await;
}

/// Checks that Redis is not believed about a visitor whose consent it holds, and whose withdrawal only
/// PostgreSQL and a lost server saw.
async fn is_not_believed(world: &World, browser: &mut Browser) {
    within(Duration::from_secs(10), "Redis to be used again", async || {
        let stored = world.vendor_ids(browser.aid()).await.consent.and_then(|consent| consent.json);
        assert_eq!(stored, Some(denied().to_string()), "stale consent was delivered");
        assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204, "stale consent was used");
        match health(world, "dependency.redis").await {
            up if up == "SERVING" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    writes_reach_redis(world, Duration::from_secs(5)).await;
    assert_eq!(browser.get(&browser.sync_url("pinterest")).await.status, 204, "stale consent was used");
}

#[tokio::test]
async fn an_old_dump_is_not_believed() {
    let mut world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let () = world.redis.ask(&["SAVE"]).await.unwrap();
    assert_accepted(&browser.view(&denied()).await, 1);
    world.redis.kill9().await;
    world.redis.revive().await.unwrap();
    is_not_believed(&world, &mut browser).await;
    assert_healed(&world).await;
}

#[tokio::test]
async fn an_old_dump_is_not_believed_by_a_core_that_just_started() {
    let mut world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let () = world.redis.ask(&["SAVE"]).await.unwrap();
    assert_accepted(&browser.view(&denied()).await, 1);
    world.cluster.cores[0].kill9().await;
    world.redis.kill9().await;
    world.redis.revive().await.unwrap();
    world.cluster.cores[0].restart().await.unwrap();
    within(Duration::from_secs(10), "the edge to reach the core", async || {
        match world.browser().view(&granted()).await {
            answer if answer.status == 200 => Ok(()),
            answer => Err(answer.text()),
        }
    })
    .await;
    is_not_believed(&world, &mut browser).await;
    assert_healed(&world).await;
}

#[tokio::test]
async fn a_replica_promoted_behind_its_primary_is_not_believed() {
    let mut world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let replica = world.redis.replica().await.unwrap();
    // It stops, and what comes now never reaches it.
    replica.signal("STOP");
    assert_accepted(&browser.view(&denied()).await, 1);
    world.redis_proxy.refuse().await;
    world.redis.kill9().await;
    replica.signal("CONT");
    replica.follow(None).await.unwrap();
    world.redis_proxy.repoint(replica.addr);
    world.redis_proxy.heal().await;
    is_not_believed(&world, &mut browser).await;
    world.redis.revive().await.unwrap();
    world.redis.follow(Some(&replica)).await.unwrap();
    assert_healed(&world).await;
}

#[tokio::test]
async fn full_memory_stops_no_read_and_loses_no_write() {
    let world = World::start().await;
    let known = synced(&world).await;
    let mut waiting = world.browser();
    waiting.view(&granted()).await;
    let callback = waiting.sync_to_vendor("pinterest").await;
    let before = world.vendor_ids(known.aid()).await;
    let () = world.redis(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(world.vendor_ids(known.aid()).await, before);
    // What a busy machine was late with before counts as well.
    let failed = world.sync_failures("pinterest", "store_failed").await;
    assert_gif(&waiting.get(callback.as_str()).await);
    assert_eq!(world.sync_failures("pinterest", "store_failed").await, failed + 1.0);
    assert_eq!(world.database.count("vendor_ids", "true").await, 2, "PostgreSQL has it");
    assert!(world.vendor_id(waiting.aid(), "pin_unauth").await.is_some());
    assert_eq!(world.vendor_ids(known.aid()).await, before);
    redis_is(&world, "SERVING").await;
    assert!(world.metric("datafly_redis_errors_total", &[("kind", "OOM")]).await > 0.0);
    let () = world.redis(&["CONFIG", "SET", "maxmemory", "0"]).await;
    writes_reach_redis(&world, Duration::from_secs(2)).await;
    assert_healed(&world).await;
}

#[tokio::test]
async fn a_user_who_may_no_longer_is_told_at_once() {
    let world = World::start().await;
    let mut known = synced(&world).await;
    let mut admin = world.redis.connection().await.unwrap();
    for (rule, code) in [("-get", "NOPERM"), ("-eval", "NOPERM")] {
        let () = redis::cmd("ACL").arg(&["SETUSER", "default", rule]).query_async(&mut admin).await.unwrap();
        within(Duration::from_secs(10), "the error to be logged", async || {
            assert_accepted(&known.view(&granted()).await, 1);
            assert_accepted(&known.view(&denied()).await, 1);
            let log = world.cluster.cores[0].log();
            let told = log.iter().any(|line| line.contains("ERROR") && line.contains("permissions"));
            let counted = world.metric("datafly_redis_errors_total", &[("kind", code)]).await;
            if told && counted > 0.0 { Ok(()) } else { Err(format!("{told} {counted}")) }
        })
        .await;
        let all = ["SETUSER", "default", "+@all"];
        let () = redis::cmd("ACL").arg(&all).query_async(&mut admin).await.unwrap();
        redis_is(&world, "SERVING").await;
        writes_reach_redis(&world, Duration::from_secs(2)).await;
    }
    assert_healed(&world).await;
}

#[tokio::test]
async fn a_repair_that_can_not_be_made_holds_up_no_other() {
    let world = World::start().await;
    let mut browser = world.browser();
    assert_accepted(&browser.view(&granted()).await, 1);
    let org = world.customer.org_id;
    let () = world.redis(&["SET", "somebody-elses", "x"]).await;
    let sql = format!("INSERT INTO redis_repairs (org_id, redis_key) VALUES ('{org}', 'somebody-elses')");
    world.database.execute(&sql).await;
    world.redis_proxy.refuse().await;
    assert_accepted(&browser.batch(&json!([browser.page_view(&denied())])).await, 1);
    world.redis_proxy.heal().await;
    within(Duration::from_secs(10), "the repair to be parked", async || {
        let parked = world.metric("datafly_redis_repairs_parked_total", &[]).await;
        let rows = world.database.count("redis_repairs", "true").await;
        if (parked, rows) == (1.0, 1) { Ok(()) } else { Err(format!("{parked} parked, {rows} rows")) }
    })
    .await;
    assert_eq!(world.redis::<String>(&["GET", "somebody-elses"]).await, "x", "it is none of ours");
    assert_healed(&world).await;
}
