//! A destination that is away, and an event that it can't take: one is told from the other.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use harness::{delivery::Delivering, delivery_sim::Reaction, eventually, within};

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:03}")).collect()
}

/// With random delays and failures each visitor's events are first delivered in order, and all are.
#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_s_events_stay_in_order() {
    const VISITORS: usize = 50;
    const EVENTS: usize = 40;
    let delivering = Delivering::start().await;
    let number = AtomicUsize::new(0);
    delivering.sim.behave(move |_| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        match number % 20 {
            7 => Reaction::Status(503),
            other => Reaction::Slowly(Duration::from_millis(u64::try_from(other * 13 % 40).unwrap()), 202),
        }
    });
    let mut browsers: Vec<_> = (0..VISITORS).map(|_| delivering.world.browser()).collect();
    for part in 0..4 {
        for (visitor, browser) in browsers.iter_mut().enumerate() {
            let all = ids(&format!("v{visitor}"), EVENTS);
            delivering.send(browser, &all[part * EVENTS / 4..(part + 1) * EVENTS / 4]).await;
        }
    }
    within(Duration::from_secs(120), "all to be delivered", async || {
        let mut taken: Vec<String> = delivering.sim.message_ids();
        taken.sort();
        taken.dedup();
        let waiting = delivering.world.database.count("deliveries", "true").await;
        if waiting > 0 {
            delivering
                .world
                .database
                .execute("UPDATE deliveries SET next_at = now() WHERE next_at > now()")
                .await;
        }
        if taken.len() == VISITORS * EVENTS {
            Ok(())
        } else {
            Err(format!("{} delivered, {waiting} parked", taken.len()))
        }
    })
    .await;
    let mut by_visitor: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for id in delivering.sim.message_ids() {
        let (visitor, _) = id.split_once('-').unwrap();
        let own = by_visitor.entry(visitor.to_owned()).or_default();
        if !own.contains(&id) {
            own.push(id);
        }
    }
    for (visitor, own) in by_visitor {
        let mut sorted = own.clone();
        sorted.sort();
        assert_eq!(own, sorted, "{visitor}");
    }
}

/// While everything fails no event counts a try, and afterwards all arrive, in order.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_gives_up_no_event() {
    let delivering = Delivering::start().await;
    let is_up = Arc::new(AtomicBool::new(false));
    let own = is_up.clone();
    delivering.sim.behave(move |_| Reaction::Status(if own.load(Ordering::SeqCst) { 202 } else { 503 }));
    let (mut one, mut other) = (delivering.world.browser(), delivering.world.browser());
    delivering.send(&mut one, &ids("a", 20)).await;
    delivering.send(&mut other, &ids("b", 20)).await;
    eventually("the destination to be down", async || {
        let reason = delivering.cursor("reason").await;
        if reason == "down" { Ok(()) } else { Err(reason) }
    })
    .await;
    delivering.sim.wait_for(6).await;
    assert_eq!(delivering.world.database.count("deliveries", "true").await, 0, "nobody is at fault");
    let told = delivering.cursor("last_error").await;
    assert!(told.contains("\"status\": 503"), "{told}");
    is_up.store(true, Ordering::SeqCst);
    within(Duration::from_secs(90), "it to be up again", async || {
        let taken = delivering.sim.message_ids().len();
        if taken >= 40 { Ok(()) } else { Err(taken.to_string()) }
    })
    .await;
    delivering.settled().await;
    let of = |prefix: &str| -> Vec<String> {
        delivering.sim.message_ids().into_iter().filter(|id| id.starts_with(prefix)).collect()
    };
    assert_eq!((of("a"), of("b")), (ids("a", 20), ids("b", 20)));
    assert_eq!(delivering.world.database.count("deliveries", "true").await, 0);
}

/// An event that always fails while others pass is tried five times and given up; what its visitor sent later waits behind
/// it, and nobody else does.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_always_fails_holds_up_its_visitor_alone() {
    let delivering = Delivering::start().await;
    delivering
        .sim
        .behave(|request| Reaction::Status(if request.body.contains("poison") { 503 } else { 202 }));
    let (mut ill, mut well) = (delivering.world.browser(), delivering.world.browser());
    delivering.send(&mut ill, &["poison".to_owned(), "behind-1".to_owned()]).await;
    let database = &delivering.world.database;
    let mut sent = 0;
    within(Duration::from_secs(40), "it to be parked", async || {
        sent += 1;
        delivering.send(&mut well, &[format!("well-{sent:03}")]).await;
        let parked = database.count("deliveries", "attempts = 2 AND next_at IS NOT NULL").await;
        if parked == 1 { Ok(()) } else { Err(delivering.cursor("reason").await) }
    })
    .await;
    delivering.send(&mut ill, &["behind-2".to_owned()]).await;
    delivering.settled().await;
    assert_eq!(database.count("deliveries", "next_at IS NULL AND dead_at IS NULL").await, 2, "behind it");
    let pause = database
        .text("SELECT extract(epoch FROM next_at - now())::text FROM deliveries WHERE next_at IS NOT NULL")
        .await;
    assert!((200.0..=365.0).contains(&pause.parse::<f64>().unwrap()), "5 minutes: {pause}");
    for (attempts, pause) in [(3, 2.0 * 3600.0), (4, 22.0 * 3600.0)] {
        database.execute("UPDATE deliveries SET next_at = now() WHERE next_at IS NOT NULL").await;
        within(Duration::from_secs(30), "another try", async || {
            let tried = database.count("deliveries", &format!("attempts = {attempts}")).await;
            if tried == 1 { Ok(()) } else { Err(format!("not {attempts}")) }
        })
        .await;
        let next = format!(
            "SELECT extract(epoch FROM next_at - now())::text FROM deliveries WHERE attempts = {attempts}"
        );
        let next: f64 = database.text(&next).await.parse().unwrap();
        assert!((pause * 0.79..=pause * 1.21).contains(&next), "{next} for {pause}");
        sent += 1;
        delivering.send(&mut well, &[format!("well-{sent:03}")]).await;
    }
    database.execute("UPDATE deliveries SET next_at = now() WHERE next_at IS NOT NULL").await;
    eventually("it to be given up, and those behind it to be sent", async || {
        let left = database.count("deliveries", "dead_at IS NULL").await;
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    })
    .await;
    let dead =
        "SELECT concat_ws(' ', reason, last_status, attempts) FROM deliveries WHERE dead_at IS NOT NULL";
    assert_eq!(database.text(dead).await, "status 503 5");
    let taken = delivering.sim.message_ids();
    let of_ill: Vec<&String> = taken.iter().filter(|id| id.starts_with("behind")).collect();
    assert_eq!(of_ill, ["behind-1", "behind-2"]);
    assert_eq!(taken.iter().filter(|id| id.starts_with("well")).count(), sent);
    // What the visitor sends from now on waits no longer.
    delivering.send(&mut ill, &["after".to_owned()]).await;
    eventually("the lane to be free", async || {
        if delivering.sim.message_ids().contains(&"after".to_owned()) { Ok(()) } else { Err(String::new()) }
    })
    .await;
}
