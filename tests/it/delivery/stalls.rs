//! What could make a delivery stand for good: each of these goes on by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use harness::{
    delivery::{Delivering, add_destination, start_processor},
    delivery_sim::Reaction,
    eventually,
    people::{self, People},
    within,
    world::Options,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::people::pause;

/// More than one question to the core may have waits for longer than its word counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_is_delivered() {
    let delivering = Delivering::with(Options::default(), &json!({"rate_limit_rps": 200})).await;
    pause(&delivering, true).await;
    for visitor in 0..16 {
        let ids: Vec<String> = (0..100).map(|number| format!("v{visitor}-{number}")).collect();
        delivering.send(&mut delivering.world.browser(), &ids).await;
    }
    pause(&delivering, false).await;
    within(Duration::from_secs(60), "all to arrive", async || {
        let taken = delivering.sim.received().len();
        if taken == 1600 { Ok(()) } else { Err(taken.to_string()) }
    })
    .await;
    delivering.settled().await;
}

/// Of events whose key a process has not yet, none is given up: it says so, and one that has the key delivers them.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_known_gives_up_nothing() {
    let mut delivering = Delivering::start().await;
    let old = delivering.world.cluster.secrets.encryption_key.clone();
    let new = hex::encode(Sha256::digest("another key"));
    let env = [("DATAFLY_ENCRYPTION_KEY", new.as_str()), ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", &old)];
    let core = &mut delivering.world.cluster.cores[0];
    core.terminate().await;
    core.restart_with(&env).await.unwrap();
    let mut browser = delivering.world.browser();
    eventually("the core to take events again", async || {
        let event = json!([{"type": "track", "event": "sale", "messageId": "kept"}]);
        let answer = browser.batch(&event).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    eventually("the processor to say what it lacks", async || {
        let reason = delivering.cursor("reason").await;
        if reason == "encryption_key" { Ok(()) } else { Err(reason) }
    })
    .await;
    delivering.processors[0].terminate().await;
    assert_eq!(delivering.world.database.count("deliveries", "true").await, 0);
    assert!(delivering.sim.received().is_empty());
    let _processor = start_processor(&delivering.world, &env).await;
    delivering.sim.wait_for(1).await;
    assert_eq!(delivering.sim.message_ids(), ["kept"]);
}

/// Who comes later gets a share of the destinations, and both go on; one of them has no secret, and rests.
#[tokio::test(flavor = "multi_thread")]
async fn another_process_gets_its_share() {
    let mut delivering = Delivering::start().await;
    let (database, customer) = (&delivering.world.database, &delivering.world.customer);
    add_destination(database, customer, "webhook", &json!({"url": "https://hooks.example.com/x"})).await;
    let owners = async |delivering: &Delivering| {
        let sql = "SELECT concat_ws(' ', count(owner), count(DISTINCT owner)) FROM delivery_cursors";
        delivering.world.database.text(sql).await
    };
    eventually("the first to have both", async || {
        let owners = owners(&delivering).await;
        if owners == "2 1" { Ok(()) } else { Err(owners) }
    })
    .await;
    delivering.another_processor().await;
    within(Duration::from_secs(30), "each to have one", async || {
        let owners = owners(&delivering).await;
        if owners == "2 2" { Ok(()) } else { Err(owners) }
    })
    .await;
    let mut browser = delivering.world.browser();
    delivering.send(&mut browser, &["later".to_owned()]).await;
    delivering.sim.wait_for(1).await;
}

/// Five that were given up are tried again while nothing passes, so that the destination is down; no new event comes, and
/// yet it is noticed that it is back.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_tells_that_a_destination_is_back() {
    let delivering = Delivering::start().await;
    let status = Arc::new(AtomicU16::new(400));
    let own = status.clone();
    delivering.sim.behave(move |_| Reaction::Status(own.load(Ordering::SeqCst)));
    for number in 0..5 {
        delivering.send(&mut delivering.world.browser(), &[format!("bad-{number}")]).await;
    }
    let database = &delivering.world.database;
    eventually("all to be given up", async || {
        let dead = database.count("deliveries", "dead_at IS NOT NULL").await;
        if dead == 5 { Ok(()) } else { Err(dead.to_string()) }
    })
    .await;
    status.store(503, Ordering::SeqCst);
    database.execute("UPDATE deliveries SET dead_at = NULL, next_at = now(), attempts = 0").await;
    eventually("it to be down", async || {
        let reason = delivering.cursor("reason").await;
        if reason == "down" { Ok(()) } else { Err(reason) }
    })
    .await;
    status.store(202, Ordering::SeqCst);
    within(Duration::from_secs(60), "all to be delivered", async || {
        database.execute("UPDATE deliveries SET next_at = least(next_at, now())").await;
        let left = database.count("deliveries", "true").await;
        if left == 0 { Ok(()) } else { Err(format!("{left}, {}", delivering.cursor("reason").await)) }
    })
    .await;
}

/// A try that takes longer than the period of looks is one try.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_not_sent_again() {
    let delivering = Delivering::start().await;
    delivering.sim.behave(|_| Reaction::Status(400));
    delivering.send(&mut delivering.world.browser(), &["slow".to_owned()]).await;
    let database = &delivering.world.database;
    eventually("it to be given up", async || {
        let dead = database.count("deliveries", "dead_at IS NOT NULL").await;
        if dead == 1 { Ok(()) } else { Err(dead.to_string()) }
    })
    .await;
    delivering.sim.forget();
    delivering.sim.behave(|_| Reaction::Slowly(Duration::from_millis(3500), 202));
    database.execute("UPDATE deliveries SET dead_at = NULL, next_at = now(), attempts = 0").await;
    eventually("it to be delivered", async || {
        let left = database.count("deliveries", "true").await;
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    })
    .await;
    assert_eq!(delivering.sim.received().len(), 1);
}

/// The last event of a source may be of somebody who is erased: the cursor passes it, and nothing counts as waiting.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_event_of_who_is_erased_is_passed() {
    let delivering = Delivering::start().await;
    pause(&delivering, true).await;
    let mut gone = delivering.world.browser();
    delivering.send(&mut gone, &["gone".to_owned()]).await;
    let id = gone.jar.value(&gone.collect, "_dfid").unwrap().to_owned();
    People::of(&delivering.world).delete(0, people::browser(id)).await.unwrap();
    pause(&delivering, false).await;
    eventually("the cursor to come to the head", async || {
        let sql = "SELECT concat_ws(' ', h.seq - c.position, h.events - c.events, h.bytes - c.bytes) \
            FROM delivery_cursors c JOIN event_heads h ON h.source_id = c.source_id";
        let left = delivering.world.database.text(sql).await;
        if left == "0 0 0" { Ok(()) } else { Err(left) }
    })
    .await;
    assert!(delivering.sim.received().is_empty());
}
